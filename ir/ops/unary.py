"""Functions of one element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..builder import builder, number
from ..exact import Exact
from ..graph import Value
from ..literals import GELU_CUBIC, SIXTH, SQRT_2, SQRT_2_OVER_PI, SQRT_HALF
from ..op import Bounds, Draw, Instance, expect_dtype, op
from ..rounding import gamma, smallest
from ..types import BOOL, EXACT, F32, F64, I8, I16, I32, I64, U8, U16, U32, Array, DType, TensorType, dtype_of
from .elementwise import Elementwise, add, mul
from .quantized import QuantizedOperand, QuantizedResult, Refusal, tabulated


class Unary(Elementwise):
    """Base: a function of floats."""

    #: What mathematical libraries promise for a transcendental function.
    ulps: ClassVar[float] = 4

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float, f"{self.name} takes floats, not {x}")
        return x

    def error(self, x: Array) -> Array:
        exact = np.abs(self.ref(x.astype(np.float64)))
        return gamma(2 * self.ulps, [x]) * exact + smallest(x)  # results below `tiny` may be flushed


def increasing(op: Any, x: Bounds, size: float = 0.0) -> Bounds:
    """Bounds of a function that grows with x, widened by a few units in the last place for its rounding.

    size: of what is added up on the way, where it may be larger than the result.
    """
    with np.errstate(all="ignore"):
        lo, hi = (np.asarray(op.ref(np.asarray(e, np.float64))) for e in (x.lo, x.hi))
    slack = 4 * float((F64 if x.type.dtype is EXACT else x.type.dtype).limits.eps)
    return Bounds(x.type, lo - slack * (np.abs(lo) + size), hi + slack * (np.abs(hi) + size))


@op
class Exp(Unary):
    """e^x. ONNX Exp-13."""

    def ref(self, x: Array) -> Array:
        return np.exp(x)

    def bounds(self, x: Bounds) -> Bounds:
        return increasing(self, x)

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

    ulps: ClassVar[float] = 0.5

    def ref(self, x: Array) -> Array:
        return np.sqrt(x)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Sqrt(), draw.array(draw.shape(), F32, 0, 100))


@op
class Floor(Unary):
    """The largest integer that is not above x. ONNX Floor-13."""

    ulps: ClassVar[float] = 0

    def ref(self, x: Array) -> Array:
        return np.floor(x)

    def bounds(self, x: Bounds) -> Bounds:
        return increasing(self, x)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Floor(), draw.array(draw.shape(), F32, -10, 10))


#: NumPy has no error function; as its own functions do with objects, ask exact numbers for theirs.
_erf = np.frompyfunc(lambda v: v.erf() if isinstance(v, Exact) else math.erf(v), 1, 1)


@op
class Erf(Unary):
    """Error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x. ONNX Erf-13."""

    def ref(self, x: Array) -> Array:
        return np.asarray(_erf(x), x.dtype)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(-1.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Erf(), draw.array(draw.shape(), F32, -4, 4))


@op
class Gelu(Unary):
    """x times the normal distribution function of x; `tanh`: by its usual approximation. ONNX Gelu-20.

    x/2 (1 + erf(x / sqrt 2)), or x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): Hendrycks and Gimpel, arXiv:1606.08415.
    """

    tanh: bool = False

    def ref(self, x: Array) -> Array:
        number = x.dtype.type
        if self.tanh:
            inner = (x + x**3 * number(GELU_CUBIC)) * number(SQRT_2_OVER_PI)
            return x * number(0.5) * (1 + np.tanh(inner))
        return x * number(0.5) * (1 + np.asarray(_erf(x / number(SQRT_2)), x.dtype))

    def definition(self, x: Value) -> Any:
        # Numbers stand at the ends: one goes into the layer before, the other into the one behind.
        if self.tanh:
            line = add(mul(mul(x, x), number(x, SQRT_2_OVER_PI, GELU_CUBIC)), number(x, SQRT_2_OVER_PI))
            return mul(mul(x, add(tanh(mul(x, line)), number(x, 1.0))), number(x, 0.5))
        scaled = mul(x, number(x, SQRT_HALF))
        return mul(mul(scaled, add(erf(scaled), number(x, 1.0))), number(x, SQRT_2, 0.5))

    def error(self, x: Array) -> Array:
        # 1 + erf cancels where x is negative: the error is relative to x, not to the result.
        return gamma(4 * self.ulps, [x]) * np.abs(x.astype(np.float64)) + smallest(x)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.where(x.lo >= 0, 0.0, np.maximum(-0.2, x.lo)), np.maximum(x.hi, 0.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Gelu(draw.boolean()), draw.array(draw.shape(), F32, -5, 5))


@op
class Sigmoid(Unary):
    """1 / (1 + e^-x). ONNX Sigmoid-13."""

    ulps: ClassVar[float] = 6  # of the exponential, a sum and a quotient
    natural_range: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    def ref(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-x))  # e^-x overflows to infinity below -88, and the quotient is 0, as it should be

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(0.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Sigmoid(), draw.array(draw.shape(), F32, -10, 10))


@op
class HardSigmoid(Unary):
    """max(0, min(1, alpha * x + beta)). ONNX HardSigmoid-6."""

    ulps: ClassVar[float] = 2
    alpha: float = 0.2
    beta: float = 0.5

    def ref(self, x: Array) -> Array:
        line = x * x.dtype.type(self.alpha) + x.dtype.type(self.beta)
        return np.minimum(np.maximum(line, x.dtype.type(0)), x.dtype.type(1))

    def error(self, x: Array) -> Array:
        wide = np.abs(x.astype(np.float64))
        inside = np.minimum(abs(self.alpha) * wide, 1 + abs(self.beta)) + abs(self.beta)  # beyond that it is clipped
        return gamma(4, [x]) * inside

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(0.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(HardSigmoid(draw.choice([0.2, SIXTH]), 0.5), draw.array(draw.shape(), F32, -6, 6))


@op
class HardSwish(Unary):
    """x * max(0, min(1, x / 6 + 1/2)). ONNX HardSwish-14; Howard et al. 2019, arXiv:1905.02244."""

    ulps: ClassVar[float] = 3

    def ref(self, x: Array) -> Array:
        line = x / x.dtype.type(6) + x.dtype.type(0.5)
        return x * np.minimum(np.maximum(line, x.dtype.type(0)), x.dtype.type(1))

    def definition(self, x: Value) -> Any:
        return mul(x, hard_sigmoid(x, alpha=SIXTH, beta=0.5))

    def error(self, x: Array) -> Array:
        # The clipped factor is off by roundings of 1; the error is relative to x.
        return gamma(8, [x]) * np.abs(x.astype(np.float64)) + smallest(x)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.where(x.lo >= 0, 0.0, np.maximum(-0.376, x.lo)), np.maximum(x.hi, 0.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(HardSwish(), draw.array(draw.shape(), F32, -6, 6))


@op
class Silu(Unary):
    """x / (1 + e^-x), also called swish. ONNX Swish-24 with alpha 1; Elfwing et al. 2017, arXiv:1702.03118."""

    ulps: ClassVar[float] = 7

    def ref(self, x: Array) -> Array:
        return x / (1 + np.exp(-x))

    def definition(self, x: Value) -> Any:
        return mul(x, sigmoid(x))

    def error(self, x: Array) -> Array:
        # Where e^-x overflows the quotient is 0, and what it should be is x times less than the smallest number.
        wide = x.astype(np.float64)
        return gamma(2 * self.ulps, [x]) * np.abs(self.ref(wide)) + (1 + np.abs(wide)) * smallest(x)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.where(x.lo >= 0, 0.0, np.maximum(-0.279, x.lo)), np.maximum(x.hi, 0.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Silu(), draw.array(draw.shape(), F32, -10, 10))


@op
class Tanh(Unary):
    """Hyperbolic tangent. ONNX Tanh-13."""

    natural_range: ClassVar[tuple[float, float] | None] = (-1.0, 1.0)

    def ref(self, x: Array) -> Array:
        return np.tanh(x)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.array(-1.0), np.array(1.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Tanh(), draw.array(draw.shape(), F32, -5, 5))


@op
class Abs(Elementwise):
    """The absolute value; of both zeros 0, of the lowest integer itself. ONNX Abs-13."""

    ulps: ClassVar[float] = 0

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype != BOOL, "abs takes numbers, not bool")
        return x

    def ref(self, x: Array) -> Array:
        return np.abs(x)

    def bounds(self, x: Bounds) -> Bounds:
        if x.type.dtype.is_integer and x.lo.size and int(x.lo.min()) == x.type.dtype.min < 0:
            return Bounds.top(x.type)
        away = np.maximum(x.lo, -x.hi)  # how far from 0 the interval begins
        return Bounds(x.type, np.maximum(away, np.zeros_like(away)), np.maximum(np.abs(x.lo), np.abs(x.hi)))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return tabulated(self, operands, result)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Abs(), draw.array(draw.shape(), draw.dtype(F32, I32, I8, U8)))


@op
class Cast(Elementwise):
    """The same numbers in another dtype: floats to integers by truncation, integers to fewer bits wrap. ONNX Cast-21.

    What a float gives that an integer dtype cannot hold, ONNX leaves undefined. Here it becomes an integer first, of
    at least 32 bits (`carrier`): its integer part, the nearest end of the range beyond it, 0 for NaN; and that wraps.
    """

    dtype: DType

    def infer(self, x: TensorType) -> TensorType:
        return x.with_dtype(self.dtype)

    def ref(self, x: Array) -> Array:
        if self.dtype == BOOL:
            return x != 0
        if not dtype_of(x).is_float or self.dtype.is_float:
            return x.astype(self.dtype.numpy)
        return truncated(x, *carrier(self.dtype)).astype(self.dtype.numpy)

    def error(self, x: Array) -> Array:
        like = np.zeros(0, self.dtype.numpy)
        if not self.dtype.is_float or self.dtype is EXACT:
            return np.zeros(x.shape)
        return gamma(1, [like]) * np.abs(x.astype(np.float64)) + smallest(like)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        source, shape = draw.dtype(F32, I8, U8, I32, BOOL), draw.shape()
        x = draw.array(shape, source, *((-300, 300) if source.is_float else ()))
        if source.is_float and draw.boolean():  # far beyond every integer, and what is no number
            far = x * np.float32(10.0 ** draw.integer(0, 18))
            x = np.where(far == 0, np.float32(draw.choice([0.0, -0.0, np.nan, np.inf, -np.inf])), far)
        return Instance.of(Cast(draw.choice([F32, I32, I8, U8, I16, U16, U32, BOOL])), x)


def carrier(dtype: DType) -> tuple[int, int]:
    """The range of the integers that floats become on their way to an integer dtype: i32, i64 where that is too small.

    For u64 it is what i64 and u64 hold together.
    """
    wide = dtype.bits == 64 or dtype == U32
    return (I64.min, max(I64.max, dtype.max)) if wide else (I32.min, I32.max)


def truncated(x: Array, lo: int, hi: int) -> Array:
    """The integer parts of floats as i64, those beyond [lo, hi] the nearer end; NaN is 0. From 2^63 on they wrap."""
    wide = x.astype(np.float64)
    low, high = wide <= lo, wide >= hi
    inside = np.where(low | high | np.isnan(wide), 0.0, wide)
    whole = np.where(inside >= 2.0**63, inside - 2.0**64, inside).astype(np.int64)
    return np.where(low, np.int64(lo), np.where(high, np.uint64(hi).astype(np.int64), whole))


abs_ = builder(Abs)
exp, log, sqrt, erf, floor = builder(Exp), builder(Log), builder(Sqrt), builder(Erf), builder(Floor)
sigmoid, tanh, cast, gelu = builder(Sigmoid), builder(Tanh), builder(Cast), builder(Gelu)
hard_sigmoid, hard_swish, silu = builder(HardSigmoid), builder(HardSwish), builder(Silu)
