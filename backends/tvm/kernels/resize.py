"""Resizing of images."""

from __future__ import annotations

import numpy as np

from ....ir.ops.resize import ResizeLinear, ResizeNearest, linear_taps, nearest_taps
from ....ir.types import F32
from ....runtime.target import Unsupported
from ...group import Group
from ...indices import too_many
from ...loops.expressions import dense_strides
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr, tir_type
from ..scalars import flat
from .base import TirKernel
from .move import picked, rows


class TirResizeNearest(TirKernel):
    """Each element of the result from the row and column that arithmetic or tables name."""

    name = "resize_nearest"
    ops = (ResizeNearest,)

    def accepts(self, group: Group) -> Unsupported | None:
        return too_many(group.op.size) or super().accepts(group)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        shape, source = group.shape(x_value), scalars.buffer(group, code, x_value)
        spatial = op.layout.spatial
        picks = [picked(code, nearest_taps(op, axis, shape[dim])) for axis, dim in enumerate(spatial)]

        def element(axes: tuple[Expr, ...]) -> Expr:
            at = list(axes)
            for pick, dim in zip(picks, spatial, strict=True):
                at[dim] = pick(axes[dim])
            return code.load(source, flat(at, dense_strides(shape)))

        rows(group, code, element)


class TirResizeLinear(TirKernel):
    """Each element of the result from two columns, and each of them from two rows."""

    name = "resize_linear"
    ops = (ResizeLinear,)

    def accepts(self, group: Group) -> Unsupported | None:
        return too_many(group.op.size) or super().accepts(group)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        shape, source = group.shape(x_value), scalars.buffer(group, code, x_value)
        spatial, dtype = op.layout.spatial, group.anchor.result.type.dtype
        kind = tir_type(dtype)
        tables = []
        for axis, dim in enumerate(spatial):
            taps = linear_taps(op, axis, shape[dim])
            near, far = (1 - taps.share, taps.share) if dtype == F32 else (w.astype(np.int32) for w in taps.weights)
            tables.append([code.table(t) for t in (taps.first, taps.second, near, far)])

        def element(axes: tuple[Expr, ...]) -> Expr:
            (*row_places, row_near, row_far), (*column_places, near, far) = (
                [code.load(t, axes[dim]) for t in table] for table, dim in zip(tables, spatial, strict=True)
            )

            def pixel(row: Expr, column: Expr) -> Expr:
                at = list(axes)
                at[spatial[0]], at[spatial[1]] = row, column
                value = tirx.Cast(kind, code.load(source, flat(at, dense_strides(shape))))
                return value - op.input_zero if op.input_zero else value

            parts = [pixel(row_places[0], c) * row_near + pixel(row_places[1], c) * row_far for c in column_places]
            return parts[0] * near + parts[1] * far

        rows(group, code, element)
