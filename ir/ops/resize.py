"""Images of another size: the nearest pixel, or linear interpolation between pixels."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..builder import builder
from ..channels import Channels, tied
from ..graph import Value
from ..op import Bounds, Cost, Draw, Instance, Op, Perm, expect, expect_dtype, op, traffic
from ..rounding import rounding_error
from ..types import F32, I8, I32, NCHW, U8, Array, Layout, TensorType
from .quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, overflow
from .windows import Size2, centred, from_nhwc, to_layout

#: Of integers, the weights along one axis are multiples of 2^-10.
WEIGHT_BITS = 10
#: What the weights of one result add up to, and so the unit of sums of integers.
UNIT = 1 << 2 * WEIGHT_BITS
#: Rounded weights are off by up to 2^-11 of 255 steps of the operand, along each axis: times so many, by a step of the
#: result (docs/arithmetic.md).
COARSEST = 3.5


class Coordinates(enum.Enum):
    """Where a pixel of the result lies in the operand: coordinate_transformation_mode of ONNX."""

    half_pixel = enum.auto()
    pytorch_half_pixel = enum.auto()
    asymmetric = enum.auto()
    align_corners = enum.auto()


class Rounding(enum.Enum):
    """Which pixel is the nearest: nearest_mode of ONNX."""

    round_prefer_floor = enum.auto()
    round_prefer_ceil = enum.auto()
    floor = enum.auto()
    ceil = enum.auto()


class Taps(NamedTuple):
    """Two pixels along one axis for each of the result, i32[n], and how much of the second: f32[n] in [0, 1)."""

    first: Array
    second: Array
    share: Array

    @property
    def weights(self) -> tuple[Array, Array]:
        """Of integers: how much of the first and of the second, i64[n], 2^WEIGHT_BITS together; rounded half up."""
        second = np.floor(self.share.astype(np.float64) * (1 << WEIGHT_BITS) + 0.5).astype(np.int64)
        return (1 << WEIGHT_BITS) - second, second


#: As near to the middle between two pixels a place counts as the middle: ONNX Runtime's measure.
TIE = np.float32(1e-6)


def places(op: Any, axis: int, size: int) -> Array:
    """Where the pixels of the result lie along axis 0 (rows) or 1 of an image of this size, at its ends at most.

    In float32, as ONNX Runtime computes them: where two pixels are equally near, rounding decides.
    """
    made, scale = op.size[axis], np.float32(op.scales[axis])
    i = np.arange(made, dtype=np.float32)
    if op.coordinates is Coordinates.align_corners:
        x = i * np.float32(size - 1) / np.float32(max(made - 1, 1))
    elif op.coordinates is Coordinates.asymmetric:
        x = i / scale
    elif op.coordinates is Coordinates.pytorch_half_pixel and made == 1:
        x = np.zeros(1, np.float32)
    else:
        x = (i + np.float32(0.5)) / scale - np.float32(0.5)
    return np.clip(x, np.float32(0), np.float32(size - 1))


def nearest_taps(op: ResizeNearest, axis: int, size: int) -> Array:
    """The pixel that each pixel of the result is, i32[n], along axis 0 (rows) or 1 of an image of this size.

    Places within `TIE` of the middle between two pixels are in the middle: the scale itself is rounded.
    """
    x = places(op, axis, size)
    below = np.floor(x)
    beyond = x - below - np.float32(0.5)
    if op.rounding is Rounding.floor:
        x = below
    elif op.rounding is Rounding.ceil:
        x = np.ceil(x)
    elif op.rounding is Rounding.round_prefer_floor:
        x = below + (beyond >= TIE)
    else:
        x = below + (beyond > -TIE)
    return np.clip(x, 0, size - 1).astype(np.int32)


def linear_taps(op: ResizeLinear, axis: int, size: int) -> Taps:
    """The pixels between which each pixel of the result lies, along axis 0 (rows) or 1 of an image of this size."""
    x = places(op, axis, size)
    first = np.floor(x).astype(np.int32)
    return Taps(first, np.minimum(first + 1, np.int32(size - 1)), x - first.astype(np.float32))


class Resizing(Op):
    """Base: one operand, an image in `layout`, and the sizes and places of the result's pixels."""

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        this: Any = self
        other: Layout = this.layout.other
        return (self.like(layout=other), (None,), perm) if perm == other.to(this.layout) else None

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        this: Any = self
        axis = this.layout.channel
        size = operands[0].shape[axis]
        return (tied([(0, axis)], [(0, axis)], size),) if isinstance(size, int) else ()


def _resized(op: Any, x: TensorType) -> TensorType:
    expect(x.rank == 4, "an image has rank 4")
    spatial = [x.shape[i] for i in op.layout.spatial]
    expect(all(isinstance(d, int) and d >= 1 for d in spatial), f"the height and width of {x} must be known")
    expect(min(op.size) >= 1, f"{list(op.size)} is no size")
    expect(all(math.isfinite(s) and np.float32(s) > 0 for s in op.scales), f"scales {list(op.scales)} are not positive")
    return TensorType(op.layout.shape(x.shape[0], x.shape[op.layout.channel], *op.size), x.dtype)


