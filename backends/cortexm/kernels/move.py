"""Portable data movements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....ir.ops.index import Expand, Gather
from ....ir.ops.shape import Concat, DepthToSpace, Pad, Slice, Transpose
from ....ir.types import NCHW, Array
from ....runtime.target import Unsupported
from ...group import Group
from .. import scalars
from ..code import Code, scalar
from ..scalars import Position
from .loops import dense_strides, index, nest, picked, position, variables
from .portable import Portable


class PortableMove(Portable):
    """Each element of the result from where NumPy's strides say that it lies."""

    name = "move"
    ops = (Transpose, Slice, Expand, DepthToSpace)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        # The op's own reference makes a view of memory that is never touched; its strides are the kernel.
        memory: Any = np.empty(group.shape(x_value), np.int8)
        if isinstance(op, DepthToSpace):
            view, coordinates = _blocks(op, memory)
        else:
            view = op.ref(memory)
            coordinates = variables(view.shape)
        offset = view.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        names = variables(view.shape)
        source = f"{scalars.pointer(group, code, x_value)}[{index(names, view.strides, offset)}]"
        dtype = group.anchor.result.type.dtype
        flat = index(coordinates, dense_strides(group.shape(group.result)))
        store = scalars.store(group, code, Position(flat, coordinates), "acc")
        return nest(names, view.shape, f"const {scalar(dtype)} acc = {source};\n{store}")


def _blocks(op: DepthToSpace, x: Array) -> tuple[Array, tuple[str, ...]]:
    """The operand as [N,H,b,W,b,C] in the result's order (NCHW: [N,C,H,b,W,b]), and the result's coordinates."""
    b = op.block
    image = x.transpose(0, 2, 3, 1) if op.layout is NCHW else x
    n, h, w, c = image.shape
    cn = c // b**2
    sn, sh, sw, sc = image.strides
    # Channel of the operand: DCR is (bh * b + bw) * C + c, CRD is (c * b + bh) * b + bw.
    per_c, per_bh, per_bw = (sc * b * b, sc * b, sc) if op.column_first else (sc, sc * b * cn, sc * cn)
    shape, strides = (n, h, b, w, b, cn), (sn, sh, per_bh, sw, per_bw, per_c)
    order = (0, 5, 1, 2, 3, 4) if op.layout is NCHW else (0, 1, 2, 3, 4, 5)
    blocks = np.lib.stride_tricks.as_strided(image, [shape[i] for i in order], [strides[i] for i in order])
    names = variables(blocks.shape)
    name = {axis: names[place] for place, axis in enumerate(order)}
    y, x_ = (f"({name[i]} * {b} + {name[i + 1]})" for i in (1, 3))
    return blocks, (name[0], name[5], y, x_) if op.layout is NCHW else (name[0], y, x_, name[5])


class PortablePad(Portable):
    """Each element of the result: the operand's, or the value."""

    name = "pad"
    ops = (Pad,)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        x_shape, shape = group.shape(x_value), group.shape(group.result)
        dtype = group.anchor.result.type.dtype
        names = variables(shape)
        sources = [f"({n} - {before})" if before else n for n, before in zip(names, op.before, strict=True)]
        inside = []
        for name, before, size, padded in zip(names, op.before, x_shape, shape, strict=True):
            inside += [f"{name} >= {before}"] if before else []
            inside += [f"{name} < {before + size}"] if before + size < padded else []
        element = f"{scalars.pointer(group, code, x_value)}[{index(sources, dense_strides(x_shape))}]"
        value = code.number(dtype.number(op.value), dtype)
        acc = f"{' && '.join(inside)} ? {element} : {value}" if inside else element
        store = scalars.store(group, code, position(names, shape), "acc")
        return nest(names, shape, f"const {scalar(dtype)} acc = {acc};\n{store}")


class PortableGather(Portable):
    """Slices along one axis, by arithmetic on the loop variable or by a table of indices."""

    name = "gather"
    ops = (Gather,)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        shape, dtype = group.shape(group.result), group.anchor.result.type.dtype
        names = variables(shape)
        source = picked(code, "indices", np.array(op.indices, np.int32), names[op.axis])
        sources = (*names[: op.axis], source, *names[op.axis + 1 :])
        element = f"{scalars.pointer(group, code, x_value)}[{index(sources, dense_strides(group.shape(x_value)))}]"
        store = scalars.store(group, code, position(names, shape), "acc")
        return nest(names, shape, f"const {scalar(dtype)} acc = {element};\n{store}")


class PortableConcat(Portable):
    """One operand after the other."""

    name = "concat"
    ops = (Concat,)

    def accepts(self, group: Group) -> Unsupported | None:
        return Unsupported("concat takes no ops behind it") if group.epilogue else super().accepts(group)

    def emit(self, group: Group, code: Code) -> str:
        axis, shape = group.op.axis, group.shape(group.result)
        outer, row = math.prod(shape[:axis]), math.prod(shape[axis:])
        text, offset = "", 0
        for i, value in enumerate(group.anchor.operands):
            own = math.prod(group.shape(value)[axis:])
            names = variables((outer, own))
            source = f"{scalars.pointer(group, code, value, f'part{i}')}[{index(names, (own, 1))}]"
            text += nest(names, (outer, own), f"y[{index(names, (row, 1), offset)}] = {source};\n")
            offset += own
        return text

    def in_place(self, group: Group) -> tuple[int, ...]:
        return ()
