"""Pooling and reductions."""

from __future__ import annotations

import math

import numpy as np

from ....ir.ops.pool import AvgPool2d, MaxPool2d, SumPool2d, window_counts
from ....ir.ops.reduce import ReduceMax, ReduceMean, ReduceSum
from ....ir.ops.windows import from_nhwc
from ....ir.types import NHWC, DType
from ...group import Group
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr, blocks_of, tir_type
from ..emitters import larger, number
from ..scalars import Position, dense_strides, flat
from .base import LANES, TirKernel

#: Floats are summed in blocks of so many: errors grow with the length of a block plus the number of blocks
#: (Higham, Accuracy and Stability of Numerical Algorithms, chapter 4).
BLOCK = 32


def _lowest(dtype: DType) -> Expr:
    return number(-math.inf if dtype.is_float else dtype.min, dtype)


class TirPool2d(TirKernel):
    """One window at a time; channels in vectors where they lie side by side."""

    name = "pool2d"
    ops = (MaxPool2d, AvgPool2d, SumPool2d)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        shape, x_shape = group.shape(group.result), group.shape(x_value)
        channel, (row, column) = op.layout.channel, op.layout.spatial
        sizes = [shape[0], shape[row], shape[column], shape[channel]]
        strides = dense_strides(x_shape)
        dtype = group.anchor.result.type.dtype
        kind = tir_type(dtype)
        source = scalars.buffer(group, code, x_value)
        counts = _reciprocals(group) if isinstance(op, AvgPool2d) else None

        def window(n: Expr, y: Expr, x: Expr, c: Expr, width: int) -> None:
            acc = code.local((width,), kind)

            def each(body: object) -> None:
                with code.loop(width, "VECTORIZED") as lane:
                    body(lane)  # type: ignore[operator]

            start = _lowest(dtype) if isinstance(op, MaxPool2d) else tirx.const(0, kind)
            each(lambda lane: code.store(acc, start, lane))
            with code.loops(op.window) as (i, j):
                iy = y * op.strides[0] + i * op.dilations[0] - op.pads[0]
                ix = x * op.strides[1] + j * op.dilations[1] - op.pads[1]
                inside = _within(iy, x_shape[row], _overhangs(op, 0, x_shape[row], sizes[1]))
                inside = tirx.And(inside, _within(ix, x_shape[column], _overhangs(op, 1, x_shape[column], sizes[2])))

                def step(lane: Expr) -> None:
                    at = n * strides[0] + iy * strides[row] + ix * strides[column] + (c + lane) * strides[channel]
                    element, old = code.load(source, at), code.load(acc, lane)
                    if isinstance(op, MaxPool2d):
                        new = larger(element, old, dtype)
                    elif isinstance(op, SumPool2d):
                        new = old + tirx.Cast("int32", element) - op.input_zero
                    else:
                        new = old + element
                    code.store(acc, new, lane)

                with code.when(inside):
                    each(step)

            def finish(lane: Expr) -> None:
                axes: list[Expr] = [n, y, x, x]
                axes[row], axes[column], axes[channel] = y, x, c + lane
                value = code.load(acc, lane)
                if counts is not None:
                    count = code.load(code.table(counts), y * sizes[2] + x)
                    value = value / count
                scalars.store(group, code, Position.of(axes, shape), value)

            each(finish)

        vector = op.layout is NHWC
        with code.loops(sizes[:3]) as (n, y, x):
            for start, blocks, width in blocks_of(sizes[3], LANES if vector else 1):
                with code.loop(blocks) as block:
                    window(n, y, x, start + block * width, width)


def _overhangs(op: MaxPool2d | AvgPool2d | SumPool2d, axis: int, size: int, windows: int) -> bool:
    """Whether any window hangs over an edge."""
    end = (windows - 1) * op.strides[axis] - op.pads[axis] + (op.window[axis] - 1) * op.dilations[axis]
    return op.pads[axis] > 0 or end >= size


def _within(index: Expr, size: int, overhangs: bool) -> Expr:
    return tirx.And(index >= 0, index < size) if overhangs else tirx.const(True, "bool")


