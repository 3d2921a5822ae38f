"""The inner loops of int8 products on cores with SMLAD: some output channels times some pixels, sums in registers.

Two neighbouring weights are one halfword h = 256 * w0 + w1, two halfwords a word. Two neighbouring inputs are
b = y0 - 127 and c = 256 * y1 - b, both 16 bits wide. Then h * b + w1 * c = 256 * (w0 * (y0 - 127) + w1 * y1), and w1 is
what SXTB16 makes of the word. So one SMLAD on the word as it comes from flash and another on its SXTB16 multiply four
weights by four inputs, and weights are unpacked by one instruction that all pixels of the tile share. All else (zero
points, the 127) is in the bias. The register holds 256 times the sum, which must fit 32 bits at the end; on the way it
may wrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ....ir.types import Array
from . import assembly
from .requantize import Requantize

ACCUMULATORS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
SCALE_BITS = 8
LIMIT = 1 << (31 - SCALE_BITS)
"""Sums must lie in [-LIMIT, LIMIT)."""

UNROLLED = 8
"""Groups of four weights in one pass through the inner loop, at most."""


def groups_of(depth: int) -> tuple[int, int]:
    """Groups of four weights that a depth is padded to, and how many of them one pass takes: fewest instructions."""
    least = -(-depth // 4)
    if least <= UNROLLED:
        return least, least
    return min(
        ((-(-least // unroll) * unroll, unroll) for unroll in range(2, UNROLLED + 1)),
        key=lambda o: (o[0] * 23 + o[0] // o[1] * 3, o[1]),
    )


def halfwords(w: Array, depth: int) -> Array | None:
    """Weights [O, K] as words [O, depth / 4]; None where -128 beside a negative number does not fit a halfword."""
    padded = np.zeros((len(w), depth), np.int64)
    padded[:, : w.shape[1]] = w
    pairs = 256 * padded[:, 0::2] + padded[:, 1::2]
    if pairs.min(initial=0) < -(2**15):
        return None
    return (pairs[:, 0::2] & 0xFFFF) | (pairs[:, 1::2] & 0xFFFF) << 16


def stream(w: Array, bias: Array, requantize: Requantize, channels: int) -> Iterator[int]:
    """Words of all full blocks of `channels` rows of w [O, K], in the order that `lines` reads them.

    bias: what is added to the sums of w * y, int64. Per block: biases, words, multipliers (each with its shift).
    """
    depth = 4 * groups_of(w.shape[1])[0]
    words = halfwords(w, depth)
    assert words is not None
    start = (bias + 127 * w[:, 0::2].astype(np.int64).sum(1)) << SCALE_BITS
    for o in range(0, len(w) - channels + 1, channels):
        yield from start[o : o + channels]
        yield from words[o : o + channels].T.reshape(-1)
        for c in range(o, o + channels):
            yield requantize.multiplier[c]
            if requantize.shift.any():
                yield SCALE_BITS - requantize.shift[c]


@dataclass(frozen=True)
class Tile:
    """A loop over blocks of `channels` output channels, each for `pixels` pixels.

    blocks: how many. depth: of the sums. lanes: pixels that the scratch is laid out for. stride: bytes from a pixel's
    results to the next one's. rare: executed so seldom that small code is better than fast code.
    """

    blocks: int
    channels: int
    pixels: int
    lanes: int
    depth: int
    stride: int
    requantize: Requantize
    rare: bool = False

    def statement(self, weights: str, inputs: str, result: str, residual: str = "") -> str:
        """C: all arguments are pointer expressions."""
        operands = {"r0": weights, "r1": inputs, "r2": result, **({"r3": residual} if residual else {})}
        return assembly.statement(list(self.lines()), operands)

    @property
    def words(self) -> int:
        """Of the stream, for all blocks."""
        each = 3 if self.requantize.shift.any() else 2
        return self.blocks * self.channels * (groups_of(self.depth)[0] + each)

    def acc(self, channel: int, pixel: int) -> str:
        return ACCUMULATORS[channel * self.pixels + pixel]

    def lines(self) -> Iterator[str]:
        # On the stack: end of the inner loop, end of the stream, inputs, result, residual, r7.
        yield "push {r1, r2, r3, r7}"
        yield "sub sp, #8"
        yield from assembly.add("r2", "r0", 4 * self.words, "r3")
        yield "str r2, [sp, #4]"
        yield "1:"
        yield "ldr r1, [sp, #8]"
        for c in range(self.channels):
            yield f"ldr {self.acc(c, 0)}, [r0], #4"
            for p in range(1, self.pixels):
                yield f"mov {self.acc(c, p)}, {self.acc(c, 0)}"
        yield from self.inner()
        yield from self.finish()
        yield "ldr r2, [sp, #4]"
        yield "cmp r0, r2"
        yield "bne 1b"
        yield "add sp, #8"
        yield "pop {r1, r2, r3, r7}"

    def inner(self) -> Iterator[str]:
        """All products of a block."""
        groups, unroll = groups_of(self.depth)
        if self.rare:
            unroll = next(u for u in (2, 3, 5, 7, groups) if groups % u == 0)
        if groups > unroll:
            yield from assembly.add("r2", "r0", 4 * self.channels * groups, "r3")
            yield "str r2, [sp]"
            yield "2:"
        for u in range(unroll):
            yield from self.group_of_one_pixel() if self.lanes == 1 else self.group(u)
        if self.lanes > 1 and self.pixels < 4:
            yield f"add r1, r1, #{8 * self.lanes * unroll}"
        if groups > unroll:
            yield "ldr r2, [sp]"
            yield "cmp r0, r2"
            yield "bne 2b"

    def group(self, index: int) -> Iterator[str]:
        """Four weights of one or two channels, for up to four pixels: 23 instructions for 32 products."""
        yield "ldrd r2, r3, [r0], #8" if self.channels == 2 else "ldr r2, [r0], #4"
        for phase in (0, 1):
            if phase:
                yield "sxtb16 r2, r2"
                if self.channels == 2:
                    yield "sxtb16 r3, r3"
            for p in range(0, self.pixels, 2):
                at = 4 * (2 * self.lanes * index + self.lanes * phase + p)
                both = p + 1 < self.pixels
                address = "[r1], #8" if self.pixels == 4 else f"[r1, #{at}]"
                yield f"ldrd r4, r5, {address}" if both else f"ldr r4, {address}"
                for c in range(self.channels):
                    for q in range(1 + both):
                        acc = self.acc(c, p + q)
                        yield f"smlad {acc}, r{2 + c}, r{4 + q}, {acc}"

    def group_of_one_pixel(self) -> Iterator[str]:
        """Four weights of up to eight channels, for one pixel: 29 instructions for 32 products."""
        yield "ldrd r4, r5, [r1], #8"
        for first in range(0, self.channels, 2):
            pair = range(first, min(first + 2, self.channels))
            yield "ldrd r2, r3, [r0], #8" if len(pair) == 2 else "ldr r2, [r0], #4"
            for c in pair:
                yield f"smlad {self.acc(c, 0)}, r{2 + c - first}, r4, {self.acc(c, 0)}"
            for c in pair:
                yield f"sxtb16 r{2 + c - first}, r{2 + c - first}"
            for c in pair:
                yield f"smlad {self.acc(c, 0)}, r{2 + c - first}, r5, {self.acc(c, 0)}"

    def finish(self) -> Iterator[str]:
        """Rescale the accumulators, add the residual, store."""
        q, residual = self.requantize, self.requantize.residual
        cells = [(c, p) for c in range(self.channels) for p in range(self.pixels)]
        yield "ldr r5, [sp, #12]"
        yield from assembly.constant("r4", q.zero)
        for c, p in cells:
            acc = self.acc(c, p)
            if p == 0:
                yield "ldr r2, [r0], #4"
                if q.shift.any():
                    yield "ldr r3, [r0], #4"
            yield f"asr {acc}, {acc}, {'r3' if q.shift.any() else f'#{SCALE_BITS}'}"
            yield f"smmlar {acc}, {acc}, r2, r4"
            yield f"ssat {acc}, #8, {acc}"
            yield from assembly.clamp(acc, q.lo, q.hi)
            if residual is None:
                yield f"strb {acc}, [r5, #{p * self.stride + c}]"
        if residual is not None:
            yield "ldr r1, [sp, #16]"
            yield from assembly.constant("r2", residual.factor & 0xFFFF | (residual.residual_factor & 0xFFFF) << 16)
            yield from assembly.constant("r3", residual.bias)
            for c, p in cells:
                acc, at = self.acc(c, p), p * self.stride + c
                yield f"ldrsb r4, [r1, #{at}]"
                yield f"pkhbt {acc}, {acc}, r4, lsl #16"
                yield f"smlad {acc}, {acc}, r2, r3"
                yield f"ssat {acc}, #8, {acc}, asr #{residual.shift}"
                yield from assembly.clamp(acc, residual.lo, residual.hi)
                yield f"strb {acc}, [r5, #{at}]"
            yield f"add r1, r1, #{self.channels}"
            yield "str r1, [sp, #16]"
        yield f"add r5, r5, #{self.channels}"
        yield "str r5, [sp, #12]"
