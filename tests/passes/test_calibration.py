"""Calibration runs no sample more often than it must."""

import numpy as np
import pytest

from planish.ir.graph import Graph, Loc, graph_input
from planish.ir.ops.elementwise import add
from planish.ir.ops.unary import exp
from planish.ir.types import F32, TensorType
from planish.passes import calibration
from planish.passes.base import Context


def graph():
    x = graph_input("x", TensorType((1, 64), F32))
    loc = Loc(("layer",))
    return Graph([x], [exp(add(x, x, loc=loc), loc=loc)], ["y"])


def calibrated(graph, samples):
    wanted = [*graph.inputs, *(v for node in graph.nodes for v in node.results)]
    found = calibration.calibrate(graph, Context(calibration=lambda: iter(samples)), wanted)
    return [found[v] for v in wanted]


@pytest.mark.parametrize(("count", "runs"), [(1, 1), (2, 4), (3, 6)])
def test_a_single_sample_is_run_once(count, runs, monkeypatch):
    ran, evaluate = [], calibration.evaluate
    monkeypatch.setattr(calibration, "evaluate", lambda *args: ran.append(1) or evaluate(*args))
    sample = {"x": np.linspace(-1, 3, 64, dtype=np.float32).reshape(1, 64)}
    calibrated(graph(), [sample] * count)
    assert len(ran) == runs


def test_a_single_sample_is_seen_as_the_same_one_twice_is():
    sample = {"x": np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)}
    once, twice = (calibrated(graph(), [sample] * count) for count in (1, 2))
    for a, b in zip(once, twice, strict=True):
        assert (a.lo, a.hi) == (b.lo, b.hi)
        np.testing.assert_array_equal(a.centres, b.centres)
        np.testing.assert_array_equal(2 * a.counts, b.counts)
        assert a.counts.sum() == 64
