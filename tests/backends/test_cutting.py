"""Programs with float layers between integers are judged layer by layer: one value that tips changes all after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planish import api
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.types import F32, TensorType
from planish.verification import Verdict

SCALE = np.float32(0.03)


def float_between_integers(layers: int) -> Graph:
    """Convolutions of which every other one has weights quantized along its input channels: those stay float."""
    random = np.random.default_rng(3)

    def pair(x: Value) -> Value:
        return dequantize(quantize(x, SCALE, np.int8(3)), SCALE, np.int8(3))  # type: ignore[no-any-return]

    inputs = graph_input("x", TensorType((1, 8, 6, 6), F32))
    y = pair(inputs)
    for i in range(layers):
        axis = (0, 2, 3) if i % 2 == 0 else (1, 2, 3)
        w = random.normal(size=(8, 8, 3, 3)).astype(np.float32) / 8
        scale = np.abs(w).max(axis, keepdims=True) / np.float32(127)
        q = np.rint(w / scale).astype(np.int8)
        real = dequantize(q, scale, np.zeros(scale.shape, np.int8))
        y = pair(conv2d(y, real, np.zeros(8, np.float32), pads=(1, 1, 1, 1)))
    return Graph([inputs], [y], ["y"])


def verified(graph: Graph, target: str, out: Path) -> Verdict:
    api.compile(graph, target=target, out=out)
    return api.verify(out, api.data("random:-4,4"), samples=4)


@pytest.mark.parametrize(("target", "layers"), [("c", 4), ("tvm", 3), ("npu:64", 1)])
def test_every_layer_is_within_a_step_given_the_same_integers(
    target: str, layers: int, tmp_path: Path, require_tool: Any
) -> None:
    require_tool("cc")
    if target == "tvm":
        pytest.importorskip("tvm")
    verdict = verified(float_between_integers(layers), target, tmp_path / "out")
    assert verdict.passed, verdict.difference
    assert verdict.layer_steps is not None
    assert verdict.layer_steps <= 1


def test_a_program_that_was_changed_is_judged_as_a_whole(tmp_path: Path, require_tool: Any) -> None:
    """Other kernels, written anew, would say nothing about it."""
    require_tool("cc")
    out = tmp_path / "out"
    api.compile(float_between_integers(2), target="c", out=out)
    (tables,) = out.glob("*_tables.h")
    text = tables.read_text(encoding="ascii")
    first = text.index("{") + 1
    tables.write_text(f"{text[:first]} 77,{text[first:].partition(',')[2]}", encoding="ascii")
    verdict = api.verify(out, api.data("random:-4,4"), samples=4)
    assert verdict.layer_steps is None
    assert not verdict.passed
    assert verdict.difference is not None
