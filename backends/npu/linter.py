"""Proofs about a program: legal, free of deadlock, races, overflow and reads of what nobody wrote.

A finding says where and why. No finding is a proof: the program then means what executing it in order means.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...ir.errors import ModelError
from ...ir.types import Array
from .isa import SEMAPHORES, Engine, Halt, Space, Sync
from .legality import command_faults, program_faults, space_bytes
from .machine import Machine
from .overflow import Sums
from .program import Command, Program, UnsetError, View

#: What a semaphore counts up to.
MOST_SIGNALS = 255


class Kind(enum.Enum):
    """What a finding is about."""

    ILLEGAL = "illegal"
    DEADLOCK = "deadlock"
    SEMAPHORE = "semaphore"
    RACE = "race"
    UNWRITTEN = "unwritten"
    OVERFLOW = "overflow"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong at an instruction (its place in the program, and the tag of its source operator)."""

    kind: Kind
    position: int
    tag: int
    message: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.message}"


def prove(program: Program, machine: Machine, name: str = "") -> None:
    """Raise ModelError with the findings, if there are any. name: of the program, for the message."""
    if found := lint(program, machine):
        more = (f"... and {len(found) - 10} more",) if len(found) > 10 else ()
        place = f"{name} on {machine.name}" if name else machine.name
        raise ModelError("the program is wrong", place, details=(*map(str, found[:10]), *more))


def lint(program: Program, machine: Machine) -> list[Finding]:
    """Everything that is wrong with a program; of registers that are used before they are set, the first."""
    end = len(program.instructions)
    found = [Finding(Kind.ILLEGAL, end, 0, fault) for fault in program_faults(program, machine)]
    try:
        _ = program.commands
    except UnsetError as unset:
        tag = program.instructions[unset.position].tag
        return [*found, Finding(Kind.ILLEGAL, unset.position, tag, f"{unset.where}: {unset.what}")]
    for command in program.commands:
        found += [_finding(Kind.ILLEGAL, command, fault) for fault in command_faults(command, program, machine)]
    if found:
        return found
    order, found = _Order(), []
    touched = {space: _Touched(space_bytes(program, machine, space)) for space in Space}
    sums = Sums(program, machine)
    for command in program.commands:
        found += order.step(command)
        found += _races(command, order, touched)
        found += [_finding(Kind.OVERFLOW, command, fault) for fault in sums.step(command)]
    return found


def _finding(kind: Kind, command: Command, message: str) -> Finding:
    return Finding(kind, command.position, command.instruction.tag, f"{command}: {message}")


@dataclass
class _Semaphore:
    """Both ends of a semaphore since the last sync: who gives and takes, the signals' clocks, the takers' numbers."""

    giver: Engine | None = None
    taker: Engine | None = None
    given: list[Array] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)


class _Order:
    """What is known to have ended before an instruction starts: for every engine, how many of its instructions."""

    def __init__(self) -> None:
        self.issued = np.zeros(len(Engine), np.int64)
        self.after = np.zeros((len(Engine), len(Engine)), np.int64)  # by engine: known once its newest one has ended
        self.clock = np.zeros(len(Engine), np.int64)  # of the command of the last step
        self.semaphores = {s: _Semaphore() for s in range(1, SEMAPHORES + 1)}

    def step(self, command: Command) -> Iterator[Finding]:
        """Set `clock` to what has ended before `command` starts."""
        i, engine = command.instruction, command.engine
        if isinstance(i, (Sync, Halt)):
            yield from self._join(command)
            return
        self.clock = self.after[engine].copy()
        for s in i.wait:
            semaphore = self.semaphores[s]
            if semaphore.taker not in (None, engine):
                yield _finding(Kind.SEMAPHORE, command, f"semaphore {s} is taken by two engines")
            semaphore.taker = engine
            if len(semaphore.taken) >= len(semaphore.given):
                yield _finding(Kind.DEADLOCK, command, f"waits for semaphore {s}, which nothing before it gives")
                continue
            self.clock = np.maximum(self.clock, semaphore.given[len(semaphore.taken)])
            semaphore.taken.append(int(self.issued[engine]))
        self.issued[engine] += 1
        self.after[engine] = self.clock
        self.after[engine, engine] = self.issued[engine]
        if i.signal:
            yield from self._signal(command, self.semaphores[i.signal])

    def _signal(self, command: Command, semaphore: _Semaphore) -> Iterator[Finding]:
        s, engine = command.instruction.signal, command.engine
        if semaphore.giver not in (None, engine):
            yield _finding(Kind.SEMAPHORE, command, f"semaphore {s} is given by two engines")
        semaphore.giver = engine
        semaphore.given.append(self.after[engine].copy())
        ended = 0 if semaphore.taker is None else int(self.after[engine, semaphore.taker])
        if len(semaphore.given) - bisect_left(semaphore.taken, ended) > MOST_SIGNALS:
            yield _finding(Kind.SEMAPHORE, command, f"semaphore {s} may rise above {MOST_SIGNALS}")

    def _join(self, command: Command) -> Iterator[Finding]:
        for s, semaphore in self.semaphores.items():
            if left := len(semaphore.given) - len(semaphore.taken):
                yield _finding(Kind.SEMAPHORE, command, f"semaphore {s} is given {left} times more than it is taken")
            self.semaphores[s] = _Semaphore()
        self.clock = self.issued.copy()
        self.after[:] = self.issued


class _Touched:
    """For every byte of a memory: who wrote it last, and the newest read of each engine. Numbers count per engine."""

    def __init__(self, size: int) -> None:
        self.writer = np.full(size, -1, np.int8)
        self.write = np.zeros(size, np.int32)
        self.reads: dict[Engine, Array] = {}

    def read_by(self, engine: Engine) -> Array:
        return self.reads.setdefault(engine, np.full(self.writer.size, -1, np.int32))


def _races(command: Command, order: _Order, touched: dict[Space, _Touched]) -> Iterator[Finding]:
    """Whether everything that the command meets in memory is ordered before it; then it leaves its own marks."""
    engine, number = command.engine, int(order.issued[command.engine]) - 1
    for view in command.reads:
        memory = touched[view.space]
        writers = view.over(memory.writer)
        if view.space.is_local and (writers < 0).any():
            yield _finding(Kind.UNWRITTEN, command, f"reads bytes of {_place(view)} that nothing has written")
        yield from _unordered(command, order, memory, view, "reads")
        view.over(memory.read_by(engine))[...] = number
    if (dst := command.writes) is not None:
        memory = touched[dst.space]
        yield from _unordered(command, order, memory, dst, "writes")
        for other, reads in memory.reads.items():
            if other is not engine and (dst.over(reads) >= order.clock[other]).any():
                yield _finding(Kind.RACE, command, f"writes {_place(dst)} while {other.name} may still read it")
        dst.over(memory.writer)[...] = engine
        dst.over(memory.write)[...] = number


def _unordered(command: Command, order: _Order, memory: _Touched, view: View, verb: str) -> Iterator[Finding]:
    writers, writes = view.over(memory.writer), view.over(memory.write)
    for other in Engine:
        if other is not command.engine and ((writers == other) & (writes >= order.clock[other])).any():
            yield _finding(Kind.RACE, command, f"{verb} {_place(view)} while {other.name} may still write it")


def _place(view: View) -> str:
    lo, hi = view.extent
    return f"{view.space.name.lower()} {lo}..{hi - 1}"
