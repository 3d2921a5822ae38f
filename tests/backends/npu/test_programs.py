"""Random legal programs: bytes, text, linter, simulator; and every fault that is planted into them is found."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from planish.backends.npu.assembly import assemble, disassemble
from planish.backends.npu.encoding import HEADER, WORD, decode, encode
from planish.backends.npu.isa import (
    SEMAPHORES,
    Conv,
    Depthwise,
    Engine,
    Halt,
    Load,
    PostScale,
    Sync,
    ViewBase,
    ViewFlat,
    Window,
)
from planish.backends.npu.linter import Kind, lint
from planish.backends.npu.machine import load_machine
from planish.backends.npu.overflow import Sums
from planish.backends.npu.program import Program
from planish.backends.npu.simulator import simulate
from planish.backends.npu.simulator import time as timed
from planish.ir.errors import ModelError
from tests.support.npu_programs import SUMS_FREE, cases

MACHINE = load_machine("256")


def kinds(program):
    return {finding.kind for finding in lint(program, MACHINE)}


@given(cases(MACHINE))
def test_text_to_bytes_to_text(case):
    text = disassemble(case.program)
    assert assemble(text) == case.program
    assert decode(encode(case.program)) == case.program
    assert disassemble(decode(encode(assemble(text)))) == text


@given(cases(MACHINE))
def test_legal_programs_are_proven_and_compute_what_the_ops_say(case):
    assert lint(case.program, MACHINE) == []
    arena, simulation = simulate(case.program, MACHINE, case.arena)
    for at, expected in case.results:
        np.testing.assert_array_equal(arena[at : at + expected.size].view(np.int8), expected.reshape(-1))
    assert simulation.cycles == sum(layer.cycles for layer in simulation.layers)
    for layer in simulation.layers:
        assert layer.cycles == sum(layer.classes.values())
        assert min(layer.classes.values(), default=0) >= 0
    # Nothing overlaps on an engine or on the port, and nobody starts before its signals.
    transfers = [
        span for span in simulation.spans if span.command.engine in (Engine.LD, Engine.ST) and span.work.cycles
    ]
    assert all(a.end <= b.busy for a, b in pairwise(sorted(transfers, key=lambda span: span.busy)))
    for s in range(1, SEMAPHORES + 1):
        given_at = [span.end for span in simulation.spans if span.command.instruction.signal == s]
        taken_at = [span.start for span in simulation.spans if s in span.command.instruction.wait]
        assert all(end <= start for end, start in zip(given_at, taken_at, strict=True))
    for engine in (Engine.LD, Engine.ST, Engine.MM, Engine.PP):
        spans = [span for span in simulation.spans if span.command.engine is engine]
        assert all(a.end <= b.busy for a, b in pairwise(spans))
        assert sum(span.end - span.busy for span in spans) <= simulation.cycles


@given(cases(MACHINE), st.data())
def test_a_missing_wait_is_a_race(case, data):
    # That the sums are free again follows from the image's being free: waiting for both is more than is needed.
    waiting = [(n, s) for n, i in enumerate(case.program.instructions) for s in i.wait if s != SUMS_FREE]
    n, dropped = data.draw(st.sampled_from(waiting))
    i = case.program.instructions[n]
    given_too = [m for m, j in enumerate(case.program.instructions) if j.signal == dropped]
    # With the wait goes its signal, so that only the order is missing, not the balance.
    rank = sum(dropped in j.wait for j in case.program.instructions[:n])
    changed = list(case.program.instructions)
    changed[n] = replace(i, wait=tuple(s for s in i.wait if s != dropped))
    changed[given_too[rank]] = replace(changed[given_too[rank]], signal=0)
    found = lint(replace(case.program, instructions=tuple(changed)), MACHINE)
    assert {finding.kind for finding in found} == {Kind.RACE}


@given(cases(MACHINE), st.data())
def test_a_missing_signal_is_a_deadlock(case, data):
    n = data.draw(st.sampled_from([n for n, i in enumerate(case.program.instructions) if i.signal]))
    changed = list(case.program.instructions)
    changed[n] = replace(changed[n], signal=0)
    program = replace(case.program, instructions=tuple(changed))
    assert Kind.DEADLOCK in kinds(program)
    with pytest.raises(ModelError, match="deadlock"):
        timed(program, MACHINE)


@given(cases(MACHINE), st.data())
def test_a_signal_that_nobody_takes_is_found(case, data):
    n = data.draw(st.sampled_from([n for n, i in enumerate(case.program.instructions) if i.wait]))
    changed = list(case.program.instructions)
    changed[n] = replace(changed[n], wait=())
    assert Kind.SEMAPHORE in kinds(replace(case.program, instructions=tuple(changed)))


@given(cases(MACHINE), st.data())
def test_an_access_outside_of_a_memory_is_found(case, data):
    views = [n for n, i in enumerate(case.program.instructions) if isinstance(i, (ViewBase, ViewFlat)) and i.view != 6]
    n = data.draw(st.sampled_from(views))
    changed = list(case.program.instructions)
    changed[n] = replace(changed[n], address=data.draw(st.sampled_from([1 << 20, (1 << 32) - 4])))
    found = lint(replace(case.program, instructions=tuple(changed)), MACHINE)
    assert found
    assert {f.kind for f in found} == {Kind.ILLEGAL}
    assert any("outside of" in f.message for f in found)


@given(cases(MACHINE), st.data())
def test_parameters_outside_of_their_memory_are_found(case, data):
    scales = [n for n, i in enumerate(case.program.instructions) if isinstance(i, PostScale)]
    n = data.draw(st.sampled_from(scales))
    changed = list(case.program.instructions)
    changed[n] = replace(changed[n], params=MACHINE.memories.tab - 8)
    assert Kind.ILLEGAL in kinds(replace(case.program, instructions=tuple(changed)))


@given(cases(MACHINE), st.booleans())
def test_an_overflow_is_found(case, positive):
    """A bias at the end of 32 bits, and weights with which the sum can go beyond."""
    constants = bytearray(case.program.constants)
    _, weights, parameters = (command.views["src"] for command in case.program.commands[:3])
    zero = next(i.input_zero for i in case.program.instructions if isinstance(i, Window))
    bias = 2**31 - 1 if positive else -(2**31)
    weight = b"\xff" if zero == (127 if positive else -128) else b"\x01"
    constants[parameters.address : parameters.address + 4] = bias.to_bytes(4, "little", signed=True)
    constants[weights.address : weights.address + weights.bytes] = weight * weights.bytes
    assert Kind.OVERFLOW in kinds(replace(case.program, constants=bytes(constants)))


@given(cases(MACHINE))
def test_intervals_are_those_of_the_graph(case):
    """What the linter knows of each convolution's sums is what the verifier of graphs knows."""
    sums = Sums(case.program, MACHINE)
    expected = iter(case.bounds)
    for command in case.program.commands:
        assert list(sums.step(command)) == []
        if isinstance(command.instruction, Conv | Depthwise):
            lo, hi = next(expected)
            for ours, theirs in zip(sums.interval(command.views["dst"]), (lo, hi), strict=True):
                np.testing.assert_array_equal(ours, np.broadcast_to(theirs, ours.shape))
    assert next(expected, None) is None


