"""Malformed text, and bytes, are refused with place and reason."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.npu.assembly import assemble, disassemble
from planish.backends.npu.encoding import HEADER, decode, encode
from planish.backends.npu.isa import BY_MNEMONIC, SEMAPHORES, Engine, Halt, Load, Window
from planish.backends.npu.linter import lint
from planish.backends.npu.machine import load_machine
from planish.backends.npu.program import Program
from planish.ir.errors import ModelError, UsageError
from planish.testing.draw import composite


@composite
def instructions(draw):
    """Any instruction that has an encoding, legal or not."""
    cls = BY_MNEMONIC[draw(st.sampled_from(sorted(BY_MNEMONIC)))]
    values = {}
    for name, bits in cls.payload.items():
        known = bits.names and sorted(bits.names)
        values[name] = draw(st.sampled_from(known) if known else st.integers(*bits.range))
    if cls.engine is not Engine.CTRL:
        semaphores = st.integers(1, SEMAPHORES)
        values["wait"] = tuple(draw(st.lists(semaphores, max_size=2, unique=True)))
        values["signal"] = draw(st.integers(0, SEMAPHORES))
    return cls(**values, tag=draw(st.integers(0, 4095)))


programs = st.builds(
    Program, st.lists(instructions(), max_size=8).map(tuple), st.binary(max_size=70), st.integers(0, 99)
)


@given(programs)
def test_whatever_has_an_encoding_survives_text_and_bytes(program):
    text = disassemble(program)
    assert assemble(text) == program == decode(encode(program))
    assert disassemble(decode(encode(assemble(text)))) == text


@given(programs)
def test_the_linter_has_an_answer_to_everything(program):
    assert lint(program, load_machine("64")) or isinstance(program.instructions[-1], Halt)


def test_comments_and_spaces():
    text = "; a program\n\n  ld  dst=v1   src=v0 ; load\r\nhalt"
    assert assemble(text) == Program((Load(dst=1, src=0), Halt()))
    assert assemble("cfgc kernel_h=0x03\n") == Program((Window(kernel_h=3),))


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("halt\nld dst=v1", 2, 1, "ld needs src"),
        ("ld dst=x src=v0", 1, 8, "'x' is no view"),
        ("ld dst=v16 src=v0", 1, 1, "dst is 16, outside of [0, 15]"),
        ("\n\n  jump", 3, 3, "no instruction 'jump'"),
        ("cfgc kernel_h=300", 1, 1, "kernel_h is 300, outside of [0, 255]"),
        ("ld dst=v1 src=v2 wait=1,,2", 1, 23, "'' is no number"),
        ("ld dst=v1 src=v2 wait=1,2,3", 1, 1, "up to two different semaphores"),
        ("ld dst=v1 src=v2 wait=4,4", 1, 1, "up to two different semaphores"),
        ("ld dst=v1 src=v2 tag=4096", 1, 1, "tag 4096 is out of range"),
        ("ld dst=v1 size=3 src=v2", 1, 11, "ld has no field 'size'"),
        ("ld dst=v1 dst=v2 src=v2", 1, 11, "dst is given twice"),
        ("pool function=max|min dst=v1 src=v2", 1, 15, "'max|min' is none of max, min, sum"),
        ("halt signal=3", 1, 1, "control unit"),
        (".data abc", 1, 7, "even number of hexadecimal digits"),
        (".arena 99999999999", 1, 8, "cannot be encoded"),
        ("ld dst=", 1, 8, "malformed program text"),
        ("ld dst", 1, 7, "malformed program text"),
        ("halt\n\x00", 2, 1, "malformed program text"),
    ],
)
def test_malformed_text(text, line, column, reason):
    with pytest.raises(ModelError, match=re.escape(reason)) as caught:
        assemble(text, "mine.s")
    assert caught.value.where == f"mine.s, line {line}, column {column}"


@given(st.text(max_size=60))
def test_any_text_is_a_program_or_an_error(text):
    try:
        program = assemble(text)
    except ModelError as error:
        assert "line" in error.where  # noqa: PT017
    else:
        assert assemble(disassemble(program)) == program


def test_damaged_bytes():
    binary = encode(Program((Load(dst=1, src=0), Halt()), b"abc"))
    at = HEADER.size
    for changed, reason in (
        (b"ELF" + binary[3:], "no NPU program"),
        (binary[:4] + b"\x09" + binary[5:], "version 9"),
        (binary[:-1], "truncated"),
        (binary + b"x", "too long"),
        (binary[:at] + b"\x1f" + binary[at + 1 :], "opcode 31"),
        (binary[: at + 15] + b"\x80" + binary[at + 16 :], "unused bits"),
        (binary[: at + 1] + b"\x10" + binary[at + 2 :], "wait1 is used without wait0"),
    ):
        with pytest.raises(ModelError, match=reason):
            decode(changed)


def test_what_does_not_fit_is_not_encoded():
    with pytest.raises(UsageError, match="kernel_h is 256") as caught:
        encode(Program((Halt(), Window(kernel_h=256))))
    assert caught.value.where == "instruction 1"
