"""In which order instructions are issued, and the semaphores that keep engines from overtaking each other.

A program is written down tile by tile as if one engine did everything. Here loads are moved ahead of the work before
them where nothing stands in the way, and every dependence between two engines becomes a signal and a wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .isa import Engine, Halt, Instruction, Space, SyncLd, SyncMm, SyncPp, SyncSt, ViewAxes, ViewBase, Window
from .program import View

#: A range of bytes of a memory: [start, stop).
Range = tuple[Space, int, int]

ENGINES = (Engine.LD, Engine.ST, Engine.MM, Engine.PP)
#: One semaphore for each ordered pair of engines.
SEMAPHORE = {
    pair: i + 1 for i, pair in enumerate((a, b) for a in ENGINES for b in ENGINES if a is not b)
}  # fmt: skip
#: Instructions that only wait and signal.
TOKEN = {Engine.LD: SyncLd, Engine.ST: SyncSt, Engine.MM: SyncMm, Engine.PP: SyncPp}


def footprint(view: View) -> Range:
    """The bytes from a view's first to its last."""
    return (view.space, *view.extent)


def _differences(view: View, known: View | None) -> tuple[bool, bool, bool]:
    """Whether a register that holds `known` needs another base, other first axes and other last axes for `view`."""
    if known is None:
        return True, True, True
    if known is view:
        return False, False, False
    sizes, strides, had, were = view.sizes, view.strides, known.sizes, known.strides
    return (
        known.address != view.address or known.space != view.space or known.dtype != view.dtype,
        sizes[:2] != had[:2] or strides[:2] != were[:2],
        sizes[2:] != had[2:] or strides[2:] != were[2:],
    )


def set_view(register: int, view: View, known: View | None) -> list[Instruction]:
    """What brings a register from `known` to `view`."""
    base, *axes = _differences(view, known)
    result: list[Instruction] = []
    if base:
        result.append(ViewBase(view=register, space=view.space, dtype=view.dtype, address=view.address))
    for pair, differ in enumerate(axes):
        if differ:
            (size_a, size_b), (stride_a, stride_b) = (
                each[2 * pair : 2 * pair + 2] for each in (view.sizes, view.strides)
            )
            result.append(
                ViewAxes(view=register, pair=pair, size_a=size_a, stride_a=stride_a, size_b=size_b, stride_b=stride_b)
            )
    return result


@dataclass(eq=False)
class Step:
    """An instruction of the schedule: its views by field, what CTRL sets before it, and how long its engine is busy.

    post: the CFGP instructions of its stages. controls: the number of `settings`, which may be known alone. latency: of
    a transfer, whose `cycles` are those on the port of the external memory `region`; else -1.
    """

    make: type[Instruction]
    views: dict[str, View]
    cycles: int
    tag: int = 0
    latency: int = -1
    region: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    window: Window | None = None
    post: tuple[Instruction, ...] = ()
    extra: tuple[Range, ...] = ()
    settings: tuple[Instruction, ...] = ()
    controls: int = 0
    waits: tuple[int, ...] = ()
    signal: int = 0

    @cached_property
    def engine(self) -> Engine:
        return self.make.engine

    @cached_property
    def reads(self) -> tuple[Range, ...]:
        """`extra` are those of channel parameters, which no view names."""
        return (*(footprint(view) for name, view in self.views.items() if name != "dst"), *self.extra)

    @cached_property
    def writes(self) -> tuple[Range, ...]:
        return (footprint(self.views["dst"]),)


@dataclass
class Tile:
    """What happens to one band of a layer: loads, then everything else in order."""

    loads: list[Step] = field(default_factory=list)
    body: list[Step] = field(default_factory=list)


def overlap(a: Sequence[Range], b: Sequence[Range]) -> bool:
    """Whether any two ranges share a byte."""
    return any(s is t and start < end and first < stop for s, start, stop in a for t, first, end in b)


def _independent(load: Step, steps: Sequence[Step]) -> bool:
    return not any(
        overlap(load.reads, s.writes) or overlap(load.writes, s.reads) or overlap(load.writes, s.writes) for s in steps
    )


def issue_order(tiles: Sequence[Tile], ahead: int = 1) -> list[Step]:
    """Steps in the order of issue: the loads of a tile go before the bodies of up to `ahead` tiles, where they can.

    CTRL issues in order and engines have short queues, so a load that is written down late starts late.
    """
    early: list[list[Step]] = [[] for _ in tiles]  # loads before the body of each tile
    soonest = 0
    for i, tile in enumerate(tiles):
        soonest = max(soonest, i - ahead)
        for load in tile.loads:
            # Loads stay in their order: one that waits holds up the next.
            at = i
            while at > soonest and _independent(load, tiles[at - 1].body):
                at -= 1
            early[at].append(load)
            soonest = at
    return [step for loads, tile in zip(early, tiles, strict=True) for step in (*loads, *tile.body)]


class _Accesses:
    """Which step touched which bytes of one memory last."""

    def __init__(self) -> None:
        self.writers: list[tuple[int, int, int]] = []
        self.readers: list[tuple[int, int, int]] = []

    def conflicts(self, start: int, stop: int, writing: bool) -> Iterator[int]:
        for first, end, step in self.writers:
            if first < stop and start < end:
                yield step
        if writing:
            for first, end, step in self.readers:
                if first < stop and start < end:
                    yield step

    def note(self, start: int, stop: int, step: int, writing: bool) -> None:
        if writing:  # what is covered is ordered before this step, and so before all that conflicts with it
            self.writers = [a for a in self.writers if not (start <= a[0] and a[1] <= stop)]
            self.readers = [a for a in self.readers if not (start <= a[0] and a[1] <= stop)]
        (self.writers if writing else self.readers).append((start, stop, step))


