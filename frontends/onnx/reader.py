"""From a file that nobody vouches for to a protobuf message: size, kind and external data are checked first."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ...ir.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnx

#: protobuf cannot hold more in one message.
MAX_FILE_BYTES = 2**31 - 1

#: How files begin that people pass by mistake, and what they are.
_STRANGERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"<", "an HTML or XML page, perhaps of a failed download"),
    (0, b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (0, b"PK\x03\x04", "a zip archive (PyTorch, Keras or NumPy)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x89HDF", "an HDF5 file (Keras)"),
    (0, b"\x80\x02", "a Python pickle (PyTorch)"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"{", "JSON"),
)


def shown(name: str) -> str:
    """A name from a model, for messages: quoted, control and bidi characters escaped, cut to 120 characters."""
    quoted = repr(name)
    return quoted if len(quoted) <= 120 else quoted[:117] + "..."


#: The folders that external data may lie in.
Folders = tuple[Path, ...]


def read_model(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Folders]:
    """The parsed model, and the folders that its external data may lie in: the model's, and where it is a link to it.

    Caches of model hubs are laid out so: links with proper names, to files that are named by their contents.

    Raises UsageError when there is no such file, ModelError when it is not an ONNX model.
    """
    file = Path(os.path.abspath(path))
    content = _content(file)
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, ValueError, RuntimeError):
        raise _not_onnx(file, "its bytes are no protobuf message; it may be truncated") from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise _not_onnx(file, "it holds no graph; it may be truncated")
    if not model.opset_import:
        raise _not_onnx(file, "it does not say which operator set it uses; it may be truncated")
    if not all(isinstance(text, str) for text in _texts(model)):  # protobuf hands out what is no UTF-8 as bytes
        raise _not_onnx(file, "a name in it is not UTF-8 text")
    return model, tuple(dict.fromkeys((file.parent, Path(os.path.realpath(file)).parent)))


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Every text of the model that the importer reads."""
    yield from (opset.domain for opset in model.opset_import)
    yield from (text for entry in model.metadata_props for text in (entry.key, entry.value))
    yield from _texts_of_graph(model.graph)
    for function in model.functions:
        yield from (function.domain, function.name, *function.input, *function.output, *function.attribute)
        yield from (opset.domain for opset in function.opset_import)
        for node in function.node:
            yield from _texts_of_node(node)


def _texts_of_graph(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for info in (*graph.input, *graph.output):
        yield from (info.name, *(dim.dim_param for dim in info.type.tensor_type.shape.dim))
    for tensor in graph.initializer:
        yield from _texts_of_tensor(tensor)
    for node in graph.node:
        yield from _texts_of_node(node)


def _texts_of_node(node: onnx.NodeProto) -> Iterator[object]:
    yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for attribute in node.attribute:
        yield from (attribute.name, attribute.ref_attr_name)
        yield from _texts_of_tensor(attribute.t)
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            yield from _texts_of_graph(graph)


def _texts_of_tensor(tensor: onnx.TensorProto) -> Iterator[object]:
    yield from (tensor.name, *(text for entry in tensor.external_data for text in (entry.key, entry.value)))


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(f"{file} is not a regular file", fix="give the path of an .onnx file")
            if status.st_size > MAX_FILE_BYTES:
                raise ModelError(
                    f"{file} has {status.st_size} bytes; an ONNX file has at most {MAX_FILE_BYTES}",
                    fix="save the weights as external data",
                )
            content = stream.read(status.st_size)  # as many bytes are set aside as are asked for
    except OSError as error:
        if file.is_dir():
            raise UsageError(f"{file} is a folder", fix="give the path of an .onnx file") from None
        raise UsageError(f"cannot read {file}: {error.strerror}", fix="check the path") from None
    if not content:
        raise ModelError(f"{file} is empty", fix="download or export the model again")
    beginning = content[:64].lstrip()
    for offset, start, kind in _STRANGERS:
        if beginning.startswith(start, offset):
            raise _not_onnx(file, f"it is {kind}")
    if file.suffix.lower() != ".onnx":
        raise ModelError(
            f"{file} does not end in .onnx",
            fix="export the model to ONNX; if it is one already, rename it to *.onnx",
        )
    return content


def _not_onnx(file: Path, why: str) -> ModelError:
    return ModelError(f"{file} is not an ONNX model: {why}", fix="download or export the model again")


def external_bytes(tensor: onnx.TensorProto, folders: Folders, size: int) -> bytes:
    """The `size` bytes that a tensor keeps in a file beside the model.

    Only a regular file below these folders is read, links resolved: no absolute path, no `..`, and no file with a
    second hard link (each can name a file that the model's author should not see). Raises ModelError.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
    except ValueError:
        raise _unsafe(tensor, location, "offset and length are numbers") from None
    if length != size:
        raise _unsafe(tensor, location, f"the tensor needs {size} bytes, the file is said to hold {length}")
    file = _located(tensor, location, folders)
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise _unsafe(tensor, location, f"the file cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unsafe(tensor, location, "it is not a regular file")
        if status.st_nlink != 1:
            raise _unsafe(tensor, location, "the file has several hard links; copy it")
        if offset < 0 or offset + length > status.st_size:
            raise _unsafe(tensor, location, f"bytes {offset} to {offset + length} of a file of {status.st_size}")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            stream.seek(offset)
            return stream.read(length)
    finally:
        os.close(descriptor)


def _located(tensor: onnx.TensorProto, location: str, folders: Folders) -> str:
    """The file, without links: in the first folder that has something of this name."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or "\\" in location or "\0" in location or ".." in parts:
        raise _unsafe(tensor, location, "the path must be relative and stay in the model's folder")
    candidates = [folder.joinpath(*parts) for folder in folders]
    try:
        file = os.path.realpath(next((path for path in candidates if os.path.lexists(path)), candidates[0]))
    except OSError as error:
        raise _unsafe(tensor, location, f"the file cannot be read: {error.strerror}") from None
    if not any(Path(file).is_relative_to(os.path.realpath(folder)) for folder in folders):
        raise _unsafe(tensor, location, "it is a link to a file elsewhere")
    return file


def _unsafe(tensor: onnx.TensorProto, location: str, why: str) -> ModelError:
    return ModelError(
        f"the external data of tensor {shown(tensor.name)} is refused: {why}",
        where=f"file {shown(location)}",
        fix="save the model as one file, or its data beside it under a plain name",
    )
