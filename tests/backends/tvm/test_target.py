"""What the targets of mobile code write, and what they say where something is missing."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planish
from planish.backends.c.errors import ToolMissing
from planish.backends.tvm import target as tvm_target
from planish.backends.tvm.target import TvmTarget
from planish.ir.builder import const_value
from planish.ir.errors import UnsupportedError, UsageError
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.dense import dense
from planish.ir.types import F32, TensorType
from planish.runtime.target import Limits

MACHINE_AARCH64 = 0xB7  # ELF's e_machine


def small() -> Graph:
    x = graph_input("x", TensorType((1, 5), F32))
    w, b = np.ones((3, 5), np.float32), np.zeros(3, np.float32)
    return Graph([x], [dense(x, const_value(w), const_value(b))], ["y"])


def written(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.mark.usefixtures("tvm")
def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        TvmTarget("tvm").emit(small(), tmp_path / name, "net", Limits())
    assert written(tmp_path / "a") == written(tmp_path / "b")


@pytest.mark.usefixtures("tvm")
def test_equal_layers_share_a_kernel(tmp_path: Path) -> None:
    x = graph_input("x", TensorType((1, 5), F32))
    w, b = np.ones((2, 5, 5), np.float32), np.zeros(5, np.float32)
    w[1] = 2
    y = dense(dense(x, const_value(w[0]), const_value(b)), const_value(w[1]), const_value(b))
    TvmTarget("tvm").emit(Graph([x], [y], ["y"]), tmp_path, "net", Limits())
    source = (tmp_path / "net.c").read_text()
    assert source.count("extern void") == 1
    assert source.count("net_layer_00_dense(") == 3


@pytest.mark.usefixtures("tvm")
def test_android_objects_are_written_and_not_run(tmp_path: Path) -> None:
    target = TvmTarget("tvm:aarch64-android")
    artifact = target.emit(small(), tmp_path, "net", Limits())
    header = (tmp_path / "net_kernels.o").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == MACHINE_AARCH64
    with pytest.raises(UnsupportedError, match="cannot be run here"):
        target.run(artifact, {"x": np.zeros((1, 1, 5), np.float32)})


@pytest.mark.usefixtures("tvm")
def test_code_for_another_processor_is_not_run(tmp_path: Path) -> None:
    artifact = TvmTarget("tvm").emit(small(), tmp_path, "net", Limits())
    artifact.facts["cpu"] = "i486"
    with pytest.raises(UsageError, match="made for the processor i486"):
        TvmTarget("tvm").run(artifact, {"x": np.zeros((1, 1, 5), np.float32)})


@pytest.mark.usefixtures("tvm")
@pytest.mark.parametrize(("tool", "package"), [("aarch64-linux-gnu-gcc", "gcc-aarch64"), ("qemu-aarch64", "qemu-user")])
def test_a_missing_tool_is_named(tool: str, package: str, tmp_path: Path, monkeypatch: Any) -> None:
    target = TvmTarget("tvm:aarch64-linux")
    artifact = target.emit(small(), tmp_path, "net", Limits())
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else f"/usr/bin/{name}")
    with pytest.raises(ToolMissing, match=tool) as caught:
        target.run(artifact, {"x": np.zeros((1, 1, 5), np.float32)})
    assert package in str(caught.value.fix)
    assert {n.name: n.present for n in target.needs()}[tool] is False


def test_without_tvm_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tvm_target, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        planish.compile(small(), target="tvm", out=tmp_path / "out")
    assert "planish[mobile]" in str(caught.value.fix)
    assert not (tmp_path / "out").exists()


def test_the_code_links_as_a_shared_library(tmp_path: Path, tvm: None, require_tool: Any) -> None:
    import ctypes

    compiler = require_tool("cc")
    TvmTarget("tvm").emit(small(), tmp_path, "net", Limits())
    from planish.backends.c.toolchain import build_step

    sources = ["net.c", "net_weights.S", "net_kernels.o"]
    build_step([str(compiler), "-O2", "-fPIC", "-shared", "-I.", *sources, "-lm", "-o", "net.so"], tmp_path)
    library = ctypes.CDLL(str(tmp_path / "net.so"))
    arena, context = ctypes.create_string_buffer(64), (ctypes.c_void_p * 1)()
    x, y = (ctypes.c_float * 5)(1, 2, 3, 4, 5), (ctypes.c_float * 3)()
    assert library.net_init(context, arena, ctypes.c_size_t(64)) == 0
    assert library.net_run(context, x, y) == 0
    assert list(y) == [15, 15, 15]


def test_the_package_is_looked_for_and_not_imported() -> None:
    assert importlib.util.find_spec("planish.backends.tvm.target") is not None
    assert TvmTarget("tvm").supports(next(n for n in small().nodes if n.op.name == "dense")) is None
