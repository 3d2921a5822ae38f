"""Int8 depthwise convolutions for cores with the DSP extension (docs/kernels.md, "Depthwise by planes")."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ....ir.ops.conv import Conv2d
from ....ir.types import I8, NHWC, Array
from ....runtime.target import Unsupported
from ...c.code import Code
from ...group import Group
from ...kernel import Kernel
from . import assembly
from .image import Image
from .requantize import Requantize, accumulator_bounds, around, requantize
from .templates import render

#: Accumulators of three rows of outputs, two columns each.
SETS = (("r3", "r4"), ("r5", "r6"), ("r7", "r8"))
PARAMETERS = 6
"""Words per channel: nine weights in three, bias, multiplier, shift."""

BIAS, MULTIPLIER, SHIFT, OUT, PLANE, FIRST_OUT, LAST_PLANE, LAST_ROW = range(0, 32, 4)
"""What is where on the stack."""


class Planes(Kernel):
    """Base: each channel's plane is copied with its padding, then convolved by itself.

    So the result may overwrite an image of its own shape.
    """

    ops = (Conv2d,)
    element_bytes: ClassVar[int]

    @abstractmethod
    def window_problem(self, group: Group) -> Unsupported | None:
        """Why windows of this kind are not taken."""

    def accepts(self, group: Group) -> Unsupported | None:
        op = group.op
        x, w, b = group.anchor.operands
        if op.layout is not NHWC or w.type.shape[3] != 1 or op.groups != w.type.shape[0]:
            return Unsupported("it is not depthwise in NHWC, one result per channel")
        if x.type.dtype != I8 or w.type.dtype != I8:
            return Unsupported(f"operands are {x.type.dtype} and {w.type.dtype}, not i8")
        if group.parameter(x) is None or group.constant(w) is None or group.constant(b) is None:
            return Unsupported("the input is, or weights or bias are not, constant")
        problem = self.window_problem(group)
        if problem is not None:
            return problem
        found = requantize(group)
        if isinstance(found, Unsupported):
            return found
        if found.residual is not None:
            return Unsupported("a sum with a residual follows")
        lo, hi = (np.abs(bound) for bound in accumulator_bounds(group, found))
        if np.any(np.maximum(lo, hi) << found.shift >= 2**31):
            return Unsupported("accumulators may leave 32 bits when they are shifted")
        return None

    def _size(self, group: Group) -> tuple[int, int]:
        """Rows of a padded plane, and elements from one to the next: whole words."""
        image = Image.of(group.shape(group.anchor.operands[0]), NHWC)
        top, left, bottom, right = group.op.pads
        word = 4 // self.element_bytes
        return image.h + top + bottom, -(-(image.w + left + right) // word) * word

    def scratch(self, group: Group) -> int:
        # A row is read in words, which may reach beyond the last one.
        rows, stride = self._size(group)
        return rows * stride * self.element_bytes + 4

    def in_place(self, group: Group) -> tuple[int, ...]:
        x = group.anchor.operands[0]
        found = requantize(group)
        alone = isinstance(found, Requantize) and not found.rest
        return (0,) if alone and group.shape(x) == group.shape(group.result) else ()

    @abstractmethod
    def convolve(self, group: Group, found: Requantize, bias: Array, code: Code) -> str:
        """Statements that make channel c of `out + at` from `plane`; bias: with the zero points in it."""

    def emit(self, group: Group, code: Code) -> str:
        assembly.require_dsp(code)
        found = requantize(group)
        assert isinstance(found, Requantize)
        x, w, b = group.anchor.operands
        image, result = (Image.of(group.shape(v), NHWC) for v in (x, group.result))
        taps = group.array(w).reshape(image.c, -1).astype(np.int64)
        bias = group.array(b).astype(np.int64) - group.op.input_zero * taps.sum(1) - found.input_zero
        stride = self._size(group)[1]
        top, left = group.op.pads[:2]
        body = render(
            "depthwise_planes.c.j2",
            x=group.parameter(x), image=image, result=result, type=f"int{8 * self.element_bytes}_t",
            elements=self.scratch(group) // self.element_bytes, stride=stride, first=top * stride + left,
            zero=group.op.input_zero, convolve=self.convolve(group, found, bias, code),
        )  # fmt: skip
        return around(group, code, found, body)


class SmladDepthwise3x3(Planes):
    """Stride 1: rows of a channel's plane run past, each adds to three rows of sums; weights stay in registers."""

    name = "depthwise_3x3_smlad"
    element_bytes = 1

    def window_problem(self, group: Group) -> Unsupported | None:
        op, w = group.op, group.anchor.operands[1]
        if w.type.shape[1:3] != (3, 3) or op.strides != (1, 1) or op.dilations != (1, 1):
            return Unsupported("the window is not 3 x 3 with strides of 1")
        if self._size(group)[1] > 255 or op.groups > 4095:
            return Unsupported("rows are longer than 253, or there are more than 4,095 channels")
        return None

    def convolve(self, group: Group, found: Requantize, bias: Array, code: Code) -> str:
        taps = group.array(group.anchor.operands[1]).reshape(-1, 9)
        table = code.table("weights", _parameters(taps, bias, found))
        result = Image.of(group.shape(group.result), NHWC)
        plane = Plane(result.h, result.w, self._size(group)[1], result.c, found)
        return plane.statement("plane", f"{table} + c * {PARAMETERS}", "out + at")


