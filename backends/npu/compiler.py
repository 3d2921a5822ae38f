"""The whole model: segments of the graph as programs, and what runs on the host between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ir.errors import DoesNotFitError
from ...ir.graph import Graph, Node, Value
from . import fusion
from .fusion import Planned, Segment
from .isa import MOST_TAG, Instruction
from .jobs import Job, Product, inputs, kind, placed
from .layout import Layout, Use, arrange, packed
from .machine import Machine
from .mapper import Mapper
from .memory import Constants, require_room
from .partition import Placement
from .places import Cut, Place
from .program import Program
from .roofline import Bound, bounds
from .runs import root
from .schedule import Schedule, Tile, configured, issue_order, program, synchronized
from .timeline import Timeline, timeline

#: So many tiles ahead may data be loaded; the fastest is taken.
AHEAD = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, eq=False)
class NpuLayer:
    """One node on the NPU. group: the tags that its first job is computed together with, its own among them.

    analytic: its share of the segment's cycles by the mapper's model. cut: of its first job, with `rows` x `columns` of
    the group's last result at a time. local: whether it reads from, and leaves its result in, local memory.
    """

    tag: int
    node: Node
    jobs: tuple[Job, ...]
    bound: Bound
    analytic: int
    group: tuple[int, ...]
    area: tuple[int, int]
    cut: Cut
    local: tuple[bool, bool]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A model for a machine: a program for each run on the NPU, None for one on the host. In order of execution."""

    machine: Machine
    layout: Layout
    programs: tuple[Program | None, ...]
    layers: tuple[NpuLayer, ...]
    plans: tuple[Planned, ...]


def compile_graph(graph: Graph, machine: Machine) -> Compiled:
    """Compile a lowered graph. Raises DoesNotFitError where a layer, the arena or the constants do not fit."""
    layout = arrange(graph)
    _require_weights(layout, machine)
    if sum(len(run) for run in layout.runs if not run[0].on_host) > MOST_TAG:
        raise DoesNotFitError(f"the model has more than {MOST_TAG} layers", fix="split the model")
    segments: list[_Segment | None] = []
    mapper, tag = Mapper(machine), 1
    for run in layout.runs:
        segments.append(None if run[0].on_host else _Segment(run, machine, layout, mapper, tag))
        tag += 0 if run[0].on_host else len(run)
    uses = [
        use
        for run, segment in zip(layout.runs, segments, strict=True)
        for use in (map(_host_use, run) if segment is None else segment.uses())
    ]
    layout = packed(layout, uses)
    programs = [tuple(s.program(layout)) if s is not None else None for s in segments]
    data = bytes(layout.constants.data)
    require_room(layout.arena_bytes, len(data), machine)
    final = tuple(Program(p, data, layout.arena_bytes) if p is not None else None for p in programs)
    layers = tuple(layer for s in segments if s is not None for layer in s.layers())
    plans = tuple(p for s in segments if s is not None for p in s.planned)
    return Compiled(machine, layout, final, layers, plans)


def _require_weights(layout: Layout, machine: Machine) -> None:
    """Refuse at once what cannot fit, however it is computed: weights, equal ones once."""
    jobs = [job for run in layout.runs for p in run for job in p.jobs]
    products = [job for job in jobs if isinstance(job, Product) and kind(job) == "conv"]
    arrays = {job.weights.tobytes(): job.weights.size for job in products}
    graph = layout.partition.graph
    publics = sum(v.type.nbytes for v in (*graph.inputs, *graph.outputs))
    require_room(publics, sum(arrays.values()), machine)


def _host_use(placement: Placement) -> Use:
    node = placement.node
    return Use((node,), (*(v for v in node.operands if v.const is None), *node.live_results))


