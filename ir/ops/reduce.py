"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from ..builder import builder
from ..channels import Channels, summed, tied
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, Perm, expect, expect_dtype, op
from ..rounding import rounding_error
from ..types import F32, I8, I32, Array, Shape, TensorType, static
from .quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, overflow
from .windows import centred

Axes = tuple[int, ...]  # ascending, not negative


class Reduction(Op):
    """Base: attributes `axes` (ascending, not negative) and `keepdims`."""

    def infer(self, x: TensorType) -> TensorType:
        return TensorType(reduced(self, x), x.dtype)

    def error(self, x: Array) -> Array:
        this: Any = self
        return rounding_error(self.ref, (x,), terms=math.prod(x.shape[a] for a in this.axes), ulps=self.ulps)

    def _over(self, x: Bounds) -> tuple[Array, Array]:
        """The ends of x over the axes, in the result's shape."""
        this: Any = self
        lo, hi = x.over(this.axes)
        return (lo, hi) if this.keepdims else (lo.squeeze(this.axes), hi.squeeze(this.axes))

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        this: Any = self
        found, left = [], [a for a in range(operands[0].rank) if a not in this.axes]
        for place, axis in enumerate(left):
            if isinstance(size := operands[0].shape[axis], int):
                found.append(tied([(0, axis)], [(0, axis if this.keepdims else place)], size))
        return tuple(found)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        this: Any = self
        axes = tuple(sorted(perm[i] for i in this.axes))
        if this.keepdims:
            return self.like(axes=axes), (None,), perm
        kept = [i for i in perm if i not in axes]
        return self.like(axes=axes), (None,), tuple(sorted(kept).index(i) for i in kept)


def reduced(op: Any, x: TensorType) -> Shape:
    """The shape after a reduction."""
    expect(
        list(op.axes) == sorted(set(op.axes)) and all(0 <= a < x.rank for a in op.axes), f"axes {list(op.axes)} of {x}"
    )
    if op.keepdims:
        return tuple(1 if i in op.axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in op.axes)


def _examples(cls: Any, draw: Draw, dtype: Any, **attributes: Any) -> Instance:
    shape = draw.shape()
    axes = tuple(i for i in range(len(shape)) if draw.boolean())
    return Instance.of(cls(axes, draw.boolean(), **attributes), draw.array(shape, dtype))


@op
class ReduceMean(Reduction):
    """Mean over axes. Floats only. ONNX ReduceMean-18, GlobalAveragePool."""

    axes: Axes
    keepdims: bool = True

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float, f"reduce_mean takes floats, not {x}")
        return super().infer(x)

    def ref(self, x: Array) -> Array:
        return x.mean(axis=self.axes, keepdims=self.keepdims)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(self.infer(x.type), *self._over(x))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        elements = math.prod(static(operands[0].type.shape)[a] for a in self.axes)
        return _quantized_sum(self, operands[0], result, elements)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _examples(ReduceMean, draw, F32)


@op
class ReduceSum(Reduction):
    """Sum of (x - input_zero) over axes. Integers of up to 16 bits give i32. ONNX ReduceSum-13."""

    axes: Axes
    keepdims: bool = True
    input_zero: int = 0

    def infer(self, x: TensorType) -> TensorType:
        narrow = x.dtype.is_integer and x.dtype.bits <= 16
        expect_dtype(x.dtype.kind != "bool", "reduce_sum takes numbers, not truth values")
        expect(narrow or not self.input_zero, f"{x} has no zero point")
        return TensorType(reduced(self, x), I32 if narrow else x.dtype)

    def ref(self, x: Array) -> Array:
        return centred(x, self.input_zero).sum(axis=self.axes, keepdims=self.keepdims)

    def bounds(self, x: Bounds) -> Bounds:
        size = math.prod(static(x.type.shape)[a] for a in self.axes)
        lo, hi = (size * (end - self.input_zero) for end in self._over(x))
        return Bounds(self.infer(x.type), lo, hi)

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        sums = ((a, operands[0].shape[a]) for a in self.axes)
        return *super().channels(operands), *(summed([(0, a)], size) for a, size in sums if isinstance(size, int))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return _quantized_sum(self, operands[0], result, 1)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        integer = draw.boolean()
        return _examples(ReduceSum, draw, I8 if integer else F32, input_zero=draw.integer(-128, 127) if integer else 0)


def _quantized_sum(op: Any, x: QuantizedOperand, result: QuantizedResult, divisor: int) -> Value | Refusal:
    """Integer form of a sum over axes, divided: one rescale of the sum of integers."""
    if x.value is None or not x.per_tensor:
        return Refusal("the input is not quantized per tensor")
    total = reduce_sum(x.value, axes=op.axes, keepdims=op.keepdims, input_zero=int(x.zero.item()))
    if overflow(total) > 1:
        return Refusal(NOT_PROVEN)
    return result.rescaled(total, float(x.scale.item()) / (result.scale * divisor))


class Extremum(Reduction):
    """Base: the element that is beyond all others over axes; NaN where one is."""

    selects: ClassVar[bool] = True
    ulps: ClassVar[float] = 0

    def error(self, x: Array) -> Array:
        return rounding_error(self.ref, (x,), terms=0, ulps=self.ulps)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(self.infer(x.type), *self._over(x))


@op
class ReduceMax(Extremum):
    """Maximum over axes. ONNX ReduceMax-20."""

    axes: Axes
    keepdims: bool = True

    def ref(self, x: Array) -> Array:
        return x.max(axis=self.axes, keepdims=self.keepdims)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _examples(ReduceMax, draw, draw.dtype(F32, I8))


@op
class ReduceMin(Extremum):
    """Minimum over axes. ONNX ReduceMin-20."""

    axes: Axes
    keepdims: bool = True

    def ref(self, x: Array) -> Array:
        return x.min(axis=self.axes, keepdims=self.keepdims)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _examples(ReduceMin, draw, draw.dtype(F32, I8))


reduce_mean, reduce_sum = builder(ReduceMean), builder(ReduceSum)
reduce_max, reduce_min = builder(ReduceMax), builder(ReduceMin)
