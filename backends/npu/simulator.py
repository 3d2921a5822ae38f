"""Event-driven cycles: in-order engines, queues, semaphores and shared ports; and where every cycle went.

The cycles of a program are those of its longest chain of causes. Walking that chain backwards gives each cycle to one
command, so the cycles of the layers add up to the total.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...ir.errors import ModelError
from ...ir.types import Array
from . import functional
from .isa import Engine, Halt, Sync
from .linter import prove
from .machine import Machine
from .program import Command, Program
from .timing import Work, work


@dataclass(frozen=True)
class Cause:
    """What a command waited for last: the start or the end of another one, at `time`; none: the program's begin.

    Whatever time passes from there to what it caused is the control unit's.
    """

    time: int
    command: int | None = None
    at_end: bool = True


@dataclass(frozen=True)
class Span:
    """When a command was under way. busy: from when its engine, or port, worked on it. cause: of the start.

    queued: the command that had the port when this one's data were due; None where the latency was the last to end.
    """

    command: Command
    work: Work
    start: int
    busy: int
    end: int
    cause: Cause
    queued: int | None = None


@dataclass
class Layer:
    """What the commands of one tag took.

    cycles: the layer's share of the total, and `classes` how they were spent; busy: cycles that each engine worked for
    it, hidden or not; bound: cycles below which multipliers, the lanes of the post-process unit or ports could not have
    done the same.
    """

    tag: int
    cycles: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    busy: Counter[Engine] = field(default_factory=Counter)
    macs: int = 0
    external_bytes: int = 0
    bound: int = 0
    energy: float = 0.0

    @property
    def stall(self) -> str:
        """The class, other than computing, that took most cycles; `none` where there is none."""
        stalls = [(cycles, name) for name, cycles in self.classes.items() if name != "compute" and cycles]
        return max(stalls)[1] if stalls else "none"


@dataclass(frozen=True)
class Simulation:
    """A timed program. energy is in pJ."""

    machine: Machine
    cycles: int
    spans: tuple[Span, ...]
    layers: tuple[Layer, ...]

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def utilisation(self) -> float:
        """Share of the multipliers' cycles that did something."""
        return self.macs / (self.machine.array.macs * max(self.cycles, 1))

    @property
    def energy(self) -> float:
        return sum(layer.energy for layer in self.layers) + self.cycles * self.machine.energy.static

    @property
    def microseconds(self) -> float:
        return self.cycles / self.machine.clock_mhz


def simulate(program: Program, machine: Machine, arena: Array) -> tuple[Array, Simulation]:
    """Prove, execute and time a program: the arena (u8) afterwards, and the simulation."""
    prove(program, machine)
    return functional.execute(program, machine, arena), time(program, machine)


def time(program: Program, machine: Machine) -> Simulation:
    """Time a program, which the linter has accepted. Raises ModelError where it cannot go on."""
    events = _Events(program, machine)
    events.run()
    spans = tuple(events.spans[c.position] for c in program.commands if c.position in events.spans)
    return Simulation(machine, events.clock, spans, tuple(_layers(events, spans, machine)))


