"""Portable resizing of images."""

from __future__ import annotations

import numpy as np

from ....ir.ops.resize import ResizeLinear, ResizeNearest, linear_taps, nearest_taps
from ....ir.types import F32, I32, Array
from ....runtime.target import Unsupported
from ...group import Group
from ...indices import too_many
from .. import scalars
from ..code import Code, scalar
from .loops import dense_strides, index, nest, picked, position, variables
from .portable import Portable


class PortableResizeNearest(Portable):
    """Each element of the result from the row and column that arithmetic or tables name."""

    name = "resize_nearest"
    ops = (ResizeNearest,)

    def accepts(self, group: Group) -> Unsupported | None:
        return too_many(group.op.size) or super().accepts(group)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        x_shape, shape, dtype = group.shape(x_value), group.shape(group.result), group.anchor.result.type.dtype
        names = variables(shape)
        sources = list(names)
        for axis, (label, dim) in enumerate(zip(("rows", "columns"), op.layout.spatial, strict=True)):
            sources[dim] = picked(code, label, nearest_taps(op, axis, x_shape[dim]), names[dim])
        element = f"{scalars.pointer(group, code, x_value)}[{index(sources, dense_strides(x_shape))}]"
        store = scalars.store(group, code, position(names, shape), "acc")
        return nest(names, shape, f"const {scalar(dtype)} acc = {element};\n{store}")


class PortableResizeLinear(Portable):
    """Each element of the result from two columns, and each of them from two rows."""

    name = "resize_linear"
    ops = (ResizeLinear,)

    def accepts(self, group: Group) -> Unsupported | None:
        return too_many(group.op.size) or super().accepts(group)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        x_shape, shape, dtype = group.shape(x_value), group.shape(group.result), group.anchor.result.type.dtype
        names, pointer, type = variables(shape), scalars.pointer(group, code, x_value), scalar(dtype)
        minus = f" - {code.number(op.input_zero, I32)}" if op.input_zero else ""
        head, places = "", []
        for axis, (label, dim) in enumerate(zip(("row", "column"), op.layout.spatial, strict=True)):
            taps = linear_taps(op, axis, x_shape[dim])
            far = taps.share if dtype == F32 else taps.weights[1].astype(np.int16)
            places.append(
                [_entry(code, f"{label}_{k}", t, names[dim]) for k, t in enumerate((taps.first, taps.second))]
            )
            whole = "1.0f" if dtype == F32 else "1024"
            head += f"const {type} {label}_far = {_entry(code, f'{label}_share', far, names[dim])};\n"
            head += f"const {type} {label}_near = {whole} - {label}_far;\n"

        def element(row: int, column: int) -> str:
            at = list(names)
            at[op.layout.spatial[0]], at[op.layout.spatial[1]] = places[0][row], places[1][column]
            return f"({pointer}[{index(at, dense_strides(x_shape))}]{minus})"

        for k in (0, 1):
            head += f"const {type} part{k} = {element(0, k)} * row_near + {element(1, k)} * row_far;\n"
        head += f"const {type} acc = part0 * column_near + part1 * column_far;\n"
        return nest(names, shape, head + scalars.store(group, code, position(names, shape), "acc"))


def _entry(code: Code, label: str, entries: Array, name: str) -> str:
    """C: the entry of a table at a loop variable; where that is the variable itself, the variable."""
    return name if np.array_equal(entries, np.arange(len(entries))) else f"{code.table(label, entries)}[{name}]"
