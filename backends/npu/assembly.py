"""Programs as text, and back: `disassemble(assemble(text))` gives canonical text again, byte for byte."""

from __future__ import annotations

import enum
import re
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from ...ir.errors import ModelError
from .encoding import misfit
from .isa import BY_MNEMONIC, Bits, Instruction
from .program import Program

#: Bytes per `.data` line.
LINE = 32
_NUMBER = re.compile(r"-?(0x[0-9a-f]{1,16}|[0-9]{1,20})")


def disassemble(program: Program) -> str:
    """A program as text; fields with their default value are left out."""
    lines = [f".arena {program.arena_bytes}"] if program.arena_bytes else []
    data = program.constants
    lines += [f".data {data[at : at + LINE].hex()}" for at in range(0, len(data), LINE)]
    lines += [str_instruction(i) for i in program.instructions]
    return "".join(f"{line}\n" for line in lines)


def str_instruction(i: Instruction) -> str:
    """One instruction as text."""
    parts = [i.mnemonic]
    for f in fields(i):
        value, bits = getattr(i, f.name), i.payload.get(f.name)
        if f.name in i.payload and bits is not None and (f.default is MISSING or value != f.default):
            parts.append(f"{f.name}={_printed(bits, value)}")
    if i.wait:
        parts.append("wait=" + ",".join(map(str, i.wait)))
    parts += [f"{name}={getattr(i, name)}" for name in ("signal", "tag") if getattr(i, name)]
    return " ".join(parts)


def _printed(bits: Bits, value: int) -> str:
    if bits.is_view:
        return f"v{value}"
    if bits.names is None:
        return str(value)
    single = {int(member): name.lower() for name, member in bits.names.__members__.items()}
    if value in single:
        return single[value]
    return "|".join(name for bit, name in single.items() if bit & value)


def assemble(text: str, name: str = "program") -> Program:
    """The program of a text. Raises ModelError naming line, column and what is wrong."""
    from lark import Token

    tree = _parsed(text, name)

    def fail(token: Token, what: str) -> NoReturn:
        raise ModelError(what, where=f"{name}, line {token.line}, column {token.column}")

    arena, data, instructions = 0, bytearray(), []
    for statement in tree.children:
        head, *rest = statement.children
        if statement.data == "instruction":
            instructions.append(_instruction(head, rest, fail))
        elif head == ".arena":
            arena = _number(rest[0], fail)
            if not 0 <= arena < 1 << 32:
                fail(rest[0], f"an arena of {arena} bytes cannot be encoded")
        else:
            try:
                data += bytes.fromhex(rest[0])
            except ValueError:
                fail(rest[0], ".data takes an even number of hexadecimal digits")
    return Program(tuple(instructions), bytes(data), arena)


def instruction_lines(text: str) -> tuple[int, ...]:
    """The line of each instruction of a program, from 1. Raises ModelError for malformed text."""
    heads = (s.children[0] for s in _parsed(text, "program").children if s.data == "instruction")
    return tuple(head.line for head in heads)


def _parsed(text: str, name: str) -> Any:
    from lark import UnexpectedInput

    try:
        return _parser().parse(text + "\n")
    except UnexpectedInput as error:
        lines = text.splitlines()
        shown = lines[error.line - 1][:80].rstrip() if 0 < error.line <= len(lines) else ""
        raise ModelError(
            f"malformed program text: {shown!r}" if shown else "the program text ends unexpectedly",
            where=f"{name}, line {error.line}, column {error.column}",
            fix="an instruction is a mnemonic followed by name=value pairs",
        ) from error


@cache
def _parser() -> Any:
    from lark import Lark

    grammar = Path(__file__).with_name("assembly.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr")


def _instruction(mnemonic: Any, pairs: list[Any], fail: Any) -> Instruction:
    if mnemonic not in BY_MNEMONIC:
        fail(mnemonic, f"there is no instruction {str(mnemonic)!r}; known: {', '.join(BY_MNEMONIC)}")
    cls: Any = BY_MNEMONIC[mnemonic]
    values: dict[str, Any] = {}
    for pair in pairs:
        key, value = pair.children
        if key in values:
            fail(key, f"{key} is given twice")
        if key == "wait":
            values[key] = tuple(_number(value.update(value=part), fail) for part in value.split(","))
        elif key in ("signal", "tag"):
            values[str(key)] = _number(value, fail)
        elif key in cls.payload:
            values[str(key)] = _value(cls.payload[key], value, fail)
        else:
            fail(
                key,
                f"{mnemonic} has no field {str(key)!r}; known: {', '.join([*cls.payload, 'wait', 'signal', 'tag'])}",
            )
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in values]
    if missing:
        fail(mnemonic, f"{mnemonic} needs {', '.join(missing)}")
    made: Instruction = cls(**values)
    if fault := misfit(made):
        fail(mnemonic, fault)
    return made


def _value(bits: Bits, token: Any, fail: Any) -> int:
    if bits.is_view:
        if not re.fullmatch(r"v[0-9]{1,2}", token):
            fail(token, f"{str(token)!r} is no view; views are v0..v{bits.range[1]}")
        return int(token[1:])
    if bits.names is None:
        return _number(token, fail)
    known = {member.lower(): value for member, value in bits.names.__members__.items()}
    parts = token.split("|") if issubclass(bits.names, enum.IntFlag) else [str(token)]
    if any(part not in known for part in parts):
        fail(token, f"{str(token)!r} is none of {', '.join(known)}")
    return bits.names(sum({known[part] for part in parts}))


def _number(token: Any, fail: Any) -> int:
    if not _NUMBER.fullmatch(token):
        fail(token, f"{str(token)!r} is no number")
    return int(token, 0) if "x" in token else int(token)