def _examples(cls: Any, draw: Draw, dtype: Any, **attributes: Any) -> Instance:
    layout, spatial = draw.layout(), draw.size2(1, 5)
    size, scales = [], []
    for given in spatial:
        scale = draw.choice([0.0, 1.0, 2.0, 3.0, 1.5, 2.75, 0.5, 0.6])
        made = int(np.float32(scale) * np.float32(given)) or draw.integer(1, 11)
        size.append(made)
        scales.append(scale if int(np.float32(scale) * np.float32(given)) else made / given)
    op = cls(tuple(size), tuple(float(np.float32(s)) for s in scales), layout=layout, **attributes)
    shape: Any = layout.shape(draw.integer(1, 2), draw.integer(1, 4), *spatial)
    return Instance.of(op, draw.array(shape, dtype))


@op
class ResizeNearest(Resizing):
    """Each pixel of the result is the nearest of the operand. x: [N,C,H,W] or [N,H,W,C]. ONNX Resize-19, nearest.

    size: height and width of the result. scales: result by operand, from which places follow (`places`).
    """

    moves_data: ClassVar[bool] = True
    size: Size2
    scales: tuple[float, float]
    coordinates: Coordinates = Coordinates.half_pixel
    rounding: Rounding = Rounding.round_prefer_floor
    layout: Layout = NCHW

    def infer(self, x: TensorType) -> TensorType:
        return _resized(self, x)

    def ref(self, x: Array) -> Array:
        image = to_layout(x, self.layout)
        rows, columns = (nearest_taps(self, axis, image.shape[1 + axis]) for axis in (0, 1))
        return from_nhwc(image[:, rows][:, :, columns], self.layout)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        coordinates, rounding = draw.choice(list(Coordinates)), draw.choice(list(Rounding))
        return _examples(ResizeNearest, draw, draw.dtype(F32, I8), coordinates=coordinates, rounding=rounding)


@op
class ResizeLinear(Resizing):
    """Each pixel of the result lies between four of the operand. ONNX Resize-19, linear, along rows and columns.

    Floats. Integers of 8 bits give i32: 2^20 times the interpolation of x - input_zero, with weights that are multiples
    of 2^-10 along each axis, which `rescale` divides by (docs/arithmetic.md).
    """

    size: Size2
    scales: tuple[float, float]
    coordinates: Coordinates = Coordinates.half_pixel
    input_zero: int = 0
    layout: Layout = NCHW

    def infer(self, x: TensorType) -> TensorType:
        integer = x.dtype.is_integer and x.dtype.bits <= 8
        expect_dtype(integer or x.dtype.is_float, f"resize_linear takes floats and integers of 8 bits, not {x.dtype}")
        return _resized(self, x).with_dtype(I32 if integer else x.dtype)

    def ref(self, x: Array) -> Array:
        image = to_layout(centred(x, self.input_zero), self.layout)
        for axis in (0, 1):
            taps = linear_taps(self, axis, image.shape[1 + axis])
            share = taps.share.astype(image.dtype)
            near, far = taps.weights if np.issubdtype(image.dtype, np.integer) else (1 - share, share)
            near, far = (w.reshape((-1,) + (1,) * (2 - axis)) for w in (near, far))
            image = image.take(taps.first, 1 + axis) * near + image.take(taps.second, 1 + axis) * far
        return from_nhwc(image, self.layout)

    def error(self, x: Array) -> Array:
        # Places are rounded to float32: that moves them by units of their size.
        return rounding_error(self.ref, (x,), terms=6 + 2 * max(to_layout(x, self.layout).shape[1:3]), ulps=self.ulps)

    def cost(self, x: TensorType) -> Cost:
        return traffic(self, (x,), macs=4 * self.infer(x).size)

    def bounds(self, x: Bounds) -> Bounds:
        lo, hi = x.over(self.layout.spatial)
        if x.type.dtype.is_integer:
            lo, hi = (UNIT * (end.astype(np.int64) - self.input_zero) for end in (lo, hi))
        return Bounds(self.infer(x.type), lo, hi)

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        (x,) = operands
        if x.value is None or not x.per_tensor or x.value.type.dtype.bits != 8:
            return Refusal("the input is not an 8-bit tensor with one scale")
        if float(x.scale.item()) > COARSEST * result.scale:
            return Refusal("the result's scale is too fine for weights of 10 bits")
        total = resize_linear(
            x.value, size=self.size, scales=self.scales, coordinates=self.coordinates,
            input_zero=int(x.zero.item()), layout=self.layout,
        )  # fmt: skip
        if overflow(total) > 1:
            return Refusal(NOT_PROVEN)
        return result.rescaled(total, float(x.scale.item()) / result.scale / UNIT)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        dtype, coordinates = draw.dtype(F32, I8, U8), draw.choice(list(Coordinates))
        zero = 0 if dtype.is_float else draw.integer(dtype.min, dtype.max)
        return _examples(ResizeLinear, draw, dtype, coordinates=coordinates, input_zero=zero)


resize_nearest, resize_linear = builder(ResizeNearest), builder(ResizeLinear)
