"""Normalizations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from ..builder import builder, number
from ..channels import Channels, tied
from ..graph import Value
from ..op import Draw, Instance, Op, Perm, expect, expect_dtype, last_axis_permuted, op, same_dtype
from ..roles import ACTIVATION, PARAMETER, Role
from ..rounding import gamma, likely
from ..types import F32, NCHW, NHWC, Array, Layout, TensorType
from .elementwise import add, div, mul, sub
from .reduce import reduce_mean
from .unary import sqrt


@op
class BatchNorm(Op):
    """(x - mean) / sqrt(var + epsilon) * scale + shift, per channel; inference only. ONNX BatchNormalization-15.

    x: channels on axis 1 (NCHW, any rank >= 2) or on the last axis (NHWC); scale, shift, mean, var: [C].
    """

    epsilon: float = 1e-5
    layout: Layout = NCHW

    def infer(
        self, x: TensorType, scale: TensorType, shift: TensorType, mean: TensorType, var: TensorType
    ) -> TensorType:
        expect_dtype(x.dtype.is_float, f"batch_norm takes floats, not {x}")
        expect(x.rank >= 2, f"batch_norm takes rank 2 or more, not {x}")
        channels = x.shape[1 if self.layout is NCHW else -1]
        for t in (scale, shift, mean, var):
            expect(t.shape == (channels,), f"parameters are [{channels}], not {t}")
        same_dtype(x, scale, shift, mean, var)
        return x

    def ref(self, x: Array, scale: Array, shift: Array, mean: Array, var: Array) -> Array:
        def spread(v: Array) -> Array:
            return v.reshape(-1, *(1,) * (x.ndim - 2)) if self.layout is NCHW else v

        epsilon = x.dtype.type(self.epsilon)
        return (x - spread(mean)) / np.sqrt(spread(var) + epsilon) * spread(scale) + spread(shift)

    def error(self, x: Array, scale: Array, shift: Array, mean: Array, var: Array) -> Array:
        # Magnitudes add up, whatever the signs are: |x| + |mean|. Seven roundings stand between x and the result.
        wide = [v.astype(np.float64) for v in (np.abs(x), np.abs(scale), np.abs(shift), -np.abs(mean), var)]
        return gamma(7, (x,)) * self.ref(*wide)

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        channel = perm[1 if self.layout is NCHW else -1]  # the axis of the untransposed image
        if channel not in (1, len(perm) - 1):
            return None
        return self.like(layout=NCHW if channel == 1 else NHWC), (None,) * 5, perm

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        axis = 1 if self.layout is NCHW else operands[0].rank - 1
        size = operands[0].shape[axis]
        return (tied([(0, axis), *((i, 0) for i in range(1, 5))], [(0, axis)], size),) if isinstance(size, int) else ()

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(2)
        c = shape[1]
        parameters = [draw.array((c,), F32, -2, 2) for _ in range(3)]
        return Instance.of(
            BatchNorm(draw.choice([1e-5, 1e-3])), draw.array(shape, F32), *parameters, draw.array((c,), F32, 0.1, 2),
            constants=(1, 2, 3, 4),
        )  # fmt: skip


@op
class LayerNorm(Op):
    """(x - mean) / sqrt(variance + epsilon) * scale + shift along the last axis. ONNX LayerNormalization-17.

    x: [..., K], scale and shift: [K]. Floats only.
    """

    epsilon: float = 1e-5

    def infer(self, x: TensorType, scale: TensorType, shift: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float, f"layer_norm takes floats, not {x}")
        expect(x.rank >= 1, f"layer_norm takes rank 1 or more, not {x}")
        for t in (scale, shift):
            expect(t.shape == x.shape[-1:], f"parameters are {list(x.shape[-1:])}, not {t}")
        same_dtype(x, scale, shift)
        return x

    def ref(self, x: Array, scale: Array, shift: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + x.dtype.type(self.epsilon)) * scale + shift

    def definition(self, x: Value, scale: Value, shift: Value) -> Any:
        last = (x.type.rank - 1,)
        centred = sub(x, reduce_mean(x, axes=last))
        variance = reduce_mean(mul(centred, centred), axes=last)
        normalized = div(centred, sqrt(add(variance, number(x, self.epsilon))))
        scaled = normalized if _is_all(scale, 1) else mul(normalized, scale)
        return scaled if _is_all(shift, 0) else add(scaled, shift)

    def error(self, x: Array, scale: Array, shift: Array) -> Array:
        # x - mean is off by `off`; so the variance by `doubt`, and the quotient lies between the ends that follow.
        # Executors that compute the variance as mean(x^2) - mean^2 are off by roundings of mean(x^2).
        wide, n = x.astype(np.float64), x.shape[-1]
        centred = wide - wide.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        unit = gamma(likely(n, alike=True) + 4, (x,))
        off = unit * (np.abs(wide).mean(axis=-1, keepdims=True) + np.abs(wide))
        doubt = 3 * unit * (wide * wide).mean(axis=-1, keepdims=True)
        low, high = (np.maximum(variance + s * doubt, 0) + self.epsilon * (1 + s * unit) for s in (-1, 1))
        exact = np.abs(centred) / np.sqrt(variance + self.epsilon)
        above = (np.abs(centred) + off) / np.sqrt(low) - exact
        below = exact - np.maximum(np.abs(centred) - off, 0) / np.sqrt(high)
        quotient = np.maximum(above, below) + gamma(4, (x,)) * (exact + above)
        return quotient * np.abs(scale) + gamma(4, (x,)) * ((exact + quotient) * np.abs(scale) + np.abs(shift))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return (ACTIVATION, *[PARAMETER] * (len(operands) - 1))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return last_axis_permuted(self, perm, 3)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(1)
        parameters = [draw.array(shape[-1:], F32, -2, 2) for _ in range(2)]
        return Instance.of(LayerNorm(draw.choice([1e-5, 1e-3])), draw.array(shape, F32), *parameters, constants=(1, 2))


def _is_all(value: Value, number: float) -> bool:
    return value.const is not None and bool(np.all(value.const == number))


@op
class Lrn(Op):
    """x / (bias + alpha / size * s)^beta, s the sum of squares of `size` neighbouring channels. ONNX LRN-13.

    x: [N,C,H,W]. Neighbours: (size - 1) // 2 before, the rest after; there are none beyond the ends.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float, f"lrn takes floats, not {x}")
        expect(x.rank == 4 and self.size >= 1, f"lrn takes images, not {x}")
        return x

    def ref(self, x: Array) -> Array:
        before = (self.size - 1) // 2
        sides = [(0, 0)] * x.ndim
        sides[1] = (before, self.size - 1 - before)
        squares = np.pad(x * x, sides)
        sums = sum(squares[:, i : i + x.shape[1]] for i in range(self.size))
        base = x.dtype.type(self.bias) + x.dtype.type(self.alpha / self.size) * sums
        return x / base ** x.dtype.type(self.beta)

    def error(self, x: Array) -> Array:
        # The base is a sum of positive terms; its relative error grows by the exponent.
        n = (self.size + 4) * max(1.0, abs(self.beta)) + 2 * 4 + 2
        return gamma(n, (x,)) * np.abs(self.ref(x.astype(np.float64)))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        op = Lrn(draw.choice([1, 3, 5]), draw.real(0.001, 2.0), draw.choice([0.5, 0.75, 1.0]), draw.real(0.5, 2.0))
        return Instance.of(op, draw.array(draw.shape(4), F32))


batch_norm, layer_norm, lrn = builder(BatchNorm), builder(LayerNorm), builder(Lrn)
