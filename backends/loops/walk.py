"""What expressions and statements are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from .expressions import Binary, Call, Choose, Expr, Load, Variable
from .statements import Let, Local, Loop, Statement, Store, When


def children(e: Expr) -> Iterator[Expr]:
    """The expressions that an expression is made of; of an applied definition, the arguments."""
    for field in fields(e):
        value = getattr(e, field.name)
        if isinstance(value, Expr):
            yield value
        elif isinstance(value, tuple):
            yield from (v for v in value if isinstance(v, Expr))


def inside(e: Expr) -> Iterator[Expr]:
    """An expression and all that it is made of."""
    yield e
    for child in children(e):
        yield from inside(child)


def is_costly(e: Expr) -> bool:
    """Whether a function of <math.h> is called, or anything divided: what should not be computed twice."""
    return any(isinstance(p, Call) or (isinstance(p, Binary) and p.op == "/") for p in inside(e))


def expressions(s: Statement) -> Iterator[Expr]:
    """The expressions of a statement itself, not of its body."""
    match s:
        case Let(_, value):
            yield value
        case Local(_, start):
            yield start
        case Store(_, index, value):
            yield from (index, value)
        case When(condition, _):
            yield condition


def diverges(loop: Loop) -> bool:
    """Whether turns of a loop may go different ways: by what they skip, or by what must not be read."""
    return _diverges(loop.body, {loop.variable}, set())


def _diverges(body: Sequence[Statement], varying: set[Variable], own: set[object]) -> bool:
    """varying: variables that differ between the turns. own: arrays that each turn has for itself."""

    def varies(e: Expr) -> bool:
        return any(p in varying or (isinstance(p, Load) and p.buffer in own) for p in inside(e))

    for s in body:
        for e in expressions(s):
            if any(isinstance(p, Choose) and p.lazy and varies(p.condition) for p in inside(e)):
                return True
        if isinstance(s, Let) and varies(s.value):
            varying.add(s.variable)
        elif isinstance(s, Local):
            own.add(s.buffer)
        elif isinstance(s, When) and varies(s.condition):
            return True
        if isinstance(s, Loop | When) and _diverges(s.body, varying, own):
            return True
    return False
