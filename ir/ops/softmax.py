"""Softmax, on reals and on integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from ..builder import builder
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, Perm, expect, expect_dtype, last_axis_permuted, op
from ..roles import ACTIVATION, PARAMETER, Role
from ..rounding import gamma, likely
from ..scheme import Scheme
from ..types import F32, I8, I32, Array, TensorType
from .quantized import QuantizedOperand, QuantizedResult, Refusal

#: Fraction bits of the table of exponentials.
EXP_BITS = 19
#: How far below the greatest of a row an element has no share: its entry of the table of exponentials rounds to 0.
NO_SHARE = (EXP_BITS + 1) * math.log(2)
#: Up to here the integer form is within one step of exact: 1/2 + 2^-4 + classes / 2^12 (docs/arithmetic.md).
MOST_CLASSES = 1792
#: What the integers of `IntegerSoftmax` mean.
SHARES = Scheme(I8).natural(0, 1)
#: And results may have scales so many times finer than 1/256.
FINEST = 1.2


@op
class Softmax(Op):
    """exp(x - max) / sum(exp(x - max)) along the last axis. Floats only. ONNX Softmax-13."""

    natural_range: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    ulps: ClassVar[float] = 4  # of the exponential

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float, f"softmax takes floats, not {x}")
        expect(x.rank >= 1, f"softmax takes rank 1 or more, not {x}")
        return x

    def ref(self, x: Array) -> Array:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def error(self, x: Array) -> Array:
        # The rounding of x - max is absolute in the exponent: relative in its exponential.
        wide = x.astype(np.float64)
        distance = wide.max(axis=-1, keepdims=True) - wide
        distance = np.where(np.isinf(distance), 0, distance)  # of an infinite one the exponential is 0, exactly
        roundings = (
            likely(x.shape[-1], alike=True) + 2 + 4 * self.ulps + distance + distance.max(axis=-1, keepdims=True)
        )
        return gamma(1, (x,)) * roundings * self.ref(wide)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(0.0), np.array(1.0))

    def noticed(self, x: Array) -> Array:
        """What is masked is not: the elements of a row are at most `NO_SHARE` below its greatest one."""
        greatest = x.max(axis=-1, keepdims=True)
        some = np.isfinite(greatest) & np.ones_like(x, bool)
        return np.maximum(x, greatest - x.dtype.type(NO_SHARE))[some]

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        (x,) = operands
        if x.value is None or not x.per_tensor or x.value.type.dtype != I8:
            return Refusal("the input is not an int8 tensor with one scale")
        if not isinstance(x.type.shape[-1], int) or x.type.shape[-1] > MOST_CLASSES:
            return Refusal(f"beyond {MOST_CLASSES} classes the integer softmax may be wrong by more than one step")
        if result.scale * 256 < 1 / FINEST:
            return Refusal("the result's scale is finer than that of the integer softmax, 1/256")
        value: Value = integer_softmax(x.value, exp_table(float(x.scale.item())))
        value.type = value.type.with_quant(SHARES.quant)
        return result.requantized(QuantizedOperand(x.type, value, np.array(SHARES.scale), np.array(SHARES.zero)))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return last_axis_permuted(self, perm, 1)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Softmax(), draw.array(draw.shape(1), F32, -10, 10))


@op
class IntegerSoftmax(Op):
    """Softmax of i8 along the last axis, result i8 with scale 1/256 and zero point -128.

    e = table[max - x] (i32[256]), R = (2^31 - 1) // sum(e), q = min(-128 + ((e * R + 2^22) >> 23), 127).
    The sum of the entries fits 31 bits.
    """

    def infer(self, x: TensorType, table: TensorType) -> TensorType:
        expect(x.dtype == I8 and x.rank >= 1, f"integer_softmax takes i8 of rank 1 or more, not {x}")
        expect(table.shape == (256,) and table.dtype == I32, "the table is i32[256]")
        return x

    def ref(self, x: Array, table: Array) -> Array:
        wide = x.astype(np.int64)
        e = table[wide.max(axis=-1, keepdims=True) - wide].astype(np.int64)
        reciprocal = (2**31 - 1) // e.sum(axis=-1, keepdims=True)
        return np.minimum(-128 + ((e * reciprocal + 2**22) >> 23), 127)

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return last_axis_permuted(self, perm, 2)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(
            IntegerSoftmax(), draw.array(draw.shape(1), I8), exp_table(draw.real(0.01, 0.5)), constants=(1,)
        )


def exp_table(scale: float) -> Array:
    """round(2^19 * exp(-scale * d)) for d = 0..255, i32."""
    return np.rint(2.0**EXP_BITS * np.exp(-scale * np.arange(256))).astype(np.int32)


softmax, integer_softmax = builder(Softmax), builder(IntegerSoftmax)
