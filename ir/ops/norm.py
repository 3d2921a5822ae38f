"""Normalizations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from ..builder import builder
from ..op import Draw, Instance, Op, Perm, expect, gamma, op, same_dtype
from ..types import F32, NCHW, NHWC, Array, Layout, TensorType


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

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        channel = perm[1 if self.layout is NCHW else -1]  # the axis of the untransposed image
        if channel not in (1, len(perm) - 1):
            return None
        return self.like(layout=NCHW if channel == 1 else NHWC), (None,) * 5, perm

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(2)
        c = shape[1]
        parameters = [draw.array((c,), F32, -2, 2) for _ in range(3)]
        return Instance.of(
            BatchNorm(draw.choice([1e-5, 1e-3])), draw.array(shape, F32), *parameters, draw.array((c,), F32, 0.1, 2),
            constants=(1, 2, 3, 4),
        )  # fmt: skip


batch_norm = builder(BatchNorm)
