"""Pooling over images."""

from __future__ import annotations

import numpy as np

from ....ir.ops.pool import AvgPool2d, MaxPool2d, SumPool2d, window_counts
from ....ir.types import NHWC, Array
from ...group import Group
from ...loops.expressions import dense_strides
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr, blocks_of, tir_type
from ..numbers import farthest, larger
from ..render import LANES
from ..scalars import Position, flat
from .base import TirKernel

Pooling = MaxPool2d | AvgPool2d | SumPool2d


class TirPool2d(TirKernel):
    """One window at a time; channels in vectors where they lie side by side."""

    name = "pool2d"
    ops = (MaxPool2d, AvgPool2d, SumPool2d)

    def emit(self, group: Group, code: Code) -> None:
        shape, layout = group.shape(group.result), group.op.layout
        widest = LANES if layout is NHWC else 1
        with code.loops([shape[0], *(shape[i] for i in layout.spatial)]) as (n, y, x):
            for start, blocks, width in blocks_of(shape[layout.channel], widest):
                with code.loop(blocks) as block:
                    _window(group, code, (n, y, x, start + block * width), width)


def _window(group: Group, code: Code, at: tuple[Expr, Expr, Expr, Expr], width: int) -> None:
    """The results of one window: of `width` channels, the first at (n, y, x, c)."""
    op, (x_value,) = group.op, group.anchor.operands
    n, y, x, c = at
    x_shape, shape, layout = group.shape(x_value), group.shape(group.result), op.layout
    dtype = group.anchor.result.type.dtype
    kind = tir_type(dtype)
    source, acc = scalars.buffer(group, code, x_value), code.local((width,), kind)
    start = farthest(dtype) if isinstance(op, MaxPool2d) else tirx.const(0, kind)
    code.vector(width, lambda lane: code.store(acc, start, lane))

    def coordinates(row: Expr, column: Expr, lane: Expr) -> list[Expr]:
        axes: list[Expr] = [n, c + lane, c + lane, c + lane]
        axes[layout.spatial[0]], axes[layout.spatial[1]] = row, column
        return axes

    with code.loops(op.window) as (i, j):
        taps = [
            centre * op.strides[axis] + k * op.dilations[axis] - op.pads[axis]
            for axis, (centre, k) in enumerate(((y, i), (x, j)))
        ]
        sizes = [(x_shape[a], shape[a]) for a in layout.spatial]
        inside = [_inside(op, axis, tap, *sizes[axis]) for axis, tap in enumerate(taps)]

        def step(lane: Expr) -> None:
            element = code.load(source, flat(coordinates(taps[0], taps[1], lane), dense_strides(x_shape)))
            code.store(acc, _combined(op, code.load(acc, lane), element, group), lane)

        with code.when(tirx.And(*inside)):
            code.vector(width, step)

    def finish(lane: Expr) -> None:
        value = code.load(acc, lane)
        if isinstance(op, AvgPool2d):
            value = value / code.load(code.table(_counts(group)), y * shape[layout.spatial[1]] + x)
        scalars.store(group, code, Position.of(coordinates(y, x, lane), shape), value)

    code.vector(width, finish)


def _combined(op: Pooling, acc: Expr, element: Expr, group: Group) -> Expr:
    """The accumulator with one more element."""
    if isinstance(op, MaxPool2d):
        return larger(element, acc, group.anchor.result.type.dtype)
    return acc + tirx.Cast("int32", element) - op.input_zero if isinstance(op, SumPool2d) else acc + element


def _inside(op: Pooling, axis: int, tap: Expr, size: int, windows: int) -> Expr:
    """Whether a tap is inside the image; known where no window hangs over an edge."""
    end = (windows - 1) * op.strides[axis] - op.pads[axis] + (op.window[axis] - 1) * op.dilations[axis]
    return tirx.And(tap >= 0, tap < size) if op.pads[axis] > 0 or end >= size else tirx.const(True, "bool")


def _counts(group: Group) -> Array:
    """How many elements each window averages: [OH, OW], in float32."""
    shape, result, spatial = group.shape(group.anchor.operands[0]), group.shape(group.result), group.op.layout.spatial
    counts = window_counts(group.op, (shape[spatial[0]], shape[spatial[1]]))
    wide = np.broadcast_to(counts, (1, result[spatial[0]], result[spatial[1]], 1))
    return np.ascontiguousarray(wide, np.float32)
