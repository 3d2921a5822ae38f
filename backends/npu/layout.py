"""What follows from the graph: who computes what in which order; and where every value lies in external memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...ir.errors import ModelError
from ...ir.graph import Graph, Node, Value
from ...ir.ops.shape import Reshape
from ..c.target import HOST, CTarget
from ..kernel import Choices
from ..memory import Place, Plan, plan
from ..memory import Space as Where
from ..memory.offsets import Block, heights, pack
from .isa import Space
from .jobs import Job
from .memory import Constants
from .partition import Partition, Placement, partition
from .runs import root, runs

#: Values in ARENA start at multiples of it.
LINE = 64


@dataclass(frozen=True, eq=False)
class Layout:
    """Who computes what, in which order, and where every value lies.

    runs: placements in order of execution; those of one run are all on the NPU, or all on the host.
    addresses: of values in external memory; those that never leave local memory have none once programs are made.
    constants: those that activations are read from; the programs' own follow. live: bytes of ARENA in use at each node.
    working: bytes of ARENA, behind the inner values, that nodes on the host compute in, one after the other.
    """

    partition: Partition
    runs: tuple[tuple[Placement, ...], ...]
    addresses: dict[Value, tuple[Space, int]]
    constants: Constants
    arena_bytes: int
    memory: Plan
    live: dict[Node, int]
    working: int = 0


class _Memory:
    """What planning asks: nothing is in place, reshapes cost nothing. host: kernels of `hosted`, the nodes there."""

    def __init__(self, host: Choices, hosted: set[Node]) -> None:
        self.host, self.hosted = host, hosted

    def scratch(self, node: Node) -> int:
        return self.host.scratch(node) if node in self.hosted else 0

    def in_place(self, node: Node) -> tuple[int, ...]:
        return ()

    def is_alias(self, node: Node) -> bool:
        return isinstance(node.op, Reshape)


def arrange(graph: Graph) -> Layout:
    """Place the nodes of a lowered graph; every value has an address of its own."""
    parts = partition(graph)
    placed = {p.node: p for p in parts.placements}
    model = _Memory(CTarget(HOST).choices(), {p.node for p in parts.placements if p.on_host})
    memory = plan(parts.graph, model, LINE)
    working = max((_line(model.scratch(node)) for node in memory.scratch), default=0)
    layout = Layout(parts, runs([placed[node] for node in memory.order]), {}, Constants(), 0, memory, {}, working)
    inner = [v for v, place in memory.places.items() if place.space is Where.ARENA and root(v) is v]
    offsets, end = {}, 0
    for value in inner:
        offsets[value], end = end, _line(end + value.type.nbytes)
    return _addressed(layout, offsets, end)


@dataclass(frozen=True)
class Use:
    """What one step of execution (a group, or a node on the host) has in external memory. nodes: its own."""

    nodes: tuple[Node, ...]
    values: tuple[Value, ...]


def packed(layout: Layout, uses: Sequence[Use]) -> Layout:
    """The same with as little ARENA as those uses, in their order, allow."""
    blocks: dict[Value, Block] = {}
    spans: dict[Value, tuple[int, int]] = {}
    for time, use in enumerate(uses):
        for value in map(root, use.values):
            if layout.memory.places[value].space is Where.ARENA:
                spans[value] = spans.get(value, (time, time))[0], time
    for value, (first, last) in spans.items():
        if value.type.nbytes:
            blocks[value] = Block()
            blocks[value].extend(first, last, _line(value.type.nbytes))
    packing = pack(list(blocks.values()))
    offsets = dict.fromkeys(spans, 0) | dict(zip(blocks, packing.offsets, strict=True))
    in_use = dict(enumerate(heights(list(blocks.values()))))
    working = dict.fromkeys(layout.memory.scratch, layout.working)
    live = {n: in_use.get(time, 0) + working.get(n, 0) for time, use in enumerate(uses) for n in use.nodes}
    return replace(_addressed(layout, offsets, packing.size), live=live)


def offsets(layout: Layout) -> list[int | None]:
    """The address of the result of each node in order; None where it never leaves local memory. `restored` reads it."""
    found = (layout.addresses.get(value) for value in _results(layout))
    return [place[1] if place is not None else None for place in found]


def restored(layout: Layout, addresses: Sequence[int | None], arena_bytes: int) -> Layout:
    """A layout with addresses that `offsets` told. Raises ModelError where they cannot be those of the graph."""
    values = list(_results(layout))
    known = [isinstance(a, int) and 0 <= a <= arena_bytes - v.type.nbytes for v, a in zip(values, addresses)]  # noqa: B905
    if len(values) != len(addresses) or not all(k or a is None for k, a in zip(known, addresses, strict=True)):
        raise ModelError("the addresses of the values are not those of the graph", fix="compile the model again")
    found = {v: a for v, a in zip(values, addresses, strict=True) if a is not None}
    _, end = _publics(layout, 0)
    return _addressed(layout, found, arena_bytes - end - layout.working)


def _results(layout: Layout) -> Iterable[Value]:
    return (value for node in layout.memory.order for value in node.live_results)


def _publics(layout: Layout, end: int) -> tuple[dict[tuple[Where, int], int], int]:
    """The addresses of the public inputs and outputs, from `end` on; and where they end."""
    graph = layout.partition.graph
    addresses = {}
    for where, values in ((Where.INPUT, graph.inputs), (Where.OUTPUT, graph.outputs)):
        for i, value in enumerate(values):
            addresses[where, i] = end
            end = _line(end + value.type.nbytes)
    return addresses, end


def _addressed(layout: Layout, offsets: dict[Value, int], end: int) -> Layout:
    """ARENA: inner values at their offsets, working memory, public inputs, outputs. CONST: constant activations."""
    inner = _line(end) + layout.working
    publics, end = _publics(layout, inner)
    addresses: dict[Value, tuple[Space, int]] = {}
    used = {v for run in layout.runs for p in run if not p.on_host for j in p.jobs for v in _values(j)}
    constants = Constants()
    places = dict(layout.memory.places)
    for value, place in layout.memory.places.items():
        if place.space is Where.ARENA:
            if (at := offsets.get(root(value))) is not None:
                addresses[value], places[value] = (Space.ARENA, at), Place(Where.ARENA, 0, at)
        elif place.space is Where.CONSTANT:
            if value in used:
                data = layout.memory.constants[value].const
                assert data is not None
                addresses[value] = Space.CONST, constants.place(data.nbytes, data.tobytes)
                addresses[root(value)] = addresses[value]
        else:
            addresses[value] = Space.ARENA, publics[place.space, place.index]
    scratch = dict.fromkeys(layout.memory.scratch, inner - layout.working)
    memory = replace(layout.memory, places=places, scratch=scratch, arena_bytes=inner)
    return replace(layout, addresses=addresses, constants=constants, arena_bytes=end, memory=memory)


def _values(job: Job) -> list[Value]:
    return [view.value for view in (job.x, job.y, job.residual) if view is not None]


def _line(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE
