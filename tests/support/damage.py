"""Damage to ONNX files, drawn from a seed, to bytes and to parts of the message; and what becomes of the files."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto as A
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from planish.driver import Plan, compile_model
from planish.frontends.onnx.adapters import ADAPTERS
from planish.ir.errors import PlanishError
from planish.screen import Screen

Random = random.Random
Model = onnx.ModelProto

INTEGERS = (0, 1, -1, 2, 3, -2, 5, 7, 16, 255, 2**16, 2**31 - 1, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e30, float("inf"), float("-inf"), float("nan"))
WORDS = (
    b"",
    b"constant",
    b"reflect",
    b"nearest",
    b"linear",
    b"SAME_UPPER",
    b"VALID",
    b"bidirectional",
    b"\xff",
    b"x" * 300,
)
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "own", "\x1b[2J", "x" * 300)
#: A file that lies beside the model, and how long it is.
BESIDE, BESIDE_BYTES = "weights.bin", 256
DTYPES = sorted(T.DataType.values())
OPERATORS = sorted(name for domain, name in ADAPTERS if not domain)


# ---- bytes


def flipped(draw: Random, content: bytes) -> bytes:
    """Some bits are turned."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def truncated(draw: Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def spliced(draw: Random, content: bytes) -> bytes:
    """A piece goes, or stands twice."""
    start = draw.randrange(len(content))
    stop = min(len(content), start + draw.randint(1, 40))
    return content[:start] + content[stop:] if draw.random() < 0.5 else content[:stop] + content[start:]


# ---- parts of the message


def attribute_changed(draw: Random, model: Model) -> None:
    found = [a for node in model.graph.node for a in node.attribute]
    if not found:
        return
    attribute = draw.choice(found)
    kind = draw.choice(("value", "value", "value", "type", "name"))
    if kind == "type":
        attribute.type = draw.choice(A.AttributeType.values())
    elif kind == "name":
        attribute.name = draw.choice([a.name for a in found])
    elif attribute.type == A.INT:
        attribute.i = draw.choice(INTEGERS)
    elif attribute.type == A.FLOAT:
        attribute.f = draw.choice(REALS)
    elif attribute.type == A.STRING:
        attribute.s = draw.choice(WORDS)
    elif attribute.type == A.TENSOR:
        attribute.t.CopyFrom(tensor_damaged(draw, attribute.t))
    elif attribute.type == A.INTS:
        _list_changed(draw, attribute.ints, INTEGERS)
    elif attribute.type == A.STRINGS:
        _list_changed(draw, attribute.strings, WORDS)


def _list_changed(draw: Random, values: Any, pool: Sequence[Any]) -> None:
    kind = draw.choice(("one", "one", "more", "less"))
    if kind == "more" or not values:
        values.append(draw.choice(pool))
    elif kind == "less":
        del values[draw.randrange(len(values))]
    else:
        values[draw.randrange(len(values))] = draw.choice(pool)


def attribute_added(draw: Random, model: Model) -> None:
    """One of the operator's own; or one that is there already."""
    node = draw.choice(model.graph.node)
    if node.attribute and draw.random() < 0.3:
        node.attribute.append(draw.choice(node.attribute))
        return
    names = sorted(onnx.defs.get_schema(node.op_type).attributes) if onnx.defs.has(node.op_type) else []
    values: list[Any] = [draw.choice(INTEGERS), draw.choice(REALS), draw.choice(WORDS), [draw.choice(INTEGERS)], [1, 1]]
    if names:
        node.attribute.append(helper.make_attribute(draw.choice(names), draw.choice(values)))


def attribute_gone(draw: Random, model: Model) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    if nodes:
        node = draw.choice(nodes)
        del node.attribute[draw.randrange(len(node.attribute))]


def operator_changed(draw: Random, model: Model) -> None:
    draw.choice(model.graph.node).op_type = draw.choice(OPERATORS)


def rewired(draw: Random, model: Model) -> None:
    """An operand becomes another tensor, goes, or is added; an output goes."""
    graph = model.graph
    node = draw.choice(graph.node)
    names = [v.name for v in graph.input] + [t.name for t in graph.initializer]
    names += [o for n in graph.node for o in n.output] + [""]
    kind = draw.choice(("other", "other", "more", "less", "output"))
    if kind == "other" and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(names)
    elif kind == "more":
        node.input.append(draw.choice(names))
    elif kind == "less" and node.input:
        del node.input[draw.randrange(len(node.input))]
    elif kind == "output":
        graph.output.append(helper.make_empty_tensor_value_info(draw.choice(names)))


def constant_changed(draw: Random, model: Model) -> None:
    found = model.graph.initializer
    if found:
        tensor = draw.choice(found)
        tensor.CopyFrom(tensor_damaged(draw, tensor))


