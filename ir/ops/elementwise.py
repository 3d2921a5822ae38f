"""Ops on corresponding elements; operands broadcast as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from ..builder import builder, const_value
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, Perm, elementwise_permuted, expect_dtype, op, same_dtype
from ..types import BOOL, F32, I32, Array, DType, TensorType, broadcast, dtype_of
from .quant import rescale_add, sum_factors
from .quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, moved, overflow, tabulated


class Elementwise(Op):
    """Base: every operand has the same dtype, the result has it too, and shapes broadcast."""

    elementwise = True

    def infer(self, *operands: Any, **_: Any) -> TensorType:
        return TensorType(broadcast(*(t.shape for t in operands)), same_dtype(*operands))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return elementwise_permuted(self, perm, operands)


def _sum_bounds(type: TensorType, lo: tuple[Array, Array], hi: tuple[Array, Array]) -> Bounds:
    """Bounds of a sum from the ends of its terms. Integers that may leave their dtype wrap: then nothing is known."""
    bounds = Bounds(type, lo[0] + lo[1], hi[0] + hi[1])
    if type.dtype.is_float or bounds.lo.size == 0:
        return bounds
    # As Python ints: int64 itself wraps.
    lowest, highest = sum(int(x.min()) for x in lo), sum(int(x.max()) for x in hi)
    return bounds if type.dtype.min <= lowest and highest <= type.dtype.max else Bounds.top(type)


class Arithmetic(Elementwise):
    """Base: operators of numbers, not of truth values."""

    def infer(self, *operands: Any, **_: Any) -> TensorType:
        expect_dtype(all(t.dtype.kind != "bool" for t in operands), f"{self.name} takes numbers, not truth values")
        return super().infer(*operands)


def _arithmetic_examples(cls: type[Op], draw: Draw, *more: DType) -> Instance:
    dtype, shape = draw.dtype(F32, I32, *more), draw.shape()
    other = tuple(d if draw.boolean() else 1 for d in shape)
    ends = (-100, 100) if dtype != BOOL else ()
    return Instance.of(cls(), draw.array(shape, dtype, *ends), draw.array(other, dtype, *ends))


@op
class Add(Arithmetic):
    """a + b. ONNX Add-14."""

    commutative: ClassVar[bool] = True

    def ref(self, a: Array, b: Array) -> Array:
        return a + b

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        return _sum_bounds(self.infer(a.type, b.type), (a.lo, b.lo), (a.hi, b.hi))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return quantized_sum(self, operands, result, (1.0, 1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _arithmetic_examples(Add, draw)


@op
class Sub(Arithmetic):
    """a - b. ONNX Sub-14."""

    def ref(self, a: Array, b: Array) -> Array:
        return a - b

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        return _sum_bounds(self.infer(a.type, b.type), (a.lo, -b.hi), (a.hi, -b.lo))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return quantized_sum(self, operands, result, (1.0, -1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _arithmetic_examples(Sub, draw)


def quantized_sum(
    op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult, signs: tuple[float, float]
) -> Value | Refusal:
    """Integer form of a sum of two tensors with scales of their own: one `rescale_add`; with a scalar, a table."""
    if any(x.real is not None and x.type.size == 1 for x in operands):
        return tabulated(op, operands, result)
    if any((x.value is None and x.real is None) or not x.per_tensor for x in operands):
        return Refusal("an operand is not quantized per tensor")
    constant = next((i for i, x in enumerate(operands) if not x.is_integer), None)
    if constant is not None:
        other = operands[1 - constant]
        if other.value is None:
            return Refusal("both operands are constants")
        effective = _effective(operands[constant], other, result, signs[constant], signs[1 - constant])
        term = _in_8_bits(effective, result.scale / 2)
        if term is None:
            return Refusal("a constant is too large for 8 bits at the result's scale")
        operands = [term if i == constant else other for i in range(2)]
    a, b = operands
    assert a.value is not None
    assert b.value is not None
    factors = [sign * float(x.scale.item()) / result.scale for sign, x in zip(signs, (a, b), strict=True)]
    zeros = int(a.zero.item()), int(b.zero.item())
    attributes = sum_factors(factors, zeros, result.zero)
    if attributes is None:
        return Refusal("the operands' scales differ too much from the result's")
    # Factors have 16 bits: of operands of 8 bits that is enough, of wider ones seldom.
    taken = [attributes[f"{name}_multiplier"] / 2.0 ** attributes["shift"] for name in "ab"]
    reach = [max(z - v.type.dtype.min, v.type.dtype.max - z) for v, z in zip((a.value, b.value), zeros, strict=True)]
    if sum(abs(f - t) * r for f, t, r in zip(factors, taken, reach, strict=True)) > 0.5:
        return Refusal("the sum may be more than a step off")
    value: Value = rescale_add(a.value, b.value, **attributes, lo=result.lo, hi=result.hi, dtype=result.dtype)
    if overflow(value).max() > 1:
        return Refusal(NOT_PROVEN)
    value.type = value.type.with_quant(result.quant)
    return value


def _effective(
    x: QuantizedOperand, other: QuantizedOperand, result: QuantizedResult, sign: float, other_sign: float
) -> QuantizedOperand:
    """A constant term, no larger than it takes for the sum to saturate whatever the other term is: a mask's.

    A step is left beyond that, for the roundings of the sum.
    """
    assert other.value is not None
    dtype = other.value.type.dtype
    ends = other_sign * float(other.scale.item()) * (np.array([dtype.min, dtype.max]) - int(other.zero.item()))
    least = (result.lo - result.zero - 1) * result.scale - ends.max()
    most = (result.hi - result.zero + 1) * result.scale - ends.min()
    return replace(x, real=sign * np.clip(sign * np.asarray(x.real, np.float64), least, most))


def _in_8_bits(x: QuantizedOperand, largest_error: float) -> QuantizedOperand | None:
    """A float constant as symmetric int8; None where that is further off than `largest_error`."""
    real = np.asarray(x.real, np.float64)
    scale = max(float(np.abs(real).max()), float(np.finfo(np.float32).tiny)) / 127
    codes = np.rint(real / scale)
    if not np.all(np.abs(codes * scale - real) <= largest_error):
        return None
    return replace(x, value=const_value(codes.astype(np.int8)), scale=np.array(scale))


@op
class Mul(Arithmetic):
    """a * b. ONNX Mul-14."""

    commutative: ClassVar[bool] = True

    def ref(self, a: Array, b: Array) -> Array:
        return a * b

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        return _corner_bounds(self.infer(a.type, b.type), np.multiply, a, b)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _arithmetic_examples(Mul, draw)


@op
class Div(Arithmetic):
    """a / b; integers truncate toward zero. Division of an integer by zero has no meaning. ONNX Div-14."""

    def ref(self, a: Array, b: Array) -> Array:
        if not np.issubdtype(a.dtype, np.integer):
            return a / b
        quotient = a // b  # rounds down: one too low where the signs differ and a remainder is left
        return quotient + ((quotient * b != a) & ((a < 0) != (b < 0)))

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        result = self.infer(a.type, b.type)
        if result.dtype.is_integer or np.any((b.lo <= 0) & (b.hi >= 0)):
            return Bounds.top(result)
        return _corner_bounds(result, np.divide, a, b)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape()
        return Instance.of(Div(), draw.array(shape, F32, -100, 100), draw.array(shape, F32, 0.1, 100))


@op
class Minimum(Elementwise):
    """The smaller of a and b; NaN where either is; of truth values whether both hold. ONNX Min-13, And-7."""

    ulps: ClassVar[float] = 0
    selects: ClassVar[bool] = True
    commutative: ClassVar[bool] = True

    def ref(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        return Bounds(self.infer(a.type, b.type), np.minimum(a.lo, b.lo), np.minimum(a.hi, b.hi))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return _quantized_choice(self, operands, result)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _arithmetic_examples(Minimum, draw, BOOL)


@op
class Maximum(Elementwise):
    """The larger of a and b; NaN where either is; of truth values whether one holds. ONNX Max-13, Or-7."""

    ulps: ClassVar[float] = 0
    selects: ClassVar[bool] = True
    commutative: ClassVar[bool] = True

    def ref(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        return Bounds(self.infer(a.type, b.type), np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return _quantized_choice(self, operands, result)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _arithmetic_examples(Maximum, draw, BOOL)


@op
class Pow(Elementwise):
    """a to the power b. Floats only; NaN where a is negative and b no integer. ONNX Pow-15."""

    ulps: ClassVar[float] = 4

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        expect_dtype(a.dtype.is_float, f"pow takes floats, not {a}")
        return super().infer(a, b)

    def ref(self, a: Array, b: Array) -> Array:
        return np.power(a, b)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape()
        return Instance.of(Pow(), draw.array(shape, F32, 0.1, 4), draw.array(shape, F32, -3, 3))


def _quantized_choice(op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
    """Integer form of an extremum: of two tensors the op itself, of a tensor and a constant a table."""
    both = all(operand.is_integer for operand in operands)
    return (moved if both else tabulated)(op, operands, result)


def _corner_bounds(result: TensorType, function: Any, a: Bounds, b: Bounds) -> Bounds:
    """Bounds of a function that is monotone in each operand, in one direction or the other."""
    if result.dtype.bits == 64 and result.dtype.is_integer:
        return Bounds.top(result)  # the products of the ends may wrap
    with np.errstate(all="ignore"):
        corners = np.stack(np.broadcast_arrays(*(function(x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi))))
    if np.isnan(corners).any():  # 0 * inf
        return Bounds.top(result)
    lo, hi = corners.min(0), corners.max(0)
    if result.dtype.is_integer and lo.size and not result.dtype.min <= lo.min() <= hi.max() <= result.dtype.max:
        return Bounds.top(result)  # integers wrap
    return Bounds(result, lo, hi)


@op
class Clip(Arithmetic):
    """min(max(x, lo), hi); NaN stays NaN. Relu is clip with lo=0, Relu6 has hi=6 as well. ONNX Clip-13, Relu-14."""

    lo: float = -math.inf
    hi: float = math.inf

    def ref(self, x: Array) -> Array:
        lo, hi = clip_ends(self, dtype_of(x))
        low = x if lo is None else np.maximum(x, lo)
        return low if hi is None else np.minimum(low, hi)

    def error(self, x: Array) -> Array:
        # The bounds themselves are rounded to x's dtype.
        ends = [v for v in (self.lo, self.hi) if math.isfinite(v)] if dtype_of(x).is_float else []
        return np.full(x.shape, max((abs(float(x.dtype.type(v)) - v) for v in ends), default=0.0))

    def bounds(self, x: Bounds) -> Bounds:
        # As `ref`: bounds in x's dtype, those that clip nothing left out, the upper one last.
        lo, hi = x.lo, x.hi
        low, high = clip_ends(self, x.type.dtype)
        if low is not None:
            lo, hi = (np.maximum(end, end.dtype.type(low)) for end in (lo, hi))
        if high is not None:
            lo, hi = (np.minimum(end, end.dtype.type(high)) for end in (lo, hi))
        return Bounds(x.type, lo, hi)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        lo = draw.real(-3, 1)
        return Instance.of(Clip(lo, lo + draw.real(0, 4)), draw.array(draw.shape(), F32, -6, 6))


def clip_ends(clip: Clip, dtype: DType) -> tuple[Any, Any]:
    """The bounds as elements of a dtype; None where one clips nothing: infinite, or the end of an integer dtype."""
    lo = None if clip.lo == -math.inf or (dtype.is_integer and clip.lo <= dtype.min) else dtype.number(clip.lo)
    hi = None if clip.hi == math.inf or (dtype.is_integer and clip.hi >= dtype.max) else dtype.number(clip.hi)
    return lo, hi


add, sub, mul, div = builder(Add), builder(Sub), builder(Mul), builder(Div)
minimum, maximum, pow_, clip = builder(Minimum), builder(Maximum), builder(Pow), builder(Clip)


def relu(x: Any, **options: Any) -> Any:
    """max(x, 0), as a clip."""
    return clip(x, lo=0.0, **options)
