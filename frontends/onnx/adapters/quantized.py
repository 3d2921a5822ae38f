"""Quantized models: QDQ pairs as they are, QOperator nodes as dequantize -> float op -> quantize.

No precision is lost by that: `fold-quantization` makes integers of such clusters again, by planish's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....ir.builder import const_value
from ....ir.graph import Value
from ....ir.ops.elementwise import add, mul
from ....ir.ops.pool import avg_pool2d
from ....ir.ops.quant import dequantize, quantize
from ....ir.ops.reduce import reduce_mean
from ....ir.ops.shape import concat, transpose
from ....ir.types import U8, Array, DType, Quant, dtype_of
from ..source import Adapter, SourceNode
from ..tensors import dtype_from
from .arithmetic import number, sloped
from .linear import convolve, general_product, multiply
from .pooling import pool, softmax_along

KEPT = frozenset({"QuantizeLinear", "DequantizeLinear"})


def parameters(node: SourceNode, x: Value, scale: int, zero: int, axis: int, default: DType) -> tuple[Array, Array]:
    """Scale and zero point from operands `scale` and `zero`, so shaped that they broadcast to x.

    One for all, one for each index of `axis`, or with `block_size` one for so many of them, given for all other axes.
    """
    scales, zeros, block = node.array(scale), node.array(zero), node.integer("block_size", 0)
    if scales is None:
        raise node.broken(f"operand {scale}, the scale, is missing")
    if not np.isfinite(scales).all():
        raise node.broken("a scale is no number", fix="calibrate the quantized model again")
    zeros = np.zeros(scales.shape, default.numpy) if zeros is None else zeros
    if zeros.shape != scales.shape and zeros.size != 1:
        raise node.broken(f"scales {list(scales.shape)} and zero points {list(zeros.shape)} differ in shape")
    zeros = np.broadcast_to(zeros.reshape(()) if zeros.size == 1 else zeros, scales.shape)
    if scales.size == 1:
        return scales.reshape(()).copy(), zeros.reshape(()).copy()
    axis = node.axis(axis, x.type.rank)
    if block:
        return _unblocked(node, x, scales, axis, block), _unblocked(node, x, zeros, axis, block)
    if scales.ndim == x.type.rank and all(d in (1, e) for d, e in zip(scales.shape, x.type.shape, strict=True)):
        return scales.copy(), zeros.copy()  # not standard, but where each belongs is plain: [C,1,1,1]
    if max(scales.shape) != scales.size or x.type.shape[axis] != scales.size:
        raise node.broken(f"scales {list(scales.shape)} do not fit axis {axis} of {x.type}")
    shape = [-1 if i == axis else 1 for i in range(x.type.rank)]
    return scales.reshape(shape).copy(), zeros.reshape(shape).copy()


def _unblocked(node: SourceNode, x: Value, scales: Array, axis: int, block: int) -> Array:
    """A number for each element of x, from one for every `block` along `axis`; the last block may be smaller."""
    shape = node.static(x.type.shape)
    wanted = tuple(-(-d // block) if i == axis else d for i, d in enumerate(shape))
    if block < 0 or scales.shape != wanted:
        raise node.broken(f"scales {list(scales.shape)} for blocks of {block} along axis {axis} of {x.type}")
    return np.asarray(scales.repeat(min(block, shape[axis]), axis).take(range(shape[axis]), axis))


def real(node: SourceNode, x: int, scale: int, zero: int, axis: int = 1) -> Value:
    """Operand x, dequantized."""
    value = node.value(x)
    scales, zeros = parameters(node, value, scale, zero, axis, value.type.dtype)
    if value.const is not None and not np.all(scales > 0):
        return dequantize(*turned(value, scales, zeros))
    return dequantize(value, scales, zeros)


def turned(x: Value, scales: Array, zeros: Array) -> tuple[Value, Array, Array]:
    """Constant integers with positive scales, as integer arithmetic needs them, where their dtype holds the negatives.

    ONNX allows any scale. Weights of which every slice has its largest element at an end of the range have negative
    ones where that element is positive. With scale 0 every element is 0.
    """
    assert x.const is not None
    dtype, wide = x.type.dtype, x.const.astype(np.int64)
    turn = np.broadcast_to(scales < 0, wide.shape)
    negatives = np.where(turn, 2 * zeros.astype(np.int64) - wide, wide)
    axes = tuple(i for i in range(wide.ndim) if scales.ndim == 0 or scales.shape[i] == 1)
    beyond = (negatives < dtype.min) | (negatives > dtype.max)
    fits = ~beyond.any(axis=axes, keepdims=True).reshape(scales.shape)
    nothing = np.broadcast_to(scales == 0, wide.shape)
    integers = np.where(np.broadcast_to(fits, wide.shape), negatives, wide)
    integers = np.where(nothing, zeros.astype(np.int64), integers)
    positive = np.where(scales == 0, np.ones_like(scales), np.where(fits, np.abs(scales), scales))
    return const_value(integers.astype(dtype.numpy), x.name), positive, zeros


def integer(node: SourceNode, x: Value, scale: int, zero: int, axis: int = 1, default: DType = U8) -> Value:
    """X, quantized with the parameters in these operands; the dtype is the zero point's."""
    scales, zeros = parameters(node, x, scale, zero, axis, default)
    if not np.all(scales > 0):
        raise node.unsupported("quantization with a scale that is not positive", fix="calibrate the model again")
    dtype = dtype_of(zeros)
    if not dtype.is_integer or dtype.bits > 16:
        raise node.unsupported(f"quantization to {dtype} is not supported", fix="use 8-bit integers")
    y: Value = quantize(x, scales, zeros, dtype=dtype, lo=dtype.min, hi=dtype.max)
    if scales.size == 1:
        y.type = y.type.with_quant(Quant.of(scales.item(), zeros.item()))
    return y


