"""Convolutions and matrix products: tiles of pixels by channels whose sums stay in registers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....ir.graph import Value
from ....ir.ops.conv import Conv2d
from ....ir.ops.dense import Dense, Matmul
from ....ir.types import F32, I8, I32, NHWC, Array, DType
from ....runtime.target import Unsupported
from ...group import Group
from ...loops.expressions import dense_strides
from .. import scalars
from .. import tir as tirx
from ..code import Code, Expr, blocks_of, tir_type
from ..machines import Machine
from ..render import LANES
from ..scalars import Position
from .base import TirKernel
from .image import Image

#: More pixels in a tile than this do not make it faster.
MOST_PIXELS = 14
#: 32-bit sums that one vpdpbusd adds to.
_VNNI_LANES = 16


@dataclass(frozen=True)
class Product:
    """A convolution as `groups` products of patches by weights; dense is one with a window of one pixel.

    Of a patch, elements that lie side by side in memory are a *run*: `runs` (rows, columns) of `length` elements,
    `run_strides` apart. weights: [groups, channels, rows, columns, length]; bias: [groups, channels].
    """

    batch: int
    image: Image
    rows: int
    columns: int
    strides: tuple[int, int]
    runs: tuple[int, int]
    run_strides: tuple[int, int]
    length: int
    weights: Array
    bias: Array
    dtype: DType
    zero: int

    @staticmethod
    def of(group: Group) -> Product:
        x, w, b = group.anchor.operands
        dtype, zero = x.type.dtype, int(group.op.input_zero)
        weights, bias = group.array(w), group.array(b)
        if isinstance(group.op, Dense):
            return _matrix(math.prod(group.shape(x)[:-1]), weights, bias, dtype, zero)
        op: Conv2d = group.op
        (n, h, width, c), (_, oh, ow, outputs) = group.shape(x), group.shape(group.anchor.result)
        kh, kw = weights.shape[1:3]
        if (kh, kw, *op.strides, *op.pads, op.groups) == (1, 1, 1, 1, 0, 0, 0, 0, 1):
            return _matrix(n * h * width, weights.reshape(outputs, c), bias, dtype, zero)
        padded_width = width + op.pads[1] + op.pads[3]
        row, pixel = op.dilations[0] * padded_width * c, op.dilations[1] * c
        joined = op.dilations[1] == 1 and op.groups == 1
        runs, length = ((kh, 1), kw * c) if joined else ((kh, kw), c // op.groups)
        copied = any(op.pads) or _by_fours(dtype, length)
        return Product(
            n, Image(h, width, c, op.pads, copied), oh, ow, op.strides, runs, (row, pixel), length,
            weights.reshape(op.groups, outputs // op.groups, *runs, length), bias.reshape(op.groups, -1), dtype, zero,
        )  # fmt: skip


def _matrix(pixels: int, weights: Array, bias: Array, dtype: DType, zero: int) -> Product:
    """A product of [pixels, length] by weights [channels, length]."""
    channels, length = weights.shape
    image = Image(1, pixels, length, (0, 0, 0, 0), _by_fours(dtype, length))
    packed = weights.reshape(1, channels, 1, 1, length)
    return Product(
        1, image, 1, pixels, (1, 1), (1, 1), (0, 0), length, packed, bias.reshape(1, -1), dtype, zero
    )  # fmt: skip


def _by_fours(dtype: DType, length: int) -> bool:
    """Whether reading runs by fours may go beyond the image."""
    return dtype == I8 and length % 4 != 0


class TirLinear(TirKernel):
    """Tiles of pixels by channels; weights are packed as the tiles read them."""

    def accepts(self, group: Group) -> Unsupported | None:
        x, w, b = group.anchor.operands
        if group.constant(w) is None or group.constant(b) is None:
            return Unsupported(f"the weights of {group.op.name} are computed, not constant")
        if getattr(group.op, "layout", NHWC) is not NHWC:
            return Unsupported("the image is not NHWC", "lower the graph with layout{to=nhwc}")
        zero = group.op.input_zero
        if x.type.dtype not in (F32, I32) and not x.type.dtype.min <= zero <= x.type.dtype.max:
            return Unsupported(f"the zero point {zero} is no {x.type.dtype}")
        return super().accepts(group)

    def scratch(self, group: Group) -> int:
        product = Product.of(group)
        return product.image.scratch_bytes(product.dtype)

    def emit(self, group: Group, code: Code) -> None:
        product = Product.of(group)
        image, dtype = product.image, product.dtype
        fours = code.machine.vnni and dtype == I8 and product.weights.dtype == np.int8
        source = scalars.buffer(group, code, group.anchor.operands[0])
        size = image.scratch_bytes(dtype) * 8 // dtype.bits
        scratch = code.scratch(size, tir_type(dtype)) if size else None
        with code.loop(product.batch) as n:
            data, origin = image.prepare(code, source, scratch, n, dtype, product.zero)
            for g in range(len(product.weights)):
                _channels(group, code, product, Operand(data, origin, g, n, fours))


class TirConv2d(TirLinear):
    """Convolution."""

    name = "conv2d_tiles"
    ops = (Conv2d,)


class TirDense(TirLinear):
    """Fully connected layer."""

    name = "dense_tiles"
    ops = (Dense,)


@dataclass(frozen=True)
class Operand:
    """Where the tiles of one group of channels read: `origin` is the index of the image's first element in `data`."""

    data: Expr
    origin: Expr
    group: int
    n: Expr
    fours: bool


