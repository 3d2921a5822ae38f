"""Between reals and integers, and between scales. The formulas are in `ir/arithmetic.py` and docs/arithmetic.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from .. import arithmetic
from ..builder import builder
from ..channels import Channels, tied_in_order
from ..op import Bounds, Draw, Instance, Op, Perm, elementwise_permuted, expect, expect_dtype, op
from ..roles import ACTIVATION, PARAMETER, Role
from ..types import F32, I8, I16, I32, U8, Array, DType, TensorType, broadcast


class QuantOp(Op):
    """Base of the ops below: elementwise, operands broadcast to the shape of operand 0."""

    elementwise = True

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return elementwise_permuted(self, perm, operands)


def _fits(x: TensorType, *others: TensorType) -> None:
    expect(broadcast(x.shape, *(t.shape for t in others)) == x.shape, "scales broadcast to the tensor, not beyond it")


@op
class Quantize(QuantOp):
    """q = clamp(round_half_even(x / scale) + zero, lo, hi). ONNX QuantizeLinear-21.

    x and scale are f32, zero has the result's dtype; both broadcast to x.
    """

    dtype: DType = I8
    lo: int = -128
    hi: int = 127

    def infer(self, x: TensorType, scale: TensorType, zero: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float and scale.dtype.is_float, "quantize takes floats")
        expect(zero.dtype == self.dtype, f"the zero point is {zero.dtype}, the result {self.dtype}")
        expect_dtype(self.dtype.is_integer and self.dtype.bits <= 16, f"cannot quantize to {self.dtype}")
        expect(
            self.dtype.min <= self.lo <= self.hi <= self.dtype.max,
            f"clamp [{self.lo}, {self.hi}] is not in {self.dtype}",
        )
        _fits(x, scale, zero)
        return TensorType(x.shape, self.dtype)

    def ref(self, x: Array, scale: Array, zero: Array) -> Array:
        return arithmetic.quantize(x, scale, zero, self.lo, self.hi)

    def bounds(self, x: Bounds, scale: Bounds, zero: Bounds) -> Bounds:
        return Bounds(self.infer(x.type, scale.type, zero.type), np.array(self.lo), np.array(self.hi))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        dtype, shape = draw.choice([I8, U8, I16]), draw.shape()
        scale = np.array(draw.real(0.01, 2), np.float32)
        zero = np.array(draw.integer(-5 if dtype.min else 0, 100), dtype.numpy)
        return Instance.of(
            Quantize(dtype, dtype.min, dtype.max), draw.array(shape, F32, -300, 300), scale, zero, constants=(1, 2)
        )


@op
class Dequantize(QuantOp):
    """(x - zero) * scale, in float32. ONNX DequantizeLinear-21; zero has x's dtype."""

    ulps: ClassVar[float] = 1  # the conversion of a wide integer, and the product

    def infer(self, x: TensorType, scale: TensorType, zero: TensorType) -> TensorType:
        expect(
            x.dtype.is_integer and x.dtype.bits <= 32 and zero.dtype == x.dtype,
            "dequantize takes integers of up to 32 bits and a zero point of their dtype",
        )
        expect_dtype(scale.dtype.is_float, "the scale is a float")
        _fits(x, scale, zero)
        return TensorType(x.shape, scale.dtype)

    def ref(self, x: Array, scale: Array, zero: Array) -> Array:
        return (x.astype(np.int64) - zero.astype(np.int64)).astype(scale.dtype) * scale

    def bounds(self, x: Bounds, scale: Bounds, zero: Bounds) -> Bounds:
        ends = (x.lo - zero.lo) * scale.lo, (x.hi - zero.lo) * scale.lo
        return Bounds(self.infer(x.type, scale.type, zero.type), np.minimum(*ends), np.maximum(*ends))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        dtype = draw.choice([I8, U8, I16, I32])
        x = draw.array(draw.shape(), dtype)
        zero = np.array(draw.integer(0, 100) if dtype != I32 else 0, dtype.numpy)
        return Instance.of(Dequantize(), x, np.array(draw.real(0.01, 2), np.float32), zero, constants=(1, 2))


