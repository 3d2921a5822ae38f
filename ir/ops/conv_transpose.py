"""Transposed convolution: a convolution of an image between whose pixels lie zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..builder import builder
from ..composite import Composite
from ..graph import Value
from ..op import Cost, Draw, Instance, expect, expect_dtype, op, traffic
from ..roles import ACTIVATION, BIAS, Role, weight
from ..types import F32, Array, TensorType, static
from .conv import conv2d
from .index import gather
from .shape import pad, reshape, slice_, transpose
from .windows import Pads2, Size2


@op
class ConvTranspose2d(Composite):
    """What conv2d of these attributes does to its input's gradient. ONNX ConvTranspose-22 with a bias.

    x: [N,C,H,W], w: [C,O/groups,kh,kw], b: [O], floats -> [N,O,stride (H - 1) + dilation (kh - 1) + 1 - pads +
    output_pads, ...]. Dumoulin and Visin 2016, arXiv:1603.07285, chapter 4.
    """

    strides: Size2 = (1, 1)
    pads: Pads2 = (0, 0, 0, 0)
    output_pads: Size2 = (0, 0)
    dilations: Size2 = (1, 1)
    groups: int = 1

    def definition(self, x: Value, w: Value, b: Value) -> Any:
        expect(x.type.rank == w.type.rank == 4, f"image and weights have rank 4, not {x.type} and {w.type}")
        expect_dtype(x.type.dtype.is_float, f"transposed convolutions are of floats, not {x.type.dtype}")
        expect(min(*self.strides, *self.dilations, self.groups) >= 1, "strides, dilations and groups are at least 1")
        inputs, _, *window = static(w.type.shape)
        expect(x.type.shape[1] == inputs and inputs % self.groups == 0, f"weights {w.type} do not fit {x.type}")
        image, pads = self._image(x, window)
        return conv2d(image, self._kernel(w), b, pads=pads, dilations=self.dilations, groups=self.groups)

    def _kernel(self, w: Value) -> Value | Array:
        """The weights [C,O/groups,kh,kw] as conv2d has them, [O,C/groups,kh,kw], from the last element to the first."""
        inputs, outputs, *window = static(w.type.shape)
        apart = (self.groups, inputs // self.groups, outputs, *window)
        shape = (self.groups * outputs, inputs // self.groups, *window)
        if w.const is not None:
            return np.ascontiguousarray(w.const.reshape(apart).swapaxes(1, 2).reshape(shape)[:, :, ::-1, ::-1])
        kernel: Value = reshape(transpose(reshape(w, shape=apart), perm=(0, 2, 1, 3, 4)), shape=shape)
        for axis, size in zip((2, 3), window, strict=True):
            kernel = gather(kernel, axis=axis, indices=tuple(reversed(range(size)))) if size > 1 else kernel
        return kernel

    def _image(self, x: Value, window: list[int]) -> tuple[Value, Pads2]:
        """Zeros between the pixels, what lies outside of the result cut off, and the padding that is left to do."""
        n, c = x.type.shape[:2]
        h, w = static(x.type.shape[2:])
        sy, sx = self.strides
        if (sy, sx) != (1, 1):
            apart = pad(
                reshape(x, shape=(n, c, h, 1, w, 1)), before=(0,) * 6, after=(0, 0, 0, sy - 1, 0, sx - 1), value=0.0
            )
            x = reshape(apart, shape=(n, c, h * sy, w * sx))
        reach = [d * (k - 1) for d, k in zip(self.dilations, window, strict=True)]
        before = [reach[i] - self.pads[i] for i in range(2)]
        after = [reach[i] - self.pads[i + 2] + self.output_pads[i] - (self.strides[i] - 1) for i in range(2)]
        starts = (0, 0, *(max(-p, 0) for p in before))
        sizes = (h * sy, w * sx)
        stops = (n, c, *(size - max(-p, 0) for size, p in zip(sizes, after, strict=True)))
        expect(all(a < b for a, b in zip(starts[2:], stops[2:], strict=True)), "the padding leaves nothing")  # type: ignore[operator]
        if (starts, stops) != ((0, 0, 0, 0), (n, c, *sizes)):
            x = slice_(x, starts=starts, stops=stops, steps=(1, 1, 1, 1))
        top, left, bottom, right = (max(p, 0) for p in (*before, *after))
        return x, (top, left, bottom, right)

    def cost(self, x: TensorType, w: TensorType, b: TensorType) -> Cost:
        return traffic(self, (x, w, b), macs=x.size * (w.size // w.shape[0]))  # type: ignore[operator]

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return ACTIVATION, weight(1, (0, 2, 3)), BIAS

    @staticmethod
    def examples(draw: Draw) -> Instance:
        groups, window, strides = draw.choice([1, 1, 2]), draw.size2(1, 3), draw.size2(1, 3)
        inputs, outputs = groups * draw.integer(1, 2), draw.integer(1, 2)
        x = draw.array((draw.integer(1, 2), inputs, *draw.size2(1, 4)), F32)
        w, b = draw.array((inputs, outputs, *window), F32), draw.array((groups * outputs,), F32)
        top, left = (draw.integer(0, k - 1) for k in window)
        below = tuple(draw.integer(0, s - 1) for s in strides)
        y, z = below
        return Instance.of(
            ConvTranspose2d(strides, (top, left, 0, 0), (y, z), groups=groups), x, w, b, constants=(1, 2)
        )


conv_transpose2d = builder(ConvTranspose2d)
