"""Operators of ONNX that want fewer axes than our ops: a reshape before, a reshape after, and neither where it can be.

A reshape that only serves such an operator is spare: its result remembers the operand it was made of, the next operator
of the same kind takes that one, and the reshape goes when nobody turns out to want its result. Two kinds:

- a signal [N,C,W] is an image [N,C,1,W] of ours; ONNX has layers for it;
- a dense layer of more than two axes is MatMul and Add in ONNX, of a matrix it is one Gemm. Ops that treat all rows
  alike follow in that form. It pays only for some graphs, so `write` tries both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...ir.graph import Node
from ...ir.op import Op
from ...ir.ops.dense import Dense
from ...ir.ops.elementwise import Elementwise
from ...ir.ops.norm import LayerNorm
from ...ir.ops.softmax import Softmax
from ...ir.types import Array, Shape, Sym, TensorType, count
from .site import Operand, Site

#: From this operator set on Flatten takes all types.
FLATTEN = 9
#: From this operator set on the axes of Squeeze and Unsqueeze are an operand.
AXES = 13


def spare(site: Site, x: Operand, shape: Shape) -> Operand:
    """The operand in another shape, if anybody should want it."""
    y = moved(site, x, shape)
    site.spare.append(site.nodes[-1])
    return replace(y, made_of=x)


def moved(site: Site, x: Operand, shape: Shape) -> Operand:
    """The operand in another shape: by the operator that needs the fewest bytes to say which."""
    type, before = x.type.with_shape(shape), x.type.shape
    known = sum(isinstance(d, Sym) for d in before) <= 1
    if len(shape) == 2 and before and known and site.opset >= FLATTEN:
        ends = [axis for axis in range(len(before) + 1) if (count(before[:axis]), count(before[axis:])) == shape]
        if ends:
            return site.emit("Flatten", x, axis=1 if 1 in ends else ends[0], type=type)
    kind, short, long = ("Unsqueeze", before, shape) if len(shape) > len(before) else ("Squeeze", shape, before)
    axes = _of_one(short, long)
    if not axes:
        return site.emit("Reshape", x, site.array("shape", shape_or_any(shape)), type=type)
    if site.opset < AXES:
        return site.emit(kind, x, axes=axes, type=type)
    return site.emit(kind, x, site.array("axes", axes), type=type)


def _of_one(short: Shape, long: Shape) -> list[int]:
    """The axes of one that the longer shape has beside those of the shorter; none where they differ otherwise."""
    axes, left = list[int](), list(short)
    for axis, d in enumerate(long):
        if left and left[0] == d:
            left.pop(0)
        elif d == 1:
            axes.append(axis)
        else:
            return []
    return [] if left else axes


def shape_or_any(shape: Shape) -> list[int]:
    """A shape as Reshape has it: a symbol is what is left."""
    return [-1 if isinstance(d, Sym) else d for d in shape]


# ---- signals


def along(op: Any, x: Operand, window: Sequence[object]) -> Operand | None:
    """The signal that x is, where the op's window slides along it alone; else None."""
    signal = x.made_of if window[0] == 1 and op.pads[0] == op.pads[2] == 0 else None
    return signal if signal is not None and is_image(signal.type.shape, x.type.shape) else None


def is_image(signal: Shape, shape: Shape) -> bool:
    """Whether a reshape makes an image of a signal."""
    return len(signal) == 3 and shape == (*signal[:2], 1, signal[2])


def image(site: Site, x: Operand, shape: Shape) -> Operand:
    """The operand in another shape; of an image of one row the signal, too, if anybody should want that."""
    y = spare(site, x, shape)
    if len(shape) != 4 or shape[2] != 1 or is_image(x.type.shape, shape):
        return y
    return replace(y, made_of=spare(site, x, (*shape[:2], shape[3])))


def windowed(site: Site, kind: str, op: Any, signal: Operand, *others: Operand | None, **attributes: Any) -> Operand:
    """The layer of a signal, whose result is `site.type`, an image; strides, pads and dilations are the op's."""
    n, c, _, w = site.type.shape
    y = site.emit(
        kind, signal, *others, type=site.type.with_shape((n, c, w)), strides=[op.strides[1]],
        pads=[op.pads[1], op.pads[3]], dilations=None if op.dilations[1] == 1 else [op.dilations[1]], **attributes,
    )  # fmt: skip
    return spare(site, y, site.type.shape)


def averaged(site: Site, x: Operand) -> Operand:
    """The mean of each channel of an image, or of the signal that it was made of."""
    signal = x.made_of
    if signal is None or not is_image(signal.type.shape, x.type.shape):
        return site.emit("GlobalAveragePool", x)
    y = site.emit("GlobalAveragePool", signal, type=site.type.with_shape((*signal.type.shape[:2], 1)))
    return spare(site, y, site.type.shape)


# ---- matrices


def is_rows(matrix: Operand | None, type: TensorType) -> bool:
    """Whether the operand is a matrix of the rows of a tensor of this type."""
    return matrix is not None and matrix.type.rank == 2 and matrix.type.shape[1] == type.shape[-1]


def matrix(site: Site, x: Operand) -> Operand:
    """X with the matrix of its rows; a reshape, unless it was made of that."""
    if x.type.rank == 2 or is_rows(x.made_of, x.type):
        return x
    shape, source = (count(x.type.shape[:-1]), x.type.shape[-1]), x if x.made_of is None else x.made_of
    made = moved(site, source, shape)
    return replace(x, made_of=made)


def starts(node: Node) -> bool:
    """Whether it is a layer that ONNX has as one node, but of a matrix alone: dense, with a bias."""
    if not isinstance(node.op, Dense) or node.results[0].type.rank < 3:
        return False
    bias = node.operands[2].const
    return _countable(node.results[0].type) and (bias is None or bool(bias.any()))


def follows(node: Node, operands: Sequence[Operand]) -> bool:
    """Whether an op treats all rows alike, and one of its operands was made of their matrix."""
    type = node.results[0].type
    if not isinstance(node.op, Elementwise | LayerNorm | Softmax) or type.rank < 3 or not _countable(type):
        return False
    rows = [x for x in operands if x.const is None]
    fit = all(x.type.shape == type.shape for x in rows)
    fit = fit and all(_constant_rows(x.const, type) is not None for x in operands if x.const is not None)
    return fit and any(is_rows(x.made_of, x.type) for x in rows)


def _countable(type: TensorType) -> bool:
    """Whether the number of rows can be said: not where two dimensions are unknown."""
    return sum(isinstance(d, Sym) for d in type.shape) <= 1


def _constant_rows(array: Array, type: TensorType) -> Array | None:
    """A constant beside a tensor of this type, for its matrix: one number or row for all rows, or one for each."""
    if array.ndim <= 1 or set(array.shape[:-1]) == {1}:
        return array.reshape(array.shape[-1:])
    return array.reshape(-1, array.shape[-1]) if array.shape == type.shape else None


def by_rows(site: Site, op: Op, adapter: Any, operands: Sequence[Operand]) -> Operand:
    """What the adapter writes for matrices, and its result as a tensor of `site.type`."""
    type = site.type
    flat: list[Operand] = []
    for x in operands:
        if x.const is not None and not isinstance(op, Dense):
            array = _constant_rows(x.const, type)
            flat.append(x if array is None or array.shape == x.const.shape else site.array("row", array))
        else:
            flat.append(x.made_of if x.made_of is not None and is_rows(x.made_of, x.type) else x)
    rows = count(type.shape[:-1])
    y: Operand = adapter(site.of(type.with_shape((rows, type.shape[-1]))), op, *flat)
    return spare(site, y, type.shape)
