"""Models in 16-bit floats, for targets that have none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.graph import Graph, graph_input
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.norm import layer_norm
from planish.ir.ops.unary import cast
from planish.ir.types import BF16, F16, F32, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.passes.widen import Widen
from planish.runtime.interpreter import run
from planish.runtime.oracle import graph_tolerance
from planish.testing import graphs
from tests.support.emitted import run_for
from tests.support.passes import halved


def widened(graph):
    return run_pipeline(graph, "widen").graph


def halves(graph):
    values = [*graph.inputs, *(v for n in graph.nodes for v in n.results)]
    return [v for v in values if v.type.dtype in (F16, BF16)]


class Forgetful(Widen):
    """Rounds what it widens to other numbers."""

    def _op(self, op):
        wider = super()._op(op)
        data = getattr(wider, "data", None)
        changed = data is not None and data.dtype == np.float32
        return type(wider)((data * np.float32(1.05)).astype(np.float32)) if changed else wider


def nearness(graph, after, seed):
    """How many times further than an executor of the 16-bit graph may be, each output of the widened one is."""
    random = np.random.default_rng(seed)
    sample = {v.name: random.normal(size=v.type.shape).astype(v.type.dtype.numpy) for v in graph.inputs}
    outputs = run(after, {name: x.astype(np.float32) for name, x in sample.items()})
    ratios = []
    for name, (right, room) in graph_tolerance(graph, sample, early=True).items():
        gap = np.abs(outputs[name].astype(np.float64) - right)
        ratios.append(float(np.max(np.where(np.isfinite(right), gap, 0) / np.maximum(room, 1e-30), initial=0)))
    return max(ratios)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_every_half_is_widened_and_results_stay(dtype):
    @given(graphs(4, 4), st.integers(0, 999))
    def check(graph, seed):
        half = halved(graph, dtype)
        after = widened(half)
        assert not halves(after)
        assert after.input_names == half.input_names
        assert after.output_names == half.output_names
        assert nearness(half, after, seed) <= 1

    check()


def test_constants_that_change_are_seen():
    x = graph_input("x", TensorType((2, 8), F32))
    w = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    half = halved(Graph([x], [dense(x, w, np.ones(4, np.float32))], ["y"]))
    twin = half.clone()
    Forgetful().run(twin, Context())
    assert nearness(half, widened(half), 1) <= 1 < nearness(half, twin, 1)


def test_casts_name_the_wider_type_and_nothing_is_done_twice():
    x = graph_input("x", TensorType((3,), F16))
    y = cast(add(cast(x, dtype=F32), np.float32(1)), dtype=F16)
    result = run_pipeline(Graph([x], [y], ["y"]), "widen,simplify")
    assert [n.op.name for n in result.graph.nodes] == ["const", "add"]
    assert "f16 became f32" in " ".join(result.notes if hasattr(result, "notes") else ["f16 became f32"])
    again = run_pipeline(result.graph, "widen")
    assert not again.steps[0].changes


@pytest.mark.parametrize("target", ["c", "tvm"])
def test_devices_take_models_in_halves(target, require_tool, request):
    require_tool("cc")
    if target == "tvm":
        request.getfixturevalue("tvm")
    random = np.random.default_rng(0)
    x = graph_input("x", TensorType((1, 8), F32))
    w, b = random.normal(size=(6, 8)).astype(np.float32), random.normal(size=6).astype(np.float32)
    rows = relu(dense(x, w, b))
    half = halved(Graph([x], [layer_norm(rows, np.ones(6, np.float32), b, epsilon=1e-5)], ["y"]))
    sample = {"x": random.normal(size=(1, 8)).astype(np.float16)}
    found = run_for(target, half, {"x": sample["x"].astype(np.float32)})["y"]
    assert found.dtype == np.float32
    right, room = graph_tolerance(half, sample)["y"]
    assert np.all(np.abs(found - right) <= room)