def dependences(steps: Sequence[Step]) -> list[list[int]]:
    """For each step, the earlier steps of other engines that it must wait for itself: none that follows from others."""
    memories = {space: _Accesses() for space in Space}
    done: list[list[int]] = []  # per step: the last step of each engine that is known to be over at its end
    last: dict[Engine, int] = {}
    result: list[list[int]] = []
    for i, step in enumerate(steps):
        needed: set[int] = set()
        for space, start, stop in step.reads:
            needed.update(memories[space].conflicts(start, stop, writing=False))
        for space, start, stop in step.writes:
            needed.update(memories[space].conflicts(start, stop, writing=True))
        known = list(done[last[step.engine]]) if step.engine in last else [-1] * len(Engine)
        waits: list[int] = []
        for j in sorted(needed, reverse=True):  # the latest first: it may imply the others
            if known[steps[j].engine] >= j or steps[j].engine is step.engine:
                continue
            waits.append(j)
            known = list(map(max, known, done[j]))
        result.append(waits)
        known[step.engine] = i
        done.append(known)
        last[step.engine] = i
        for space, start, stop in step.reads:
            memories[space].note(start, stop, i, writing=False)
        for space, start, stop in step.writes:
            memories[space].note(start, stop, i, writing=True)
    return result


@dataclass(frozen=True, eq=False)
class Schedule:
    """Steps with their semaphores, and for each the earlier steps whose signals it takes."""

    steps: tuple[Step, ...]
    needed: tuple[tuple[int, ...], ...]


def synchronized(steps: Sequence[Step]) -> Schedule:
    """Turn dependences into waits and signals.

    A semaphore stands for one pair of engines. Both work in order, and the steps waited for come in ascending order, so
    the n-th wait takes the n-th signal. An instruction has two waits and one signal; what is more stands in tokens of
    the same engine before or behind it.
    """
    needed = dependences(steps)
    takers: list[list[Engine]] = [[] for _ in steps]
    for step, sources in zip(steps, needed, strict=True):
        for j in sources:
            takers[j].append(step.engine)
    result: list[Step] = []
    taken: list[tuple[int, ...]] = []
    given: dict[tuple[int, Engine], int] = {}  # where the signal of a step for an engine stands

    def put(step: Step, waits: Sequence[tuple[int, int]], signal: int) -> None:
        step.waits, step.signal = tuple(semaphore for semaphore, _ in waits), signal
        result.append(step)
        taken.append(tuple(source for _, source in waits))

    for i, step in enumerate(steps):
        waits = [(SEMAPHORE[steps[j].engine, step.engine], given[j, step.engine]) for j in needed[i]]
        while len(waits) > 2:
            put(Step(TOKEN[step.engine], {}, 0, step.tag), waits[:1], 0)
            waits = waits[1:]
        first, others = takers[i][:1], takers[i][1:]
        put(step, waits, SEMAPHORE[step.engine, first[0]] if first else 0)
        given |= {(i, engine): len(result) - 1 for engine in first}
        for engine in others:
            put(Step(TOKEN[step.engine], {}, 0, step.tag), (), SEMAPHORE[step.engine, engine])
            given[i, engine] = len(result) - 1
    return Schedule(tuple(result), tuple(taken))


#: The register that each engine keeps for each field. Registers are copied when an instruction is read.
REGISTERS = {
    (Engine.MM, "dst"): 0, (Engine.MM, "src"): 1, (Engine.MM, "weights"): 2,
    (Engine.PP, "dst"): 3, (Engine.PP, "src"): 4, (Engine.PP, "residual"): 5, (Engine.PP, "table"): 6,
    (Engine.PP, "a"): 7, (Engine.PP, "b"): 8,
    (Engine.LD, "dst"): 9, (Engine.LD, "src"): 10, (Engine.ST, "dst"): 11, (Engine.ST, "src"): 12,
}  # fmt: skip


def configured(steps: Sequence[Step]) -> None:
    """Settle which registers CTRL must change before each step, in this order of issue."""
    for step, views, others in _changes(steps):
        step.settings = (*(i for view in views for i in set_view(*view)), *others)
        step.controls = len(step.settings)


def counted(steps: Sequence[Step]) -> None:
    """Only how many these are: for steps that are timed and thrown away."""
    for step, views, others in _changes(steps):
        step.controls = sum(sum(_differences(view, known)) for _, view, known in views) + len(others)


#: A register, the view that it shall hold, and the one that it holds.
Setting = tuple[int, View, View | None]


def _changes(steps: Sequence[Step]) -> Iterator[tuple[Step, list[Setting], list[Instruction]]]:
    """Each step with its views and what their registers hold, and with other settings that are not yet made."""
    held: dict[int, View] = {}
    window: Window | None = None
    post: dict[type[Instruction], Instruction] = {}
    for step in steps:
        views: list[Setting] = []
        for name, view in step.views.items():
            register = REGISTERS[step.engine, name]
            views.append((register, view, held.get(register)))
            held[register] = view
        others: list[Instruction] = []
        if step.window is not None and step.window != window:
            others.append(step.window)
            window = step.window
        for wanted in step.post:
            if post.get(type(wanted)) != wanted:
                others.append(wanted)
                post[type(wanted)] = wanted
        yield step, views, others


def program(schedule: Schedule) -> list[Instruction]:
    """The instructions of configured steps, and HALT."""
    result: list[Instruction] = []
    for step in schedule.steps:
        registers = {name: REGISTERS[step.engine, name] for name in step.views}
        result += step.settings
        result.append(step.make(**step.fields, **registers, wait=step.waits, signal=step.signal, tag=step.tag))
    return [*result, Halt()]
