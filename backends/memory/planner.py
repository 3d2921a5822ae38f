"""Plan the arena: order of execution, offsets of values and scratch, results that take over an operand's memory."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from ...ir.graph import Graph, Node, Value
from .offsets import Block, pack
from .order import best_order
from .storage import MemoryModel, Program, Space, Step, Storage, lower


@dataclass(frozen=True)
class Place:
    """Where a value lives. index: of the public input or output. offset: bytes from the start of the arena."""

    space: Space
    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Row:
    """One bar of a memory timeline: `size` bytes at `offset`, live over the steps [first, last].

    value: None for the scratch of the node that runs at step `first`.
    """

    value: Value | None
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """What generated code needs to know about memory.

    order: the nodes that execute, without constants and aliases.
    places: of every value; an alias has its operand's. One of several results that nothing uses has none.
    constants: for values in Space.CONSTANT, the constant that they are, through aliases.
    scratch: offset of each node's scratch, of nodes that have any.
    copies: indexes of outputs that no node writes: at the end, copy them from the places of their values.
    arena_bytes: size of the arena. bound: no order and no offsets need less, where `optimal`; else the order's peak.
    rows: data for a picture.
    """

    order: tuple[Node, ...]
    places: dict[Value, Place]
    constants: dict[Value, Value]
    scratch: dict[Node, int]
    copies: tuple[int, ...]
    arena_bytes: int
    bound: int
    optimal: bool
    alignment: int
    rows: tuple[Row, ...]

    @property
    def in_use(self) -> list[int]:
        """Bytes of the arena that hold something at each step; a result in place shares its operand's."""
        change = [0] * (len(self.order) + 1)
        rows = [row for row in self.rows if row.size]
        begins = {(row.first, row.offset): row.size for row in rows}
        for row in rows:
            change[row.first] += row.size
            change[row.last + 1] -= row.size
            if row.first < row.last and (taker := begins.get((row.last, row.offset))) is not None:
                shared = min(row.size, taker)
                change[row.last] -= shared
                change[row.last + 1] += shared
        return list(accumulate(change))[:-1]

    def at(self, step: int) -> list[Row]:
        """What the arena holds at a step."""
        return [row for row in self.rows if row.first <= step <= row.last]


def plan(graph: Graph, target: MemoryModel, alignment: int = 4) -> Plan:
    """Order and offsets with the smallest arena that the search budgets allow to find.

    Public inputs, outputs and constants are not in the arena; an output is written by its node directly, and read from
    there by later nodes. Every offset is a multiple of `alignment` bytes. Shapes must be static (InferenceError).
    """
    program = lower(graph, target, alignment)
    ordered = best_order(program)
    layout = _Layout(program, ordered.steps)
    packing = pack(layout.blocks)
    offsets = dict(zip(map(id, layout.blocks), packing.offsets, strict=True))

    def offset(block: Block | None) -> int:
        return offsets[id(block)] if block is not None else 0

    places = {value: Place(s.space, s.index, offset(layout.block_of.get(s))) for value, s in program.storages.items()}
    scratch = {step.node: offset(block) for step, block in layout.scratch.items()}
    return Plan(
        order=tuple(step.node for step in ordered.steps),
        places=places,
        constants={v: s.root for v, s in program.storages.items() if s.space is Space.CONSTANT},
        scratch=scratch,
        copies=program.copies,
        arena_bytes=packing.size,
        bound=ordered.peak,
        optimal=ordered.optimal and packing.size == ordered.peak,
        alignment=alignment,
        rows=_rows(layout, places, scratch),
    )


class _Layout:
    """Live ranges in a given order, as blocks to be packed."""

    def __init__(self, program: Program, order: tuple[Step, ...]) -> None:
        self.time = {step: t for t, step in enumerate(order)}
        self.blocks: list[Block] = []
        self.block_of: dict[Storage, Block] = {}
        self.scratch: dict[Step, Block] = {}
        self.span: dict[Storage, tuple[int, int]] = {}
        for step in order:
            for storage in step.writes:
                if storage.space is Space.ARENA:
                    self._add(storage, step, program)
            if step.scratch:
                self.scratch[step] = self._new_block()
                now = self.time[step]
                self.scratch[step].extend(now, now, program.aligned(step.scratch))

    def _add(self, storage: Storage, step: Step, program: Program) -> None:
        first = self.time[step]
        self.span[storage] = first, max((self.time[r] for r in storage.readers), default=first)
        if not storage.nbytes:
            return
        taken = next((s for s in step.takes if self.span[s][1] == first), None)
        block = self.block_of[taken] if taken is not None else self._new_block()
        block.extend(*self.span[storage], program.aligned(storage.nbytes))
        self.block_of[storage] = block

    def _new_block(self) -> Block:
        self.blocks.append(Block())
        return self.blocks[-1]


def _rows(layout: _Layout, places: dict[Value, Place], scratch: dict[Node, int]) -> tuple[Row, ...]:
    values = [Row(s.root, places[s.root].offset, s.nbytes, first, last) for s, (first, last) in layout.span.items()]
    temporary = [
        Row(None, scratch[step.node], step.scratch, layout.time[step], layout.time[step]) for step in layout.scratch
    ]
    return tuple(sorted(values + temporary, key=lambda r: (r.first, r.offset)))
