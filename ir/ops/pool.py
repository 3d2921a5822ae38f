"""Pooling over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..builder import builder
from ..channels import Channels, tied
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, Perm, expect, expect_dtype, op
from ..rounding import rounding_error
from ..types import F32, I8, I32, NCHW, U8, Array, Layout, TensorType
from .quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, overflow
from .windows import Pads2, Size2, centred, from_nhwc, pooled, to_layout, windows


class Pooling(Op):
    """Base: one operand, an image in `layout`; a window slides over it."""

    def infer(self, x: TensorType) -> TensorType:
        return _pooled_type(self, x, x)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        this: Any = self
        other: Layout = this.layout.other
        if perm != other.to(this.layout):
            return None
        return self.like(layout=other), (None,), perm

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        this: Any = self
        axis = this.layout.channel
        size = operands[0].shape[axis]
        return (tied([(0, axis)], [(0, axis)], size),) if isinstance(size, int) else ()


def _pooled_type(op: Any, x: TensorType, dtype_of: TensorType) -> TensorType:
    expect(x.rank == 4, "an image has rank 4")
    height, width = pooled([x.shape[i] for i in op.layout.spatial], op.window, op)
    extents = [(w - 1) * d + 1 for w, d in zip(op.window, op.dilations, strict=True)]
    expect(all(p < e for p, e in zip(op.pads, extents * 2, strict=True)), "pads are smaller than the (dilated) window")
    return TensorType(op.layout.shape(x.shape[0], x.shape[op.layout.channel], height, width), dtype_of.dtype)


def _examples(cls: Any, draw: Draw, x_dtype: Any, **attributes: Any) -> Instance:
    window, layout = draw.size2(1, 3), draw.layout()
    pads = tuple(draw.integer(0, window[i % 2] - 1) for i in range(4))
    height, width = (draw.integer(k, 7) for k in window)
    op = cls(window, draw.size2(1, 3), pads, layout=layout, **attributes)
    return Instance.of(op, draw.array(layout.shape(draw.integer(1, 2), draw.integer(1, 5), height, width), x_dtype))  # type: ignore[arg-type]


@op
class MaxPool2d(Pooling):
    """Maximum over each window; padding never wins. x: [N,C,H,W] or [N,H,W,C], any real dtype. ONNX MaxPool-22."""

    selects: ClassVar[bool] = True
    ulps: ClassVar[float] = 0
    window: Size2
    strides: Size2 = (1, 1)
    pads: Pads2 = (0, 0, 0, 0)
    dilations: Size2 = (1, 1)
    layout: Layout = NCHW

    def ref(self, x: Array) -> Array:
        lowest = np.iinfo(x.dtype).min if np.issubdtype(x.dtype, np.integer) else -np.inf
        image = to_layout(x, self.layout)
        return from_nhwc(windows(image, self.window, self, fill=lowest).max(axis=(4, 5)), self.layout)

    def bounds(self, x: Bounds) -> Bounds:
        return Bounds(self.infer(x.type), *x.over(self.layout.spatial))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _examples(MaxPool2d, draw, draw.dtype(F32, I8, U8))


@op
class AvgPool2d(Pooling):
    """Mean over each window; padding counts as zeros or not at all. Floats only. ONNX AveragePool-22."""

    window: Size2
    strides: Size2 = (1, 1)
    pads: Pads2 = (0, 0, 0, 0)
    dilations: Size2 = (1, 1)
    count_pads: bool = False
    layout: Layout = NCHW

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(x.dtype.is_float, "avg_pool2d takes floats; integers use sum_pool2d and rescale")
        return _pooled_type(self, x, x)

    def ref(self, x: Array) -> Array:
        image = to_layout(x, self.layout)
        total = windows(image, self.window, self, fill=0).sum(axis=(4, 5))
        return from_nhwc(total / window_counts(self, image.shape[1:3]).astype(x.dtype), self.layout)

    def error(self, x: Array) -> Array:
        return rounding_error(self.ref, (x,), terms=self.window[0] * self.window[1], ulps=self.ulps)

    def bounds(self, x: Bounds) -> Bounds:
        lo, hi = x.over(self.layout.spatial)
        if self.count_pads and any(self.pads):
            lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
        return Bounds(self.infer(x.type), lo, hi)

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        (x,) = operands
        if x.value is None or not x.per_tensor:
            return Refusal("the input is not quantized per tensor")
        total = sum_pool2d(
            x.value, window=self.window, strides=self.strides, pads=self.pads, dilations=self.dilations,
            input_zero=int(x.zero.item()), layout=self.layout,
        )  # fmt: skip
        if overflow(total) > 1:
            return Refusal(NOT_PROVEN)
        counts = window_counts(self, tuple(int(x.type.shape[i]) for i in self.layout.spatial))  # type: ignore[arg-type]
        factor = float(x.scale.item()) / result.scale / from_nhwc(counts, self.layout)
        return result.rescaled(total, factor.flat[0] if np.ptp(counts) == 0 else factor)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _examples(AvgPool2d, draw, F32, count_pads=draw.boolean())


def window_counts(op: AvgPool2d, spatial: tuple[int, ...]) -> Array:
    """How many elements each window averages: [1, OH, OW, 1]."""
    inside = np.ones((1, *spatial, 1))
    return windows(inside, op.window, op, fill=1 if op.count_pads else 0).sum(axis=(4, 5))


@op
class SumPool2d(Pooling):
    """Sum of (x - input_zero) over each window, padding counts as input_zero. Integers up to 16 bits; gives i32."""

    window: Size2
    strides: Size2 = (1, 1)
    pads: Pads2 = (0, 0, 0, 0)
    dilations: Size2 = (1, 1)
    input_zero: int = 0
    layout: Layout = NCHW

    def infer(self, x: TensorType) -> TensorType:
        expect_dtype(
            x.dtype.is_integer and x.dtype.bits <= 16, f"sum_pool2d takes integers of up to 16 bits, not {x.dtype}"
        )
        return _pooled_type(self, x, x.with_dtype(I32))

    def ref(self, x: Array) -> Array:
        image = to_layout(centred(x, self.input_zero), self.layout)
        return from_nhwc(windows(image, self.window, self, fill=0).sum(axis=(4, 5)), self.layout)

    def bounds(self, x: Bounds) -> Bounds:
        lo, hi = (end - self.input_zero for end in x.over(self.layout.spatial))
        if any(self.pads):
            lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
        size = self.window[0] * self.window[1]
        return Bounds(self.infer(x.type), size * lo, size * hi)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return _examples(SumPool2d, draw, I8, input_zero=draw.integer(-128, 127))


max_pool2d, avg_pool2d, sum_pool2d = builder(MaxPool2d), builder(AvgPool2d), builder(SumPool2d)