def tensor_damaged(draw: Random, tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Other elements, another shape or dtype, with data that fit or not."""
    changed = onnx.TensorProto()
    changed.CopyFrom(tensor)
    kind = draw.choice(("elements", "elements", "shape", "dtype", "dims", "tag", "external"))
    if tensor.data_location == T.EXTERNAL:
        return changed  # the library would look for the file
    try:
        array = np.array(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError):
        return changed
    if kind == "elements" and array.size and array.dtype.kind in "iuf":
        pool = REALS if array.dtype.kind == "f" else INTEGERS
        array.flat[draw.randrange(array.size)] = np.array(draw.choice(pool)).astype(array.dtype)
    elif kind == "shape":
        flat = array.reshape(-1)
        forms = [flat, flat[:1].reshape(()) if flat.size else flat, flat[:1], flat[:2], flat[:0], array[None], array.T]
        array = draw.choice([*forms, np.concatenate([flat, flat])])
    elif kind == "dtype":
        array = array.astype(draw.choice([np.float32, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_]))
    elif kind == "dims":
        _list_changed(draw, changed.dims, INTEGERS)
        return changed
    elif kind == "tag":
        changed.data_type = draw.choice(DTYPES)
        return changed
    elif kind == "external":
        changed.data_location = T.EXTERNAL
        changed.external_data.add(
            key="location", value=draw.choice([".", "", "..", "/etc/passwd", "\0", "x" * 300, "m"])
        )
        return changed
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), tensor.name)


def input_changed(draw: Random, model: Model) -> None:
    tensor = draw.choice(model.graph.input).type.tensor_type
    kind = draw.choice(("size", "size", "symbol", "less", "more", "dtype", "shape"))
    dims = tensor.shape.dim
    if kind == "dtype":
        tensor.elem_type = draw.choice(DTYPES)
    elif kind == "shape":
        tensor.ClearField("shape")
    elif kind == "more":
        dims.add().dim_value = draw.choice((1, 2, 3))
    elif dims and kind == "less":
        del dims[draw.randrange(len(dims))]
    elif dims and kind == "symbol":
        draw.choice(dims).dim_param = draw.choice(("N", "M", "", "N*2", "\x1b[2J"))
    elif dims:
        draw.choice(dims).dim_value = draw.choice(INTEGERS)


def constant_given(draw: Random, model: Model) -> None:
    """A constant becomes an input: what had to be known is computed at run time."""
    found = model.graph.initializer
    if not found:
        return
    tensor = found.pop(draw.randrange(len(found)))
    model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type or T.FLOAT, tensor.dims))


def version_changed(draw: Random, model: Model) -> None:
    """Another operator set; or none, two, one of another domain, one that never was."""
    imports = model.opset_import
    kind = draw.choice(("other", "other", "none", "twice", "domain", "number"))
    if kind == "other":
        imports[0].version = draw.randint(1, onnx.defs.onnx_opset_version())
    elif kind == "none":
        del imports[:]
    elif kind == "twice":
        imports.add(domain=imports[0].domain, version=draw.randint(1, onnx.defs.onnx_opset_version()))
    elif kind == "domain":
        draw.choice(imports).domain = draw.choice(DOMAINS)
    else:
        imports[0].version = draw.choice(INTEGERS)


def node_moved(draw: Random, model: Model) -> None:
    """A node goes, or stands twice."""
    nodes = model.graph.node
    k = draw.randrange(len(nodes))
    if draw.random() < 0.5:
        del nodes[k]
    else:
        nodes.append(nodes[k])


def operands_swapped(draw: Random, model: Model) -> None:
    """Those of one node, or of two, change places."""
    nodes = [node for node in model.graph.node if node.input]
    if not nodes:
        return
    one, other = draw.choice(nodes), draw.choice(nodes)
    i, j = draw.randrange(len(one.input)), draw.randrange(len(other.input))
    one.input[i], other.input[j] = other.input[j], one.input[i]


def attribute_retyped(draw: Random, model: Model) -> None:
    """The value stays under its name, and is of another type."""
    found = [(node, k) for node in model.graph.node for k in range(len(node.attribute))]
    if not found:
        return
    node, k = draw.choice(found)
    name = node.attribute[k].name
    values: list[Any] = [draw.choice(INTEGERS), draw.choice(REALS), draw.choice(WORDS), [draw.choice(INTEGERS)] * 2]
    values += [[draw.choice(REALS)], [draw.choice(WORDS)], helper.make_tensor("t", T.FLOAT, [2], [1, 2]), model.graph]
    made = helper.make_attribute(name, draw.choice(values))
    if made.type == A.GRAPH and model.ByteSize() > 2**16:
        return  # a graph in itself, again and again
    node.attribute[k].CopyFrom(made)


def data_moved(draw: Random, model: Model) -> None:
    """A constant's data stand in the file beside the model: all of them, or not."""
    found = [t for t in model.graph.initializer if t.raw_data]
    if not found:
        return
    tensor = draw.choice(found)
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    where = {"location": BESIDE, "offset": draw.choice([0, 4, 1, BESIDE_BYTES - 1, BESIDE_BYTES, *INTEGERS])}
    where["length"] = draw.choice([size, size, size - 1, size + 1, 0, BESIDE_BYTES, *INTEGERS, "", "x", "1e3", " 4"])
    for key, value in where.items():
        if draw.random() < 0.9:
            tensor.external_data.add(key=key, value=str(value))


def value_described(draw: Random, model: Model) -> None:
    """A tensor's type is given: another than it has, as like as not."""
    names = [o for n in model.graph.node for o in n.output] + [t.name for t in model.graph.initializer]
    dims = [draw.choice([*INTEGERS, 1, 2, 4, None, "N", ""]) for _ in range(draw.randint(0, 5))]
    shape = draw.choice([dims, dims, None])
    try:
        info = helper.make_tensor_value_info(draw.choice(names), draw.choice(DTYPES), shape)
    except (ValueError, TypeError):
        return
    draw.choice([model.graph.value_info, model.graph.output]).append(info)


def node_branched(draw: Random, model: Model) -> None:
    """A node goes into the branches of an If, from which something is missing, as like as not."""
    k = draw.randrange(len(model.graph.node))
    node = onnx.NodeProto()
    node.CopyFrom(model.graph.node[k])
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    branches = []
    for name in ("then_branch", "else_branch"):
        body = [] if draw.random() < 0.1 else [node]
        made = helper.make_graph(body, name, [], outputs[: draw.choice((None, None, None, 0, -1))])
        branches.append(helper.make_attribute(name, made))
    condition = numpy_helper.from_array(np.array(draw.choice((True, False, [True], [True, False], 1))), "condition")
    model.graph.initializer.append(condition)
    chosen = helper.make_node("If", draw.choice((["condition"], ["condition"], [], [node.output[0]])), node.output)
    chosen.attribute.extend(branches[: draw.choice((2, 2, 2, 1))])
    model.graph.node[k].CopyFrom(chosen)


def node_in_function(draw: Random, model: Model) -> None:
    """A node becomes a call of the model's own function, whose ends may not fit."""
    node, call = draw.choice(model.graph.node), onnx.NodeProto()
    call.CopyFrom(node)
    del call.attribute[:]
    call.domain, call.op_type = "own", "F"
    ends = [draw.choice((None, None, None, 0, -1)) for _ in range(2)]
    inner = onnx.NodeProto()
    inner.CopyFrom(draw.choice((node, node, node, call)))
    imports = [helper.make_opsetid("", draw.choice((model.opset_import[0].version, 1, 13, 99)))]
    made = helper.make_function(
        "own", "F", list(dict.fromkeys(node.input))[: ends[0]], list(node.output)[: ends[1]], [inner], imports
    )
    model.functions.append(made)
    model.opset_import.add(domain="own", version=draw.choice((1, 1, 2)))
    node.CopyFrom(call)


def domain_changed(draw: Random, model: Model) -> None:
    draw.choice(model.graph.node).domain = draw.choice(DOMAINS)


def name_changed(draw: Random, model: Model) -> None:
    """A result has another's name, or none, or one that is no name."""
    names = [o for n in model.graph.node for o in n.output]
    node = draw.choice([n for n in model.graph.node if n.output] or [None])
    if node is not None:
        node.output[draw.randrange(len(node.output))] = draw.choice(
            [*names, "", "\x1b[2J", "a" * 300, "../x", "\u202e"]
        )


BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (flipped, truncated, spliced)
PARTS: tuple[Callable[[Random, Model], None], ...] = (
    attribute_changed, attribute_changed, attribute_added, attribute_gone, operator_changed, operator_changed, rewired,
    rewired, constant_changed, constant_changed, constant_changed, input_changed, input_changed, constant_given,
    version_changed, node_moved, operands_swapped, attribute_retyped, attribute_retyped, data_moved, value_described,
    node_branched, node_in_function, domain_changed, name_changed,
)  # fmt: skip


def damaged(content: bytes, seed: int) -> bytes:
    """The file with one to three pieces of damage; a fifth of them to its bytes. Equal for equal seeds."""
    draw = Random(seed)
    for _ in range(draw.choice((1, 1, 2, 3))):
        if draw.random() < 0.2:
            content = draw.choice(BYTES)(draw, content) or b"\0"
            continue
        model = Model()
        try:
            model.ParseFromString(content)
            if model.graph.node and model.graph.input and model.opset_import:
                draw.choice(PARTS)(draw, model)
                content = model.SerializeToString()
        except (DecodeError, UnicodeError, ValueError, RuntimeError):
            continue  # bytes were damaged before, beyond what the library reads or writes
    return content


# ---- what becomes of them


def outcome(folder: Path, content: bytes) -> tuple[str, Exception | None]:
    """`compiled`, `refused with exit code ...`, or `failed` by a mistake of ours; and what was raised."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    Path(folder, BESIDE).write_bytes(bytes(BESIDE_BYTES))
    try:
        compile_model(Plan(path, "c"), folder / "build", Screen(verbosity=-1, json=True))
    except PlanishError as error:
        ours = error.code == 1 or error.__cause__ is not None
        return "failed" if ours else f"refused with exit code {error.code}", error
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return "failed", error
    return "compiled", None
