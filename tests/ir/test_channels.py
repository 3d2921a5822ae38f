"""What single ops tie together, by hand; that ties are right, `check_op` proves for each op."""

import numpy as np
import pytest

from planish.ir.channels import Channels, components
from planish.ir.ops.conv import Conv2d
from planish.ir.ops.dense import Dense, Matmul
from planish.ir.ops.elementwise import Add
from planish.ir.ops.index import Expand, Gather
from planish.ir.ops.quant import Table
from planish.ir.ops.reduce import ReduceSum
from planish.ir.ops.shape import Concat, DepthToSpace, Pad, Reshape, Slice, Transpose
from planish.ir.ops.softmax import Softmax
from planish.ir.types import F32, I8, I32, NHWC, Sym, TensorType


def t(*shape, dtype=I8):
    return TensorType(shape, dtype)


def tie(op, *operands, of=(0, 1)):
    """The first answer that speaks of an axis of an operand, as (operands, results)."""
    answers = op.channels(operands)
    found = next((c for c in answers if of in c.operands), None)
    return (
        None if found is None else tuple({p: x.tolist() for p, x in s.items()} for s in (found.operands, found.results))
    )


IMAGE = t(1, 4, 2, 2)


def test_elementwise_ops_tie_what_does_not_broadcast():
    assert tie(Add(), IMAGE, t(4, 1, 1)) == ({(0, 1): [0, 1, 2, 3], (1, 0): [0, 1, 2, 3]}, {(0, 1): [0, 1, 2, 3]})
    assert tie(Add(), IMAGE, t(1)) == ({(0, 1): [0, 1, 2, 3]}, {(0, 1): [0, 1, 2, 3]})
    assert tie(Table(), t(1, 256), t(256)) == ({(0, 1): list(range(256))}, {(0, 1): list(range(256))})


@pytest.mark.parametrize(
    ("op", "operands", "first", "result"),
    [
        (Concat(1), [IMAGE, t(1, 2, 2, 2)], {(0, 1): [0, 1, 2, 3], (1, 1): [4, 5]}, {(0, 1): [0, 1, 2, 3, 4, 5]}),
        (Reshape((1, 16)), [IMAGE], {(0, 1): [0, 1, 2, 3]}, {(0, 1): [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4}),
        (Gather(1, (3, 0, 0)), [IMAGE], {(0, 1): [0, 1, 2, 3]}, {(0, 1): [3, 0, 0]}),
        (Slice((0, 1, 0, 0), (1, 3, 2, 2), (1,) * 4), [IMAGE], {(0, 1): [0, 1, 2, 3]}, {(0, 1): [1, 2]}),
        (Pad((0, 1, 0, 0), (0, 0, 1, 1)), [IMAGE], {(0, 1): [0, 1, 2, 3]}, {(0, 1): [-1, 0, 1, 2, 3]}),
        (Transpose((0, 2, 3, 1)), [IMAGE], {(0, 1): [0, 1, 2, 3]}, {(0, 3): [0, 1, 2, 3]}),
        (DepthToSpace(2), [t(1, 8, 2, 2)], {(0, 1): [0, 1] * 4}, {(0, 1): [0, 1]}),
        (DepthToSpace(2, True), [t(1, 8, 2, 2)], {(0, 1): [0] * 4 + [1] * 4}, {(0, 1): [0, 1]}),
        (Expand((2, 4, 2, 2)), [IMAGE], {(0, 1): [0, 1, 2, 3]}, {(0, 1): [0, 1, 2, 3]}),
        (Reshape((Sym("N"), 8)), [t(Sym("N"), 4, 2)], {(0, 1): [0, 1, 2, 3]}, {(0, 1): [0, 0, 1, 1, 2, 2, 3, 3]}),
    ],
    ids=lambda x: x.name if hasattr(x, "name") else None,
)
def test_data_movements_tie_what_labels_show(op, operands, first, result):
    assert tie(op, *operands) == (first, result)


def test_what_cannot_be_told_apart_is_one_channel():
    halves = tie(Reshape((1, 2, 2, 2, 2)), IMAGE)
    assert halves == ({(0, 1): [0, 0, 1, 1]}, {(0, 1): [0, 1]})
    assert tie(Softmax(), t(1, 4, dtype=F32)) is None


def test_a_symbol_inside_ties_nothing():
    """Which rows become which depends on how large N is."""
    assert Reshape((Sym("N"), 2, 3)).channels([t(2, Sym("N"), 3)]) == ()


def test_large_tensors_are_not_labelled():
    assert Expand((1 << 20, 1 << 20)).channels([t(1, 1 << 20)]) == ()


def test_convolutions():
    w, b = t(6, 3, 3, 4), t(6, dtype=I32)
    outputs, sums = Conv2d(layout=NHWC).channels([t(1, 5, 5, 4), w, b])
    assert set(outputs.operands) == {(1, 0), (2, 0)}
    assert set(outputs.results) == {(0, 3)}
    assert (sums.is_sum, sums.bias, sums.count, set(sums.operands)) == (True, 2, 4, {(0, 3), (1, 3)})
    (grouped,) = Conv2d(groups=2).channels([IMAGE, t(6, 2, 1, 1), b])
    assert grouped.operands[0, 1].tolist() == [0, 0, 1, 1]
    assert grouped.results[0, 1].tolist() == [0, 0, 0, 1, 1, 1]
    kept = grouped.kept(np.array([False, True]))
    assert Conv2d(groups=2).resized([t(1, 2, 2, 2), t(3, 2, 1, 1), t(3, dtype=I32)], kept) == Conv2d(groups=1)


def test_sums_without_bias():
    assert [c.bias for c in Matmul().channels([t(2, 3), t(3, 4)]) if c.is_sum] == [None]
    assert [c.bias for c in Dense().channels([t(2, 3), t(4, 3), t(4, dtype=I32)]) if c.is_sum] == [2]
    assert [set(c.operands) for c in ReduceSum((2, 3)).channels([IMAGE]) if c.is_sum] == [{(0, 2)}, {(0, 3)}]


def test_what_is_kept():
    channels = Channels(3, {(0, 1): np.array([2, 0, -1, 1, 0])}, {(0, 0): np.array([0, 1, 2])})
    kept = channels.kept(np.array([False, True, True]))
    assert kept.operands[0, 1].tolist() == [0, 2, 3]
    assert kept.results[0, 0].tolist() == [1, 2]


def test_components():
    classes, count = components(np.array([0, 1, 5]), np.array([3, 4, 1]), 6)
    assert count == 3
    assert classes.tolist() == [0, 1, 2, 0, 1, 1]