class _Segment:
    """Consecutive layers on the NPU, on their way to a program."""

    def __init__(
        self, run: Sequence[Placement], machine: Machine, layout: Layout, mapper: Mapper, first_tag: int
    ) -> None:
        self.run, self.machine, self.first_tag = run, machine, first_tag
        jobs = tuple(placed(j, tag, root) for tag, p in enumerate(run, first_tag) for j in p.jobs)
        self.segment = Segment(jobs, _outside(run, layout))
        self.planned = self.fastest(mapper, layout)
        self.timeline: Timeline | None = None

    def fastest(self, mapper: Mapper, layout: Layout) -> list[Planned]:
        """With what pays in local memory, or with nothing there: costs of groups leave out some of what overlaps."""
        plans = [fusion.plan(self.segment, mapper, layout.addresses, local) for local in (True, False)]
        return min(
            plans, key=lambda p: self.schedule(p, Place(self.machine, layout.addresses, Constants(False)))[1].cycles
        )

    def schedule(self, planned: Sequence[Planned], place: Place) -> tuple[Schedule, Timeline]:
        """With the loads as far ahead as is best."""
        tiles = fusion.tiles(self.segment, planned, place)
        found: list[tuple[Schedule, Timeline]] = []
        for ahead in AHEAD:
            schedule = _scheduled(tiles, ahead)
            found.append((schedule, timeline(schedule, self.machine)))
        return min(found, key=lambda f: f[1].cycles)

    def uses(self) -> list[Use]:
        """What each group has in external memory."""
        found, kept = [], set[Value]()
        for p in self.planned:
            group = p.mapped.group
            kept |= {*p.keeps}
            stored = [job.y.value for job, yes in zip(group.jobs, group.stored, strict=True) if yes]
            read = [
                view.value
                for job in group.jobs
                for view in inputs(job)
                if view.value not in kept and group.producer(view) is None
            ]
            nodes = tuple({self.run[job.tag - self.first_tag].node: 0 for job in group.jobs})
            found.append(Use(nodes, (*stored, *read)))
        return found

    def program(self, layout: Layout) -> list[Instruction]:
        """The instructions, once everything has its place."""
        schedule, self.timeline = self.schedule(self.planned, Place(self.machine, layout.addresses, layout.constants))
        return program(schedule)

    def layers(self) -> list[NpuLayer]:
        """What is known of each node."""
        assert self.timeline is not None
        total: dict[int, Bound] = {}
        first: dict[int, tuple[Planned, int]] = {}
        kept: set[Value] = set()
        local: dict[int, tuple[bool, bool]] = {}
        for p in self.planned:
            group = p.mapped.group
            kept |= {*p.keeps}
            inside = {view.key for job in group.jobs for view in inputs(job) if view.value in kept}
            for i, (job, bound) in enumerate(zip(group.jobs, bounds(group, self.machine, inside), strict=True)):
                total[job.tag] = total.get(job.tag, Bound(0, 0, 0)) + bound
                first.setdefault(job.tag, (p, i))
                here = job.x.key in inside or group.producer(job.x) is not None, not group.stored[i]
                local.setdefault(job.tag, here)
        layers = []
        for tag, placement in enumerate(self.run, self.first_tag):
            p, i = first[tag]
            tiling = p.mapped.tiling
            layers.append(
                NpuLayer(
                    tag, placement.node, placement.jobs, total[tag], self.timeline.shares.get(tag, 0),
                    tuple(job.tag for job in p.mapped.group.jobs), (tiling.rows, tiling.columns), tiling.cuts[i],
                    local[tag],
                )
            )  # fmt: skip
        return layers


def _scheduled(tiles: Sequence[Tile], ahead: int) -> Schedule:
    steps = [replace(step) for step in issue_order(tiles, ahead)]
    configured(steps)
    return synchronized(steps)


def _outside(run: Sequence[Placement], layout: Layout) -> set[Value]:
    """Values that others than the layers of a run read, through reshapes as well."""
    graph, mine = layout.partition.graph, {p.node for p in run}
    outside = {root(v) for v in graph.outputs}
    for node in layout.memory.order:
        if node not in mine:
            outside |= {root(v) for v in node.operands}
    return outside
