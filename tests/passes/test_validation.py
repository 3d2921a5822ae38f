from dataclasses import dataclass

import numpy as np
import pytest

from planish.ir.errors import VerificationError
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, mul
from planish.ir.ops.quant import Rescale, quantize, rescale
from planish.ir.ops.softmax import softmax
from planish.ir.rewrite import replace_value
from planish.ir.types import I8, I32
from planish.passes.base import Changes, Context, Pass
from planish.passes.pipeline import run_pipeline
from planish.passes.validation import Validation
from planish.runtime.contracts import APPROXIMATE, EXACT, REASSOCIATING, within
from tests.support.passes import graph_of, reals, x_input


def replacing(contract, change):
    """A pass that replaces the first output by `change` of it."""

    @dataclass(frozen=True)
    class Replacing(Pass):
        def run(self, graph, context):
            old = graph.outputs[0]
            new = change(old)
            graph.adopt(new)
            graph.set_output(0, new)
            changes = Changes()
            changes.count("replaced", 1)
            return changes

    Replacing.contract = contract
    return Replacing()


def found(graph, applied, context=None):
    validation = Validation()
    run_pipeline(graph, [applied], context, listeners=[validation])
    return validation.findings


def network():
    return graph_of(softmax(dense(x_input(1, 8), reals(4, 8), reals(4))))


@pytest.mark.parametrize(
    ("contract", "scale", "is_caught"),
    [
        (EXACT, 1, False),
        (EXACT, 1 + 2**-23, True),
        (REASSOCIATING, 1 + 2**-23, True),  # a formula that is wrong in the last place: seen in double precision
        (REASSOCIATING, 1.01, True),
        (within(1), 1.01, False),
        (APPROXIMATE, 1.01, False),
    ],
)
def test_each_contract(contract, scale, is_caught):
    applied = replacing(contract, lambda y: mul(y, np.asarray(scale, y.type.dtype.numpy)))
    if is_caught:
        with pytest.raises(VerificationError, match="replacing breaks its contract") as caught:
            found(network(), applied)
        assert "output y0[0, " in str(caught.value)
    else:
        (finding,) = found(network(), applied)
        assert finding.sqnr_db == (np.inf if scale == 1 else pytest.approx(40, abs=0.1))


def test_zeros_have_signs():
    graph = graph_of(mul(x_input(2), np.zeros(2, np.float32)))
    with pytest.raises(VerificationError, match="contract EXACT"):
        found(graph, replacing(EXACT, lambda y: add(y, np.zeros(1, np.float32))))


def test_nan_equals_nan():
    graph = graph_of(mul(x_input(2), np.full(2, np.nan, np.float32)))
    assert found(graph, replacing(EXACT, lambda y: mul(y, np.float32(1))))[0].difference == 0


def test_integers_are_equal_under_any_order_of_sums():
    graph = graph_of(add(x_input(3, dtype=I32), np.ones(3, np.int32)))
    with pytest.raises(VerificationError, match="contract REASSOCIATING: a difference of 1, 0 is allowed"):
        found(graph, replacing(REASSOCIATING, lambda y: add(y, np.ones(3, np.int32))))


def test_noise_is_measured_on_real_samples():
    context = Context(calibration=lambda: iter([{"x": np.full((1, 8), 1e-3, np.float32)}]))
    quiet = replacing(APPROXIMATE, lambda y: add(y, np.float32(1e-3)))
    graph = graph_of(mul(x_input(1, 8), np.float32(1)))
    assert found(graph, quiet, context)[0].sqnr_db == pytest.approx(0, abs=0.1)


def test_another_interface_is_said_not_compared():
    context = Context()
    to_integers = replacing(APPROXIMATE, lambda y: quantize(y, np.float32(0.1), np.int8(0)))
    assert found(network(), to_integers, context) == []
    assert "not validated" in context.notes[0]


def test_a_wrong_multiplier_is_seen():
    x = x_input(4, dtype=I8)
    graph = graph_of(rescale(x, np.array([2**30], np.int32), np.zeros(1, np.int8)))

    @dataclass(frozen=True)
    class Halves(Pass):
        contract = EXACT

        def run(self, graph, context):
            node = next(n for n in graph.nodes if isinstance(n.op, Rescale))
            half = rescale(node.operands[0], np.array([2**29], np.int32), np.zeros(1, np.int8))
            replace_value(graph, node.result, half, because="halves")
            changes = Changes()
            changes.count("halved", 1)
            return changes

    with pytest.raises(VerificationError, match="halves breaks its contract EXACT"):
        found(graph, Halves())
