"""Quantized graphs, cut behind every quantize."""

import numpy as np
import pytest
from hypothesis import given

from planish.ir.graph import Graph, graph_input
from planish.ir.ops.elementwise import relu
from planish.ir.ops.quant import Quantize, dequantize, quantize
from planish.ir.types import F32, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.data import uniform
from planish.runtime.interpreter import run
from planish.runtime.unchained import step_values, unchained
from planish.testing import graphs


@given(graphs(max_layers=4))
def test_given_the_right_integers_every_layer_makes_them(graph):
    data = uniform({v.name: (-2.0, 2.0) for v in graph.inputs}).of(graph, 2)
    quantized = run_pipeline(graph, "fuse,quantize{calibration=minmax}", Context(lambda: iter(data))).graph
    steps = [n for n in quantized.nodes if isinstance(n.op, Quantize)]
    cut = unchained(quantized, [f"step{i}" for i in range(len(steps))])
    verify(cut.graph)
    assert len(cut.made) == len(steps)
    sample = {v.name: data.arrays[v.name][0] for v in graph.inputs}
    values = step_values(quantized, sample, cut.given)
    found, whole = run(cut.graph, {**sample, **values}), run(quantized, sample)
    for given_, made in zip(cut.given, cut.made, strict=True):
        np.testing.assert_array_equal(found[made], values[given_])
    for name in cut.without_steps().output_names:
        np.testing.assert_array_equal(found[name], whole[name])


def chain():
    """Two steps: q0 of x, q1 of relu(q0)."""
    x = graph_input("x", TensorType((3,), F32))
    first = quantize(x, np.float32(1), np.int8(0))
    real = relu(dequantize(first, np.float32(1), np.int8(0)))
    return Graph([x], [quantize(real, np.float32(2), np.int8(0)), real], ["q", "y"])


def test_a_step_does_not_see_the_one_before():
    cut = unchained(chain(), ["a", "q"])
    given_ = {"x": np.zeros(3, np.float32), "a": np.array([4, -4, 6], np.int8), "q": np.zeros(3, np.int8)}
    found = run(cut.graph, given_)
    assert found[cut.made[0]].tolist() == [0, 0, 0]
    assert found[cut.made[1]].tolist() == [2, 0, 3]
    assert found["y"].tolist() == [4, 0, 6]
    assert "q" not in found, "an output that is a step goes out under its new name"


def test_every_step_needs_a_name():
    with pytest.raises(ValueError, match="zip"):
        unchained(chain(), ["a"])
