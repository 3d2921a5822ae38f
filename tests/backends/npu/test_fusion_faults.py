"""Faults that are planted into fused programs: the linter finds them, or no order of execution shows any.

A program that the linter accepts means what executing it in order means. So a changed program that it still accepts
must give the same bytes in every order that the machine may execute it in; the extremes are tried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.npu import functional
from planish.backends.npu.isa import Engine, Instruction, Space, ViewAxes, ViewBase
from planish.backends.npu.linter import Kind, lint
from planish.backends.npu.machine import Machine
from planish.backends.npu.program import Program
from planish.ir.graph import Graph
from planish.ir.types import Array
from tests.backends.npu.test_compiler import CASES, MACHINES, machines, require_exact
from tests.backends.npu.test_fusion import drawn
from tests.support.quantized_layers import networks

ENGINES = (Engine.LD, Engine.ST, Engine.MM, Engine.PP)


def arena_of(program: Program) -> Array:
    return np.random.default_rng(1).integers(0, 256, program.arena_bytes).astype(np.uint8)


def executed(program: Program, machine: Machine, order: Sequence[Engine]) -> Array | None:
    """The arena after running whichever engine comes first in `order` and need not wait; None for a deadlock."""
    memories = {space: np.zeros(machine.size(space), np.uint8) for space in Space if space.is_local}
    memories |= {Space.CONST: np.frombuffer(program.constants, np.uint8), Space.ARENA: arena_of(program)}
    queues = {engine: [c for c in program.commands if c.engine is engine] for engine in order}
    given: Counter[int] = Counter()
    while any(queues.values()):
        ready = [e for e in order if queues[e] and all(given[s] for s in queues[e][0].instruction.wait)]
        if not ready:
            return None
        command = queues[ready[0]].pop(0)
        given.subtract(command.instruction.wait)
        functional.perform(command, memories)
        given[command.instruction.signal] += 1
    return memories[Space.ARENA]


def changed(program: Program, *changes: tuple[int, Instruction]) -> Program:
    instructions = list(program.instructions)
    for position, instruction in changes:
        instructions[position] = instruction
    return replace(program, instructions=tuple(instructions))


def without_wait(program: Program, data: st.DataObject) -> Program:
    """A wait and the signal that it takes are gone: only the order is missing, not the balance."""
    waits = [(n, s) for n, i in enumerate(program.instructions) for s in i.wait]
    n, dropped = data.draw(st.sampled_from(waits))
    before = sum(dropped in i.wait for i in program.instructions[:n])
    m = [m for m, i in enumerate(program.instructions) if i.signal == dropped][before]
    waiting, giving = program.instructions[n], program.instructions[m]
    fewer = tuple(s for s in waiting.wait if s != dropped)
    return changed(program, (n, replace(waiting, wait=fewer)), (m, replace(giving, signal=0)))


def without_signal(program: Program, data: st.DataObject) -> Program:
    """A signal that somebody waits for is gone."""
    n = data.draw(st.sampled_from([n for n, i in enumerate(program.instructions) if i.signal]))
    return changed(program, (n, replace(program.instructions[n], signal=0)))


def shifted(program: Program, data: st.DataObject) -> Program:
    """A view lies elsewhere from one instruction on."""
    n = data.draw(st.sampled_from([n for n, i in enumerate(program.instructions) if isinstance(i, ViewBase)]))
    view = program.instructions[n]
    assert isinstance(view, ViewBase)
    by = data.draw(st.sampled_from([-256, -64, -16, 16, 64, 256, 1 << 16]))
    return changed(program, (n, replace(view, address=max(0, view.address + by))))


def shrunk(program: Program, data: st.DataObject) -> Program:
    """A view has fewer elements along its second axes."""
    axes = [n for n, i in enumerate(program.instructions) if isinstance(i, ViewAxes) and i.size_a * i.size_b > 1]
    n = data.draw(st.sampled_from(axes))
    view = program.instructions[n]
    assert isinstance(view, ViewAxes)
    smaller = {"size_a": view.size_a - 1} if view.size_a > 1 else {"size_b": view.size_b - 1}
    return changed(program, (n, replace(view, **smaller)))


Plant = Callable[[Program, st.DataObject], Program]


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (without_wait, {Kind.RACE}),
        (without_signal, {Kind.DEADLOCK}),
        (shifted, {Kind.RACE, Kind.UNWRITTEN, Kind.ILLEGAL}),
        (shrunk, {Kind.ILLEGAL}),
    ],
    ids=lambda p: getattr(p, "__name__", ""),
)
def test_planted_faults_are_found_or_harmless(plant: Plant, kinds: set[Kind]) -> None:
    seen: Counter[Kind] = Counter()

    @hypothesis.settings(CASES, max_examples=CASES.max_examples)
    @given(networks(10, outputs=2), machines, st.integers(0, 1 << 30), st.data())
    def check(graph: Graph, machine: Machine, seed: int, data: st.DataObject) -> None:
        first, second = drawn(seed)
        with first, second:
            compiled = require_exact(graph, machine, seed)
        hypothesis.assume(any(len(p.mapped.group.jobs) > 1 for p in compiled.plans))
        (program,) = [p for p in compiled.programs if p is not None]
        faulty = plant(program, data)
        found = {finding.kind for finding in lint(faulty, machine)}
        seen.update(found)
        assert found or plant is not without_signal
        if found:
            return
        expected = functional.execute(faulty, machine, arena_of(program))
        for order in data.draw(st.lists(st.sampled_from(list(permutations(ENGINES))), min_size=4, max_size=4)):
            result = executed(faulty, machine, order)
            assert result is not None
            np.testing.assert_array_equal(result, expected)
        if plant is without_wait:
            np.testing.assert_array_equal(expected, functional.execute(program, machine, arena_of(program)))

    check()
    assert seen.keys() & kinds, seen


def test_a_memory_that_is_too_small_is_found() -> None:
    """Whatever a program of a larger machine does on a smaller one lies outside of its memories."""

    @hypothesis.settings(CASES, max_examples=6)
    @given(networks(10), st.integers(0, 1 << 30))
    def check(graph: Graph, seed: int) -> None:
        first, second = drawn(seed)
        machine = MACHINES[0]
        with first, second:
            compiled = require_exact(graph, machine, seed)
        (program,) = [p for p in compiled.programs if p is not None]
        used = max(v.extent[1] for c in program.commands for v in c.views.values() if v.space is Space.ACT)
        smaller = replace(machine, memories=replace(machine.memories, act=used - 4))
        assert {f.kind for f in lint(program, smaller)} == {Kind.ILLEGAL}

    check()
