"""TIR of one layer: buffers, loops, stores. Needs the extra `[mobile]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...ir.types import BOOL, Array, DType, dtype_of
from ..group import Group
from . import tir as tirx
from .machines import Machine

#: A TIR expression, or an int where a constant index is meant. TVM has no type information.
Expr = Any
#: TIR's wide name of an element type; booleans are bytes.
_KINDS = {"int": "int", "uint": "uint", "float": "float"}


def tir_type(dtype: DType) -> str:
    """The element type in memory."""
    return "uint8" if dtype == BOOL else f"{_KINDS[dtype.kind]}{dtype.bits}"


class Code:
    """What a kernel writes one layer's function with.

    The function is `void f(const T *x0, ..., U *y, [V *scratch], const W *t0, ...)`: plain pointers, no TVM call
    convention; of several results `U *y0, ...`. All buffers are flat. `machine` says what the processor has.
    """

    def __init__(self, group: Group, machine: Machine) -> None:
        self.machine = machine
        self.x = [self._pointer(f"x{i}", tir_type(v.type.dtype), v.type.size) for i, v in enumerate(group.parameters)]
        self.results = {y: self._pointer(y, tir_type(v.type.dtype), v.type.size) for v, y in group.results.items()}
        self._scratch: list[Expr] = []
        self.tables: list[Array] = []
        self._table_buffers: list[Expr] = []
        self._known: dict[tuple[str, bytes], Expr] = {}
        self._statements: list[list[Expr]] = [[]]
        self._names = 0

    def _pointer(self, name: str, dtype: str, size: int) -> Expr:
        return tirx.decl_buffer((size,), dtype, name, layout=None)

    # ---- data

    @property
    def y(self) -> Expr:
        """The only result."""
        (result,) = self.results.values()
        return result

    def table(self, array: Array) -> Expr:
        """A constant array, flat; equal arrays once."""
        key = (array.dtype.str, array.tobytes())
        if key not in self._known:
            flat = np.ascontiguousarray(array).reshape(-1)
            self.tables.append(flat)
            buffer = self._pointer(f"t{len(self._known)}", tir_type(dtype_of(flat)), flat.size)
            self._table_buffers.append(buffer)
            self._known[key] = buffer
        return self._known[key]

    def scratch(self, size: int, dtype: str) -> Expr:
        """The working memory that the kernel's `scratch` asked for, as an array; once in a function."""
        self._scratch.append(self._pointer("scratch", dtype, size))
        return self._scratch[0]

    def local(self, shape: Sequence[int], dtype: str) -> Expr:
        """An array on the stack, which the compiler keeps in registers where it is small and indexed by constants."""
        self._names += 1
        buffer = tirx.decl_buffer(tuple(shape), dtype, f"acc{self._names}", scope="local", layout=None)
        self._add(tirx.AllocBuffer(buffer))
        return buffer

    # ---- statements

    def _add(self, statement: Expr) -> None:
        self._statements[-1].append(statement)

    def store(self, buffer: Expr, value: Expr, *index: Expr) -> None:
        self._add(tirx.BufferStore(buffer, value, [_index(i) for i in index]))

    def load(self, buffer: Expr, *index: Expr) -> Expr:
        return tirx.BufferLoad(buffer, [_index(i) for i in index])

    @contextmanager
    def loop(self, count: int, kind: str = "SERIAL") -> Iterator[Expr]:
        """A loop over [0, count); its variable. One turn is no loop: the variable is 0."""
        if count == 1:
            yield tirx.const(0, "int32")
            return
        self._names += 1
        variable = tirx.Var(f"i{self._names}", "int32")
        with self._block() as body:
            yield variable
        self._add(tirx.For(variable, _index(0), _index(count), getattr(tirx.ForKind, kind), _sequence(body)))

    @contextmanager
    def loops(self, shape: Sequence[int]) -> Iterator[tuple[Expr, ...]]:
        """Nested loops; their variables."""
        if not shape:
            yield ()
            return
        with self.loop(shape[0]) as first, self.loops(shape[1:]) as others:
            yield (first, *others)

    def lanes(self, count: int, width: int, body: Callable[[Expr], None]) -> None:
        """`body(i)` for i in [0, count), in vectors of `width` lanes as far as that goes, then in halves of it."""
        for start, blocks, lanes in blocks_of(count, width):
            with self.loop(blocks) as block, self.loop(lanes, "VECTORIZED") as lane:
                body(start + block * lanes + lane)

    def vector(self, width: int, body: Callable[[Expr], None]) -> None:
        """`body(lane)` for `width` lanes at once."""
        with self.loop(width, "VECTORIZED") as lane:
            body(lane)

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        with self._block() as body:
            yield
        self._add(tirx.IfThenElse(condition, _sequence(body), None))

    @contextmanager
    def _block(self) -> Iterator[list[Expr]]:
        self._statements.append([])
        try:
            yield self._statements[-1]
        finally:
            self._statements.pop()

    # ---- the function

    def function(self) -> Expr:
        """The finished PrimFunc, not yet named."""
        from tvm.ir import PointerType, PrimType

        buffers = [*self.x, *self.results.values(), *self._scratch, *self._table_buffers]
        parameters = [tirx.Var(b.name, PointerType(PrimType(b.dtype))) for b in buffers]
        views = [tirx.DeclBuffer(b, data=p) for b, p in zip(buffers, parameters, strict=True)]
        return tirx.PrimFunc(parameters, _sequence([*views, *self._statements[0]]))


def blocks_of(count: int, width: int) -> list[tuple[int, int, int]]:
    """[0, count) as (start, how many blocks, of which width), in widths that are halved until all is covered."""
    parts, start = [], 0
    while start < count:
        if blocks := (count - start) // width:
            parts.append((start, blocks, width))
            start += blocks * width
        width //= 2
    return parts


def _index(value: Expr) -> Expr:
    return tirx.const(int(value), "int32") if isinstance(value, int | np.integer) else value


def _sequence(statements: Sequence[Expr]) -> Expr:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))
