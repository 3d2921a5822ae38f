"""The analytic model: when each step of a schedule ends, without executing it, and whose fault every cycle is.

It knows what the simulator knows (in-order engines, queues, semaphores, ports), on steps instead of instructions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .isa import Engine
from .machine import Machine
from .schedule import ENGINES, Schedule, Tile, counted, issue_order, synchronized

#: What a step waited for last: a step (-1: the program's begin), and whether for its end or its start.
Cause = tuple[int, bool]
BEGIN: Cause = (-1, True)


@dataclass(frozen=True, eq=False)
class Timeline:
    """cycles: of the whole program. shares: of each tag, along the longest chain of causes."""

    cycles: int
    shares: dict[int, int]


class _Run:
    def __init__(self, schedule: Schedule, machine: Machine) -> None:
        self.steps, self.needed, self.machine = schedule.steps, schedule.needed, machine
        count = len(self.steps)
        self.starts, self.ends, self.issued = [-1] * count, [-1] * count, [-1] * count
        self.causes: list[Cause] = [BEGIN] * count
        self.dispatched: list[Cause] = [BEGIN] * count  # what CTRL waited for last before it issued a step
        self.queued: list[int] = [-1] * count  # the transfer that had the port
        self.busy = [-1] * count
        self.of_engine: dict[Engine, list[int]] = {engine: [] for engine in ENGINES}
        self.places = []
        for i, step in enumerate(self.steps):
            self.places.append(len(self.of_engine[step.engine]))
            self.of_engine[step.engine].append(i)
        self.following: dict[Engine, int] = dict.fromkeys(ENGINES, 0)
        self.ports: dict[str, int] = {}
        self.control, self.clock, self.since = 0, 0, BEGIN
        self.latest = -1

    def time(self, cause: Cause) -> int:
        step, at_end = cause
        return 0 if step < 0 else (self.ends if at_end else self.starts)[step]

    def dispatch(self) -> None:
        """CTRL goes on until a queue is full."""
        dispatch, queue = self.machine.control.dispatch, self.machine.control.queue
        while self.control < len(self.steps):
            i = self.control
            step, place = self.steps[i], self.places[i]
            arrives = self.clock + dispatch * (1 + step.controls)
            if place >= queue:
                first = self.of_engine[step.engine][place - queue]
                if self.starts[first] < 0:
                    return
                if self.starts[first] > arrives:
                    arrives, self.since = self.starts[first], (first, False)
            self.clock = self.issued[i] = arrives
            self.dispatched[i] = self.since
            self.control += 1

    def ready(self, engine: Engine) -> tuple[int, Cause | None] | None:
        """When the next step of an engine can start and what it waits for; nothing while that is open."""
        mine, place = self.of_engine[engine], self.following[engine]
        if place == len(mine):
            return None
        i = mine[place]
        start, cause = self.issued[i], None
        if start < 0:
            return None
        ends = self.ends
        for j in self.needed[i]:
            if ends[j] < 0:
                return None
            if ends[j] > start:
                start, cause = ends[j], (j, True)
        ahead = self.machine.dma.channels if engine in (Engine.LD, Engine.ST) else 1
        if place >= ahead and ends[mine[place - ahead]] > start:
            start, cause = ends[mine[place - ahead]], (mine[place - ahead], True)
        if place and self.starts[mine[place - 1]] > start:
            start, cause = self.starts[mine[place - 1]], (mine[place - 1], False)
        return start, cause

    def start(self, engine: Engine, start: int, cause: Cause | None) -> None:
        mine, place = self.of_engine[engine], self.following[engine]
        i = mine[place]
        step = self.steps[i]
        self.starts[i], self.causes[i] = start, cause if cause is not None else self.dispatched[i]
        busy = start + max(step.latency, 0)
        if engine in (Engine.LD, Engine.ST):
            # A port serves one transfer at a time, and an engine's transfers end in their order.
            for other in (self.ports.get(step.region, -1), mine[place - 1] if place else -1):
                if other >= 0 and self.ends[other] > busy:
                    busy, self.queued[i] = self.ends[other], other
            if step.region:
                self.ports[step.region] = i
        self.busy[i], self.ends[i] = busy, busy + step.cycles
        if self.latest < 0 or self.ends[i] > self.ends[self.latest]:
            self.latest = i
        self.following[engine] += 1

    def run(self) -> None:
        for _ in self.steps:
            self.dispatch()
            found = [(*ready, engine) for engine in ENGINES if (ready := self.ready(engine)) is not None]
            start, cause, engine = min(found, key=lambda f: f[0])
            self.start(engine, start, cause)
        # HALT
        self.clock += self.machine.control.dispatch
        if self.latest >= 0 and self.ends[self.latest] > self.clock:
            self.clock, self.since = self.ends[self.latest], (self.latest, True)

    def shares(self) -> dict[int, int]:
        """Cycles by tag, walking the chain of causes from the end to the begin."""
        shares: Counter[int] = Counter()
        at, (i, at_end), tag = self.clock, self.since, 0
        while True:
            shares[tag] += at - self.time((i, at_end))  # nobody but CTRL kept us waiting
            if i < 0:
                return dict(shares)
            while at_end:
                tag = self.steps[i].tag
                shares[tag] += self.steps[i].cycles
                if self.queued[i] < 0:
                    shares[tag] += self.busy[i] - self.starts[i]
                    break
                i = self.queued[i]
            tag, at = self.steps[i].tag, self.starts[i]
            i, at_end = self.causes[i]


def timeline(schedule: Schedule, machine: Machine) -> Timeline:
    """Time the configured steps of a whole program."""
    run = _Run(schedule, machine)
    run.run()
    return Timeline(run.clock, run.shares())


def busiest(tiles: Sequence[Tile]) -> int:
    """Cycles of the engine, or the port, that has most to do."""
    busy: Counter[object] = Counter()
    for tile in tiles:
        for step in (*tile.loads, *tile.body):
            busy[step.region or step.engine] += step.cycles
    return max(busy.values(), default=0)


def estimate(tiles: Sequence[Tile], machine: Machine, total: int) -> int:
    """Cycles of `total` tiles alone, of which these are the first.

    Those that are left out take as long as the second half of these.
    """
    steps = issue_order(tiles)
    counted(steps)
    run = _Run(synchronized(steps), machine)
    run.run()
    if total <= len(tiles):
        return run.clock
    half = len(tiles) // 2
    early = {id(step) for tile in tiles[:half] for step in (*tile.loads, *tile.body)}
    middle = max(end for step, end in zip(run.steps, run.ends, strict=True) if id(step) in early)
    return run.clock + (run.clock - middle) * (total - len(tiles)) // (len(tiles) - half)
