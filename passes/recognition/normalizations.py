"""Normalizations that exporters write with several ops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.builder import Builder
from ...ir.graph import Value, graph_input
from ...ir.op import Draw, product
from ...ir.ops.elementwise import add, clip, div, maximum, mul, pow_, sub
from ...ir.ops.norm import layer_norm
from ...ir.ops.reduce import reduce_max, reduce_mean, reduce_sum
from ...ir.ops.shape import reshape
from ...ir.ops.softmax import softmax
from ...ir.ops.unary import exp, sqrt
from ...ir.pattern import const, either, one
from ...ir.precision import scalar, widened
from ...ir.rewrite import NoMatch, Rule, no_match
from ...ir.types import F32, Array, Shape, TensorType, static
from ..moving import full_rank


class LayerNorm(Rule):
    """(x - mean) / sqrt(variance + epsilon) over trailing axes is layer_norm, without scale and shift."""

    whole = True

    def pattern(self, x: Any, axes: Any, epsilon: Any) -> Any:
        centred = sub(x, reduce_mean(x, axes=axes, keepdims=True))
        square = either(mul(centred, centred), pow_(centred, 2.0))
        variance = add(reduce_mean(square, axes=axes, keepdims=True), one(epsilon))
        deviation = either(sqrt(variance), pow_(variance, 0.5))
        return either(div(centred, deviation), mul(centred, div(1.0, deviation)), mul(centred, pow_(variance, -0.5)))

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], epsilon: Array) -> Any:
        if epsilon.ndim > x.type.rank:
            return no_match("epsilon has more axes")
        rows = columns_after(x.type.shape, axes)
        if isinstance(rows, NoMatch):
            return rows
        size, dtype = product(x.type.shape[rows:]), x.type.dtype.numpy
        flat = x if len(axes) == 1 else reshape(x, shape=(*x.type.shape[:rows], size))
        normalized = layer_norm(flat, np.full(size, 1, dtype), np.full(size, 0, dtype), epsilon=scalar(epsilon))
        return normalized if len(axes) == 1 else reshape(normalized, shape=x.type.shape)


def columns_after(shape: Shape, axes: tuple[int, ...]) -> int | NoMatch:
    """How many axes stand before the reduced ones, where these are the last and their sizes are known."""
    rows = len(shape) - len(axes)
    if not axes or axes != tuple(range(rows, len(shape))):
        return no_match("other axes are normalized than the last ones")
    if not all(isinstance(d, int) for d in shape[rows:]):
        return no_match("the size of a normalized axis is not known")
    return rows


def mean(x: Any, axes: Any, keepdims: Any, size: Any) -> Any:
    """The mean over some axes in a pattern; perhaps as a sum over their size."""
    total = reduce_sum(x, axes=axes, keepdims=keepdims)
    return either(reduce_mean(x, axes=axes, keepdims=keepdims), div(total, one(size)))


class LayerNormByMoments(Rule):
    """As LayerNorm, the variance being the mean of squares less the square of the mean; as Flax writes it.

    The columns' factors may stand at the inverse of the deviation. What is reduced may get its axes back by a reshape.
    """

    whole = True

    def pattern(self, x: Any, axes: Any, keepdims: Any, size: Any, epsilon: Any, scale: Any) -> Any:
        first = mean(x, axes, keepdims, size)
        second = mean(either(mul(x, x), pow_(x, 2.0)), axes, keepdims, size)
        moments = sub(second, either(mul(first, first), pow_(first, 2.0)))
        positive = either(maximum(moments, 0.0), clip(moments, lo=0.0, hi=math.inf), moments)
        centred = sub(x, either(reshape(first, as_="kept_mean"), first))
        variance = add(either(reshape(positive, as_="kept_variance"), positive), one(epsilon))
        inverse = either(div(1.0, sqrt(variance)), pow_(variance, -0.5))
        return either(
            mul(centred, either(mul(inverse, const(scale)), inverse)),
            div(centred, either(sqrt(variance), pow_(variance, 0.5))),
        )

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], keepdims: bool, size: Array | None, epsilon: Array,
                scale: Array | None) -> Any:  # fmt: skip
        rows, shape = columns_after(x.type.shape, axes), x.type.shape
        if isinstance(rows, NoMatch):
            return rows
        columns, dtype = static(shape[rows:]), x.type.dtype.numpy
        if size is not None and size.item() != product(columns):
            return no_match("the divisor is not the number of columns")
        kept = (*shape[:rows], *(1,) * len(columns))
        reshapes = [m.nodes[name].result.type.shape for name in ("kept_mean", "kept_variance") if name in m.nodes]
        if any(one_of != kept for one_of in reshapes) or (not keepdims and len(reshapes) != 2):
            return no_match("the means are not one per row")
        factors = np.ones(columns, dtype)
        if scale is not None:
            full = full_rank(scale.shape, len(shape))
            if len(full) > len(shape) or any(d != 1 for d in full[:rows]):
                return no_match("the factor is not one number per column")
            factors = np.broadcast_to(scale.reshape(static(full[rows:])), columns)
        flat = x if len(axes) == 1 else reshape(x, shape=(*shape[:rows], product(columns)))
        shift = np.full(product(columns), 0, dtype)
        normalized = layer_norm(flat, factors.ravel(), shift, epsilon=scalar(epsilon))
        return normalized if len(axes) == 1 else reshape(normalized, shape=shape)

    def examples(self, draw: Draw) -> Value:
        """One or two axes, means as means or as sums, kept or brought back, with and without a factor."""
        shape = draw.shape(2, 3, 3)
        axes = tuple(range(draw.integer(1, len(shape) - 1), len(shape)))
        x, keepdims, sums = graph_input("x", TensorType(shape, F32)), draw.boolean(), draw.boolean()
        columns = shape[axes[0] :]

        def averaged(value: Value) -> Value:
            if sums:
                return div(reduce_sum(value, axes=axes, keepdims=keepdims), np.float32(product(columns)))
            return reduce_mean(value, axes=axes, keepdims=keepdims)

        def kept(value: Value) -> Value:
            return value if keepdims else reshape(value, shape=(*shape[: axes[0]], *(1,) * len(axes)))

        first, second = averaged(x), averaged(mul(x, x))
        moments = sub(second, mul(first, first))
        positive = maximum(moments, np.float32(0)) if draw.boolean() else moments
        inverse = div(np.float32(1), sqrt(add(kept(positive), np.float32(draw.choice([1e-3, 0.5])))))
        scaled = mul(inverse, draw.array(columns, F32)) if draw.boolean() else inverse
        result: Value = mul(sub(x, kept(first)), scaled)
        return result


@dataclass(eq=False)
class LayerNormAffine(Rule):
    """A constant factor or term for each column behind layer_norm is part of its scale and shift."""

    combine: Builder[Any]
    whole = True

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.combine.op.name})"

    def pattern(self, x: Any, scale: Any, shift: Any, c: Any) -> Any:
        normalized = layer_norm(x, const(scale), const(shift))
        return self.combine(either(normalized, reshape(normalized)), const(c), as_="combined")

    def rewrite(self, m: Any, x: Value, scale: Array, shift: Array, c: Array) -> Any:
        type, rows = m.combined.value.type, x.type.rank - 1
        reshaped = m.nodes.get("reshape")
        before = x.type.shape if reshaped is None else reshaped.result.type.shape
        full = full_rank(c.shape, len(before))
        if type.shape != before or before[:rows] != x.type.shape[:rows] or any(d != 1 for d in full[:rows]):
            return no_match("the constant is not one number per column")
        column = np.broadcast_to(widened(c.reshape(static(full[rows:]))), static(before[rows:])).ravel()
        terms = (widened(scale), widened(shift))
        scale, shift = (t * column for t in terms) if self.combine is mul else (terms[0], terms[1] + column)
        dtype = type.dtype.numpy
        y = m.layer_norm.like(x, scale.astype(dtype), shift.astype(dtype))
        return y if reshaped is None else reshape(y, shape=before)


class Softmax(Rule):
    """exp(x - max) over its sum along the last axis is softmax."""

    whole = True

    def pattern(self, x: Any, axes: Any) -> Any:
        powers = exp(sub(x, reduce_max(x, axes=axes, keepdims=True)))
        total = reduce_sum(powers, axes=axes, keepdims=True)
        return either(div(powers, total), mul(powers, div(1.0, total)))

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...]) -> Any:
        return softmax(x) if axes == (x.type.rank - 1,) else no_match("it is not along the last axis")


NORMALIZATIONS: tuple[Rule, ...] = (
    LayerNorm(),
    LayerNormByMoments(),
    LayerNormAffine(mul),
    LayerNormAffine(add),
    Softmax(),
)
