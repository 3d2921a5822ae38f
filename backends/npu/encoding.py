"""Programs as bytes: a header, 16 bytes per instruction, the constants (docs/npu-isa.md)."""

from __future__ import annotations

import struct
from typing import Any

from ...ir.errors import ModelError, UsageError
from .isa import BY_CODE, MOST_TAG, SEMAPHORES, Bits, Engine, Instruction
from .program import Program

#: Magic, version, number of instructions, bytes of constants, bytes of arena.
HEADER = struct.Struct("<4sIIII")
MAGIC, VERSION = b"PNPU", 1
WORD = 16
#: Where the payload starts.
PAYLOAD = 32


def encode(program: Program) -> bytes:
    """A program as bytes. Raises UsageError for values that do not fit their fields."""
    words = []
    for position, i in enumerate(program.instructions):
        if fault := misfit(i):
            raise UsageError(f"{i.mnemonic} cannot be encoded: {fault}", where=f"instruction {position}")
        words.append(encode_instruction(i).to_bytes(WORD, "little"))
    if not 0 <= program.arena_bytes < 1 << 32:
        raise UsageError(f"an arena of {program.arena_bytes} bytes cannot be encoded")
    header = HEADER.pack(MAGIC, VERSION, len(words), len(program.constants), program.arena_bytes)
    return header + b"".join(words) + program.constants


def decode(data: bytes) -> Program:
    """The program in `data`. Raises ModelError with the place of what is wrong."""
    if data[:4] != MAGIC[: len(data)]:
        raise ModelError(f"this is no NPU program: it does not start with {MAGIC.decode()}", where="byte 0")
    if len(data) < HEADER.size:
        raise ModelError(f"the program is truncated: its header has {HEADER.size} bytes", where=f"byte {len(data)}")
    _, version, count, constants, arena = HEADER.unpack_from(data)
    if version != VERSION:
        raise ModelError(f"the program has version {version}, not {VERSION}", where="byte 4")
    if len(data) != (needed := HEADER.size + WORD * count + constants):
        raise ModelError(
            f"the program is {'truncated' if len(data) < needed else 'too long'}: "
            f"{count} instructions and {constants} bytes of constants make {needed} bytes, not {len(data)}",
            where=f"byte {min(len(data), needed)}",
        )
    end = HEADER.size + WORD * count
    words = (int.from_bytes(data[at : at + WORD], "little") for at in range(HEADER.size, end, WORD))
    return Program(tuple(decode_instruction(word, n) for n, word in enumerate(words)), data[end:], arena)


def encode_instruction(i: Instruction) -> int:
    """The 128 bits of an instruction whose values fit."""
    first, second = (*i.wait, 0, 0)[:2]
    word = i.opcode | i.form << 5 | first << 8 | second << 12 | i.signal << 16 | i.tag << 20
    at = PAYLOAD
    for name, bits in i.payload.items():
        word |= (int(getattr(i, name)) & ((1 << bits.width) - 1)) << at
        at += bits.width
    return word


def decode_instruction(word: int, position: int = 0) -> Instruction:
    """The instruction of 128 bits. Raises ModelError for codes and values that there are not."""
    where = f"byte {HEADER.size + WORD * position}, instruction {position}"
    cls = BY_CODE.get((word & 31, word >> 5 & 7))
    if cls is None:
        raise ModelError(f"there is no opcode {word & 31} of form {word >> 5 & 7}", where=where)
    values: dict[str, Any] = {}
    at = PAYLOAD
    for name, bits in cls.payload.items():
        raw = word >> at & ((1 << bits.width) - 1)
        raw -= (raw >> (bits.width - 1) << bits.width) if bits.signed else 0
        values[name] = _named(bits, raw, f"{where} ({cls.mnemonic})", name)
        at += bits.width
    if word >> at:
        raise ModelError("unused bits are not 0", where=f"{where} ({cls.mnemonic})")
    waits = (word >> 8 & 15, word >> 12 & 15)
    i: Instruction = cls(wait=tuple(s for s in waits if s), signal=word >> 16 & 15, tag=word >> 20 & MOST_TAG, **values)
    if (fault := misfit(i)) or (waits[1] and not waits[0]):
        raise ModelError(fault or "wait1 is used without wait0", where=f"{where} ({cls.mnemonic})")
    return i


def _named(bits: Bits, raw: int, where: str, name: str) -> int:
    try:
        return raw if bits.names is None else bits.names(raw)
    except ValueError:
        raise ModelError(f"{name} has no value {raw}", where=where) from None


def misfit(i: Instruction) -> str | None:
    """Why an instruction has no encoding; None where it has one."""
    for name, bits in i.payload.items():
        value, (lo, hi) = getattr(i, name), bits.range
        if not lo <= value <= hi:
            return f"{name} is {value}, outside of [{lo}, {hi}]"
    if len(i.wait) > 2 or len(set(i.wait)) < len(i.wait) or any(not 1 <= s <= SEMAPHORES for s in i.wait):
        return f"wait is {list(i.wait)}; up to two different semaphores of 1..{SEMAPHORES} can be waited for"
    if not 0 <= i.signal <= SEMAPHORES or not 0 <= i.tag <= MOST_TAG:
        return f"signal {i.signal} or tag {i.tag} is out of range"
    if i.engine is Engine.CTRL and (i.wait or i.signal):
        return "instructions of the control unit do not wait or signal"
    return None
