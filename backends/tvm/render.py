"""The loop language as TIR."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ...ir.types import BOOL, I32, I64, DType
from ..loops import expressions as loops
from ..loops.expressions import (
    COMPARISONS,
    LOGIC,
    Apply,
    Binary,
    Buffer,
    Choose,
    Convert,
    Load,
    Native,
    Number,
    Table,
    Unary,
    Variable,
    Wrapping,
)  # fmt: skip
from ..loops.statements import Kind, Let, Local, Loop, Statement, Store, When
from ..loops.walk import diverges, is_costly
from . import tir as tirx
from .code import Code, Expr, blocks_of, tir_type
from .numbers import call, cast, hidden, number, stored, wrapped

#: No vector of 8-bit elements is asked for that is wider than this many elements: LLVM splits wider ones.
LANES = 16

_OPERATORS: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, ">>": operator.rshift, "<<": operator.lshift,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "&": operator.and_, "|": operator.or_,
}  # fmt: skip


#: Definitions that TIR has words for, of integers.
_OWN = frozenset(("clamp", "larger", "smaller", "saturate"))

T = TypeVar("T")


@dataclass(frozen=True)
class Lanes:
    """A loop in vectors: `width` turns from `first` on. lane: which of them, inside a statement."""

    variable: Variable
    first: Expr
    width: int
    lane: Expr = None


class TirRenderer:
    """Writes statements into a TIR function, and gives expressions: a truth value as a byte, or as TIR's own."""

    def __init__(self, code: Code, in_vector: bool = False) -> None:
        """in_vector: that the statements are those of a vector's lanes, in which nothing can be kept."""
        self.code = code
        self._keeps = not in_vector
        self._known: dict[Variable, Expr] = {}
        #: Names for what is computed where it is read: in lanes, once for each statement.
        self._named: dict[Variable, loops.Expr] = {}
        self._locals: dict[Buffer, tuple[Expr, int]] = {}
        self._lanes: Lanes | None = None

    # ---- statements

    def statements(self, statements: Sequence[Statement]) -> None:
        """Write the statements, one after the other."""
        for s in statements:
            self._statement(s)

    def _statement(self, s: Statement) -> None:
        match s:
            case Let(variable, value) if self._keeps and self._lanes is None and is_costly(value):
                kept = Buffer(variable.name, variable.dtype, 1)
                self._statement(Local(kept, value))
                self._named[variable] = Load(variable.dtype, kept, loops.number(0, I32))
            case Let(variable, value):
                self._named[variable] = value
            case Local(buffer, start):
                width = self._lanes.width if self._lanes else 1
                self._locals[buffer] = self.code.local((width,), tir_type(buffer.dtype)), width
                self._store(Store(buffer, loops.number(0, I32), start))
            case Store():
                self._store(s)
            case Loop(_, _, _, Kind.LANES):
                self._in_lanes(s)
            case Loop(variable, count, body, kind):
                with self.code.loop(count, kind.name) as self._known[variable]:
                    self.statements(body)
            case When(condition, body):
                with self.code.when(self._once(lambda: self.condition(condition))):
                    self.statements(body)

    def _store(self, s: Store) -> None:
        def one() -> None:
            buffer, index = self._place(s.buffer, s.index)
            self.code.store(buffer, stored(self.value(s.value), s.buffer.dtype), index)

        lanes = self._lanes
        if lanes is None or lanes.lane is not None:
            self._once(one)
            return
        with self.code.loop(lanes.width, "VECTORIZED") as lane:
            self._lanes = replace(lanes, lane=lane)
            self._known[lanes.variable] = lanes.first + lane
            self._once(one)
        self._lanes = lanes

    def _once(self, write: Callable[[], T]) -> T:
        """Of what one statement reads by a name, nothing is computed twice; the next one computes it anew."""
        known = dict(self._known)
        result = write()
        self._known = known
        return result

    def _in_lanes(self, loop: Loop) -> None:
        """In vectors as far as that goes, then in halves of them; one by one where turns go different ways.

        Each store is a vector of stores; loops inside are outside of the vectors, and each lane has its own locals.
        """
        outer = self._lanes
        for start, blocks, width in blocks_of(loop.count, 1 if diverges(loop) else LANES):
            with self.code.loop(blocks) as block:
                first = start + block * width
                self._known[loop.variable] = first
                self._lanes = Lanes(loop.variable, first, width) if width > 1 else None
                self.statements(loop.body)
        self._lanes = outer

    def _place(self, buffer: Buffer, index: loops.Expr) -> tuple[Expr, Expr]:
        """The array, and the index in it."""
        if buffer in self._locals:
            array, width = self._locals[buffer]
            lane = self._lanes.lane if width > 1 and self._lanes else None
            return array, tirx.const(0, "int32") if lane is None else lane
        at = self.value(index)
        if isinstance(buffer, Table):
            return self.code.table(buffer.array), at
        return (self.code.y if buffer.name == "y" else self.code.x[int(buffer.name[1:])]), at

    # ---- expressions

    def value(self, e: loops.Expr) -> Expr:
        """The number; a truth value as a byte."""
        match e:
            case Number(dtype, value):
                return tirx.const(int(value), "uint8") if dtype == BOOL else number(value, dtype)
            case Variable():
                if e not in self._known:
                    self._known[e] = self.value(self._named[e])
                return self._known[e]
            case Native(dtype, text):
                return stored(text, dtype)
            case Load(_, buffer, index):
                return self.code.load(*self._place(buffer, index))
            case Unary(dtype, op, operand) if dtype != BOOL:
                return tirx.nearbyint(self.value(operand)) if op == "round" else -self.value(operand)
            case Binary(dtype, op, left, right) if dtype != BOOL:
                return self._binary(op, left, right, dtype)
            case Wrapping(dtype, op, left, right):
                return wrapped(op, self.value(left), self._hidden(right), dtype)
            case Choose(_, condition, then, other, lazy):
                choice = tirx.if_then_else if lazy else tirx.Select
                return choice(self.condition(condition), self.value(then), self.value(other))
            case Convert(dtype, operand):
                return cast(tir_type(dtype), self.value(operand))
            case loops.Call(_, "sqrtf", (operand,)):
                return tirx.sqrt(self.value(operand))
            case loops.Call(_, function, arguments):
                return call(function, *map(self.value, arguments))
            case Apply(dtype, definition, arguments):
                if not dtype.is_float and definition.name.split("_")[0] in _OWN:
                    return _own(definition.name.split("_")[0], *map(self.value, arguments))
                self._bind(e)
                return self.value(definition.body)
            case Binary(_, "!=", left, right) if left.dtype.is_float:
                # TVM's "not equal" is false of NaN.
                same = self.value(left) == self.value(right)
                return tirx.Select(same, tirx.const(0, "uint8"), tirx.const(1, "uint8"))
            case _:
                return cast("uint8", self.condition(e))

    def condition(self, e: loops.Expr) -> Expr:
        """A truth value as TIR's own."""
        match e:
            case Unary(_, "isnan", operand):
                return tirx.isnan(self.value(operand))
            case Unary(_, "not", operand):
                return self.value(operand) == tirx.const(0, "uint8")
            case Binary(_, op, left, right) if op in LOGIC:
                return (tirx.And if op == "and" else tirx.Or)(self.condition(left), self.condition(right))
            case Binary(_, op, left, right) if op in COMPARISONS and not (op == "!=" and left.dtype.is_float):
                return _OPERATORS[op](self.value(left), self.value(right))
            case Apply(_, definition, _):
                self._bind(e)
                return self.condition(definition.body)
            case _:
                return self.value(e) != tirx.const(0, "uint8")

    def _binary(self, op: str, left: loops.Expr, right: loops.Expr, dtype: DType) -> Expr:
        a, b = self.value(left), self.value(right)
        if op == "/":
            return a / b if dtype.is_float else tirx.truncdiv(a, b)
        if op == "%":
            return tirx.floormod(a, b)
        if op in ("<<", ">>") and left.dtype != right.dtype:
            b = cast(tir_type(dtype), b)
        return _OPERATORS[op](a, b)

    def _bind(self, e: Apply) -> None:
        """Parameters mean the arguments. Of several floats TVM is not told whether they are one."""
        for i, (parameter, argument) in enumerate(zip(e.definition.parameters, e.arguments, strict=True)):
            self._known[parameter] = self._hidden(argument) if i else self.value(argument)

    def _hidden(self, e: loops.Expr) -> Expr:
        constant = isinstance(e, Number) or (isinstance(e, Load) and isinstance(e.buffer, Table))
        return self.value(e) if constant else hidden(self.value(e), e.dtype)


def _own(name: str, x: Expr, *others: Expr) -> Expr:
    """A definition of `_OWN` in TIR's words, which LLVM understands better than comparisons."""
    match name:
        case "clamp":
            return tirx.min(tirx.max(x, others[0]), others[1])
        case "larger":
            return tirx.max(x, *others)
        case "smaller":
            return tirx.min(x, *others)
        case _:
            return cast("int32", _own("clamp", x, number(I32.min, I64), number(I32.max, I64)))
