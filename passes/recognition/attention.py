"""Attention, which exporters write as two matrix products with a softmax between."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ir.graph import Value, graph_input
from ...ir.op import Draw
from ...ir.ops.attention import attention
from ...ir.ops.dense import matmul
from ...ir.ops.elementwise import add, div, mul
from ...ir.ops.logic import not_, where
from ...ir.ops.shape import Transpose, transpose
from ...ir.ops.softmax import softmax
from ...ir.pattern import either, one
from ...ir.precision import scalar
from ...ir.rewrite import Rule, no_match
from ...ir.types import BOOL, F32, Array, TensorType
from ..moving import composed, is_identity


def scaled(x: Any, factor: Any, divisor: Any) -> Any:
    """X, perhaps times or over a number, in a pattern."""
    return either(mul(x, one(factor)), div(x, one(divisor)), x)


class Attention(Rule):
    """softmax(scale * q k^T + mask) v is attention: the scale stands at q, at k or behind; the mask may be a choice."""

    whole = True

    def pattern(self, q: Any, kt: Any, v: Any, mask: Any, q_factor: Any, q_divisor: Any, k_factor: Any,
                k_divisor: Any, factor: Any, divisor: Any, fill: Any) -> Any:  # fmt: skip
        product = matmul(scaled(q, q_factor, q_divisor), scaled(kt, k_factor, k_divisor))
        scores = scaled(product, factor, divisor)
        masked = either(
            scores, add(scores, mask), where(mask, scores, one(fill)), where(mask, one(fill), scores, as_="filled")
        )
        return matmul(softmax(masked), v, as_="looked_up")

    def rewrite(self, m: Any, q: Value, kt: Value, v: Value, mask: Value | None, fill: Array | None,
                **scales: Array | None) -> Any:  # fmt: skip
        if kt.const is not None or v.const is not None:
            return no_match("keys or values are stored: these are layers")
        numbers = {name: array for name, array in scales.items() if array is not None}
        alike = q.type.rank == kt.type.rank == v.type.rank
        if not alike or m.softmax.value.type.shape != (*q.type.shape[:-1], kt.type.shape[-1]):
            return no_match("mask, scale, keys or values broadcast")
        if any("divisor" in name and array.item() == 0 for name, array in numbers.items()):
            return no_match("the scale is a division by zero")
        parts = (1 / scalar(array) if "divisor" in name else scalar(array) for name, array in numbers.items())
        scale = math.prod(parts, start=1.0)
        keys = swapped(kt)
        if mask is None:
            return attention(q, keys, v, scale=scale)
        if fill is None:
            return attention(q, keys, v, mask, scale=scale)
        kept = not_(mask) if "filled" in m.nodes else mask
        return attention(q, keys, v, kept, scale=scale, fill=scalar(fill))

    def examples(self, draw: Draw) -> Value:
        """Scales anywhere, keys that are transposed here or elsewhere, all kinds of masks."""
        leading, fill = draw.shape(0, 2, 2), draw.choice([-9.0, -1e9])
        rows, columns, depth, width = (draw.integer(1, 3) for _ in range(4))
        shapes = {"x": (rows, depth), "k": (columns, depth), "kt": (depth, columns), "v": (columns, width)}
        q, k, kt, v = (graph_input(name, TensorType((*leading, *shape), F32)) for name, shape in shapes.items())

        def maybe_scaled(x: Value) -> Value:
            combine = draw.choice([None, None, mul, div])
            return x if combine is None else combine(x, np.float32(draw.choice([0.5, 0.3, -3.0])))

        scores = maybe_scaled(matmul(maybe_scaled(q), maybe_scaled(swapped(k) if draw.boolean() else kt)))
        chosen = graph_input("mask", TensorType((rows, columns), BOOL))
        masked = draw.choice([
            lambda: scores, lambda: add(scores, graph_input("mask", chosen.type.with_dtype(F32))),
            lambda: add(draw.array((1, columns), F32, -4, 0), scores),
            lambda: where(chosen, scores, np.float32(fill)), lambda: where(chosen, np.float32(fill), scores),
        ])()  # fmt: skip
        result: Value = matmul(softmax(masked), v)
        return result


def swapped(x: Value) -> Value:
    """X with its last two axes exchanged; where it is a transpose, of that one's operand."""
    rank = x.type.rank
    perm = (*range(rank - 2), rank - 1, rank - 2)
    node = x.producer
    if node is not None and isinstance(node.op, Transpose):
        x, perm = node.operands[0], composed(node.op.perm, perm)
    return x if is_identity(perm) else transpose(x, perm=perm)
