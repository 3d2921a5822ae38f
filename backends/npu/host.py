"""What the host computes: runs of nodes that the NPU does not take, as graphs that the C backend compiles.

A segment's functions read and write the NPU's arena, where the plan of the whole model has every value. The C is
portable: the text that is verified on this machine is the one whose instructions are counted on the core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ...ir.errors import UnsupportedError
from ...ir.evaluate import evaluate
from ...ir.graph import Graph, Node, Value, graph_input
from ...ir.types import Array
from ...runtime.cost import node_cost
from ...runtime.target import Artifact, Limits, Unsupported
from ..c.errors import BuildFailed, TimedOut, ToolMissing
from ..c.sizes import Flash
from ..c.target import HOST, CTarget, interface
from ..cortexm.flash import can_measure, measure
from ..cortexm.qemu import run_on_qemu
from ..kernel import Choices
from ..memory import Place, Plan, Space
from .layout import Layout
from .machine import Host
from .partition import Placement
from .runs import reads, root, writes

#: Counting the instructions of more multiply-accumulates than these takes minutes.
COUNTED_MACS = 100_000_000


@dataclass(frozen=True, eq=False)
class HostSegment:
    """One run of host nodes as a graph. reads, writes: the values that its inputs and outputs are.

    twins: the graph's nodes by those of the partitioned graph. memory: where its values lie in the NPU's arena.
    """

    name: str
    placements: tuple[Placement, ...]
    graph: Graph
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    twins: Mapping[Node, Node]
    memory: Plan

    @property
    def bytes_read(self) -> int:
        """From the arena, each byte once."""
        return sum(v.type.nbytes for v in {root(v): v for v in self.reads}.values())

    @property
    def bytes_written(self) -> int:
        return sum(v.type.nbytes for v in self.writes)

    @cached_property
    def choices(self) -> Choices:
        """The kernels that execute the graph's nodes."""
        return CTarget().choices()

    @property
    def macs(self) -> int:
        return sum(node_cost(p.node).macs for p in self.placements)


@dataclass(frozen=True)
class Counted:
    """Instructions of one run of a segment: all, and by C function. Or why they are not known."""

    instructions: int | None
    by_function: Mapping[str, int]
    unknown: str = ""


def host_segments(layout: Layout) -> list[HostSegment]:
    """The host's segments, in order of execution."""
    hosted = [run for run in layout.runs if run[0].on_host]
    return [_segment(f"host_{i}", run, layout) for i, run in enumerate(hosted)]


def _segment(name: str, run: Sequence[Placement], layout: Layout) -> HostSegment:
    read, written = reads(run), writes(run, layout.partition.graph)
    inner = {v: graph_input(f"x{i}", v.type) for i, v in enumerate(read)}

    def copy(node: Node) -> Node:
        twin = Node(node.op, [inside(v) for v in node.operands], [v.type for v in node.results], node.loc)
        inner.update(zip(node.results, twin.results, strict=True))
        return twin

    def inside(value: Value) -> Value:
        """The segment's own value. Constants, and reshapes of what it computes, become part of it."""
        if value not in inner and value.producer is not None:
            copy(value.producer)
        return inner[value]

    twins = {p.node: copy(p.node) for p in run}
    names = [f"y{i}" for i in range(len(written))]
    segment = Graph([inner[v] for v in read], [inner[v] for v in written], names, name)
    memory = _memory(layout.memory, inner, read, written, twins)
    return HostSegment(name, tuple(run), segment, tuple(read), tuple(written), twins, memory)


def _memory(
    whole: Plan,
    inner: Mapping[Value, Value],
    read: Sequence[Value],
    written: Sequence[Value],
    twins: Mapping[Node, Node],
) -> Plan:
    """The part of the model's plan that a segment needs, for its own values."""
    places = {}
    for value, own in inner.items():
        if value in read:
            places[own] = Place(Space.INPUT, read.index(value))
        elif root(value) in written:
            places[own] = Place(Space.OUTPUT, written.index(root(value)))
        elif value in whole.places:  # others are results that nothing uses
            places[own] = whole.places[value]
    constants = {own: inner[whole.constants[v]] for v, own in inner.items() if v in whole.constants}
    scratch = {twin: whole.scratch[node] for node, twin in twins.items() if node in whole.scratch}
    needed = whole.arena_bytes if scratch or any(p.space is Space.ARENA for p in places.values()) else 0
    return replace(
        whole, order=tuple(twins.values()), places=places, constants=constants, scratch=scratch, copies=(), rows=(),
        arena_bytes=needed, alignment=CTarget.alignment,
    )  # fmt: skip