def quantize_linear(node: SourceNode) -> Value:
    wanted = node.integer("output_dtype", 0)
    default = dtype_from(wanted, f"the result of {node.name!r}") if wanted else U8
    if node.integer("precision", 0) not in (0, 1):  # the division is in float32
        raise node.unsupported("only a float32 division is supported")
    node.ignore("saturate")
    return integer(node, node.value(0), 1, 2, node.integer("axis", 1), default)


def dequantize_linear(node: SourceNode) -> Value:
    if node.integer("output_dtype", 0) not in (0, 1):
        raise node.unsupported("only float32 results are supported")
    return real(node, 0, 1, 2, node.integer("axis", 1))


def bias(node: SourceNode, b: int, x_scale: int, w_scale: int) -> Value | None:
    """An i32 bias, dequantized: its scale is that of the products."""
    value = node.optional(b)
    if value is None:
        return None
    scales = [node.array(i) for i in (x_scale, w_scale)]
    scale = np.multiply(*(np.ones((), np.float32) if s is None else s for s in scales)).astype(np.float32)
    scale = scale.reshape(()) if scale.size == 1 else scale.reshape(-1)
    return dequantize(value, scale, np.zeros(scale.shape, value.type.dtype.numpy))


def qlinear_conv(node: SourceNode) -> Value:
    x, w = real(node, 0, 1, 2), real(node, 3, 4, 5, axis=0)
    return integer(node, convolve(node, x, w, bias(node, 8, 1, 4)), 6, 7)


def qlinear_matmul(node: SourceNode) -> Value:
    columns = node.value(3).type.rank - 1
    return integer(node, multiply(node, real(node, 0, 1, 2), real(node, 3, 4, 5, axis=columns)), 6, 7)


def qgemm(node: SourceNode) -> Value:
    outputs = 0 if node.integer("transB", 0) else 1
    y = general_product(node, real(node, 0, 1, 2), real(node, 3, 4, 5, axis=outputs), bias(node, 6, 1, 4))
    return y if not node.given(7) else integer(node, y, 7, 8)


def qlinear_binary(build: Callable[[Value, Value], Value]) -> Adapter:
    return lambda node: integer(node, build(real(node, 0, 1, 2), real(node, 3, 4, 5)), 6, 7)


def qlinear_unary(build: Callable[[SourceNode, Value], Value]) -> Adapter:
    return lambda node: integer(node, build(node, real(node, 0, 1, 2)), 3, 4)


def average(node: SourceNode, x: Value) -> Value:
    """AveragePool of QLinearAveragePool."""
    last = node.integer("channels_last", 0)
    if last and x.type.rank != 4:
        raise node.unsupported("channels_last is supported for images only")
    x = transpose(x, perm=(0, 3, 1, 2)) if last else x
    y = pool(node, x, avg_pool2d, count_pads=bool(node.integer("count_include_pad", 0)))
    return transpose(y, perm=(0, 2, 3, 1)) if last else y


def global_average(node: SourceNode, x: Value) -> Value:
    rank = x.type.rank
    return reduce_mean(x, axes=tuple(range(1, rank - 1) if node.integer("channels_last", 0) else range(2, rank)))


def microsoft_softmax(node: SourceNode, x: Value) -> Value:
    """The operator says itself which ONNX operator set its softmax follows."""
    node.opset = node.integer("opset", 13)
    return softmax_along(node, x)


def leaky(node: SourceNode, x: Value) -> Value:
    return sloped(x, number(x, node.real("alpha", 0.01)))


def qlinear_concat(node: SourceNode) -> Value:
    if len(node.operands) % 3 != 2:
        raise node.broken("operands come in threes: tensor, scale, zero point")
    parts = [real(node, i, i + 1, i + 2) for i in range(2, len(node.operands), 3)]
    return integer(node, concat(*parts, axis=node.axis(node.integer("axis", 0), parts[0].type.rank)), 0, 1)


TABLE: dict[str, Adapter] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
}

MICROSOFT: dict[str, Adapter] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearAdd": qlinear_binary(add),
    "QLinearMul": qlinear_binary(mul),
    "QGemm": qgemm,
    "QLinearAveragePool": qlinear_unary(average),
    "QLinearGlobalAveragePool": qlinear_unary(global_average),
    "QLinearSoftmax": qlinear_unary(microsoft_softmax),
    "QLinearLeakyRelu": qlinear_unary(leaky),
    "QLinearConcat": qlinear_concat,
}
