"""Ops on corresponding elements; operands broadcast as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from ..builder import builder, const_value
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, Perm, invert, op, same_dtype
from ..quantized import QuantizedOperand, QuantizedResult, Refusal, tabulated
from ..types import F32, I32, Array, TensorType, broadcast


class Elementwise(Op):
    """Base: every operand has the same dtype, the result has it too, and shapes broadcast."""

    elementwise = True

    def infer(self, *operands: TensorType) -> TensorType:
        return TensorType(broadcast(*(t.shape for t in operands)), same_dtype(*operands))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return elementwise_permuted(self, perm, operands)


def elementwise_permuted(
    op: Any, perm: Perm, operands: Sequence[TensorType]
) -> tuple[Any, tuple[Perm | None, ...], Perm] | None:
    """`Op.permuted` of any op whose operands broadcast: all of full rank move alike, single elements stay."""
    if any(t.rank > len(perm) for t in operands):
        return None
    stays = [set(t.shape) <= {1} and t.rank < len(perm) for t in operands]
    if any(t.rank != len(perm) and not stay for t, stay in zip(operands, stays, strict=True)):
        return None
    return op, tuple(None if i == 0 or stay else invert(perm) for i, stay in enumerate(stays)), perm


def _sum_bounds(type: TensorType, lo: tuple[Array, Array], hi: tuple[Array, Array]) -> Bounds:
    """Bounds of a sum from the ends of its terms. Integers that may leave their dtype wrap: then nothing is known."""
    bounds = Bounds(type, lo[0] + lo[1], hi[0] + hi[1])
    if type.dtype.is_float or bounds.lo.size == 0:
        return bounds
    # As Python ints: int64 itself wraps.
    lowest, highest = sum(int(x.min()) for x in lo), sum(int(x.max()) for x in hi)
    return bounds if type.dtype.min <= lowest and highest <= type.dtype.max else Bounds.top(type)


def _arithmetic_examples(cls: type[Op], draw: Draw) -> Instance:
    dtype, shape = draw.dtype(F32, I32), draw.shape()
    other = tuple(d if draw.boolean() else 1 for d in shape)
    return Instance.of(cls(), draw.array(shape, dtype, -100, 100), draw.array(other, dtype, -100, 100))


@op
class Add(Elementwise):
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
class Sub(Elementwise):
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
    from .quant import rescale_add, sum_factors

    if any(x.real is not None and x.type.size == 1 for x in operands):
        return tabulated(op, operands, result)
    if any(x.real is not None and not x.is_integer and np.abs(x.real).max() > 127 * result.scale for x in operands):
        return Refusal("a constant is too large for 8 bits at the result's scale")
    a, b = (x if x.is_integer or x.real is None else _in_8_bits(x) for x in operands)
    if a.value is None or b.value is None or not (a.per_tensor and b.per_tensor):
        return Refusal("an operand is not quantized per tensor")
    factors = [sign * float(x.scale.item()) / result.scale for sign, x in zip(signs, (a, b), strict=True)]
    attributes = sum_factors(factors, (int(a.zero.item()), int(b.zero.item())), result.zero)
    if attributes is None:
        return Refusal("the operands' scales differ too much from the result's")
    value: Value = rescale_add(a.value, b.value, **attributes, lo=result.lo, hi=result.hi, dtype=result.dtype)
    value.type = value.type.with_quant(result.quant)
    return value


def _in_8_bits(x: QuantizedOperand) -> QuantizedOperand:
    """A float constant as symmetric int8."""
    real = np.asarray(x.real, np.float64)
    scale = max(float(np.abs(real).max()), float(np.finfo(np.float32).tiny)) / 127
    return replace(x, value=const_value(np.rint(real / scale).astype(np.int8)), scale=np.array(scale))


@op
class Clip(Elementwise):
    """min(max(x, lo), hi); NaN stays NaN. Relu is clip with lo=0, Relu6 has hi=6 as well. ONNX Clip-13, Relu-14."""

    ulps: ClassVar[float] = 0
    lo: float = -math.inf
    hi: float = math.inf

    def ref(self, x: Array) -> Array:
        # A bound that is infinite is left out, so that integers meet no float.
        low = x if self.lo == -math.inf else np.maximum(x, x.dtype.type(self.lo))
        return low if self.hi == math.inf else np.minimum(low, x.dtype.type(self.hi))

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.clip(x.lo, self.lo, self.hi), np.clip(x.hi, self.lo, self.hi))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        lo = draw.real(-3, 1)
        return Instance.of(Clip(lo, lo + draw.real(0, 4)), draw.array(draw.shape(), F32, -6, 6))


add, sub, clip = builder(Add), builder(Sub), builder(Clip)


def relu(x: Any, **options: Any) -> Any:
    """max(x, 0), as a clip."""
    return clip(x, lo=0.0, **options)