class SmladDepthwise(Planes):
    """Any window and strides: pairs of neighbours, 16 bits each, by pairs of weights."""

    name = "depthwise_smlad"
    element_bytes = 2

    def window_problem(self, group: Group) -> Unsupported | None:
        w = group.anchor.operands[1]
        if w.type.shape[2] != 1 and group.op.dilations[1] != 1:
            return Unsupported("neighbours in a row are not neighbours in the window")
        if math.prod(group.shape(w)[1:3]) > 64:
            return Unsupported("the window has more than 64 taps")
        return None

    def convolve(self, group: Group, found: Requantize, bias: Array, code: Code) -> str:
        code.header("string.h")
        code.helper("rescale8", RESCALE)
        code.helper("pair", PAIR)
        w = group.array(group.anchor.operands[1])[..., 0]
        pairs = -(-w.shape[2] // 2)
        padded = np.zeros((len(w), w.shape[1], 2 * pairs), np.int8)
        padded[..., : w.shape[2]] = w
        return render(
            "depthwise_pairs.c.j2",
            weights=code.table("weights", padded), height=w.shape[1], pairs=pairs,
            parameters=code.table("rescale", np.stack([bias, found.multiplier, found.shift], 1).astype(np.int32)),
            shifted=bool(found.shift.any()), lo=found.lo, hi=found.hi, zero=found.zero,
            stride=self._size(group)[1], op=group.op, result=Image.of(group.shape(group.result), NHWC),
        )  # fmt: skip


RESCALE = """\
/* zero + x * m / 2^32, rounded half up, as 8 bits. */
static inline int32_t @rescale8(int32_t x, int32_t m, int32_t zero)
{
    int32_t q;
    __asm__("smmlar %0, %1, %2, %3\\n\\tssat %0, #8, %0" : "=r"(q) : "r"(x), "r"(m), "r"(zero));
    return q;
}
"""

PAIR = """\
/* Two halfwords as one word. */
static inline int16x2_t @pair(const int16_t *from)
{
    int16x2_t two;
    memcpy(&two, from, 4);
    return two;
}
"""


def _parameters(taps: Array, bias: Array, found: Requantize) -> Array:
    """Per channel: bytes w0 w1 w2 w4, w3 w7 w5 0, w6 0 w8 0, which SXTB16 makes pairs of; then bias and rescale."""
    columns = taps[:, [0, 1, 2, 4, 3, 7, 5, 5, 6, 6, 8, 8]].astype(np.uint8)
    columns[:, [7, 9, 11]] = 0
    words = np.ascontiguousarray(columns).view("<i4")
    return np.hstack([words, np.stack([bias, found.multiplier, found.shift], 1).astype(np.int32)])


@dataclass(frozen=True)
class Plane:
    """Assembly that convolves one padded plane, two columns of results at a time.

    height, width: of the result. stride: bytes per row of the plane. channels: bytes per pixel of the result.
    """

    height: int
    width: int
    stride: int
    channels: int
    requantize: Requantize

    def statement(self, plane: str, parameters: str, result: str) -> str:
        return assembly.statement(list(self.lines()), {"r0": plane, "r1": parameters, "r2": result})

    def lines(self) -> Iterator[str]:
        yield "push {r7, lr}"
        yield "sub sp, #32"
        # Weights in pairs. r9, r10, r11: the outer two of each row. r12: the middle ones of rows 0 and 1. lr: of row 2.
        yield "ldr r9, [r1]"
        yield "ldr r10, [r1, #4]"
        yield "ldr r11, [r1, #8]"
        yield "sxtb16 r12, r9, ror #8"
        yield "sxtb16 r9, r9"
        yield "sxtb16 lr, r10, ror #8"
        yield "sxtb16 r10, r10"
        yield "sxtb16 r11, r11"
        for i, place in enumerate((BIAS, MULTIPLIER, SHIFT)):
            yield f"ldr r3, [r1, #{12 + 4 * i}]"
            yield f"str r3, [sp, #{place}]"
        yield f"str r0, [sp, #{PLANE}]"
        yield f"str r2, [sp, #{FIRST_OUT}]"
        if self.width > 1:
            yield f"add r3, r0, #{self.width // 2 * 2}"
            yield f"str r3, [sp, #{LAST_PLANE}]"
            yield "1:"
            yield from self.columns(2)
            yield f"ldr r0, [sp, #{PLANE}]"
            yield "add r0, r0, #2"
            yield f"str r0, [sp, #{PLANE}]"
            yield f"ldr r2, [sp, #{FIRST_OUT}]"
            yield from assembly.add("r2", "r2", 2 * self.channels, "r3")
            yield f"str r2, [sp, #{FIRST_OUT}]"
            yield f"ldr r3, [sp, #{LAST_PLANE}]"
            yield "cmp r0, r3"
            yield "bne 1b"
        if self.width % 2:
            yield from self.columns(1)
        yield "add sp, #32"
        yield "pop {r7, lr}"

    def columns(self, count: int) -> Iterator[str]:
        """All rows of one or two columns, from r0 in the plane to r2 in the result."""
        yield f"str r2, [sp, #{OUT}]"
        yield from self.row(count, start=0)
        yield from self.row(count, start=1, middle=0)
        threes, rest = divmod(self.height, 3)
        if threes > 1:
            yield from assembly.add("r1", "r0", 3 * threes * self.stride, "r2")
            yield f"str r1, [sp, #{LAST_ROW}]"
            yield "2:"
        for i in range(3 if threes else 0):
            yield from self.row(count, (i + 2) % 3, (i + 1) % 3, i)
        if threes > 1:
            yield f"ldr r1, [sp, #{LAST_ROW}]"
            yield "cmp r0, r1"
            yield "bne 2b"
        for i in range(rest):
            yield from self.row(count, (i + 2) % 3, (i + 1) % 3, i)

    def row(self, count: int, start: int, middle: int | None = None, finish: int | None = None) -> Iterator[str]:
        """One row of the plane: the first row of weights for set `start`, the second for `middle`, the third."""
        yield f"ldr r1, [r0], #{self.stride}"
        yield "sxtb16 r2, r1, ror #8"
        yield "sxtb16 r1, r1"
        # r1 holds columns 0 and 2, r2 holds 1 and 3.
        if finish is not None:
            yield from _taps(SETS[finish], count, "r11", "lr", "b")
        if middle is not None:
            yield from _taps(SETS[middle], count, "r10", "r12", "t")
        first, second = SETS[start]
        yield f"ldr {first}, [sp, #{BIAS}]"
        if count == 2:
            yield f"smlad {second}, r2, r9, {first}"
            yield f"smlatb {second}, r1, r12, {second}"
        yield f"smlad {first}, r1, r9, {first}"
        yield f"smlabb {first}, r2, r12, {first}"
        if finish is not None:
            yield from self.store(SETS[finish][:count])

    def store(self, sums: tuple[str, ...]) -> Iterator[str]:
        q = self.requantize
        if q.shift.any():
            yield f"ldr r2, [sp, #{SHIFT}]"
            for r in sums:
                yield f"lsl {r}, {r}, r2"
        yield f"ldr r1, [sp, #{MULTIPLIER}]"
        yield from assembly.constant("r2", q.zero)
        for r in sums:
            yield f"smmlar {r}, {r}, r1, r2"
        for r in sums:
            yield f"ssat {r}, #8, {r}"
            yield from assembly.clamp(r, q.lo, q.hi)
        yield f"ldr r2, [sp, #{OUT}]"
        for i, r in enumerate(sums):
            yield f"strb {r}, [r2, #{i * self.channels}]"
        yield from assembly.add("r2", "r2", self.width * self.channels, "r1")
        yield f"str r2, [sp, #{OUT}]"


def _taps(sums: tuple[str, str], count: int, outer: str, inner: str, half: str) -> Iterator[str]:
    """Three taps of each column: the outer weights are a pair, the inner one is a half of a register."""
    first, second = sums
    yield f"smlad {first}, r1, {outer}, {first}"
    yield f"smlab{half} {first}, r2, {inner}, {first}"
    if count == 2:
        yield f"smlad {second}, r2, {outer}, {second}"
        yield f"smlat{half} {second}, r1, {inner}, {second}"
