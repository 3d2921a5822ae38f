"""One element of a group's result as a TIR expression: the epilogue of every kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Node, Value
from ...ir.ops.elementwise import Div
from ...ir.ops.quant import Rescale, Table
from ...ir.types import BOOL, DType
from ...runtime.target import Unsupported
from ..group import Group, uniform
from . import tir as tirx
from .code import Code, Expr
from .emitters import EMITTERS, Scalar, number


@dataclass(frozen=True)
class Position:
    """Where the result's element lies: its flat index, and its coordinates."""

    flat: Expr
    axes: tuple[Expr, ...]

    @staticmethod
    def of(axes: Sequence[Expr], shape: Sequence[int]) -> Position:
        """The element of a row-major tensor at these coordinates."""
        return Position(flat(axes, dense_strides(shape)), tuple(axes))


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Distances between neighbours of a row-major tensor, in elements."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides)) if shape else ()


def flat(axes: Sequence[Expr], strides: Sequence[int], offset: int = 0) -> Expr:
    """Offset + sum(axis * stride)."""
    index: Expr = tirx.const(offset, "int32")
    for axis, stride in zip(axes, strides, strict=True):
        index = index + axis * stride
    return index


def store(group: Group, code: Code, at: Position, acc: Expr = None) -> None:
    """Compute one element of the result from `acc`, the anchor's, and store it in y.

    Without `acc` the anchor is elementwise as well, and computed here.
    """
    known: dict[Value, Scalar] = {}
    if acc is not None:
        known[group.anchor.result] = Scalar(acc, group.anchor.result.type.dtype)
    for node in group.nodes:
        if node.result in known:
            continue
        # A table is not read where the element lies: its op looks it up.
        read = node.operands[:1] if isinstance(node.op, Table) else node.operands
        operands = [known.get(v) or operand(group, code, v, at) for v in read]
        operands += [Scalar(None, v.type.dtype, group.array(v)) for v in node.operands[len(read) :]]
        known[node.result] = Scalar(EMITTERS[type(node.op)](node.op, operands, code), node.result.type.dtype)
    result = known[group.result]
    code.store(code.y, stored(result.expr, result.dtype), at.flat)


def stored(expr: Expr, dtype: DType) -> Expr:
    """An element as it is in memory."""
    return tirx.Cast("uint8", expr) if dtype == BOOL and str(expr.ty) != "uint8" else expr


def operand(group: Group, code: Code, value: Value, at: Position) -> Scalar:
    """One element of an operand, broadcast to the result's element `at`."""
    dtype, array = value.type.dtype, group.constant(value)
    if array is not None and (fixed := uniform(array)) is not None:
        return Scalar(number(fixed, dtype), dtype, array)
    shape, result = group.shape(value), group.shape(group.result)
    index = at.flat
    if math.prod(shape) == 1:
        index = tirx.const(0, "int32")
    elif shape != result:
        axes = at.axes[len(at.axes) - len(shape) :]
        strides = [0 if size == 1 else stride for size, stride in zip(shape, dense_strides(shape), strict=True)]
        index = flat(axes, strides)
    return Scalar(code.load(buffer(group, code, value), index), dtype, array)


def buffer(group: Group, code: Code, value: Value) -> Expr:
    """The buffer behind an operand, in a table or a parameter."""
    array = group.constant(value)
    return code.table(array) if array is not None else code.x[group.numbers[group.top(value)]]


def refusal(group: Group) -> Unsupported | None:
    """Why an elementwise op of the group cannot be computed here; None where all can."""
    for node in group.nodes:
        if node is group.anchor and not group.is_elementwise:
            continue
        if type(node.op) not in EMITTERS:
            return Unsupported(f"there is no TIR for {node.op.name}")
        if isinstance(node.op, Rescale | Table) and any(group.constant(v) is None for v in node.operands[1:]):
            return Unsupported(f"the parameters of {node.op.name} are computed, not constant")
        if (
            isinstance(node.op, Rescale)
            and not 0 <= (shift := group.array(node.operands[2])).min() <= shift.max() <= 31
        ):
            return Unsupported("rescale has a shift that is negative, or of more than 31 bits")
        if isinstance(node.op, Div) and (problem := _divisor_problem(group, node)) is not None:
            return problem
    return None


def _divisor_problem(group: Group, node: Node) -> Unsupported | None:
    """Why integers cannot be divided: by zero nothing is defined, and by -1 the lowest number overflows."""
    divisor = group.constant(node.operands[1])
    if node.result.type.dtype.is_float or (divisor is not None and not np.isin(divisor, (0, -1)).any()):
        return None
    return Unsupported("division of integers by what may be 0 or -1", "divide by a constant, or use rescale")
