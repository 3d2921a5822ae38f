"""One element of a group's result in C: the epilogue of kernels that are written as C text."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Value
from ...ir.types import I32, DType
from ..group import Group
from ..loops import epilogue
from ..loops.expressions import Expr, Native, number
from .code import Code
from .render import CRenderer


@dataclass(frozen=True)
class Position:
    """Where the result's element lies: C expressions for its index in memory and for its coordinates."""

    flat: str
    axes: tuple[str, ...]


def store(group: Group, code: Code, at: Position, acc: str, of: Value | None = None) -> str:
    """Statements that compute one element of the result from `acc`, the anchor's, and store it in `y`.

    `of`: that `acc` is this later value's, and what comes before it is done.
    """
    place = epilogue.Position(_native(at.flat), tuple(map(_native, at.axes)))
    value = of or group.anchor.result
    return CRenderer(code).statements(epilogue.store(group, place, _native(acc, value.type.dtype), of))


def _native(text: str, dtype: DType = I32) -> Expr:
    return number(int(text), dtype) if text.isdigit() else Native(dtype, text)


def pointer(group: Group, code: Code, value: Value, label: str = "table") -> str:
    """C: the first element of an operand, in a table or behind a parameter."""
    array = group.constant(value)
    if array is not None:
        return code.table(label, array)
    name = group.parameter(value)
    assert name is not None
    return name
