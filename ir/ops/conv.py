"""Convolutions over images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..builder import builder
from ..channels import Channels, Kept, summed, tied
from ..graph import Value
from ..op import Bounds, Cost, Draw, Instance, Op, Perm, expect, op, traffic
from ..roles import ACTIVATION, BIAS, Role, weight
from ..types import F32, I8, I32, NCHW, Array, Layout, Sym, TensorType, static
from .contraction import accumulated, contract, dequantized_linear, linear_bounds, quantized_linear
from .quantized import QuantizedOperand, QuantizedResult, Refusal
from .windows import Pads2, Size2, centred, pooled, to_layout, windows

#: Elements of windows, and pixels of the result, that are copied and multiplied at once.
COLUMNS, PIXELS = 1 << 25, 1 << 20


@op
class Conv2d(Op):
    """Two-dimensional convolution (cross-correlation). ONNX Conv-22 with a bias.

    x: [N,C,H,W], w: [O,C/groups,kh,kw] in layout NCHW; x: [N,H,W,C], w: [O,kh,kw,C/groups] in NHWC; b: [O].
    Floats give their own dtype. Integers give i32: the sum of (x - input_zero) * w over the window, plus b (i32);
    padding counts as input_zero.
    """

    strides: Size2 = (1, 1)
    pads: Pads2 = (0, 0, 0, 0)
    dilations: Size2 = (1, 1)
    groups: int = 1
    input_zero: int = 0
    layout: Layout = NCHW

    def infer(self, x: TensorType, w: TensorType, b: TensorType) -> TensorType:
        expect(x.rank == 4 and w.rank == 4, "image and weights have rank 4")
        expect(min(*self.strides, *self.dilations, self.groups) >= 1, "strides, dilations and groups are at least 1")
        channels, outputs = x.shape[self.layout.channel], w.shape[0]
        taken = w.shape[self.layout.channel]
        expect(not isinstance(taken, Sym) and taken * self.groups == channels, f"weights {w} do not fit the image {x}")
        expect(isinstance(outputs, int) and outputs % self.groups == 0, "groups do not divide the output channels")
        expect(b.shape == (outputs,), f"bias {b} is not [{outputs}]")
        height, width = pooled([x.shape[i] for i in self.layout.spatial], self._window(w), self)
        return TensorType(self.layout.shape(x.shape[0], outputs, height, width), accumulated(x, w, b))

    def _window(self, w: TensorType | Array) -> tuple[int, int]:
        i, j = self.layout.spatial
        return int(w.shape[i]), int(w.shape[j])  # type: ignore[arg-type]

    def ref(self, x: Array, w: Array, b: Array) -> Array:
        image = to_layout(centred(x, self.input_zero), self.layout)
        kernel = to_layout(w, self.layout)  # O, kh, kw, C/groups
        outputs, depth = kernel.shape[0], int(np.prod(kernel.shape[1:]))
        patches = windows(image, kernel.shape[1:3], self, fill=0)  # N, OH, OW, C, kh, kw
        n, oh, ow, _, kh, kw = patches.shape

        def columns(patches: Array) -> Array:
            parts = patches.reshape(-1, self.groups, depth // (kh * kw), kh, kw).transpose(1, 0, 3, 4, 2)
            return parts.reshape(self.groups, -1, depth)

        rows = kernel.reshape(self.groups, outputs // self.groups, depth).transpose(0, 2, 1)
        pixels, count = n * oh * ow, max(min(COLUMNS // (self.groups * depth), PIXELS), 1)
        if pixels <= count:
            product = contract(columns(patches), rows)
        else:
            places = (np.arange(i, min(i + count, pixels)) for i in range(0, pixels, count))
            parts = [contract(columns(patches[np.unravel_index(p, (n, oh, ow))]), rows) for p in places]
            product = np.concatenate(parts, axis=1)
        product = product.transpose(1, 0, 2).reshape(n, oh, ow, outputs)
        result = product + b
        return result if self.layout is not NCHW else result.transpose(0, 3, 1, 2)

    def cost(self, x: TensorType, w: TensorType, b: TensorType) -> Cost:
        return traffic(self, (x, w, b), macs=self.infer(x, w, b).size * (w.size // int(b.size)))

    def bounds(self, x: Bounds, w: Bounds, b: Bounds) -> Bounds:
        result = self.infer(x.type, w.type, b.type)
        lo, hi = (self._per_weight(end - self.input_zero, w.type) for end in x.over((0, *self.layout.spatial)))
        if any(self.pads):
            lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
        ends = linear_bounds((lo, hi), w, b)
        return Bounds(result, *map(self.layout.per_channel, ends))

    def _per_weight(self, x: Array, w: TensorType) -> Array:
        """Numbers for each input channel, or one for all, where the weights that meet them are: [O or 1, ...]."""
        if x.size == 1 or self.groups == 1:
            return x
        outputs, taken = int(w.shape[0]), int(w.shape[self.layout.channel])  # type: ignore[arg-type]
        rows = x.reshape(self.groups, taken).repeat(outputs // self.groups, axis=0)
        return rows.reshape(static(self.layout.shape(outputs, taken, 1, 1)))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        c = self.layout.channel
        return ACTIVATION, weight(0, (c, *self.layout.spatial)), BIAS

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return quantized_linear(self, operands, result, self.layout)

    def dequantized(self, operands: Sequence[QuantizedOperand]) -> Value | Refusal:
        return dequantized_linear(self, operands, self.layout)

    def permuted(
        self, perm: Perm, operands: Sequence[TensorType]
    ) -> tuple[Conv2d, tuple[Perm | None, ...], Perm] | None:
        # transpose(x, perm) is an image in self.layout; x itself is one in the other layout.
        other = self.layout.other
        if perm != other.to(self.layout):
            return None
        return self.like(layout=other), (None, self.layout.to(other), None), other.to(self.layout)

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        c = self.layout.channel
        inputs, outputs = static((operands[0].shape[c], operands[1].shape[0]))
        if self.groups == 1:
            return tied([(1, 0), (2, 0)], [(0, c)], outputs), summed([(0, c), (1, c)], inputs, bias=2)
        of_x, of_rows = (np.arange(n) * self.groups // n for n in (inputs, outputs))
        return (Channels(self.groups, {(0, c): of_x, (1, 0): of_rows, (2, 0): of_rows}, {(0, c): of_rows}),)

    def resized(self, operands: Sequence[TensorType], kept: Kept) -> Conv2d:
        if self.groups == 1:
            return self
        per_group = int(operands[1].shape[self.layout.channel])  # type: ignore[arg-type]
        return self.like(groups=len(kept.operands[0, self.layout.channel]) // per_group)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        layout, window = draw.layout(), draw.size2(1, 3)
        groups, per_group, multiplier = draw.choice([(1, 3, 4), (1, 4, 2), (4, 1, 1), (2, 2, 3), (1, 1, 5)])
        dilations, strides = draw.size2(1, 2), draw.size2(1, 2)
        pads = tuple(draw.integer(0, window[i % 2] - 1) for i in range(4))
        height, width = (draw.integer(1 + (k - 1) * d, 7) for k, d in zip(window, dilations, strict=True))
        integer = draw.boolean()
        zero = draw.integer(-128, 127) if integer else 0
        image = layout.shape(draw.integer(1, 2), groups * per_group, height, width)
        kernel = layout.shape(groups * multiplier, per_group, *window)
        op = Conv2d(strides, pads, dilations, groups, zero, layout)  # type: ignore[arg-type]
        x, w = (draw.array(s, I8 if integer else F32) for s in (image, kernel))  # type: ignore[arg-type]
        b = draw.array((groups * multiplier,), I32 if integer else F32, -1000, 1000)
        return Instance.of(op, x, w, b, constants=(1, 2))


conv2d = builder(Conv2d)
