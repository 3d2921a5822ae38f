"""The oracle accepts what rounding explains and nothing else."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.graph import Graph, apply, graph_input
from planish.ir.ops import all_ops
from planish.ir.ops.dense import Dense, dense
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.fused import Fused
from planish.ir.precision import float64_twin, widened
from planish.ir.types import F32, F64, TensorType, dtype_of
from planish.ir.verifier import verify
from planish.runtime.interpreter import run
from planish.runtime.oracle import compare, judge, sqnr_db
from planish.testing import graphs
from planish.testing.ops import for_each_instance, reference


def node_tolerance(op, operands):
    """Per result, how far any two executors may be from the double-precision result of these float32 operands.

    Zero for integers. Where a result is so small that float32 holds it with less precision, the smallest normal number.
    """
    with np.errstate(all="ignore"):
        error = op.error(*operands)
    errors = error if isinstance(error, tuple) else (error,)
    tiny = float(np.finfo(np.float32).tiny)
    return tuple(np.where(np.asarray(e) > 0, e + tiny, 0.0) for e in errors)


def test_integers_are_compared_bit_for_bit():
    a = np.array([[1, 2], [3, 4]], np.int8)
    assert compare(a, a.copy()).exact
    found = compare(a, np.array([[1, 2], [7, 5]], np.int8))
    assert (found.exact, found.agrees, found.differing, found.first, found.max_error) == (False, False, 2, (1, 0), 4)
    assert str(found) == "2 elements differ, by up to 4 (SQNR 2.5 dB); first at [1,0]: expected 3, got 7"


def test_large_integers_are_not_rounded_away():
    a = np.array([2**63 - 1, -(2**63)], np.int64)
    assert compare(a, a).exact
    assert compare(a, a - np.array([1, 0])).differing == 1


def test_nan_equals_nan_and_nothing_else():
    a = np.array([np.nan, 1, np.inf], np.float32)
    assert compare(a, a.copy()).exact
    for wrong in ([0, 1, np.inf], [np.nan, np.nan, np.inf], [np.nan, 1, -np.inf], [np.nan, 1, 1e38]):
        assert not compare(a, np.array(wrong, np.float32), tolerance=1e30).agrees


def test_what_is_no_number_or_infinite_in_both_does_not_hide_the_rest():
    x = graph_input("x", TensorType((3,), F32))
    graph = Graph([x], [add(x, np.array([1, np.inf, 1], np.float32))], ["y"])
    sample = {"x": np.array([1, 1, np.nan], np.float32)}
    assert judge(graph, sample, run(graph, sample))["y"].agrees
    assert not judge(graph, sample, {"y": np.array([2.5, np.inf, np.nan], np.float32)})["y"].agrees


def test_single_integers_of_64_bits_are_compared():
    assert compare(np.array(2**62), np.array([2**62])[0]).exact
    assert not compare(np.array(2**62), np.array([2**62 + 1])[0]).agrees


def test_tolerances_are_per_element():
    a = np.array([1.0, 100.0])
    assert compare(a, np.array([1.0, 100.5]), tolerance=np.array([0.1, 1.0])).agrees
    assert compare(a, np.array([1.5, 100.0]), tolerance=np.array([0.1, 1.0])).first == (0,)


def test_sqnr():
    x = np.array([3.0, 4.0])
    assert sqnr_db(x, x) == math.inf
    assert sqnr_db(x, np.array([3.5, 4.0])) == pytest.approx(20.0)
    assert sqnr_db(np.zeros(2), x) == -math.inf
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(x, x[:1])


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
def test_our_own_float32_is_within_the_tolerance_of_every_op(op):
    def check(instance, _):
        single = reference(instance.op, instance.operands)
        if not all(dtype_of(r) == F32 for r in single):
            return
        double = reference(widened_op(instance), [widened(x) for x in instance.operands])
        for s, d, tolerance in zip(single, double, node_tolerance(instance.op, instance.operands), strict=True):
            assert compare(d, s, tolerance).agrees, str(compare(d, s, tolerance))

    for_each_instance(op, check)


def widened_op(instance):
    """The op as it is in a double-precision graph."""
    inputs = [graph_input(f"x{i}", TensorType(x.shape, dtype_of(x))) for i, x in enumerate(instance.operands)]
    twin = float64_twin(Graph(inputs, [apply(instance.op, *inputs).results[0]], ["y"]))
    return twin.outputs[0].producer.op


@given(st.integers(1, 300), st.integers(0, 1000))
def test_any_order_of_summation_is_accepted_and_a_lost_term_is_not(k, seed):
    random = np.random.default_rng(seed)
    x, w = random.normal(size=(k,)).astype(np.float32), random.normal(size=(1, k)).astype(np.float32)
    b = np.zeros(1, np.float32)
    (tolerance,) = node_tolerance(Dense(), (x, w, b))
    exact = Dense().ref(*map(widened, (x, w, b)))
    backwards = np.float32(0)
    for term in (x * w[0])[::-1]:
        backwards += term
    assert compare(exact, np.array([backwards]), tolerance).agrees
    largest = np.argmax(np.abs(x * w[0]))
    assert not compare(exact, exact - x[largest] * w[0, largest], tolerance).agrees


@given(graphs(), st.integers(0, 1000))
def test_twins_are_well_formed_and_the_interpreter_passes(graph, seed):
    twin = float64_twin(graph)
    verify(twin)
    assert all(v.type.dtype == F64 for n in twin.nodes for v in n.results)
    x = np.random.default_rng(seed).normal(size=graph.inputs[0].type.shape).astype(np.float32)
    assert all(c.agrees for c in judge(graph, {"x": x}, run(graph, {"x": x})).values())


def test_a_wrong_graph_is_caught():
    """A bias that is off by a thousandth is no rounding."""
    random = np.random.default_rng(1)
    x = graph_input("x", TensorType((1, 20), F32))
    graph = Graph([x], [relu(dense(x, random.normal(size=(5, 20)).astype(np.float32), np.ones(5, np.float32)))], ["y"])
    sample = {"x": random.normal(size=(1, 20)).astype(np.float32)}
    right = run(graph, sample)["y"]
    assert judge(graph, sample, {"y": right})["y"].agrees
    assert not judge(graph, sample, {"y": right + np.float32(1e-3)})["y"].agrees


def test_what_cancels_is_judged_by_what_was_added_up():
    """A sum of 2 ** -20 of terms near 1: which of its digits are right is a matter of their order."""
    x = graph_input("x", TensorType((1, 3), F32))
    w, b = np.array([[1, 1, 1]], np.float32), np.array([-1], np.float32)
    graph = Graph([x], [relu(dense(x, w, b))], ["y"])
    sample = {"x": np.array([[0.25, 0.75, 2**-20]], np.float32)}
    right = run(graph, sample)["y"]
    assert judge(graph, sample, {"y": right + np.float32(2**-23)})["y"].agrees
    assert not judge(graph, sample, {"y": right + np.float32(2**-17)})["y"].agrees


def test_a_group_is_judged_like_its_parts():
    a, b = (graph_input(n, TensorType((4,), F32)) for n in "ab")
    op = Fused(Graph([a, b], [relu(add(a, b))], ["r"], "body"))
    x, y = np.array([1, 2, 3, 4], np.float32), np.full(4, 0.1, np.float32)
    (tolerance,) = node_tolerance(op, (x, y))
    right = op.ref(x, y)
    assert compare(right, np.nextafter(right, np.float32(9)), 2 * tolerance).agrees
    assert not compare(right, right + np.float32(1e-5), 2 * tolerance).agrees
