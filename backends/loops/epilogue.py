"""One element of a group's result: what every kernel does with its sums before they are stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.graph import Node, Value
from ...ir.ops.elementwise import Div
from ...ir.ops.quant import Rescale, Table
from ...ir.types import I32
from ...runtime.target import Unsupported
from ..group import Group, uniform
from .elements import ELEMENTS, Scalar
from .expressions import Buffer, Expr, Load, Variable, as_expr, dense_strides, flat, number, table
from .statements import Let, Statement, Store


@dataclass(frozen=True)
class Position:
    """Where the result's element lies: its flat index, and its coordinates."""

    flat: Expr
    axes: tuple[Expr, ...]

    @staticmethod
    def of(axes: Sequence[Any], shape: Sequence[int]) -> Position:
        """The element of a row-major tensor at these coordinates."""
        return Position(flat(axes, dense_strides(shape)), tuple(as_expr(a, I32) for a in axes))


def store(group: Group, at: Position, acc: Expr | None = None, of: Value | None = None) -> list[Statement]:
    """Statements that compute one element of the result from `acc`, the anchor's, and store it in `y`.

    Without `acc` the anchor is elementwise as well, and computed here. `of`: that `acc` is this later value's, and what
    comes before it is done.
    """
    known: dict[Value, Scalar] = {}
    value = of or group.anchor.result
    if acc is not None:
        known[value] = Scalar(acc, value.type.dtype)
    first = group.nodes.index(of.producer) if of is not None and of.producer is not None else 0
    statements: list[Statement] = []
    for node in group.nodes[first:]:
        if node.result in known:
            continue
        beside = read(node)
        operands = [known.get(v) or operand(group, v, at) for v in beside]
        operands += [_whole(group, v) for v in node.operands[len(beside) :]]
        dtype = node.result.type.dtype
        element = ELEMENTS[type(node.op)](node.op, operands)
        variable = Variable(dtype, f"v{len(statements)}")
        statements.append(Let(variable, element))
        known[node.result] = Scalar(variable, dtype)
    return [*statements, Store(result_buffer(group), at.flat, known[group.result].expr)]


def read(node: Node) -> tuple[Value, ...]:
    """The operands that are read where the element lies; a table is not: its op looks it up."""
    return node.operands[:1] if isinstance(node.op, Table) else node.operands


def _whole(group: Group, value: Value) -> Scalar:
    """A constant of which no element is read here."""
    return Scalar(number(0, value.type.dtype), value.type.dtype, group.array(value))


def operand(group: Group, value: Value, at: Position) -> Scalar:
    """One element of an operand, broadcast to the result's element `at`."""
    dtype, array = value.type.dtype, group.constant(value)
    if array is not None and (fixed := uniform(array)) is not None:
        return Scalar(number(fixed, dtype), dtype, array)
    shape = group.shape(value)
    index = at.flat
    if math.prod(shape) == 1:
        index = number(0, I32)
    elif shape != group.shape(group.result):
        axes = at.axes[len(at.axes) - len(shape) :]
        strides = [0 if size == 1 else stride for size, stride in zip(shape, dense_strides(shape), strict=True)]
        index = flat(axes, strides)
    return Scalar(Load(dtype, buffer(group, value), index), dtype, array)


def buffer(group: Group, value: Value, label: str = "table") -> Buffer:
    """The buffer behind an operand: a table, or a parameter x0, x1, ..."""
    array = group.constant(value)
    if array is not None:
        return table(array, label)
    return Buffer(f"x{group.numbers[group.top(value)]}", value.type.dtype, value.type.size)


def result_buffer(group: Group) -> Buffer:
    """The buffer `y` of the result."""
    return Buffer("y", group.result.type.dtype, group.result.type.size)


def refusal(group: Group) -> Unsupported | None:
    """Why an elementwise op of the group cannot be computed here; None where all can."""
    for node in group.nodes:
        if node is group.anchor and not group.is_elementwise:
            continue
        if type(node.op) not in ELEMENTS:
            return Unsupported(f"there is no expression for {node.op.name}")
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


def residuals(group: Group) -> tuple[int, ...]:
    """Parameters that only the epilogue reads, element by element just before the result's is written: `in_place`."""
    result = group.result.type
    anchored = {group.parameter(v) for v in group.anchor.operands} if not group.is_elementwise else set()
    return tuple(
        i
        for i, v in enumerate(group.parameters)
        if f"x{i}" not in anchored and v.type.shape == result.shape and v.type.dtype.bits == result.dtype.bits
    )
