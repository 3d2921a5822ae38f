"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ....ir.ops.reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from ...group import Group
from ...loops.expressions import dense_strides
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr, blocks_of, tir_type
from ..numbers import farthest, larger, wrapped
from ..render import LANES
from ..scalars import Position, flat
from .base import TirKernel

#: Floats are summed in blocks of so many: errors grow with the length of a block plus the number of blocks
#: (Higham, Accuracy and Stability of Numerical Algorithms, chapter 4).
BLOCK = 32


class TirReduce(TirKernel):
    """Axes that stay, and within them those that go; the last axis in vectors where it stays."""

    name = "reduce"
    ops = (ReduceMean, ReduceSum, ReduceMax, ReduceMin)

    def emit(self, group: Group, code: Code) -> None:
        shape = group.shape(group.anchor.operands[0])
        kept = [size for axis, size in enumerate(shape) if axis not in group.op.axes]
        if not kept or len(shape) - 1 in group.op.axes:
            with code.loops(kept) as outer:
                _results(group, code, outer, 1)
            return
        with code.loops(kept[:-1]) as outer:
            for start, blocks, width in blocks_of(kept[-1], LANES):
                with code.loop(blocks) as block:
                    _results(group, code, (*outer, start + block * width), width)


def _results(group: Group, code: Code, kept: Sequence[Expr], width: int) -> None:
    """`width` results, the first at the coordinates `kept` of the axes that stay."""
    op, (x_value,) = group.op, group.anchor.operands
    shape, dtype = group.shape(x_value), group.anchor.result.type.dtype
    gone = [shape[a] for a in op.axes]
    size, kind = math.prod(gone), tir_type(dtype)
    wide = x_value.type.dtype.is_integer and x_value.type.dtype.bits >= 32  # of narrower ones no sum overflows
    source = scalars.buffer(group, code, x_value)
    chosen, greater = isinstance(op, ReduceMax | ReduceMin), isinstance(op, ReduceMax)
    start = farthest(dtype, greater) if chosen else tirx.const(0, kind)

    def coordinates(lane: Expr, inner: Sequence[Expr]) -> list[Expr]:
        at = dict(zip(op.axes, inner, strict=True))
        stay = [a for a in range(len(shape)) if a not in op.axes]
        at.update(zip(stay, [*kept[:-1], kept[-1] + lane] if width > 1 else kept, strict=True))
        return [at[a] for a in range(len(shape))]

    def accumulate(acc: Expr, k: Expr) -> None:
        def step(lane: Expr) -> None:
            element = code.load(source, flat(coordinates(lane, _unravel(k, gone)), dense_strides(shape)))
            old = code.load(acc, lane)
            if chosen:
                code.store(acc, larger(element, old, dtype, greater), lane)
            else:
                zero = tirx.const(getattr(op, "input_zero", 0), kind)
                term = tirx.Cast(kind, element) - zero
                code.store(acc, wrapped("+", old, term, dtype) if wide else old + term, lane)

        code.vector(width, step)

    acc = code.local((width,), kind)
    code.vector(width, lambda lane: code.store(acc, start, lane))
    if dtype.is_float and not chosen and size > BLOCK:
        part = code.local((width,), kind)
        for first, blocks, length in ((0, size // BLOCK, BLOCK), (size - size % BLOCK, 1, size % BLOCK)):
            if length:
                with code.loop(blocks) as block:
                    code.vector(width, lambda lane: code.store(part, start, lane))
                    with code.loop(length) as k:
                        accumulate(part, first + block * length + k)
                    code.vector(width, lambda lane: code.store(acc, code.load(acc, lane) + code.load(part, lane), lane))
    else:
        with code.loop(size) as k:
            accumulate(acc, k)

    def finish(lane: Expr) -> None:
        value = code.load(acc, lane)
        if isinstance(op, ReduceMean):
            value = value / tirx.const(float(size), kind)
        at = coordinates(lane, [tirx.const(0, "int32")] * len(op.axes))
        axes = [a for i, a in enumerate(at) if op.keepdims or i not in op.axes]
        scalars.store(group, code, Position.of(axes, group.shape(group.result)), value)

    code.vector(width, finish)


def _unravel(index: Expr, shape: Sequence[int]) -> list[Expr]:
    """Coordinates of a flat index."""
    axes: list[Expr] = []
    for size in reversed(shape):
        axes.append(tirx.floormod(index, tirx.const(size, "int32")))
        index = tirx.floordiv(index, tirx.const(size, "int32"))
    return list(reversed(axes))
