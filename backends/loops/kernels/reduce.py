"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ....ir.ops.reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from ....ir.types import I32
from ...group import Group
from ..code import Code
from ..elements import larger
from ..epilogue import Position
from ..expressions import Buffer, Expr, convert, dense_strides, flat, highest, lowest, number, wrapping
from ..kernel import LoopKernel

#: Floats are summed in blocks of so many: errors grow with the length of a block plus the number of blocks
#: (Higham, Accuracy and Stability of Numerical Algorithms, chapter 4), not with the length of the sum.
BLOCK = 32


class Reduce(LoopKernel):
    """Axes that stay, and within them those that go; the last axis in lanes where it stays."""

    name = "reduce"
    ops = (ReduceMean, ReduceSum, ReduceMax, ReduceMin)

    def write(self, group: Group, code: Code) -> None:
        shape = group.shape(group.anchor.operands[0])
        kept = [axis for axis in range(len(shape)) if axis not in group.op.axes]
        if not kept or kept[-1] != len(shape) - 1:
            with code.loops([shape[a] for a in kept]) as outer:
                _result(group, code, dict(zip(kept, outer, strict=True)))
            return
        with code.loops([shape[a] for a in kept[:-1]]) as outer, code.lanes(shape[-1]) as last:
            _result(group, code, dict(zip(kept, (*outer, last), strict=True)))


def _result(group: Group, code: Code, kept: dict[int, Expr]) -> None:
    """One result, at these coordinates of the axes that stay."""
    op, (x,) = group.op, group.anchor.operands
    shape, dtype, source = group.shape(x), group.anchor.result.type.dtype, code.operand(x)
    strides = dense_strides(shape)
    base = flat(list(kept.values()), [strides[a] for a in kept])
    gone = [(shape[a], strides[a]) for a in sorted(op.axes)] or [(1, 1)]

    def element(axes: Sequence[Expr], steps: Sequence[int]) -> Expr:
        return code.load(source, base + flat(axes, steps))

    if isinstance(op, ReduceMax | ReduceMin):
        greater = isinstance(op, ReduceMax)
        acc = code.local(dtype, lowest(dtype) if greater else highest(dtype), "max" if greater else "min")
        sizes, steps = zip(*gone, strict=True)
        with code.loops(sizes) as inner:
            code.store(acc, 0, larger(element(inner, steps), code.load(acc, 0), greater))
        value = code.load(acc, 0)
    else:
        acc = code.local(dtype, 0, "sum")
        wide = x.type.dtype.is_integer and x.type.dtype.bits >= 32  # of narrower ones no sum overflows
        zero = getattr(op, "input_zero", 0)
        if dtype.is_float:  # the longest axis is summed in blocks
            gone = sorted(_merged(gone), key=lambda axis: axis[0])
        *outer, (count, last) = gone
        with code.loops([size for size, _ in outer]) as inner:

            def term(k: Expr) -> Expr:
                read = convert(element((*inner, k), (*(step for _, step in outer), last)), dtype)
                return read - zero if zero else read

            if wide:
                with code.loop(count) as k:
                    code.store(acc, 0, wrapping("+", code.load(acc, 0), term(k)))
            else:
                accumulate(code, acc, count, term)
        value = code.load(acc, 0)
        if isinstance(op, ReduceMean):
            value = value / float(math.prod(shape[a] for a in op.axes))
    axes = [kept.get(a, number(0, I32)) for a in range(len(shape)) if op.keepdims or a in kept]
    code.result(Position.of(axes, group.shape(group.result)), value)


def _merged(axes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sizes and strides of axes; those that lie within one another without gaps are one."""
    found: list[tuple[int, int]] = []
    for size, stride in axes:
        if found and found[-1][1] == size * stride:
            size *= found.pop()[0]
        found.append((size, stride))
    return found


def accumulate(code: Code, acc: Buffer, count: int, term: Callable[[Expr], Expr]) -> None:
    """Acc += the sum of term(k) for k in [0, count); floats in blocks."""
    if not acc.dtype.is_float or count == 1:
        with code.loop(count) as k:
            code.store(acc, 0, code.load(acc, 0) + term(k))
        return
    for first, blocks, length in ((0, count // BLOCK, BLOCK), (count - count % BLOCK, 1, count % BLOCK)):
        if length:
            with code.loop(blocks) as block:
                part = code.local(acc.dtype, 0, "part")
                with code.loop(length) as k:
                    code.store(part, 0, code.load(part, 0) + term(block * length + k + first))
                code.store(acc, 0, code.load(acc, 0) + code.load(part, 0))
