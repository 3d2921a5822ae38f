"""Pooling over images."""

from __future__ import annotations

from ....ir.ops.pool import AvgPool2d, MaxPool2d, SumPool2d
from ....ir.types import F32, I32, NHWC
from ...group import Group
from ..code import Code
from ..elements import larger
from ..epilogue import Position
from ..expressions import Expr, convert, dense_strides, flat, lowest
from ..kernel import LoopKernel
from .windows import Sliding


class Pool2d(LoopKernel):
    """One window of one channel at a time; channels in lanes where they lie side by side."""

    name = "pool2d"
    ops = (MaxPool2d, AvgPool2d, SumPool2d)

    def write(self, group: Group, code: Code) -> None:
        op, shape, layout = group.op, group.shape(group.result), group.op.layout
        rows, columns = Sliding.of(group, op.window)
        counted = isinstance(op, AvgPool2d) and (rows.padded or columns.padded) and not op.count_pads
        spatial = [shape[dim] for dim in layout.spatial]
        with code.loops([shape[0], *spatial]) as (n, y, x):
            inside = _inside(code, rows, y) * _inside(code, columns, x) if counted else None
            channels = code.lanes if layout is NHWC else code.loop
            with channels(shape[layout.channel]) as c:
                _window(group, code, (rows, columns), (n, y, x, c), inside)


def _inside(code: Code, axis: Sliding, window: Expr) -> Expr:
    """How many taps of a window are inside the image."""
    count = code.local(I32, 0, "count")
    with axis.taps(code, window):
        code.store(count, 0, code.load(count, 0) + 1)
    return code.load(count, 0)


def _window(
    group: Group, code: Code, axes: tuple[Sliding, Sliding], at: tuple[Expr, Expr, Expr, Expr], inside: Expr | None
) -> None:
    """One result. inside: of how many elements an average is, where windows differ in that."""
    op, (x,) = group.op, group.anchor.operands
    n, row, column, c = at
    dtype, layout, source = group.anchor.result.type.dtype, op.layout, code.operand(x)

    def coordinates(row: Expr, column: Expr) -> list[Expr]:
        place = [n, c, c, c]
        place[layout.spatial[0]], place[layout.spatial[1]] = row, column
        return place

    acc = code.local(dtype, lowest(dtype) if isinstance(op, MaxPool2d) else 0)
    with axes[0].taps(code, row) as (_, iy), axes[1].taps(code, column) as (_, ix):
        element = code.load(source, flat(coordinates(iy, ix), dense_strides(group.shape(x))))
        old = code.load(acc, 0)
        if isinstance(op, MaxPool2d):
            code.store(acc, 0, larger(element, old))
        else:
            zero = getattr(op, "input_zero", 0)
            term = convert(element, dtype)
            code.store(acc, 0, old + (term - zero if zero else term))
    value = code.load(acc, 0)
    if isinstance(op, AvgPool2d):
        count = convert(inside, F32) if inside is not None else float(op.window[0] * op.window[1])
        value = value / count
    code.result(Position.of(coordinates(row, column), group.shape(group.result)), value)
