"""Functions of one element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import arithmetic
from ..builder import builder
from ..graph import Value
from ..op import Bounds, Draw, Instance, expect, op
from ..quantized import QuantizedOperand, QuantizedResult, Refusal
from ..types import BOOL, F32, I8, I32, U8, Array, DType, TensorType
from .elementwise import Elementwise


class Unary(Elementwise):
    """Base: a function of floats. 8-bit integers are looked up in a table that holds the function's rounded values."""

    def infer(self, x: TensorType) -> TensorType:
        expect(x.dtype.is_float, f"{self.name} takes floats, not {x}")
        return x

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        from .quant import table

        (x,) = operands
        if x.value is None or not x.per_tensor or x.value.type.dtype.bits != 8:
            return Refusal("the input is not an 8-bit tensor with one scale")
        dtype = x.value.type.dtype
        integers = np.arange(dtype.min, dtype.max + 1)
        reals = ((integers - x.zero.item()) * np.float32(x.scale.item())).astype(np.float32)
        with np.errstate(all="ignore"):
            values = np.asarray(self.ref(reals), np.float32)
        entries = arithmetic.quantize(values, np.array(result.scale), np.array(result.zero), result.lo, result.hi)
        value: Value = table(x.value, entries.astype(result.dtype.numpy))
        value.type = value.type.with_quant(result.quant)
        return value


def _increasing(op: Any, x: Bounds) -> Bounds:
    """Bounds of a function that grows with x, widened by a few units in the last place for its rounding."""
    ends = [np.asarray(op.ref(np.asarray(e, np.float64))) for e in (x.lo, x.hi)]
    slack = 4 * float(np.finfo(x.type.dtype.numpy).eps)
    return Bounds(x.type, ends[0] - slack * np.abs(ends[0]), ends[1] + slack * np.abs(ends[1]))


@op
class Exp(Unary):
    """e^x. ONNX Exp-13."""

    def ref(self, x: Array) -> Array:
        return np.exp(x)

    def bounds(self, x: Bounds) -> Bounds:
        return _increasing(self, x)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Exp(), draw.array(draw.shape(), F32, -10, 10))


@op
class Log(Unary):
    """Natural logarithm: -inf at 0, NaN below. ONNX Log-13."""

    def ref(self, x: Array) -> Array:
        return np.log(x)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Log(), draw.array(draw.shape(), F32, 0.01, 100))


@op
class Sqrt(Unary):
    """Square root, NaN below 0. ONNX Sqrt-13."""

    def ref(self, x: Array) -> Array:
        return np.sqrt(x)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Sqrt(), draw.array(draw.shape(), F32, 0, 100))


@op
class Erf(Unary):
    """Error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x. ONNX Erf-13."""

    def ref(self, x: Array) -> Array:
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(-1.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Erf(), draw.array(draw.shape(), F32, -4, 4))


@op
class Sigmoid(Unary):
    """1 / (1 + e^-x). ONNX Sigmoid-13."""

    def ref(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-x))  # e^-x overflows to infinity below -88, and the quotient is 0, as it should be

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(0.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Sigmoid(), draw.array(draw.shape(), F32, -10, 10))


@op
class Tanh(Unary):
    """Hyperbolic tangent. ONNX Tanh-13."""

    def ref(self, x: Array) -> Array:
        return np.tanh(x)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(-1.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Tanh(), draw.array(draw.shape(), F32, -5, 5))


@op
class Cast(Elementwise):
    """The same numbers in another dtype: to integers by truncation, wrapping between integers. ONNX Cast-21.

    What a float gives that the integer dtype cannot hold is not defined.
    """

    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def ref(self, x: Array) -> Array:
        return x != 0 if self.dtype == BOOL else x.astype(self.dtype.numpy)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(
            Cast(draw.choice([F32, I32, I8])), draw.array(draw.shape(), draw.choice([F32, I8, U8]), 0, 99)
        )


exp, log, sqrt, erf = builder(Exp), builder(Log), builder(Sqrt), builder(Erf)
sigmoid, tanh, cast = builder(Sigmoid), builder(Tanh), builder(Cast)
