"""Depthwise convolutions: channels in vectors, a few pixels of a row at once."""

from __future__ import annotations

import numpy as np

from ....ir.ops.conv import Conv2d
from ....ir.types import F32, I8, NHWC
from ....runtime.target import Unsupported
from ...group import Group
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr, blocks_of, tir_type
from ..scalars import Position
from .image import Image
from .linear import TirLinear, tile_pixels, tiles_of

#: Windows of up to so many pixels are unrolled.
UNROLLED = 25


class TirDepthwise(TirLinear):
    """One filter per channel."""

    name = "depthwise_tiles"
    ops = (Conv2d,)

    def accepts(self, group: Group) -> Unsupported | None:
        op, x, w = group.op, *group.anchor.operands[:2]
        if op.layout is not NHWC or not op.groups == group.shape(w)[0] == group.shape(x)[-1]:
            return Unsupported("not one filter per channel")
        return super().accepts(group)

    def scratch(self, group: Group) -> int:
        return _image(group).scratch_bytes(group.anchor.operands[0].type.dtype)

    def emit(self, group: Group, code: Code) -> None:
        op: Conv2d = group.op
        x, w, b = group.anchor.operands
        dtype, image = x.type.dtype, _image(group)
        weights = group.array(w)[..., 0].transpose(1, 2, 0)
        bias = group.array(b)
        # x86 multiplies 16-bit pairs fast, where LLVM sees that one factor is not negative: elements plus 128.
        offset = 128 if code.machine.pairs and dtype == I8 else 0
        if dtype != F32:
            sums = weights.astype(np.int64).sum((0, 1))
            bias = (bias.astype(np.int64) - (op.input_zero + offset) * sums).astype(np.int32)
        n_images, rows, columns, channels = shape = group.shape(group.anchor.result)
        size = image.scratch_bytes(dtype) * 8 // dtype.bits
        scratch = code.scratch(size, tir_type(dtype)) if size else None
        source, filters, biases = scalars.buffer(group, code, x), code.table(weights), code.table(bias)
        kind = "float32" if dtype == F32 else "int32"
        kh, kw = weights.shape[:2]
        window = "UNROLLED" if kh * kw <= UNROLLED else "SERIAL"

        def tile(data: Expr, corner: Expr, place: tuple[Expr, Expr, Expr, Expr], count: int, width: int) -> None:
            n, row, column, channel = place
            acc = code.local((count, width), kind)
            with code.loop(count, "UNROLLED") as i, code.loop(width, "VECTORIZED") as j:
                code.store(acc, code.load(biases, channel + j), i, j)
            with code.loop(kh, window) as r, code.loop(kw, window) as c:
                start = corner + (r * op.dilations[0] * image.width + c * op.dilations[1]) * channels + channel
                with code.loop(count, "UNROLLED") as i, code.loop(width, "VECTORIZED") as j:
                    element = code.load(data, start + i * (op.strides[1] * channels) + j)
                    if offset:
                        element = tirx.bitwise_xor(tirx.Cast("uint8", element), tirx.const(offset, "uint8"))
                    element = tirx.Cast(kind, element)
                    tap = tirx.Cast(kind, code.load(filters, (r * kw + c) * channels + channel + j))
                    code.store(acc, code.load(acc, i, j) + element * tap, i, j)
            with code.loop(count, "UNROLLED") as i, code.loop(width, "VECTORIZED") as j:
                at = Position.of((n, row, column + i, channel + j), shape)
                scalars.store(group, code, at, code.load(acc, i, j))

        with code.loop(n_images) as n:
            data, origin = image.prepare(code, source, scratch, n, dtype, op.input_zero)
            with code.loop(rows) as row:
                for start, blocks, width in blocks_of(channels, code.machine.lanes):
                    pixels = min(8, tile_pixels(columns, width, code.machine))
                    with code.loop(blocks) as block:
                        for first, tiles, count in tiles_of(columns, pixels):
                            with code.loop(tiles) as t:
                                column, channel = first + t * count, start + block * width
                                y, x_ = row * op.strides[0], column * op.strides[1]
                                corner = origin + (y * image.width + x_) * channels
                                tile(data, corner, (n, row, column, channel), count, width)


def _image(group: Group) -> Image:
    _, h, w, c = group.shape(group.anchor.operands[0])
    return Image(h, w, c, group.op.pads, any(group.op.pads))
