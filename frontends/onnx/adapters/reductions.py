"""Reductions over axes. What sums, largest elements and elementwise ops compute exactly is composed of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir.graph import Value
from ....ir.ops.elementwise import add, clip, div, maximum, mul, sub
from ....ir.ops.reduce import reduce_max, reduce_mean, reduce_min, reduce_sum
from ....ir.ops.unary import abs_, exp, log, sqrt
from ..source import Adapter, SourceNode
from .arithmetic import number
from .movement import reshaped

#: Takes a tensor, `axes` and `keepdims`.
Reduce = Callable[..., Any]


def reduction(build: Reduce) -> Adapter:
    """Axes from the attribute or, in newer operator sets, from an operand."""

    def adapt(node: SourceNode) -> Value:
        axes, keepdims = axes_of(node), keepdims_of(node)
        return node.value(0) if axes is None else build(node.value(0), axes=axes, keepdims=keepdims)

    return adapt


def composed(build: Reduce, wraps: bool = False) -> Adapter:
    """As `reduction`, of floats; and of integers that no sum widens, where it is right that what is composed wraps."""

    def adapt(node: SourceNode) -> Value:
        x, axes, keepdims = node.value(0), axes_of(node), keepdims_of(node)
        if not x.type.dtype.is_float and not (wraps and x.type.dtype.is_integer and x.type.dtype.bits >= 32):
            raise node.unsupported(f"{x.type} is not reduced in this way", fix="cast to float before")
        if axes is None:
            raise node.unsupported("noop_with_empty_axes without axes is not supported", fix="give the axes")
        return build(x, axes=axes, keepdims=keepdims)

    return adapt


def axes_of(node: SourceNode) -> tuple[int, ...] | None:
    """The axes in order; None where there are none and none are meant."""
    given, rank = node.ints_of("axes", 1), node.value(0).type.rank
    nothing = node.integer("noop_with_empty_axes", 0)
    if not given and nothing:
        return None
    return tuple(sorted({node.axis(a, rank) for a in given})) if given else tuple(range(rank))


def keepdims_of(node: SourceNode) -> bool:
    return bool(node.integer("keepdims", 1))


def log_sum_exp(x: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    """Shifted by the largest element, so that no exponential overflows; by a finite one, for infinities keep theirs."""
    most = float(x.type.dtype.limits.max)
    largest = clip(reduce_max(x, axes=axes), lo=-most, hi=most)
    kept: Value = add(log(reduce_sum(exp(sub(x, largest)), axes=axes)), largest)
    return reshaped(kept, tuple(d for i, d in enumerate(kept.type.shape) if keepdims or i not in axes))


def mean(x: Value, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Of integers of 32 bits and more the sum, which may wrap, divided towards zero, as ONNX Runtime does it."""
    sizes = [d for i, d in enumerate(x.type.shape) if i in axes and isinstance(d, int)]
    if x.type.dtype.is_integer and x.type.dtype.bits >= 32 and len(sizes) == len(axes):
        total = reduce_sum(x, axes=axes, keepdims=keepdims)
        return div(total, number(x, math.prod(sizes)))
    return reduce_mean(x, axes=axes, keepdims=keepdims)


def length(x: Value, **where: Any) -> Any:
    """The root of the sum of squares."""
    return sqrt(reduce_sum(mul(x, x), **where))


def product_over(node: SourceNode) -> Value:
    """ReduceProd of shapes: constants."""
    x, axes, keepdims = node.array(0), axes_of(node), keepdims_of(node)
    if x is None:
        raise node.broken("operand 0 is missing")
    if axes is None:
        return node.value(0)
    return node.constant(np.prod(x, axis=axes, keepdims=keepdims, dtype=x.dtype))


def lp_normalization(node: SourceNode) -> Value:
    """What has length 0 stays 0."""
    x, p = node.value(0), node.integer("p", 2)
    axes = (node.axis(node.integer("axis", -1), x.type.rank),)
    if p not in (1, 2):
        raise node.broken(f"p is {p}")
    norm = reduce_sum(abs_(x), axes=axes) if p == 1 else length(x, axes=axes)
    smallest = float(x.type.dtype.limits.tiny)
    return div(x, maximum(norm, number(x, smallest)))


TABLE: dict[str, Adapter] = {
    "ReduceMean": reduction(mean),
    "ReduceSum": reduction(reduce_sum),
    "ReduceMax": reduction(reduce_max),
    "ReduceProd": product_over,
    "ReduceMin": reduction(reduce_min),
    "ReduceL1": composed(lambda x, **where: reduce_sum(abs_(x), **where), wraps=True),
    "ReduceL2": composed(length),
    "ReduceSumSquare": composed(lambda x, **where: reduce_sum(mul(x, x), **where), wraps=True),
    "ReduceLogSum": composed(lambda x, **where: log(reduce_sum(x, **where))),
    "ReduceLogSumExp": composed(log_sum_exp),
    "LpNormalization": lp_normalization,
}
