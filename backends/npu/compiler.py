"""The whole model: segments of the graph as programs, and what runs on the host between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir.errors import DoesNotFitError
from ...ir.graph import Graph, Node, Value
from ...ir.ops.shape import Reshape
from ..memory import Plan, plan
from ..memory import Space as Where
from .isa import MOST_TAG, Instruction, Space
from .lowering import Place, lower
from .machine import Machine
from .mapper import Bound, Mapped, best, bound
from .memory import Constants, require_room
from .partition import Partition, Placement, partition
from .program import Program
from .runs import runs
from .schedule import Schedule, Tile, configured, issue_order, program, synchronized, timeline

#: Values in ARENA start at multiples of it.
LINE = 64


@dataclass(frozen=True, eq=False)
class NpuLayer:
    """One node on the NPU. analytic: its share of the segment's cycles by the mapper's model."""

    tag: int
    node: Node
    mapped: tuple[Mapped, ...]
    bound: Bound
    analytic: int


@dataclass(frozen=True, eq=False)
class Layout:
    """What follows from the graph alone: who computes what in which order, and where every value lies.

    runs: placements in order of execution; those of one run are all on the NPU, or all on the host.
    constants: those that activations are read from; the programs' own follow.
    """

    partition: Partition
    runs: tuple[tuple[Placement, ...], ...]
    addresses: dict[Value, tuple[Space, int]]
    constants: Constants
    arena_bytes: int
    memory: Plan


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model for a machine: a program for each run on the NPU, None for a run on the host; layers in order."""

    machine: Machine
    layout: Layout
    programs: tuple[Program | None, ...]
    layers: tuple[NpuLayer, ...]


class _Memory:
    """What planning asks: nothing is in place, reshapes cost nothing."""

    def scratch(self, node: Node) -> int:
        return 0

    def in_place(self, node: Node) -> tuple[int, ...]:
        return ()

    def is_alias(self, node: Node) -> bool:
        return isinstance(node.op, Reshape)


def arrange(graph: Graph) -> Layout:
    """Place the nodes of a lowered graph and plan its memory."""
    parts = partition(graph)
    placed = {p.node: p for p in parts.placements}
    memory = plan(parts.graph, _Memory(), LINE)
    constants = Constants()
    addresses, arena_bytes = _addresses(parts.graph, memory, constants, placed)
    executed = runs([placed[node] for node in memory.order])
    return Layout(parts, executed, addresses, constants, arena_bytes, memory)


def compile_graph(graph: Graph, machine: Machine) -> Compiled:
    """Compile a lowered graph. Raises DoesNotFitError where a layer, the arena or the constants do not fit."""
    layout = arrange(graph)
    require_room(Space.ARENA, layout.arena_bytes, machine.size(Space.ARENA), machine.name)
    cache: dict[tuple[object, ...], Mapped] = {}
    programs: list[tuple[Instruction, ...] | None] = []
    layers: list[NpuLayer] = []
    for run in layout.runs:
        if run[0].on_host:
            programs.append(None)
            continue
        instructions, found = _segment(run, machine, layout, cache, len(layers) + 1)
        programs.append(tuple(instructions))
        layers += found
    data = bytes(layout.constants.data)
    require_room(Space.CONST, len(data), machine.size(Space.CONST), machine.name)
    final = tuple(Program(p, data, layout.arena_bytes) if p is not None else None for p in programs)
    return Compiled(machine, layout, final, tuple(layers))


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
    return -(-nbytes // LINE) * LINE


def _segment(
    run: Sequence[Placement], machine: Machine, layout: Layout, cache: dict[tuple[object, ...], Mapped], first_tag: int
) -> tuple[list[Instruction], list[NpuLayer]]:
    """The instructions of consecutive layers, tagged from `first_tag` on, and what is known of the layers."""
    place = Place(machine, layout.addresses, layout.constants)
    tiles: list[Tile] = []
    mapped: list[tuple[Mapped, ...]] = []
    for i, placement in enumerate(run):
        place.tag = first_tag + i
        if place.tag > MOST_TAG:
            raise DoesNotFitError(f"the model has more than {MOST_TAG} layers", fix="split the model")
        mapped.append(tuple(best(job, machine, layout.addresses, cache) for job in placement.jobs))
        for m in mapped[-1]:
            tiles += lower(m.job, m.tiling, place)
    steps = issue_order(tiles)
    configured(steps)
    schedule = synchronized(steps)
    shares = analytic_shares(schedule, machine)
    layers = [
        NpuLayer(tag, p.node, m, sum((bound(j, machine) for j in p.jobs), Bound(0, 0, 0)), shares.get(tag, 0))
        for tag, (p, m) in enumerate(zip(run, mapped, strict=True), first_tag)
    ]
    return program(schedule), layers


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
