"""The order of execution that needs the least memory.

A state is the set of executed steps; what is live after it does not depend on the order within. The best order is the
path from nothing to everything whose highest step is lowest. The graph's own order or a greedy one is taken where it is
as low as the most demanding step by itself; else best-first search over states looks for a lower one: exact within its
budget.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .storage import Program, Space, Step, Storage

BUDGET = 5_000
"""States that are expanded at most."""

TRIED = 100_000
"""Steps that are tried in them at most: a wide graph has many in every state."""


@dataclass(frozen=True)
class Ordered:
    """Steps in order; the largest sum of live bytes; whether no order has a smaller one."""

    steps: tuple[Step, ...]
    peak: int
    optimal: bool


def best_order(program: Program, budget: int = BUDGET) -> Ordered:
    """The order with the smallest sum of live bytes at its worst step."""
    search = _Search(program)
    steps, peak = program.steps, search.measure(program.steps)
    if peak == search.floor or all(search.chained(i) for i in range(1, len(steps))):
        return Ordered(steps, peak, True)
    greedy = search.greedy()
    if (other := search.measure(greedy)) < peak:  # the graph's own order reads best where it is as good
        steps, peak = greedy, other
    if peak == search.floor:
        return Ordered(steps, peak, True)
    found, complete = search.best_first(peak, budget)
    return found if found is not None else Ordered(steps, peak, complete)


class _Search:
    """Bit sets over the steps of one program."""

    def __init__(self, program: Program) -> None:
        self.steps = program.steps
        self.aligned = program.aligned
        self.all = (1 << len(self.steps)) - 1
        self.needs = [_mask(s.producer for s in step.reads if s.producer is not None) for step in self.steps]
        storages = dict.fromkeys(s for step in self.steps for s in (*step.reads, *step.writes))
        self.readers = {s: _mask(s.readers) for s in storages}
        #: No order needs less: every step needs its own operands, results and scratch.
        self.floor = max((self.alone(step) for step in self.steps), default=0)

    def chained(self, i: int) -> bool:
        """Whether step i cannot run before step i - 1."""
        return bool(self.needs[i] >> (i - 1) & 1)

    def arena(self, storage: Storage) -> int:
        return self.aligned(storage.nbytes) if storage.space is Space.ARENA else 0

    def dies(self, storage: Storage, done: int, step: Step) -> bool:
        """Whether this step is the last reader, given the steps done before."""
        return not self.readers[storage] & ~(done | 1 << step.index)

    def effect(self, step: Step, done: int) -> tuple[int, int]:
        """Bytes that the step adds while it runs, and bytes that it leaves behind (negative: frees)."""
        written = sum(self.arena(s) for s in step.writes)
        taken = written if any(self.dies(s, done, step) for s in step.takes) else 0
        kept = sum(self.arena(s) for s in step.writes if self.readers[s])
        freed = sum(self.arena(s) for s in step.reads if self.dies(s, done, step))
        return written - taken + self.aligned(step.scratch), kept - freed

    def alone(self, step: Step) -> int:
        """Bytes that the step needs if nothing else is live, and all its operands die."""
        return sum(self.arena(s) for s in step.reads) + self.effect(step, self.all)[0]

    def released(self, step: Step, done: int) -> Iterator[Step]:
        """The steps that can run when this one is done, too, and could not before."""
        readers = dict.fromkeys(reader for s in step.writes for reader in s.readers)
        return (reader for reader in readers if not self.needs[reader.index] & ~done)

    def measure(self, order: Sequence[Step]) -> int:
        """Peak of an order."""
        peak = live = done = 0
        for step in order:
            during, after = self.effect(step, done)
            peak, live, done = max(peak, live + during), live + after, done | 1 << step.index
        return peak

    def best_first(self, limit: int, budget: int) -> tuple[Ordered | None, bool]:
        """The best order with a peak below the limit, or None; and whether the search was complete."""
        cheapest: dict[int, int] = {0: self.floor}
        came_from: dict[int, tuple[int, Step]] = {}
        ready: dict[int, list[Step]] = {}  # of states that were expanded
        heap = [(self.floor, 0, 0, 0)]  # peak so far, minus the count of steps done, state, live bytes
        tried = 0
        while heap and budget and tried < TRIED:
            peak, count, done, live = heapq.heappop(heap)
            if done == self.all:
                return Ordered(self.path(came_from), peak, True), True
            if peak > cheapest[done]:
                continue
            budget -= 1
            ready[done] = self.ready(done, ready, came_from)
            tried += len(ready[done])
            options = [(step, *self.effect(step, done)) for step in ready[done]]
            # A step that fits under the peak and leaves nothing behind can only help what comes later: take it now.
            free = next((o for o in options if live + o[1] <= peak and o[2] <= 0), None)
            for step, during, after in [free] if free else options:
                state, height = done | 1 << step.index, max(peak, live + during)
                if height < cheapest.get(state, limit):
                    cheapest[state], came_from[state] = height, (done, step)
                    heapq.heappush(heap, (height, count - 1, state, live + after))
        return None, not heap

    def ready(self, done: int, known: dict[int, list[Step]], came_from: dict[int, tuple[int, Step]]) -> list[Step]:
        """The steps that can run in a state, in order, from those of the state that it came from."""
        if not done:
            return [step for step in self.steps if not self.needs[step.index]]
        before, step = came_from[done]
        rest = [s for s in known[before] if s is not step]
        return sorted([*rest, *self.released(step, done)], key=lambda s: s.index)

    def path(self, came_from: dict[int, tuple[int, Step]]) -> tuple[Step, ...]:
        order, state = [], self.all
        while state:
            state, step = came_from[state]
            order.append(step)
        return tuple(reversed(order))

    def greedy(self) -> tuple[Step, ...]:
        """Always the step that leaves the least behind."""
        missing = [len({s.producer for s in step.reads if s.producer is not None}) for step in self.steps]
        unread = {s: len(s.readers) for s in self.readers}
        order: list[Step] = []
        done = 0
        cost: dict[Step, tuple[int, int]] = {}  # of steps that can run
        heap: list[tuple[tuple[int, int], int]] = []  # and costs that they had

        def offer(step: Step) -> None:
            cost[step] = self.effect(step, done)[::-1]
            heapq.heappush(heap, (cost[step], step.index))

        for step in self.steps:
            if not missing[step.index]:
                offer(step)
        while heap:
            step_cost, index = heapq.heappop(heap)
            step = self.steps[index]
            if cost.get(step) != step_cost:
                continue
            del cost[step]
            order.append(step)
            done |= 1 << index
            for reader in dict.fromkeys(r for s in step.writes for r in s.readers):
                missing[reader.index] -= 1
                if not missing[reader.index]:
                    offer(reader)
            for storage in step.reads:
                unread[storage] -= 1
                if unread[storage] == 1:  # it dies with its last reader, whose cost that changes
                    last = next(r for r in storage.readers if not done >> r.index & 1)
                    if last in cost:
                        offer(last)
        return tuple(order)


def _mask(steps: Iterable[Step]) -> int:
    """The set of some steps. Bits are set in bytes: each new number would be a copy of all the bits before."""
    indices = [step.index for step in steps]
    bits = bytearray(max(indices, default=0) // 8 + 1)
    for i in indices:
        bits[i >> 3] |= 1 << (i & 7)
    return int.from_bytes(bits, "little")
