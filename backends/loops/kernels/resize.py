"""Resizing of images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....ir.ops.resize import ResizeLinear, ResizeNearest, linear_taps, nearest_taps
from ....ir.types import F32, Array
from ....runtime.target import Unsupported
from ...group import Group
from ...indices import too_many
from ..code import Code
from ..expressions import Expr, convert, dense_strides, flat, number, table
from ..kernel import LoopKernel
from .move import picked, rows


class ResizeNearestKernel(LoopKernel):
    """Each element of the result from the row and column that arithmetic or tables name."""

    name = "resize_nearest"
    ops = (ResizeNearest,)

    def accepts(self, group: Group) -> Unsupported | None:
        return too_many(group.op.size) or super().accepts(group)

    def write(self, group: Group, code: Code) -> None:
        op, (x,) = group.op, group.anchor.operands
        shape, source, spatial = group.shape(x), code.operand(x), op.layout.spatial
        picks = [
            picked(label, nearest_taps(op, axis, shape[dim]))
            for axis, (label, dim) in enumerate(zip(("rows", "columns"), spatial, strict=True))
        ]

        def element(axes: tuple[Expr, ...]) -> Expr:
            at = list(axes)
            for pick, dim in zip(picks, spatial, strict=True):
                at[dim] = pick(axes[dim])
            return code.load(source, flat(at, dense_strides(shape)))

        rows(group, code, element)


class ResizeLinearKernel(LoopKernel):
    """Each element of the result from two columns, and each of them from two rows."""

    name = "resize_linear"
    ops = (ResizeLinear,)

    def accepts(self, group: Group) -> Unsupported | None:
        return too_many(group.op.size) or super().accepts(group)

    def write(self, group: Group, code: Code) -> None:
        op, (x,) = group.op, group.anchor.operands
        shape, source, spatial = group.shape(x), code.operand(x), op.layout.spatial
        dtype = group.anchor.result.type.dtype
        whole = number(1.0 if dtype == F32 else 1024, dtype)
        taps: Any = [linear_taps(op, axis, shape[dim]) for axis, dim in enumerate(spatial)]

        def element(axes: tuple[Expr, ...]) -> Expr:
            places, weights = [], []
            for label, tap, dim in zip(("row", "column"), taps, spatial, strict=True):
                places.append(
                    [_entry(code, f"{label}_{k}", t, axes[dim]) for k, t in enumerate((tap.first, tap.second))]
                )
                share = tap.share if dtype == F32 else tap.weights[1].astype(np.int16)
                far = code.let(convert(_entry(code, f"{label}_share", share, axes[dim]), dtype))
                weights.append((code.let(whole - far), far))

            def pixel(row: int, column: int) -> Expr:
                at = list(axes)
                at[spatial[0]], at[spatial[1]] = places[0][row], places[1][column]
                value = convert(code.load(source, flat(at, dense_strides(shape))), dtype)
                return value - op.input_zero if op.input_zero else value

            (row_near, row_far), (near, far) = weights
            parts = [code.let(pixel(0, k) * row_near + pixel(1, k) * row_far) for k in (0, 1)]
            return code.let(parts[0] * near + parts[1] * far)

        rows(group, code, element)


def _entry(code: Code, label: str, entries: Array, i: Expr) -> Expr:
    """The entry of a table at a loop variable; where that is the variable itself, the variable."""
    if entries.dtype.kind == "i" and np.array_equal(entries, np.arange(len(entries))):
        return i
    return code.load(table(entries, label), i)
