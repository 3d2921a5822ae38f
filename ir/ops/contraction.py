"""Sums of products: what convolution, dense and matmul share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..builder import const_value
from ..graph import Value, apply
from ..op import Bounds, Op, expect_dtype, same_dtype
from ..types import I32, Array, DType, Layout, TensorType, static
from .elementwise import add
from .quant import dequantize
from .quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, overflow, symmetric

INT32 = np.iinfo(np.int32)


def accumulated(x: TensorType, w: TensorType, b: TensorType | None = None) -> DType:
    """Dtype of a sum of products: a float dtype stays, integers of up to 16 bits accumulate in i32."""
    if x.dtype.is_float:
        return same_dtype(x, w, *([b] if b is not None else []))
    expect_dtype(x.dtype.is_integer and w.dtype.is_integer, f"no product of {x.dtype} and {w.dtype}")
    expect_dtype(max(x.dtype.bits, w.dtype.bits) <= 16, "integer operands have at most 16 bits")
    expect_dtype(b is None or b.dtype == I32, "the bias of an integer op is i32")
    return I32


def contract(a: Array, b: Array) -> Array:
    """Matrix product, through BLAS; integers as float64: exact below 2^53, which 16-bit operands never reach."""
    if np.issubdtype(a.dtype, np.integer):
        return np.rint(np.matmul(a.astype(np.float64), b.astype(np.float64))).astype(np.int64)
    return np.matmul(a, b)


def linear_bounds(x: tuple[Array, Array], w: Bounds, b: Bounds) -> tuple[Array, Array]:
    """Bounds [O] of sum(x * w) + b over all but the first axis of w; exact in constant x, w and b.

    x: the ends of what w is multiplied with, of w's rank, broadcastable to it.
    """
    axes = tuple(range(1, w.type.rank))
    w_lo, w_hi = (np.broadcast_to(end, static(w.type.shape)) for end in (w.lo, w.hi))
    if not w.is_exact:
        corners = np.stack([_times(part, end) for part in (w_lo, w_hi) for end in x])
        return corners.min(0).sum(axes) + b.lo, corners.max(0).sum(axes) + b.hi
    below, above = np.minimum(w_lo, 0), np.maximum(w_hi, 0)
    if x[0].size == x[1].size == 1:  # the same for all of them: sum the weights first
        below, above = (part.sum(axes, keepdims=True) for part in (below, above))
    lo, hi = _times(above, x[0]) + _times(below, x[1]), _times(above, x[1]) + _times(below, x[0])
    return lo.sum(axes) + b.lo, hi.sum(axes) + b.hi


def _times(w: Array, x: Array) -> Array:
    """The products; of weight 0 and an input that is unbounded, but finite, it is 0."""
    with np.errstate(all="ignore"):
        product = w * x
    return np.where(w == 0, 0, product) if product.dtype.kind == "f" else product


@dataclass(frozen=True)
class _Products:
    """An integer layer but for its bias: dequantized it is step * op(x, w) + bias; step, bias: [O], float64."""

    op: Op
    x: Value
    w: Value
    step: Array
    bias: Array

    @staticmethod
    def of(op: Op, operands: Sequence[QuantizedOperand]) -> _Products | Refusal:
        """Those of op(x, w, b), or why there are none."""
        x, w, b = operands
        if x.value is None or w.value is None:
            return Refusal(f"the {'input is' if x.value is None else 'weights are'} not quantized")
        if not x.per_tensor:
            return Refusal("the input is quantized per channel")
        if b.real is None:
            return Refusal("the bias is not a constant")
        weights = symmetric(w)
        if isinstance(weights, Refusal):
            return weights
        axis = op.roles([v.type for v in operands])[1].output
        assert axis is not None
        assert weights.value is not None
        outputs = int(w.type.shape[axis])  # type: ignore[arg-type]
        if weights.scale.size > 1 and weights.scale.shape != tuple(
            outputs if a == axis else 1 for a in range(w.type.rank)
        ):
            return Refusal("the weights have scales along another axis than that of the output channels")
        step = float(x.scale.item()) * np.broadcast_to(weights.scale.reshape(-1), (outputs,))
        integer = op.like(input_zero=int(x.zero.item()))
        return _Products(integer, x.value, weights.value, step, b.real.astype(np.float64))

    def summed(self, bias: Array) -> Value | Refusal:
        """The 32-bit sum with an integer bias, proven not to overflow."""
        # Not a number is not within 32 bits either.
        if not np.all(np.abs(bias) <= INT32.max):
            return Refusal("the bias does not fit 32 bits at the scale of the products", np.abs(bias) / INT32.max)
        acc = apply(self.op, self.x, self.w, const_value(bias.astype(np.int32))).result
        excess = overflow(acc).reshape(-1)
        return acc if np.all(excess <= 1) else Refusal(NOT_PROVEN, np.broadcast_to(excess, bias.shape))

    def per_channel(self, factor: Array, layout: Layout | None) -> Array:
        """[O] such that it broadcasts to the sum; [] where all are equal."""
        if np.all(factor == factor[0]):
            return factor[0]
        return layout.per_channel(factor) if layout is not None else factor


def quantized_linear(
    op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult, layout: Layout | None
) -> Value | Refusal:
    """Integer form of op(x, w, b): rescale(op(x, w, round(b / (sx * sw)))); weights per channel or not."""
    products = _Products.of(op, operands)
    if isinstance(products, Refusal):
        return products
    step, b = products.step, products.bias
    with np.errstate(all="ignore"):
        bias = np.rint(b / step)
        # Off by more than half a step of the result, the sum would be off by more than one.
        coarse = np.any(np.abs(bias * step - b) > 0.5 * result.scale) and np.all(np.abs(bias) <= INT32.max)
    if coarse:
        rounded = {2: (bias * step).astype(operands[2].type.dtype.numpy)}
        return Refusal("the scale of the products is too coarse for the bias", rounded=rounded)
    acc = products.summed(bias)
    if isinstance(acc, Refusal):
        return acc
    factor = step / result.scale
    if factor.max() >= 2.0**29:
        return Refusal("the output's scale is too small for the products")
    return result.rescaled(acc, products.per_channel(factor, layout))


def dequantized_linear(op: Op, operands: Sequence[QuantizedOperand], layout: Layout | None) -> Value | Refusal:
    """op(x, w, b) in floats, of an integer sum: dequantize(op(x, w, b / (sx * sw))).

    A bias that lies between the steps of the sum is added to the floats.
    """
    products = _Products.of(op, operands)
    if isinstance(products, Refusal):
        return products
    step, b, dtype = products.step, products.bias, operands[2].type.dtype.numpy
    with np.errstate(all="ignore"):
        bias = np.rint(b / step)
        inside = np.all((bias * step).astype(dtype) == b.astype(dtype)) and np.all(np.abs(bias) <= INT32.max)
    acc = products.summed(bias if inside else np.zeros_like(bias))
    if isinstance(acc, Refusal):
        return acc
    y: Value = dequantize(acc, products.per_channel(step, layout).astype(dtype), np.int32(0))
    return y if inside else add(y, products.per_channel(b, layout).astype(dtype))