def _reciprocals(group: Group) -> np.ndarray:
    """How many elements each window averages: [OH, OW], in float32."""
    op: AvgPool2d = group.op
    shape = group.shape(group.anchor.operands[0])
    counts = window_counts(op, (shape[op.layout.spatial[0]], shape[op.layout.spatial[1]]))
    rows, columns = (group.shape(group.result)[i] for i in op.layout.spatial)
    wide = np.broadcast_to(from_nhwc(counts, NHWC), (1, rows, columns, 1))
    return np.ascontiguousarray(wide, np.float32)


class TirReduce(TirKernel):
    """Axes that stay, and within them those that go; the last axis in vectors where it stays."""

    name = "reduce"
    ops = (ReduceMean, ReduceSum, ReduceMax)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        shape, dtype = group.shape(x_value), group.anchor.result.type.dtype
        kind = tir_type(dtype)
        source, strides = scalars.buffer(group, code, x_value), dense_strides(shape)
        kept = [a for a in range(len(shape)) if a not in op.axes]
        gone = [shape[a] for a in op.axes]
        blocked = dtype.is_float and not isinstance(op, ReduceMax) and math.prod(gone) > BLOCK
        vector = kept[-1:] == [len(shape) - 1]

        def one(outer: tuple[Expr, ...], last: Expr, width: int) -> None:
            """Results at `outer` and `width` lanes from `last`."""
            acc = code.local((width,), kind)
            part = code.local((width,), kind) if blocked else acc
            first = _lowest(dtype) if isinstance(op, ReduceMax) else tirx.const(0, kind)

            def lanes(body: object) -> None:
                with code.loop(width, "VECTORIZED") as lane:
                    body(lane)  # type: ignore[operator]

            def coordinates(lane: Expr, inner: tuple[Expr, ...]) -> list[Expr]:
                at = dict(zip(op.axes, inner, strict=True))
                at.update(zip(kept, (*outer, last + lane) if vector else outer, strict=True))
                return [at[a] for a in range(len(shape))]

            def accumulate(inner: tuple[Expr, ...]) -> None:
                def step(lane: Expr) -> None:
                    element, old = code.load(source, flat(coordinates(lane, inner), strides)), code.load(part, lane)
                    if isinstance(op, ReduceMax):
                        new = larger(element, old, dtype)
                    else:
                        zero = getattr(op, "input_zero", 0)
                        new = old + (
                            tirx.Cast(kind, element) - tirx.const(zero, kind) if zero else tirx.Cast(kind, element)
                        )
                    code.store(part, new, lane)

                lanes(step)

            lanes(lambda lane: code.store(acc, first, lane))
            if blocked:
                total = math.prod(gone)
                for begin, blocks, length in ((0, total // BLOCK, BLOCK), (total - total % BLOCK, 1, total % BLOCK)):
                    if not blocks or not length:
                        continue
                    with code.loop(blocks) as block:
                        lanes(lambda lane: code.store(part, first, lane))
                        with code.loop(length) as k:
                            accumulate(_unravel(begin + block * length + k, gone))
                        lanes(lambda lane: code.store(acc, code.load(acc, lane) + code.load(part, lane), lane))
            else:
                with code.loops(gone) as inner:
                    accumulate(inner)

            def finish(lane: Expr) -> None:
                value = code.load(acc, lane)
                if isinstance(op, ReduceMean):
                    value = value / tirx.const(float(math.prod(gone)), kind)
                zeros = (tirx.const(0, "int32"),) * len(op.axes)
                at = coordinates(lane, zeros)
                axes = [a for i, a in enumerate(at) if op.keepdims or i not in op.axes]
                scalars.store(group, code, Position.of(axes, group.shape(group.result)), value)

            lanes(finish)

        sizes = [shape[a] for a in kept]
        if not vector:
            with code.loops(sizes) as outer:
                one(outer, 0, 1)
            return
        with code.loops(sizes[:-1]) as outer:
            for start, blocks, width in blocks_of(sizes[-1], LANES):
                with code.loop(blocks) as block:
                    one(outer, start + block * width, width)


def _unravel(index: Expr, shape: list[int]) -> tuple[Expr, ...]:
    """Coordinates of a flat index."""
    axes: list[Expr] = []
    for size in reversed(shape):
        axes.append(tirx.floormod(index, tirx.const(size, "int32")))
        index = tirx.floordiv(index, tirx.const(size, "int32"))
    return tuple(reversed(axes))
