"""Recurrent layers compute in floats; int8 quantization stores their weights as integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.onnx.session import run_batch
from planish.backends.onnx.target import FILE, OnnxTarget
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, graph_input
from planish.ir.ops.recurrent import gru, lstm, rnn
from planish.ir.types import F32, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.passes.quantization_quality import sqnr
from planish.runtime.oracle import judge
from planish.runtime.target import Limits

#: Layers: how they are built, gates, states.
LAYERS: dict[str, tuple[Any, int, int]] = {"lstm": (lstm, 4, 2), "gru": (gru, 3, 1), "rnn": (rnn, 1, 1)}


def layer(kind: str, inputs: int, hidden: int, directions: int, seed: int = 0, wide: float = 1.0) -> Graph:
    """One layer over five steps. wide: how much larger the last rows of weights are than the first."""
    build, gates, states = LAYERS[kind]
    random = np.random.Generator(np.random.PCG64(seed))
    rows = np.geomspace(1, wide, gates * hidden).reshape(1, -1, 1)
    x = graph_input("x", TensorType((5, 1, inputs), F32))
    w, r = (random.uniform(-1, 1, (directions, gates * hidden, n)) * rows / np.sqrt(n) for n in (inputs, hidden))
    bias = random.uniform(-0.5, 0.5, (directions, 2 * gates * hidden))
    start = [np.zeros((directions, 1, hidden), np.float32)] * states
    arrays = [a.astype(np.float32) for a in (w, r, bias)]
    y = build(x, *arrays, *start, loc=Loc(("memory",)))
    return Graph([x], [y[0], y[1]], ["all", "last"], kind)


def quantized(graph: Graph, options: str = "") -> Graph:
    random = np.random.Generator(np.random.PCG64(7))
    samples = [{"x": random.normal(size=graph.inputs[0].type.shape).astype(np.float32)} for _ in range(2)]  # type: ignore[arg-type]
    pipeline = f"quantize{{calibration=minmax{options}}}"
    made = run_pipeline(graph, pipeline, Context(calibration=lambda: samples)).graph
    verify(made)
    return made


def stored(graph: Graph) -> list[Any]:
    """Weights of the layer, with what they mean: (integers, scales), or None for floats."""
    (node,) = (n for n in graph.nodes if n.weights)
    makers = [node.operands[i].producer for i in node.weights]
    return [tuple(v.const for v in m.operands[:2]) if m and m.op.name == "dequantize" else None for m in makers]


@given(
    kind=st.sampled_from(sorted(LAYERS)),
    inputs=st.integers(8, 24),
    hidden=st.integers(8, 24),
    directions=st.integers(1, 2),
    seed=st.integers(0, 99),
    per_channel=st.booleans(),
)
def test_weights_are_the_nearest_integers_of_their_rows(
    kind: str, inputs: int, hidden: int, directions: int, seed: int, per_channel: bool
) -> None:
    graph = layer(kind, inputs, hidden, directions, seed, wide=100.0)
    made = quantized(graph, f",per_channel={str(per_channel).lower()}")
    (node,) = (n for n in graph.nodes if n.weights)
    for i, found in zip(node.weights, stored(made), strict=True):
        array, (integers, scale) = node.operands[i].const, found
        assert array is not None
        assert integers.dtype == np.int8
        assert scale.shape == ((1, array.shape[1], 1) if per_channel else ())
        assert np.abs(integers).max() == 127
        assert (np.abs(integers * scale.astype(np.float64) - array) <= 0.5001 * scale).all()


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_file_is_near_a_quarter_and_means_the_same_elsewhere(kind: str, directions: int, tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    sizes, target = [], OnnxTarget("onnx")
    graph = layer(kind, 64, 64, directions)
    sample = np.random.default_rng(3).normal(size=(5, 1, 64)).astype(np.float32)
    for name, form in {"float": graph, "int8": quantized(graph)}.items():
        lowered = run_pipeline(form, target.lowering, Context(target=target)).graph
        (tmp_path / name).mkdir()
        target.emit(lowered, tmp_path / name, "m", Limits())
        sizes.append((tmp_path / name / FILE).stat().st_size)
        outputs = run_batch(tmp_path / name / FILE, {"x": sample[None]}, ["all", "last"])
        found = {key: value[0] for key, value in outputs.items()}
        for comparison in judge(form, {"x": sample}, found).values():
            assert comparison.agrees, comparison
    assert sizes[1] < 0.35 * sizes[0]
    levels = sqnr([evaluate(graph, [sample])], [evaluate(form, [sample])])
    assert min(levels) > 35


@pytest.mark.parametrize("name", ["memory", "lstm"])
def test_a_layer_that_is_excluded_keeps_its_floats(name: str) -> None:
    assert stored(quantized(layer("lstm", 16, 16, 1), f",exclude={name}")) == [None, None]


def test_weights_that_would_not_become_smaller_stay() -> None:
    """A scale of four bytes for each row of one element."""
    assert stored(quantized(layer("gru", 1, 1, 1))) == [None, None]