@op
class Rescale(QuantOp):
    """Change of scale: clamp(zero + ((x - input_zero) * 2^shift * multiplier + 2^31 >> 32), lo, hi).

    x: integers (i32 accumulators, or quantized values); multiplier i32 (even, >= 0) and shift i8 are constants that
    broadcast to x: [1] or per channel. (x - input_zero) * 2^shift saturates at 32 bits, which the clamp hides.
    """

    input_zero: int = 0
    zero: int = 0
    lo: int = -128
    hi: int = 127
    dtype: DType = I8

    def infer(self, x: TensorType, multiplier: TensorType, shift: TensorType) -> TensorType:
        expect(x.dtype.is_integer and x.dtype.bits <= 32, f"rescale takes integers of up to 32 bits, not {x.dtype}")
        expect(multiplier.dtype == I32 and shift.dtype == I8, "multiplier is i32, shift is i8")
        expect(self.dtype.is_integer and self.dtype.bits <= 16, f"the result has up to 16 bits, not {self.dtype}")
        expect(
            self.dtype.min <= self.lo <= self.hi <= self.dtype.max,
            f"clamp [{self.lo}, {self.hi}] is not in {self.dtype}",
        )
        for zero, dtype in ((self.input_zero, x.dtype), (self.zero, self.dtype)):
            expect(dtype.min <= zero <= dtype.max, f"the zero point {zero} is not in {dtype}")
        _fits(x, multiplier, shift)
        return TensorType(x.shape, self.dtype)

    def ref(self, x: Array, multiplier: Array, shift: Array) -> Array:
        scaled = arithmetic.rescale(x.astype(np.int64) - self.input_zero, multiplier, shift)
        return np.clip(scaled + self.zero, self.lo, self.hi)

    def bounds(self, x: Bounds, multiplier: Bounds, shift: Bounds) -> Bounds:
        ends = [
            np.clip(arithmetic.rescale(e - self.input_zero, multiplier.lo, shift.lo) + self.zero, self.lo, self.hi)
            for e in (x.lo, x.hi)
        ]
        return Bounds(self.infer(x.type, multiplier.type, shift.type), *ends)

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape, x_dtype, dtype = draw.shape(1), draw.choice([I32, I8]), draw.choice([I8, I16, U8])
        channels = shape[-1] if draw.boolean() else 1
        factor = np.array([draw.real(2**-20, 3) for _ in range(channels)])
        multiplier, shift = arithmetic.fixed_point(factor)
        zero = draw.integer(0, 100)
        op = Rescale(draw.integer(-10, 10), zero, draw.choice([dtype.min, zero]), dtype.max, dtype)
        return Instance.of(op, draw.array(shape, x_dtype), multiplier, shift, constants=(1, 2))