@given(cases(MACHINE))
def test_reading_what_nobody_wrote_is_found(case):
    first = next(n for n, i in enumerate(case.program.instructions) if isinstance(i, Load))
    changed = [i for n, i in enumerate(case.program.instructions) if n != first]
    assert Kind.UNWRITTEN in kinds(replace(case.program, instructions=tuple(changed)))


@given(cases(MACHINE), st.data())
def test_truncated_and_damaged_bytes_are_refused_or_legal(case, data):
    binary = encode(case.program)
    with pytest.raises(ModelError, match=r"truncated|no NPU program"):
        decode(binary[: data.draw(st.integers(0, len(binary) - 1))])
    at = data.draw(st.integers(HEADER.size, HEADER.size + WORD * len(case.program.instructions) - 1))
    damaged = bytearray(binary)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    placed = True
    try:
        program = decode(bytes(damaged))
        assert encode(program) == damaged
        lint(program, MACHINE)
    except ModelError as error:
        event(error.what)
        placed = error.where.startswith(f"byte {at - (at - HEADER.size) % WORD}, instruction ")
    assert placed


def test_a_program_ends_with_its_only_halt():
    assert Kind.ILLEGAL in kinds(Program(()))
    assert Kind.ILLEGAL in kinds(Program((Halt(), Sync())))
    assert kinds(Program((Sync(), Halt()))) == set()
