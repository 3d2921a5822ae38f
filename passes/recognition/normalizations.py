"""Normalizations that exporters write with several ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.builder import Builder
from ...ir.graph import Value
from ...ir.op import product
from ...ir.ops.elementwise import add, div, mul, pow_, sub
from ...ir.ops.norm import layer_norm
from ...ir.ops.reduce import reduce_max, reduce_mean, reduce_sum
from ...ir.ops.shape import reshape
from ...ir.ops.softmax import softmax
from ...ir.ops.unary import exp, sqrt
from ...ir.pattern import const, either, one
from ...ir.precision import scalar, widened
from ...ir.rewrite import NoMatch, Rule, no_match
from ...ir.types import Array, Shape, static
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


NORMALIZATIONS: tuple[Rule, ...] = (LayerNorm(), LayerNormAffine(mul), LayerNormAffine(add), Softmax())
