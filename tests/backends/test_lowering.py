"""What a target's lowering makes of quantized graphs: integers on every device, quantize and dequantize in ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planish import api
from planish.driver import Model, input_ranges, lower
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import relu
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.ops.recurrent import lstm
from planish.ir.types import F32, I8, Array, Quant, TensorType
from planish.judging import is_integer
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named

DEVICES = ("c", "cortex-m0", "cortex-m4", "cortex-m55", "tvm", "npu:64")


@pytest.fixture(scope="module")
def quantized() -> Graph:
    """A convolution with pairs of quantize and dequantize around it, as `quantize` leaves it."""
    random = np.random.default_rng(0)
    x = graph_input("x", TensorType((1, 3, 6, 6), F32))
    w, b = (random.normal(size=s).astype(np.float32) for s in ((4, 3, 3, 3), (4,)))
    graph = Graph([x], [relu(conv2d(x, w, b, pads=(1, 1, 1, 1)))], ["y"])
    samples = [{"x": random.normal(size=(1, 3, 6, 6)).astype(np.float32)} for _ in range(4)]

    def calibration() -> Iterator[dict[str, Array]]:
        return iter(samples)

    return run_pipeline(graph, "simplify,fuse,quantize{calibration=minmax}", Context(calibration)).graph


@pytest.mark.parametrize("name", DEVICES)
def test_devices_execute_integers_whatever_the_pipeline_was(quantized: Graph, name: str) -> None:
    target = target_named(name)
    model = Model("net", quantized, quantized)
    lower(model, Context(target=target))
    assert not is_integer(quantized)
    assert is_integer(model.graph)
    assert all(target.supports(node) is None for node in model.graph.nodes)
    # Again, it finds nothing left to fold: what was folded before is as good.
    (again,) = (
        s for s in run_pipeline(model.graph, target.lowering, Context(target=target)).steps
        if s.applied.name == "fold-quantization"
    )  # fmt: skip
    assert not again.changes


def test_onnx_keeps_pairs(quantized: Graph) -> None:
    model = Model("net", quantized, quantized)
    lower(model, Context(target=target_named("onnx")))
    assert {n.op.name for n in model.graph.nodes} >= {"quantize", "dequantize", "conv2d"}


def test_from_python_a_quantized_graph_becomes_an_exact_program(
    quantized: Graph, tmp_path: Path, require_tool: Any
) -> None:
    require_tool("cc")
    api.compile(quantized, target="c", out=tmp_path / "out")
    verdict = api.verify(tmp_path / "out", samples=3)
    assert verdict.exact
    assert input_ranges(quantized)["x"][0] < -1


@pytest.mark.parametrize(("name", "stored"), [("c", False), ("c", True), ("npu:64", True)])
def test_recurrent_layers_compute_in_floats(name: str, stored: bool, tmp_path: Path, require_tool: Any) -> None:
    require_tool("cc")
    random = np.random.default_rng(0)
    x = graph_input("x", TensorType((6, 1, 3), F32))
    w, r, b = (random.integers(-127, 128, s).astype(np.int8) for s in ((1, 20, 3), (1, 20, 5), (1, 40)))
    state, scale = np.zeros((1, 1, 5), np.float32), np.float32(0.01)
    weights = [dequantize(a, scale, np.int8(0)) if stored else scale * a.astype(np.float32) for a in (w, r)]
    y, *_ = lstm(x, *weights, scale * b.astype(np.float32), state, state)
    api.compile(Graph([x], [y], ["y"]), target=name, out=tmp_path / "out")
    assert api.verify(tmp_path / "out", data="random:-2,2", samples=3).passed


def test_integers_of_the_source_count_as_what_they_mean(tmp_path: Path, require_tool: Any) -> None:
    """A model whose own result is quantized loses nothing by being compiled, and so the figures say."""
    require_tool("cc")
    x = graph_input("x", TensorType((1, 6), I8, Quant.of(0.1, 3)))
    w = dequantize(np.arange(-9, 9, dtype=np.int8).reshape(3, 6), np.float32(0.02), np.int8(0))
    reals = dense(dequantize(x, np.float32(0.1), np.int8(3)), w, np.zeros(3, np.float32))
    y = quantize(reals, np.float32(0.05), np.int8(9))
    y.type = y.type.with_quant(Quant.of(0.05, 9))
    api.compile(Graph([x], [y], ["y"]), target="c", out=tmp_path / "out")
    verdict = api.verify(tmp_path / "out", samples=5)
    assert verdict.exact
    assert verdict.sqnr_db is None or verdict.sqnr_db > 20
