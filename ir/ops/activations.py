"""Activations that are seldom met on small machines: each has a definition, and where it is quantized it is a table."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..builder import builder, number
from ..graph import Value
from ..op import Bounds, Draw, Instance, op
from ..rounding import gamma, smallest
from ..types import F32, Array, converted, dtype_of
from .elementwise import add, clip, div, minimum, mul
from .unary import Unary, exp, increasing, log, tanh


@op
class Elu(Unary):
    """scale * x where x is positive, and scale * alpha * (e^(x / width) - 1) elsewhere. ONNX Elu-22, Selu-22, Celu-12.

    Clevert et al. 2016, arXiv:1511.07289; `scale` is SELU's (Klambauer et al. 2017, arXiv:1706.02515), `width` CELU's
    (Barron 2017, arXiv:1704.07483).
    """

    ulps: ClassVar[float] = 6
    alpha: float = 1.0
    scale: float = 1.0
    width: float = 1.0

    def ref(self, x: Array) -> Array:
        zero, one, scale, alpha, width = _numbers(x, 0, 1, self.scale, self.alpha, self.width)
        below = np.exp(np.minimum(x, zero) / width) - one
        return np.maximum(x, zero) * scale + below * (alpha * scale)

    def definition(self, x: Value) -> Any:
        below = clip(x, hi=0.0) if self.width == 1 else div(clip(x, hi=0.0), number(x, self.width))
        above = clip(x, lo=0.0) if self.scale == 1 else mul(clip(x, lo=0.0), number(x, self.scale))
        return add(above, mul(add(exp(below), number(x, -1.0)), number(x, self.alpha, self.scale)))

    def error(self, x: Array) -> Array:
        # The exponential and 1 nearly cancel where x is near 0: the error is relative to them.
        wide = np.maximum(x.astype(np.float64), 0)
        return gamma(2 * self.ulps, [x]) * (abs(self.scale) * (wide + 2 * abs(self.alpha))) + smallest(x)

    def bounds(self, x: Bounds) -> Bounds:
        if min(self.alpha, self.scale, self.width) < 0:
            return Bounds.top(x.type)
        return increasing(self, x, 4 * abs(self.scale) * (1 + abs(self.alpha)))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        op = Elu(draw.choice([1.0, 0.5, 1.75]), draw.choice([1.0, 1.0625]), draw.choice([1.0, 0.5]))
        return Instance.of(op, draw.array(draw.shape(), F32, -6, 6))


@op
class Softplus(Unary):
    """log(1 + e^x), as max(x, 0) + log(1 + e^-|x|), which does not overflow. ONNX Softplus-22."""

    ulps: ClassVar[float] = 6

    def ref(self, x: Array) -> Array:
        zero, one = _numbers(x, 0, 1)
        return np.maximum(x, zero) + np.log(np.exp(np.minimum(x, -x)) + one)

    def definition(self, x: Value) -> Any:
        fraction = exp(minimum(x, mul(x, number(x, -1.0))))
        return add(clip(x, lo=0.0), log(add(fraction, number(x, 1.0))))

    def error(self, x: Array) -> Array:
        # 1 + e^-|x| is rounded near 1, and so is what the logarithm makes of that.
        return gamma(2 * self.ulps, [x]) * (np.maximum(x.astype(np.float64), 0) + 1) + smallest(x)

    def bounds(self, x: Bounds) -> Bounds:
        return increasing(self, x, 4.0)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Softplus(), draw.array(draw.shape(), F32, -20, 20))


@op
class Mish(Unary):
    """x * tanh(log(1 + e^x)). ONNX Mish-22; Misra 2019, arXiv:1908.08681."""

    ulps: ClassVar[float] = 10

    def ref(self, x: Array) -> Array:
        return x * np.tanh(Softplus().ref(x))

    def definition(self, x: Value) -> Any:
        return mul(x, tanh(Softplus().definition(x)))

    def error(self, x: Array) -> Array:
        # What tanh makes of the error of softplus is at most a few roundings of 1, relative to x.
        return gamma(4 * self.ulps, [x]) * np.abs(x.astype(np.float64)) + smallest(x)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(x.type, np.where(x.lo >= 0, 0.0, np.maximum(-0.31, x.lo)), np.maximum(x.hi, 0.0))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Mish(), draw.array(draw.shape(), F32, -10, 10))


def _numbers(x: Array, *values: float) -> list[Array]:
    """Scalars of x's dtype."""
    return [converted(np.array(value, np.float64), dtype_of(x)) for value in values]


elu, softplus, mish = builder(Elu), builder(Softplus), builder(Mish)
