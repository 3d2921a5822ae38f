"""External data: beside the model, or where a link to the model leads; never elsewhere, never beyond the file."""

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from planish.frontends.onnx import load
from planish.ir.errors import ModelError
from tests.support.hostile import array, model, node, refused, saved


def external(folder, location, offset=None, length=None, size=6):
    weights = array("w", np.arange(size).reshape(2, -1))
    data = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            weights.external_data.add(key=key, value=str(value))
    return saved(folder, model([node("Add", ["x", "w"], ["y"])], initializers=[weights])), data


def test_external_data_beside_the_model(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    for location, offset, length in (("w.bin", None, None), ("./w.bin", 4, 24), ("sub/w.bin", 0, None)):
        path, data = external(tmp_path, location, offset, length)
        (tmp_path / location).write_bytes(b"\0" * (offset or 0) + data)
        monkeypatch.chdir(tmp_path)
        for spelling in (path, "model.onnx", "./model.onnx"):
            graph = load(spelling)
            (w,) = (a for a in graph.constants.values())
            np.testing.assert_array_equal(w, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "location", ["", "/etc/passwd", "../secret.bin", "sub/../../secret.bin", "a\\b", "none.bin", "."]
)
def test_external_data_elsewhere(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 24)
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    refused(external(folder, location)[0], ModelError, "'w'", "refused")


@pytest.mark.parametrize(
    ("offset", "length"), [(-1, None), (1, None), (2**62, 24), (0, 23), (0, 2**40), ("x", 24), (0, "")]
)
def test_external_data_out_of_bounds(tmp_path, offset, length):
    path, data = external(tmp_path, "w.bin", offset, length)
    (tmp_path / "w.bin").write_bytes(data)
    refused(path, ModelError, "'w'")


@pytest.mark.skipif(os.name != "posix", reason="links and pipes as POSIX has them")
@pytest.mark.parametrize("kind", ["symlink", "folder", "hard link", "pipe"])
def test_external_data_through_links_and_pipes(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.mkdir()
    folder = tmp_path / "model"
    folder.mkdir()
    path, data = external(folder, "d/w.bin" if kind == "folder" else "w.bin")
    (secret / "w.bin").write_bytes(data)
    if kind == "symlink":
        (folder / "w.bin").symlink_to(secret / "w.bin")
    elif kind == "folder":
        (folder / "d").symlink_to(secret)
    elif kind == "hard link":
        Path(folder / "w.bin").hardlink_to(secret / "w.bin")
    else:
        os.mkfifo(folder / "w.bin")
    refused(path, ModelError, "'w'")


def hub(folder, file="model.onnx"):
    """As caches of model hubs are laid out: links with names in one folder, contents in another."""
    names, blobs = folder / "snapshots/main", folder / "blobs"
    names.mkdir(parents=True)
    blobs.mkdir()
    path, data = external(blobs, "model.onnx_data")
    path.rename(blobs / "4b1d")
    (names / file).symlink_to("../../blobs/4b1d")
    return names, blobs, data


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
@pytest.mark.parametrize("where", ["beside the link", "linked beside the link", "beside the target"])
def test_external_data_of_a_model_that_is_a_link(tmp_path, where):
    names, blobs, data = hub(tmp_path)
    if where == "beside the link":
        (names / "model.onnx_data").write_bytes(data)
    elif where == "beside the target":
        (blobs / "model.onnx_data").write_bytes(data)
    else:
        (blobs / "77aa").write_bytes(data)
        (names / "model.onnx_data").symlink_to("../../blobs/77aa")
    (w,) = load(names / "model.onnx").constants.values()
    np.testing.assert_array_equal(w, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_external_data_of_a_model_that_is_a_link_is_nowhere_else(tmp_path):
    names, _, data = hub(tmp_path)
    (tmp_path / "secret").write_bytes(data)
    (names / "model.onnx_data").symlink_to("../../secret")
    refused(names / "model.onnx", ModelError, "elsewhere")