class _Events:
    """The state of the machine. Commands are named by their position in the program."""

    def __init__(self, program: Program, machine: Machine) -> None:
        self.machine = machine
        self.program = list(program.commands)
        self.next = 0  # what the control unit reads next
        self.clock, self.since = 0, Cause(0)  # the control unit's time, and what it waited for last
        self.position = 0  # in the program, configuration included
        self.queues: dict[Engine, list[tuple[Command, int, Cause]]] = defaultdict(list)
        self.started: dict[Engine, list[int]] = defaultdict(list)
        self.dispatched: Counter[Engine] = Counter()
        self.given: dict[int, list[int]] = defaultdict(list)
        self.taken: Counter[int] = Counter()
        self.ports: dict[str, int] = {}  # the last command on the port of each region
        self.spans: dict[int, Span] = {}

    def run(self) -> None:
        """Start what can start first, until nothing is left."""
        while True:
            self._dispatch()
            ready = [(start, engine, cause) for engine in Engine for start, cause in self._ready(engine)]
            if ready:
                _, engine, cause = min(ready, key=lambda candidate: candidate[:2])
                self._start(engine, cause)
            elif self.next == len(self.program) and not any(self.queues.values()):
                return
            else:
                stuck = [f"{queue[0][0]}" for queue in self.queues.values() if queue]
                raise ModelError("the program is in a deadlock", details=tuple(stuck), where=self.machine.name)

    def _dispatch(self) -> None:
        """Let the control unit read as far as it gets with what has started until now."""
        limit = self.machine.control
        while self.next < len(self.program):
            command = self.program[self.next]
            engine = command.engine
            arrives = self.clock + limit.dispatch * (command.position + 1 - self.position)
            if isinstance(command.instruction, (Sync, Halt)):
                if any(self.queues.values()):
                    return
                last = max(self.spans.values(), key=lambda span: span.end, default=None)
                cause = Cause(last.end, last.command.position) if last else Cause(0)
            elif (behind := self.dispatched[engine] - limit.queue) >= 0:
                if behind >= len(self.started[engine]):
                    return
                first = self.started[engine][behind]
                cause = Cause(self.spans[first].start, first, at_end=False)
            else:
                cause = Cause(0)
            if cause.time > arrives:
                arrives, self.since = cause.time, cause
            self.clock, self.position, self.next = arrives, command.position + 1, self.next + 1
            if engine is not Engine.CTRL:
                self.queues[engine].append((command, self.clock, self.since))
                self.dispatched[engine] += 1

    def _ready(self, engine: Engine) -> Iterator[tuple[int, Cause]]:
        """When the first command of an engine's queue can start, and why not earlier; nothing while that is open."""
        if not self.queues[engine]:
            return
        command, arrived, cause = self.queues[engine][0]
        causes = [(arrived, cause)]
        for s in command.instruction.wait:
            if len(self.given[s]) <= self.taken[s]:
                return
            giver = self.given[s][self.taken[s]]
            causes.append((self.spans[giver].end, Cause(self.spans[giver].end, giver)))
        before = self.started[engine]
        overlapping = self.machine.dma.channels if engine in (Engine.LD, Engine.ST) else 1
        if len(before) >= overlapping:
            end = self.spans[before[-overlapping]].end
            causes.append((end, Cause(end, before[-overlapping])))
        if before:
            start = self.spans[before[-1]].start
            causes.append((start, Cause(start, before[-1], at_end=False)))
        yield max(causes, key=lambda c: c[0])

    def _start(self, engine: Engine, cause: Cause) -> None:
        command, arrived, _ = self.queues[engine].pop(0)
        start, here = max(arrived, cause.time), command.position
        done = work(command, self.machine)
        busy, queued = start + done.latency, None
        if engine in (Engine.LD, Engine.ST):
            # A port serves one transfer at a time, and an engine's transfers end in their order.
            region = _region(command, self.machine)
            for other in (self.ports.get(region), *self.started[engine][-1:]):
                if other is not None and self.spans[other].end > busy:
                    busy, queued = self.spans[other].end, other
            self.ports |= {region: here} if region else {}
        self.spans[here] = Span(command, done, start, busy, busy + done.cycles, cause, queued)
        self.started[engine].append(here)
        for s in command.instruction.wait:
            self.taken[s] += 1
        if command.instruction.signal:
            self.given[command.instruction.signal].append(here)


def _region(command: Command, machine: Machine) -> str:
    """The external memory that a transfer uses; empty for what is none."""
    external = [view.space for view in command.views.values() if not view.space.is_local]
    return machine.region_name(external[0]) if external else ""


def _parts(span: Span) -> dict[str, int]:
    """The cycles from `busy` to `end` by class."""
    done, engine = span.work, span.command.engine
    if engine is Engine.MM:
        return {"compute": done.useful, "padding": done.padding, "weights": done.weights, "fill": done.fill}
    name = {Engine.LD: "load", Engine.ST: "store", Engine.PP: "post"}[engine]
    return {name: done.cycles}


def _critical(events: _Events) -> Iterator[tuple[int, str, int]]:
    """Tag, class and cycles of every stretch of the longest chain of causes, from the end to the begin."""
    spans, tag = events.spans, 0
    at, cause = events.clock, events.since
    while True:
        # From `cause` to `at` nobody but the control unit kept us waiting.
        yield tag, "control", at - cause.time
        if cause.command is None:
            return
        span = spans[cause.command]
        ended = cause.at_end
        while ended:
            tag = span.command.instruction.tag
            yield from ((tag, name, cycles) for name, cycles in _parts(span).items())
            if span.queued is None:
                yield tag, "latency", span.busy - span.start
                break
            span = spans[span.queued]
        tag = span.command.instruction.tag
        at, cause = span.start, span.cause


def _layers(events: _Events, spans: tuple[Span, ...], machine: Machine) -> list[Layer]:
    layers: dict[int, Layer] = {}
    traffic: dict[tuple[int, str], int] = defaultdict(int)
    lanes: dict[int, int] = defaultdict(int)
    for span in spans:
        i, done = span.command.instruction, span.work
        layer = layers.setdefault(i.tag, Layer(i.tag))
        layer.busy[span.command.engine] += done.cycles
        layer.macs += done.macs
        layer.external_bytes += done.external_bytes
        layer.energy += done.energy
        if region := _region(span.command, machine):
            traffic[i.tag, region] += done.cycles
        if span.command.engine is Engine.PP:
            lanes[i.tag] += done.useful
    for tag, name, cycles in _critical(events):
        layer = layers.setdefault(tag, Layer(tag))
        layer.cycles += cycles
        layer.classes[name] += cycles
    for layer in layers.values():
        ports = [cycles for (tag, _), cycles in traffic.items() if tag == layer.tag]
        layer.bound = max([-(-layer.macs // machine.array.macs), lanes[layer.tag], *ports])
    return [layers[tag] for tag in sorted(layers)]
