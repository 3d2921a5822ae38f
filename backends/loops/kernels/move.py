"""Data movements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir.ops.index import Expand, Gather
from ....ir.ops.shape import Concat, DepthToSpace, Pad, Slice, Transpose
from ....ir.types import I32, NCHW, Array
from ....runtime.target import Unsupported
from ...group import Group
from ...indices import Quotient, arithmetic
from ..code import Code
from ..epilogue import Position
from ..expressions import Expr, Load, both, choose, dense_strides, flat, guarded, number, table
from ..kernel import LoopKernel


def rows(group: Group, code: Code, element: Callable[[tuple[Expr, ...]], Expr]) -> None:
    """Store the result, given the anchor's element at coordinates; the last axis in lanes."""
    shape = group.shape(group.result)
    with code.loops(shape[:-1]) as outer, code.lanes(shape[-1] if shape else 1) as last:
        axes = (*outer, last)[: len(shape)]
        code.result(Position.of(axes, shape), element(axes))


class Move(LoopKernel):
    """Each element of the result from where NumPy's strides say that it lies."""

    name = "move"
    ops = (Transpose, Slice, Expand)

    def write(self, group: Group, code: Code) -> None:
        (x,) = group.anchor.operands
        # The op's own reference makes a view of memory that is never touched; its strides are the kernel.
        memory: Any = np.empty(group.shape(x), np.int8)
        view = group.op.ref(memory)
        offset = view.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        source = code.operand(x)
        rows(group, code, lambda axes: code.load(source, flat(axes, view.strides, offset)))


class DepthToSpaceKernel(LoopKernel):
    """Block by block, so that no coordinate is divided."""

    name = "depth_to_space"
    ops = (DepthToSpace,)

    def write(self, group: Group, code: Code) -> None:
        op, (x,) = group.op, group.anchor.operands
        source, b = code.operand(x), op.block
        strides = dense_strides(group.shape(x))
        sn, sc = strides[0], strides[op.layout.channel]
        sh, sw = (strides[axis] for axis in op.layout.spatial)
        n, h, w = (group.shape(x)[axis] for axis in (0, *op.layout.spatial))
        channels = group.shape(x)[op.layout.channel] // b**2
        # Channel of the operand: DCR is (bh * b + bw) * C + c, CRD is (c * b + bh) * b + bw.
        per_c, per_bh, per_bw = (sc * b * b, sc * b, sc) if op.column_first else (sc, sc * b * channels, sc * channels)
        shape = group.shape(group.result)

        def place(at: tuple[Expr, ...], c: Expr) -> None:
            image, y, bh, x_, bw = at
            element = code.load(source, flat((*at, c), (sn, sh, per_bh, sw, per_bw, per_c)))
            row, column = y * b + bh, x_ * b + bw
            axes = (image, c, row, column) if op.layout is NCHW else (image, row, column, c)
            code.result(Position.of(axes, shape), element)

        if op.layout is NCHW:
            with code.loops((n, channels, h, b, w, b)) as (image, c, *others):
                place((image, *others), c)
        else:
            with code.loops((n, h, b, w, b)) as at, code.lanes(channels) as c:
                place(at, c)


class PadKernel(LoopKernel):
    """Each element of the result: the operand's, or the value."""

    name = "pad"
    ops = (Pad,)

    def write(self, group: Group, code: Code) -> None:
        op, (x,) = group.op, group.anchor.operands
        x_shape, shape = group.shape(x), group.shape(group.result)
        source, dtype = code.operand(x), group.anchor.result.type.dtype
        value = number(dtype.number(op.value), dtype)

        def element(axes: tuple[Expr, ...]) -> Expr:
            inside: list[Expr] = []
            for axis, before, size, padded in zip(axes, op.before, x_shape, shape, strict=True):
                inside += [axis >= before] if before else []
                inside += [axis < before + size] if before + size < padded else []
            index = flat([a - b for a, b in zip(axes, op.before, strict=True)], dense_strides(x_shape))
            read = code.load(source, index)
            return guarded(all_of(inside), read, value) if inside else read

        rows(group, code, element)


class GatherKernel(LoopKernel):
    """Slices along one axis, by arithmetic on the loop variable or by a table of indices."""

    name = "gather"
    ops = (Gather,)

    def write(self, group: Group, code: Code) -> None:
        op, (x,) = group.op, group.anchor.operands
        strides, source = dense_strides(group.shape(x)), code.operand(x)
        pick = picked("indices", np.array(op.indices, np.int32))

        def element(axes: tuple[Expr, ...]) -> Expr:
            return code.load(source, flat((*axes[: op.axis], pick(axes[op.axis]), *axes[op.axis + 1 :]), strides))

        rows(group, code, element)


class ConcatKernel(LoopKernel):
    """One operand after the other."""

    name = "concat"
    ops = (Concat,)

    def accepts(self, group: Group) -> Unsupported | None:
        return Unsupported("concat takes no ops behind it") if group.epilogue else super().accepts(group)

    def write(self, group: Group, code: Code) -> None:
        axis, shape = group.op.axis, group.shape(group.result)
        outer, row = math.prod(shape[:axis]), math.prod(shape[axis:])
        offset = 0
        for i, value in enumerate(group.anchor.operands):
            own, source = math.prod(group.shape(value)[axis:]), code.operand(value, f"part{i}")
            with code.loop(outer) as k, code.lanes(own) as j:
                code.store(code.y, k * row + j + offset, code.load(source, k * own + j))
            offset += own

    def in_place(self, group: Group) -> tuple[int, ...]:
        return ()


def all_of(conditions: list[Expr]) -> Expr:
    """Whether all of some conditions hold; there is at least one."""
    first, *others = conditions
    for condition in others:
        first = both(first, condition)
    return first


def picked(label: str, entries: Array) -> Callable[[Expr], Expr]:
    """Which of some indices it is at a loop variable: arithmetic where that says it, else a table's entry."""
    form = arithmetic(entries)
    if form is None:
        indices = table(entries, label)
        return lambda i: Load(I32, indices, i)

    def index(i: Expr) -> Expr:
        if isinstance(form, Quotient):
            return _quotient(i + form.offset, form)
        places = [i * run.step + run.offset if run.step else number(run.offset, I32) for run in form.runs]
        chosen = places[-1]
        for place, following in reversed(list(zip(places, form.runs[1:], strict=False))):
            chosen = choose(i < following.start, place, chosen)
        return chosen

    return index


def _quotient(dividend: Expr, form: Quotient) -> Expr:
    shift = form.divisor.bit_length() - 1
    if form.offset >= 0 and form.divisor == 1 << shift:
        return dividend >> shift
    return dividend / form.divisor
