"""What a kernel writes one function with: loops, stores, names. The result is data, for a renderer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ...ir.graph import Value
from ...ir.types import I32, DType
from ..group import Group
from . import epilogue
from .epilogue import Position
from .expressions import Buffer, Expr, Load, Number, Variable, as_expr, number
from .statements import Kind, Let, Local, Loop, Statement, Store, When


class Code:
    """The statements of one group's function, in the order in which they are written.

    All buffers are flat; an index is an expression of I32, or an int. y: the result's buffer.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.y = epilogue.result_buffer(group)
        self._blocks: list[list[Statement]] = [[]]
        self._names = 0

    @property
    def statements(self) -> list[Statement]:
        """All that was written."""
        (statements,) = self._blocks
        return statements

    # ---- data

    def operand(self, value: Value, label: str = "table") -> Buffer:
        """The buffer of an operand: a parameter's, or a table of what is constant. label: its name in C."""
        return epilogue.buffer(self.group, value, label)

    def local(self, dtype: DType, start: Any, name: str = "acc") -> Buffer:
        """A variable of the function's own: an array of one element, which is `start` at first."""
        buffer = Buffer(self._name(name), dtype, 1)
        self._add(Local(buffer, as_expr(start, dtype)))
        return buffer

    def load(self, buffer: Buffer, index: Any) -> Expr:
        """One element, in the buffer's dtype."""
        return Load(buffer.dtype, buffer, as_expr(index, I32))

    # ---- statements

    def store(self, buffer: Buffer, index: Any, value: Any) -> None:
        """buffer[index] = value; a number takes the buffer's dtype."""
        self._add(Store(buffer, as_expr(index, I32), as_expr(value, buffer.dtype)))

    def let(self, value: Expr) -> Expr:
        """A name for a value that is read more than once."""
        if isinstance(value, Variable | Number):
            return value
        variable = Variable(value.dtype, self._name("t"))
        self._add(Let(variable, value))
        return variable

    def result(self, at: Position, acc: Expr | None = None) -> None:
        """Compute one element of the group's result from the anchor's, and store it; see `epilogue.store`."""
        for statement in epilogue.store(self.group, at, acc):
            self._add(statement)

    @contextmanager
    def loop(self, count: int, kind: Kind = Kind.SERIAL) -> Iterator[Expr]:
        """A loop over [0, count); its variable. One turn is no loop: the variable is 0."""
        if count == 1:
            yield number(0, I32)
            return
        variable = Variable(I32, self._name("i"))
        with self._block() as body:
            yield variable
        self._add(Loop(variable, count, body, kind))

    @contextmanager
    def loops(self, shape: Sequence[int]) -> Iterator[tuple[Expr, ...]]:
        """Nested loops; their variables."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self.loop(size)) for size in shape)

    def lanes(self, count: int) -> Any:
        """A loop whose turns may be executed at once: neighbours in memory, none of which reads what another writes."""
        return self.loop(count, Kind.LANES)

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """What follows, where the condition holds."""
        with self._block() as body:
            yield
        self._add(When(condition, body))

    # ---- inside

    def _add(self, statement: Statement) -> None:
        self._blocks[-1].append(statement)

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    @contextmanager
    def _block(self) -> Iterator[list[Statement]]:
        self._blocks.append([])
        try:
            yield self._blocks[-1]
        finally:
            self._blocks.pop()