def tile_pixels(columns: int, channels: int, machine: Machine) -> int:
    """Pixels of a tile: as many sums as registers hold beside weights, spread evenly over the row."""
    vectors = -(-channels // machine.lanes)
    most = max(1, min(MOST_PIXELS, columns, (machine.registers - 2 - vectors) // vectors))
    return -(-columns // -(-columns // most))


def tiles_of(columns: int, pixels: int) -> list[tuple[int, int, int]]:
    """[0, columns) as (start, how many tiles, of how many pixels)."""
    whole, rest = divmod(columns, pixels)
    return [(0, whole, pixels), *([(whole * pixels, 1, rest)] if rest else [])]


def _channels(group: Group, code: Code, p: Product, x: Operand) -> None:
    """All pixels of the channels of one group."""
    weights, bias = p.weights[x.group], p.bias[x.group]
    for start, blocks, width in blocks_of(len(bias), 2 * code.machine.lanes):
        by_fours = x.fours and width >= _VNNI_LANES
        own, own_bias = (array[start : start + blocks * width] for array in (weights, bias))
        if p.dtype != F32:
            sums = own.astype(np.int64).reshape(len(own), -1).sum(1)
            own_bias = (own_bias - (p.zero + (128 if by_fours else 0)) * sums).astype(np.int32)
        table = code.table(_packed(own, width, by_fours))
        biases = code.table(own_bias)
        pixels = tile_pixels(p.columns, width, code.machine)
        with code.loop(blocks) as block, code.loop(p.rows) as row:
            for first, tiles, count in tiles_of(p.columns, pixels):
                with code.loop(tiles) as tile:
                    channel = start + block * width
                    _tile(
                        group, code, p, x, (row, first + tile * count, count), (channel, block, width), (table, biases),
                        by_fours,
                    )  # fmt: skip


def _packed(weights: Array, width: int, by_fours: bool) -> Array:
    """[blocks, rows, columns, length, width], or [blocks, rows, columns, length / 4, width, 4] padded with zeros."""
    channels, rows, columns, length = weights.shape
    if by_fours:
        weights = np.pad(weights, ((0, 0), (0, 0), (0, 0), (0, -length % 4)))
        split = weights.reshape(channels // width, width, rows, columns, -1, 4)
        return np.ascontiguousarray(split.transpose(0, 2, 3, 4, 1, 5))
    return np.ascontiguousarray(
        weights.reshape(channels // width, width, rows, columns, length).transpose(0, 2, 3, 4, 1)
    )


def _tile(
    group: Group, code: Code, p: Product, x: Operand, pixels: tuple[Expr, Expr, int],
    channels: tuple[Expr, Expr, int], tables: tuple[Expr, Expr], by_fours: bool,
) -> None:  # fmt: skip
    """`count` pixels of a row from `column` on, by `width` channels: sums, then the epilogue."""
    (row, column, count), (channel, block, width), (weights, bias) = pixels, channels, tables
    kind = "float32" if p.dtype == F32 else "int32"
    acc = code.local((count, width), kind)

    def each(body: Callable[[Expr, Expr], None]) -> None:
        with code.loop(count, "UNROLLED") as i, code.loop(width, "VECTORIZED") as j:
            body(i, j)

    each(lambda i, j: code.store(acc, code.load(bias, block * width + j), i, j))
    steps = -(-p.length // 4) if by_fours else p.length
    pixel_stride = p.strides[1] * p.image.c
    corner = x.origin + row * (p.strides[0] * p.image.width * p.image.c) + column * pixel_stride
    corner = corner + x.group * p.length if p.weights.shape[0] > 1 else corner
    with code.loops(p.runs) as (r, c), code.loop(steps) as k:
        run = corner + r * p.run_strides[0] + c * p.run_strides[1]
        step = ((block * p.runs[0] + r) * p.runs[1] + c) * steps + k
        if by_fours:
            _dot_fours(code, acc, (x.data, run + k * 4, pixel_stride, count), weights, step, width)
        else:

            def add(i: Expr, j: Expr) -> None:
                element = tirx.Cast(kind, code.load(x.data, run + i * pixel_stride + k))
                product = element * tirx.Cast(kind, code.load(weights, step * width + j))
                code.store(acc, code.load(acc, i, j) + product, i, j)

            each(add)
    first = ((x.n * p.rows + row) * p.columns + column) * p.bias.size + channel + x.group * p.bias.shape[1]
    shape = group.shape(group.result)

    def finish(i: Expr, j: Expr) -> None:
        flat = first + i * p.bias.size + j
        axes = (x.n, row, column + i, channel + x.group * p.bias.shape[1] + j)
        at = Position(flat, axes if len(shape) == 4 and p.rows * p.batch > 1 else _axes(flat, axes[-1], shape))
        scalars.store(group, code, at, code.load(acc, i, j))

    each(finish)


def _axes(flat: Expr, channel: Expr, shape: tuple[int, ...]) -> tuple[Expr, ...]:
    """Coordinates of an element, given its place; the channel is known."""
    axes: list[Expr] = [channel]
    rest = tirx.floordiv(flat, tirx.const(shape[-1], "int32"))
    for size in reversed(shape[:-1]):
        axes.append(tirx.floormod(rest, tirx.const(size, "int32")))
        rest = tirx.floordiv(rest, tirx.const(size, "int32"))
    return tuple(reversed(axes))


def _dot_fours(
    code: Code, acc: Expr, source: tuple[Expr, Expr, int, int], weights: Expr, step: Expr, width: int
) -> None:
    """Acc += four unsigned elements of each pixel by four weights of each channel; elements are offset by 128."""
    data, start, stride, count = source
    name, lanes = "llvm.x86.avx512.vpdpbusd.512", _VNNI_LANES
    for v in range(0, width, lanes):
        w = tirx.BufferLoad(weights, [tirx.Ramp((step * width + v) * 4, 1, 4 * lanes)])
        with code.loop(count, "UNROLLED") as i:
            four = tirx.BufferLoad(data, [tirx.Ramp(start + i * stride, 1, 4)])
            word = tirx.bitwise_xor(tirx.reinterpret("int32", four), tirx.const(-0x7F7F7F80, "int32"))
            spread = tirx.reinterpret(f"uint8x{4 * lanes}", tirx.Broadcast(word, lanes))
            at = [i, tirx.Ramp(tirx.const(v, "int32"), 1, lanes)]
            old = tirx.BufferLoad(acc, at)
            new = tirx.call_llvm_pure_intrin(f"int32x{lanes}", name, old, spread, w)
            code.store(acc, new, *at)


class TirMatmul(TirKernel):
    """Product of two activations: a row of results at a time."""

    name = "matmul"
    ops = (Matmul,)

    def emit(self, group: Group, code: Code) -> None:
        a, b = group.anchor.operands
        shape, inputs = group.shape(group.result), group.shape(a)[-1]
        kind = tir_type(group.anchor.result.type.dtype)
        left, right = scalars.buffer(group, code, a), scalars.buffer(group, code, b)
        with code.loops(shape[:-1]) as outer:
            for start, blocks, width in blocks_of(shape[-1], LANES):
                with code.loop(blocks) as block:
                    acc = code.local((width,), kind)
                    column = start + block * width
                    with code.loop(width, "VECTORIZED") as j:
                        code.store(acc, tirx.const(0, kind), j)
                    with code.loop(inputs) as k, code.loop(width, "VECTORIZED") as j:
                        x = code.load(left, _broadcast(group, a, (*outer[:-1], outer[-1], k)))
                        y = code.load(right, _broadcast(group, b, (*outer[:-1], k, column + j)))
                        code.store(acc, code.load(acc, j) + tirx.Cast(kind, x) * tirx.Cast(kind, y), j)
                    with code.loop(width, "VECTORIZED") as j:
                        scalars.store(group, code, Position.of((*outer, column + j), shape), code.load(acc, j))


def _broadcast(group: Group, value: Value, axes: tuple[Expr, ...]) -> Expr:
    """The place of an operand's element; leading axes broadcast."""
    shape = group.shape(value)
    own = axes[len(axes) - len(shape) :]
    strides = [
        0 if size == 1 and i < len(shape) - 2 else stride
        for i, (size, stride) in enumerate(zip(shape, dense_strides(shape), strict=True))
    ]
    return scalars.flat(own, strides)
