"""The whole model: segments of the graph as programs, and what runs on the host between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.constant import Const
from ...ir.graph import Graph, Node, Value
from ...ir.ops.shape import Reshape
from ...runtime.target import Unsupported
from ..memory import Plan, plan
from ..memory import Space as Where
from .isa import Space
from .lowering import Place, lower
from .machine import Machine
from .mapper import Bound, Mapped, best, bound
from .memory import Constants, aligned, require_room
from .partition import Partition, Placement, partition
from .program import Program
from .schedule import Schedule, Tile, configured, issue_order, program, synchronized, timeline


@dataclass(frozen=True, eq=False)
class NpuLayer:
    """One node on the NPU. analytic: its share of the segment's cycles by the mapper's model."""

    tag: int
    node: Node
    mapped: tuple[Mapped, ...]
    bound: Bound
    analytic: int


@dataclass(frozen=True, eq=False)
class Segment:
    """Layers that one program executes without the host."""

    program: Program
    layers: tuple[NpuLayer, ...]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model for a machine: segments and host steps in order, and where every value lies in ARENA."""

    machine: Machine
    partition: Partition
    schedule: tuple[Segment | Placement, ...]
    addresses: dict[Value, tuple[Space, int]]
    constants: bytes
    arena_bytes: int
    memory: Plan

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(s for s in self.schedule if isinstance(s, Segment))


class _Memory:
    """What planning asks: nothing is in place, reshapes cost nothing."""

    def scratch(self, node: Node) -> int:
        return 0

    def in_place(self, node: Node) -> tuple[int, ...]:
        return ()

    def is_alias(self, node: Node) -> bool:
        return isinstance(node.op, Reshape)


def compile_graph(graph: Graph, machine: Machine) -> Compiled:
    """Compile a lowered graph. Raises DoesNotFitError where a layer or the arena does not fit."""
    parts = partition(graph)
    placed = {p.node: p for p in parts.placements}
    memory = plan(parts.graph, _Memory(), 64)
    constants = Constants()
    addresses, arena_bytes = _addresses(parts.graph, memory, constants, placed)
    schedule: list[Segment | Placement] = []
    run: list[Placement] = []
    tag = 0
    for node in (*memory.order, None):
        placement = placed[node] if node is not None else None
        if placement is not None and not placement.on_host:
            run.append(placement)
            continue
        if run:
            schedule.append(_segment(run, machine, addresses, constants, tag, arena_bytes))
            tag += len(run)
            run = []
        if placement is not None:
            schedule.append(placement)
    data = bytes(constants.data)
    require_room(Space.ARENA, arena_bytes, machine.size(Space.ARENA), machine.name)
    require_room(Space.CONST, len(data), machine.size(Space.CONST), machine.name)
    final = [s if isinstance(s, Placement) else _with_constants(s, data) for s in schedule]
    return Compiled(machine, parts, tuple(final), addresses, data, arena_bytes, memory)


def _with_constants(segment: Segment, data: bytes) -> Segment:
    return Segment(Program(segment.program.instructions, data, segment.program.arena_bytes), segment.layers)


def _addresses(
    graph: Graph, memory: Plan, constants: Constants, placed: dict[Node, Placement]
) -> tuple[dict[Value, tuple[Space, int]], int]:
    """ARENA: what the planner placed, then public inputs, then outputs. CONST: activations that are constant."""
    end = _line(memory.arena_bytes)
    publics: dict[tuple[Where, int], int] = {}
    for where, values in ((Where.INPUT, graph.inputs), (Where.OUTPUT, graph.outputs)):
        for i, value in enumerate(values):
            publics[where, i] = end
            end = _line(end + value.type.nbytes)
    addresses: dict[Value, tuple[Space, int]] = {}
    used = {v for p in placed.values() if not p.on_host for j in p.jobs for v in _values(j)}
    for value, place in memory.places.items():
        if place.space is Where.ARENA:
            addresses[value] = Space.ARENA, place.offset
        elif place.space is Where.CONSTANT:
            if value in used:
                data = memory.constants[value].const
                assert data is not None
                addresses[value] = Space.CONST, constants.place(data.nbytes, data.tobytes)
        else:
            addresses[value] = Space.ARENA, publics[place.space, place.index]
    return addresses, end


def _values(job: object) -> list[Value]:
    views = (getattr(job, name) for name in ("x", "y", "residual"))
    return [v.value for v in views if v is not None]


def _line(nbytes: int) -> int:
    return -(-nbytes // 64) * 64


def _segment(
    run: Sequence[Placement], machine: Machine, addresses: dict[Value, tuple[Space, int]], constants: Constants,
    first_tag: int, arena_bytes: int,
) -> Segment:  # fmt: skip
    place = Place(machine, addresses, constants)
    cache: dict[tuple[object, ...], Mapped] = {}
    tiles: list[Tile] = []
    mapped: list[tuple[Mapped, ...]] = []
    for i, placement in enumerate(run):
        place.tag = first_tag + i + 1
        found = tuple(best(job, machine, addresses, cache) for job in placement.jobs)
        mapped.append(found)
        for m in found:
            tiles += lower(m.job, m.tiling, place)
    steps = issue_order(tiles)
    configured(steps)
    schedule = synchronized(steps)
    shares = analytic_shares(schedule, machine)
    layers = tuple(
        NpuLayer(
            first_tag + i + 1, p.node, mapped[i], sum((bound(j, machine) for j in p.jobs), Bound(0, 0, 0)),
            shares.get(first_tag + i + 1, 0),
        )
        for i, p in enumerate(run)
    )  # fmt: skip
    return Segment(Program(tuple(program(schedule)), b"", arena_bytes), layers)


def analytic_shares(schedule: Schedule, machine: Machine) -> dict[int, int]:
    """Cycles by tag: from the end of the layer before to its own end, by the analytic model."""
    ends = timeline(schedule, machine.control.dispatch, machine.control.queue, machine.dma.channels)
    last: dict[int, int] = {}
    for step, end in zip(schedule.steps, ends, strict=True):
        last[step.tag] = max(last.get(step.tag, 0), end)
    shares, before = {}, 0
    for tag in sorted(last):
        shares[tag] = max(0, last[tag] - before)
        before = max(before, last[tag])
    return shares


__all__ = ["Compiled", "Const", "NpuLayer", "Segment", "Unsupported", "aligned", "compile_graph"]
