"""Comparisons, and choices that depend on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from ..builder import builder
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, expect_dtype, op, same_dtype
from ..roles import ACTIVATION, PARAMETER, Role
from ..types import BOOL, F32, I32, Array, TensorType, broadcast
from .elementwise import Elementwise
from .quantized import QuantizedOperand, QuantizedResult, Refusal


class Comparison(Elementwise):
    """Base: two tensors of one dtype give truth values. Comparing with NaN is false."""

    ulps: ClassVar[float] = 0

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        same_dtype(a, b)
        return TensorType(broadcast(a.shape, b.shape), BOOL)

    def error(self, a: Array, b: Array) -> Array:
        return np.zeros(np.broadcast_shapes(a.shape, b.shape))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return Refusal("truth values are no integers")


def _compared(cls: type[Op], draw: Draw) -> Instance:
    dtype, shape = draw.dtype(F32, I32), draw.shape()
    other = tuple(d if draw.boolean() else 1 for d in shape)
    return Instance.of(cls(), draw.array(shape, dtype, -3, 3), draw.array(other, dtype, -3, 3))


@op
class Equal(Comparison):
    """a == b. ONNX Equal-19."""

    commutative: ClassVar[bool] = True

    def ref(self, a: Array, b: Array) -> Array:
        return np.equal(a, b)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _compared(Equal, draw)


@op
class Less(Comparison):
    """a < b. ONNX Less-13, and Greater-13 with its operands exchanged."""

    def ref(self, a: Array, b: Array) -> Array:
        return np.less(a, b)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _compared(Less, draw)


@op
class LessEqual(Comparison):
    """a <= b. ONNX LessOrEqual-16, and GreaterOrEqual-16 with its operands exchanged."""

    def ref(self, a: Array, b: Array) -> Array:
        return np.less_equal(a, b)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _compared(LessEqual, draw)


@op
class Not(Elementwise):
    """Negation of truth values. ONNX Not-1."""

    ulps: ClassVar[float] = 0

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype == BOOL, f"not takes bool, not {x}")
        return x

    def ref(self, x: Array) -> Array:
        return np.logical_not(x)

    def error(self, x: Array) -> Array:
        return np.zeros(x.shape)

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return Refusal("truth values are no integers")

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Not(), draw.array(draw.shape(), BOOL))


@op
class Where(Elementwise):
    """Element of a where the condition (bool) holds, of b elsewhere. ONNX Where-16."""

    ulps: ClassVar[float] = 0

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> TensorType:
        expect_dtype(condition.dtype == BOOL, f"the condition is bool, not {condition}")
        return TensorType(broadcast(condition.shape, a.shape, b.shape), same_dtype(a, b))

    def ref(self, condition: Array, a: Array, b: Array) -> Array:
        return np.where(condition, a, b)

    def error(self, condition: Array, a: Array, b: Array) -> Array:
        return np.zeros(np.broadcast_shapes(condition.shape, a.shape, b.shape))

    def bounds(self, condition: Bounds, a: Bounds, b: Bounds) -> Bounds:
        result = self.infer(condition.type, a.type, b.type)
        return Bounds(result, np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return PARAMETER, ACTIVATION, ACTIVATION

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return Refusal("a choice by truth values has no integer form")

    @staticmethod
    def examples(draw: Draw) -> Instance:
        dtype, shape = draw.dtype(F32, I32), draw.shape()
        other = tuple(d if draw.boolean() else 1 for d in shape)
        return Instance.of(Where(), draw.array(shape, BOOL), draw.array(other, dtype), draw.array(shape, dtype))


equal, less, less_equal = builder(Equal), builder(Less), builder(LessEqual)
not_, where = builder(Not), builder(Where)
