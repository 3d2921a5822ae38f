"""One element of a group's result, for kernels that are written in TIR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.graph import Value
from ...ir.types import I32
from ..group import Group
from ..loops import epilogue
from ..loops.expressions import Native, dense_strides
from . import tir as tirx
from .code import Code, Expr
from .render import TirRenderer


@dataclass(frozen=True)
class Position:
    """Where the result's element lies: its flat index, and its coordinates."""

    flat: Expr
    axes: tuple[Expr, ...]

    @staticmethod
    def of(axes: Sequence[Expr], shape: Sequence[int]) -> Position:
        """The element of a row-major tensor at these coordinates."""
        return Position(flat(axes, dense_strides(shape)), tuple(axes))


def flat(axes: Sequence[Expr], strides: Sequence[int], offset: int = 0) -> Expr:
    """Offset + sum(axis * stride)."""
    index: Expr = tirx.const(offset, "int32")
    for axis, stride in zip(axes, strides, strict=True):
        index = index + axis * stride
    return index


def store(group: Group, code: Code, at: Position, acc: Expr) -> None:
    """Compute one element of the result from `acc`, the anchor's, and store it in y."""
    place = epilogue.Position(Native(I32, at.flat), tuple(Native(I32, a) for a in at.axes))
    statements = epilogue.store(group, place, Native(group.anchor.result.type.dtype, acc))
    TirRenderer(code, in_vector=True).statements(statements)


def buffer(group: Group, code: Code, value: Value) -> Expr:
    """The buffer behind an operand, in a table or a parameter."""
    array = group.constant(value)
    return code.table(array) if array is not None else code.x[group.numbers[group.top(value)]]
