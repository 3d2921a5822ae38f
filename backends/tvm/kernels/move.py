"""Data movements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir.graph import Value
from ....ir.ops.index import Expand, Gather
from ....ir.ops.shape import Concat, DepthToSpace, Pad, Slice, Transpose
from ....ir.types import Array
from ....runtime.target import Unsupported
from ...group import Group
from ...indices import Quotient, arithmetic
from ...loops.expressions import dense_strides
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr
from ..numbers import number
from ..render import LANES
from ..scalars import Position, flat
from .base import TirKernel


class TirMove(TirKernel):
    """Each element of the result from where NumPy's strides say that it lies."""

    name = "move"
    ops = (Transpose, Slice, Expand)

    def emit(self, group: Group, code: Code) -> None:
        (x_value,) = group.anchor.operands
        # The op's own reference makes a view of memory that is never touched; its strides are the kernel.
        memory: Any = np.empty(group.shape(x_value), np.int8)
        view = group.op.ref(memory)
        offset = view.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        source = scalars.buffer(group, code, x_value)
        rows(group, code, lambda axes: code.load(source, flat(axes, view.strides, offset)))


class TirDepthToSpace(TirKernel):
    """Each element of the result from its block."""

    name = "depth_to_space"
    ops = (DepthToSpace,)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        channel, (row, column) = op.layout.channel, op.layout.spatial
        source, strides = scalars.buffer(group, code, x_value), dense_strides(group.shape(x_value))
        b, channels = tirx.const(op.block, "int32"), group.shape(group.result)[channel]

        def element(axes: tuple[Expr, ...]) -> Expr:
            c, y, x = axes[channel], axes[row], axes[column]
            place = tirx.floormod(y, b) * b + tirx.floormod(x, b)
            # Channel of the operand: DCR is (bh * b + bw) * C + c, CRD is (c * b + bh) * b + bw.
            taken = c * (b * b) + place if op.column_first else place * channels + c
            at = list(axes)
            at[channel], at[row], at[column] = taken, tirx.floordiv(y, b), tirx.floordiv(x, b)
            return code.load(source, flat(at, strides))

        rows(group, code, element)


class TirPad(TirKernel):
    """Each element of the result: the operand's, or the value."""

    name = "pad"
    ops = (Pad,)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        x_shape, shape = group.shape(x_value), group.shape(group.result)
        source = scalars.buffer(group, code, x_value)
        dtype = group.anchor.result.type.dtype
        value = number(dtype.number(op.value), dtype)

        def element(axes: tuple[Expr, ...]) -> Expr:
            inside: Expr = tirx.const(True, "bool")
            for axis, before, size, padded in zip(axes, op.before, x_shape, shape, strict=True):
                if before:
                    inside = tirx.And(inside, axis >= before)
                if before + size < padded:
                    inside = tirx.And(inside, axis < before + size)
            index = flat([a - b for a, b in zip(axes, op.before, strict=True)], dense_strides(x_shape))
            return tirx.if_then_else(inside, code.load(source, index), value)

        rows(group, code, element, width=1)


class TirGather(TirKernel):
    """Slices along one axis, by arithmetic on the loop variable or by a table of indices."""

    name = "gather"
    ops = (Gather,)

    def emit(self, group: Group, code: Code) -> None:
        op, (x_value,) = group.op, group.anchor.operands
        strides = dense_strides(group.shape(x_value))
        source, pick = scalars.buffer(group, code, x_value), picked(code, np.array(op.indices, np.int32))

        def element(axes: tuple[Expr, ...]) -> Expr:
            return code.load(source, flat((*axes[: op.axis], pick(axes[op.axis]), *axes[op.axis + 1 :]), strides))

        rows(group, code, element)


class TirConcat(TirKernel):
    """One operand after the other."""

    name = "concat"
    ops = (Concat,)

    def accepts(self, group: Group) -> Unsupported | None:
        return Unsupported("concat takes no ops behind it") if group.epilogue else super().accepts(group)

    def emit(self, group: Group, code: Code) -> None:
        axis, shape = group.op.axis, group.shape(group.result)
        outer, row = math.prod(shape[:axis]), math.prod(shape[axis:])
        offset = 0
        for value in group.anchor.operands:
            own = math.prod(group.shape(value)[axis:])
            _part(group, code, value, (outer, own, row, offset))
            offset += own


def _part(group: Group, code: Code, value: Value, sizes: tuple[int, int, int, int]) -> None:
    outer, own, row, offset = sizes
    source = scalars.buffer(group, code, value)
    with code.loop(outer) as i:
        code.lanes(own, LANES, lambda j: code.store(code.y, code.load(source, i * own + j), i * row + offset + j))


def picked(code: Code, entries: Array) -> Callable[[Expr], Expr]:
    """Which of some indices it is at a loop variable: arithmetic where that says it, else a table's entry."""
    form = arithmetic(entries)
    if form is None:
        table = code.table(entries)
        return lambda i: code.load(table, i)

    def index(i: Expr) -> Expr:
        if isinstance(form, Quotient):
            return tirx.truncdiv(i + form.offset, tirx.const(form.divisor, "int32"))
        places = [run.offset + i * run.step for run in form.runs]
        chosen = places[-1]
        for place, following in reversed(list(zip(places, form.runs[1:], strict=False))):
            chosen = tirx.Select(i < following.start, place, chosen)
        return chosen

    return index


def rows(group: Group, code: Code, element: Any, width: int = LANES) -> None:
    """Store the result, given the anchor's element at coordinates; the last axis in vectors."""
    shape = group.shape(group.result) or (1,)
    with code.loops(shape[:-1]) as outer:

        def one(i: Expr) -> None:
            axes = (*outer, i)[: len(group.shape(group.result))]
            scalars.store(group, code, Position.of(axes, group.shape(group.result)), element(axes))

        code.lanes(shape[-1], width, one)