class _Planned(CTarget):
    """Portable C of a segment, by the kernels and on the plan that it has."""

    def __init__(self, segment: HostSegment) -> None:
        super().__init__()
        self.segment = segment

    def choices(self) -> Choices:
        return self.segment.choices

    def _plan(self, graph: Graph, choices: Choices) -> Plan:
        return self.segment.memory


# ---- as C


def supports(node: Node) -> Unsupported | None:
    """Why the host cannot compute a node."""
    return CTarget().supports(node)


def require_supported(target: str, segments: Sequence[HostSegment]) -> None:
    """Raise UnsupportedError with every node that neither the NPU nor the host takes, and both reasons."""
    problems, hints = [], dict[str, None]()
    for segment, placement in ((s, p) for s in segments for p in s.placements):
        refusal, problem = placement.refusal, segment.choices.problem(segment.twins[placement.node])
        if problem is not None and refusal is not None:
            problems.append(f"{placement.node.describe()}: {refusal.reason}; on the host, {problem.reason}")
            hints.update(dict.fromkeys([problem.hint] if problem.hint else []))
    if problems:
        raise UnsupportedError(
            f"target {target} cannot take {len(problems)} of the model's nodes, neither on the NPU nor on its host",
            fix="; ".join(hints) or "run the model on another target, or rewrite these nodes",
            details=tuple(problems),
        )


def emit(segment: HostSegment, out: Path) -> Artifact:
    """Write a segment as a C project into the new folder `out/<name>`."""
    folder = out / segment.name
    folder.mkdir()
    return _Planned(segment).emit(segment.graph, folder, segment.name, Limits())


def run(segment: HostSegment, out: Path, inputs: Sequence[Array]) -> list[Array]:
    """Execute the C that lies in `out/<name>`, on this machine, on a batch; stacked inputs and outputs, in order.

    Raises ExecutionError where it does not compile or run; ToolMissing without a compiler.
    """
    artifact = Artifact(HOST, out / segment.name, segment.graph, [], {"name": segment.name})
    done = CTarget().run(artifact, dict(zip(segment.graph.input_names, inputs, strict=True)))
    return [done.outputs[name] for name in segment.graph.output_names]


def interpret(segment: HostSegment, inputs: Sequence[Array]) -> list[Array]:
    """What a segment means: by the ops' reference semantics, on a batch."""
    rows = [evaluate(segment.graph, [x[i] for x in inputs]) for i in range(len(inputs[0]) if inputs else 1)]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def count(segment: HostSegment, out: Path, host: Host) -> Counted:
    """Instructions of the C in `out/<name>` on the host's core, for one set of drawn inputs.

    Unknown, with the reason, where tools are missing or the emulator is too slow or too small; other failures raise.
    """
    if segment.macs > COUNTED_MACS:
        return Counted(None, {}, f"{segment.macs} multiply-accumulates take minutes to emulate")
    spec = interface(segment.graph, segment.name)
    inputs = [_drawn(v) for v in segment.graph.inputs]
    sources = [out / segment.name / f"{segment.name}.c"]
    try:
        with tempfile.TemporaryDirectory(prefix="planish-") as build:
            done = run_on_qemu(host.core, Path(build), sources, spec, inputs)
    except (ToolMissing, TimedOut) as error:
        return Counted(None, {}, error.what)
    except BuildFailed as error:
        if "will not fit in region" in error.diagnostics:
            return Counted(None, {}, f"{segment.name} is too large for the emulated board of {host.core}")
        raise
    return Counted(max(done.instructions or [0]), done.layers or {})


def flash(segment: HostSegment, code: Artifact, host: Host) -> Flash:
    """What the C of a segment takes on the host's core: measured where its compiler is here, else estimated."""
    if can_measure(host.core):
        return measure(host.core, code.path / f"{segment.name}.c", segment.name)
    return Flash(code.facts["constant_bytes"], code.facts["code_bytes"], code.facts["flash_error"])


def _drawn(value: Value) -> Array:
    """A batch of one: integers of the whole range, floats around 0; always the same."""
    rng, dtype = np.random.default_rng(0), value.type.dtype
    if dtype.is_float:
        return rng.normal(0, 1, (1, value.type.size)).astype(dtype.numpy)
    high = 2 if dtype.kind == "bool" else min(dtype.max, 127) + 1
    low = 0 if dtype.kind == "bool" else max(dtype.min, -128)
    return rng.integers(low, high, (1, value.type.size)).astype(np.uint8 if dtype.kind == "bool" else dtype.numpy)
