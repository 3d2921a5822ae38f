"""Inline assembly for ARMv7E-M and ARMv8-M with the DSP extension, as C text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...c.code import Code

#: C99 compilers need not take strings of more than 4,095 characters, and clang counts assembly among them.
GUARD = """\
#if defined(__clang__)
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
#if !defined(__ARM_FEATURE_DSP)
#error "this code is for Cortex-M cores with the DSP extension: compile with -mcpu, or generate portable C (target c)"
#endif
"""


def require_dsp(code: Code) -> None:
    """Intrinsics, and an error that explains itself where the compiler is told of another core."""
    code.helper("dsp", GUARD)
    code.header("arm_acle.h")


def statement(lines: Sequence[str], operands: Mapping[str, str]) -> str:
    """A C block that runs these lines of assembly.

    operands: C expressions by the register (r0 to r3) that they are passed in, as pointers to const bytes. All of
    r0 to r12 and lr may be changed; r7, which may be the frame pointer and cannot be named as clobbered, is saved by
    the assembly itself.
    """
    declarations = "".join(
        f'register const void *in_{register} __asm__("{register}") = {text};\n' for register, text in operands.items()
    )
    passed = ", ".join(f'"+r"(in_{register})' for register in operands)
    free = [r for r in ("r0", "r1", "r2", "r3") if r not in operands]
    clobbered = ", ".join(
        f'"{r}"' for r in (*free, "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory")
    )
    text = "\n".join(f'"{line}\\n"' for line in lines)
    return f"{{\n{declarations}__asm__ volatile(\n{text}\n: {passed}\n:\n: {clobbered});\n}}\n"


def constant(register: str, value: int) -> list[str]:
    """Put a 32-bit number into a register, in one instruction where it is small."""
    if -256 <= value < 65536:
        return [f"mov {register}, #{value}"]
    low, high = value & 0xFFFF, value >> 16 & 0xFFFF
    return [f"movw {register}, #{low}", f"movt {register}, #{high}"]


def add(register: str, source: str, value: int, spare: str) -> list[str]:
    """Put source + value into a register, by way of a spare register where the number is large."""
    if 0 <= value < 4096:
        return [f"add {register}, {source}, #{value}"]
    return [*constant(spare, value), f"add {register}, {source}, {spare}"]


def clamp(register: str, lo: int, hi: int) -> list[str]:
    """At least lo, at most hi: numbers of 8 bits. Nothing for what SSAT #8 has done already."""
    lines = []
    if lo > -128:
        lines += [f"cmp {register}, #{lo}", "it lt", f"movlt {register}, #{lo}"]
    if hi < 127:
        lines += [f"cmp {register}, #{hi}", "it gt", f"movgt {register}, #{hi}"]
    return lines
