"""Statements of the loop language."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from .expressions import Buffer, Expr, Variable


class Kind(enum.Enum):
    """How the turns of a loop may be executed.

    SERIAL: one after the other. LANES: at once, as many as the machine likes: no turn reads what another writes, and
    neighbours are neighbours in memory. UNROLLED: serial, and few: worth writing out.
    """

    SERIAL = "serial"
    LANES = "lanes"
    UNROLLED = "unrolled"


@dataclass(frozen=True, eq=False)
class Let:
    """A name for a value. Nothing that the value reads is stored to before the name is read for the last time."""

    variable: Variable
    value: Expr


@dataclass(frozen=True, eq=False)
class Local:
    """A variable of the function's own: a buffer of one element, which is `start` at first."""

    buffer: Buffer
    start: Expr


@dataclass(frozen=True, eq=False)
class Store:
    """buffer[index] = value."""

    buffer: Buffer
    index: Expr
    value: Expr


@dataclass(frozen=True, eq=False)
class Loop:
    """The body for variable = 0 ... count - 1."""

    variable: Variable
    count: int
    body: Sequence[Statement]
    kind: Kind = Kind.SERIAL


@dataclass(frozen=True, eq=False)
class When:
    """The body where the condition holds."""

    condition: Expr
    body: Sequence[Statement]


Statement = Let | Local | Store | Loop | When