@op
class RescaleAdd(QuantOp):
    """Sum of two tensors of different scales: clamp((a * a_multiplier + b * b_multiplier + bias) >> shift, lo, hi).

    Zero points and the rounding (half up) are inside `bias`; `sum_factors` computes the attributes.
    """

    a_multiplier: int
    b_multiplier: int
    bias: int
    shift: int
    lo: int = -128
    hi: int = 127
    dtype: DType = I8

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        expect(a.dtype.is_integer and b.dtype.is_integer, "rescale_add takes integers")
        expect(max(a.dtype.bits, b.dtype.bits, self.dtype.bits) <= 16, "operands and result have up to 16 bits")
        expect(
            0 <= self.shift <= 23 and max(abs(self.a_multiplier), abs(self.b_multiplier)) <= 32767,
            "factors out of range",
        )
        expect(
            self.dtype.min <= self.lo <= self.hi <= self.dtype.max,
            f"clamp [{self.lo}, {self.hi}] is not in {self.dtype}",
        )
        return TensorType(broadcast(a.shape, b.shape), self.dtype)

    def ref(self, a: Array, b: Array) -> Array:
        total = a.astype(np.int64) * self.a_multiplier + b.astype(np.int64) * self.b_multiplier + self.bias
        return self._result(total)

    def _result(self, total: Array) -> Array:
        return np.clip(total >> self.shift, self.lo, self.hi)

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        total = self.accumulator(a, b)
        return Bounds(total.type.with_dtype(self.dtype), *(self._result(end) for end in (total.lo, total.hi)))

    def accumulator(self, a: Bounds, b: Bounds) -> Bounds:
        result = self.infer(a.type, b.type)
        terms = [(x.lo * m, x.hi * m) for x, m in ((a, self.a_multiplier), (b, self.b_multiplier))]
        lo, hi = (sum(pick(*term) for term in terms) + self.bias for pick in (np.minimum, np.maximum))
        return Bounds(result.with_dtype(I32), lo, hi)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        zeros = (draw.integer(-128, 127), draw.integer(-128, 127))
        attributes = sum_factors([draw.real(0.01, 2), draw.real(-2, 2)], zeros, draw.integer(-128, 127))
        assert attributes is not None
        shape = draw.shape(1)
        return Instance.of(
            RescaleAdd(**attributes, lo=draw.choice([-128, -7])), draw.array(shape, I8), draw.array(shape, I8)
        )


def sum_factors(factors: Sequence[float], zeros: Sequence[int], zero: int) -> dict[str, Any] | None:
    """Attributes of `rescale_add` for zero + sum(factor * (x - zero_x)).

    shift is the largest s <= 23 that keeps every |round(factor * 2^s)| <= 32767. None where even s = 0 does not.
    """
    for shift in range(23, -1, -1):
        multipliers = [int(np.rint(f * 2.0**shift)) for f in factors]
        if max(map(abs, multipliers)) <= 32767:
            rounding = (1 << shift) >> 1
            bias = (zero << shift) + rounding - sum(m * z for m, z in zip(multipliers, zeros, strict=True))
            return {"a_multiplier": multipliers[0], "b_multiplier": multipliers[1], "bias": bias, "shift": shift}
    return None


@op
class Table(QuantOp):
    """y = table[x - min(dtype of x)], elementwise; the only nonlinear op on integers. x: i8 or u8, table: [256]."""

    def infer(self, x: TensorType, table: TensorType) -> TensorType:
        expect(x.dtype.is_integer and x.dtype.bits == 8, f"table takes 8-bit integers, not {x.dtype}")
        expect(table.shape == (256,), "the table has 256 entries")
        return TensorType(x.shape, table.dtype)

    def ref(self, x: Array, table: Array) -> Array:
        return table[x.astype(np.int64) - np.iinfo(x.dtype).min]

    def bounds(self, x: Bounds, table: Bounds) -> Bounds:
        first, last = (np.clip(end - x.type.dtype.min, 0, 255) for end in (x.lo, x.hi))
        lo, hi = (np.broadcast_to(entries, (256,)) for entries in (table.lo, table.hi))
        return Bounds(
            self.infer(x.type, table.type), _lowest(lo, first, last - first), -_lowest(-hi, first, last - first)
        )

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return self, (None, None), perm

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        return tied_in_order(operands[:1], operands[:1])

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(
            Table(), draw.array(draw.shape(), draw.choice([I8, U8])), draw.array((256,), I8), constants=(1,)
        )


def _lowest(entries: Array, first: Array, further: Array) -> Array:
    """The least of entries[first : first + further + 1] for each of many ranges: that of two powers of two in it."""
    levels = [entries]
    for k in range(8):
        step = 1 << k
        levels.append(np.minimum(levels[-1], np.append(levels[-1][step:], levels[-1][-step:])))
    level = np.log2(further + 1).astype(np.int64)
    table = np.stack(levels)
    return np.asarray(np.minimum(table[level, first], table[level, first + further + 1 - (1 << level)]))


quantize, dequantize = builder(Quantize), builder(Dequantize)
rescale, rescale_add, table = builder(Rescale), builder(RescaleAdd), builder(Table)
