"""Ops that do nothing, and pairs of ops that are one. All bit-exact: -0.0, NaN and infinities included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.builder import Builder
from ...ir.graph import Value
from ...ir.ops.elementwise import add, clip, div, mul, sub
from ...ir.ops.quant import dequantize, quantize
from ...ir.ops.unary import cast
from ...ir.pattern import const
from ...ir.rewrite import Rule, no_match
from ...ir.types import Array


def unchanged(result: Any, x: Value) -> Any:
    """X in the place of a matched result, where broadcasting has not changed the shape."""
    return x if result.value.type.shape == x.type.shape else no_match("the constant broadcasts the operand")


class ClipOfClip(Rule):
    """Two clips are one: the outer bounds clip the inner ones."""

    def pattern(self, x: Any) -> Any:
        return clip(clip(x, as_="inner"), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        inner, outer = m.inner, m.outer
        if inner.lo > inner.hi or outer.lo > outer.hi:
            return no_match("the bounds are in the wrong order")
        if len({np.copysign(1, bound) for bound in (inner.lo, inner.hi, outer.lo, outer.hi) if bound == 0}) == 2:
            return no_match("the bounds are zeros of both signs")  # which of them a clip gives is for its order to say
        bounds = (min(max(bound, outer.lo), outer.hi) for bound in (inner.lo, inner.hi))
        return outer.like(x, **dict(zip(("lo", "hi"), bounds, strict=True)))


class ClipWithoutBounds(Rule):
    """clip with infinite bounds does nothing."""

    def pattern(self, x: Any) -> Any:
        return clip(x, lo=-np.inf, hi=np.inf)

    def rewrite(self, m: Any, x: Value) -> Any:
        return x


class AddNothing(Rule):
    """X + (-0.0), or x + 0 on integers. Adding +0.0 would turn -0.0 into 0.0."""

    def pattern(self, x: Any, c: Any) -> Any:
        return add(x, const(c))

    def rewrite(self, m: Any, x: Value, c: Array) -> Any:
        if np.any(c != 0) or (m.add.dtype.is_float and not np.all(np.signbit(c))):
            return no_match("the constant is not the neutral element")
        return unchanged(m.add, x)


class SubtractNothing(Rule):
    """X - 0."""

    def pattern(self, x: Any, c: Any) -> Any:
        return sub(x, const(c))

    def rewrite(self, m: Any, x: Value, c: Array) -> Any:
        if np.any(c != 0) or (m.sub.dtype.is_float and np.any(np.signbit(c))):
            return no_match("the constant is not the neutral element")
        return unchanged(m.sub, x)


@dataclass(eq=False)
class TimesOne(Rule):
    """x * 1 and x / 1."""

    combine: Builder[Any]

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.combine.op.name})"

    def pattern(self, x: Any, c: Any) -> Any:
        return self.combine(x, const(c), as_="product")

    def rewrite(self, m: Any, x: Value, c: Array) -> Any:
        return unchanged(m.product, x) if np.all(c == 1) else no_match("the constant is not one")


class CastToSameType(Rule):
    """cast to the dtype that is there already."""

    def pattern(self, x: Any) -> Any:
        return cast(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return x if x.type.dtype == m.cast.op.dtype else no_match("the dtype changes")


class QuantizeOfDequantize(Rule):
    """Integers that become reals and then the same integers again."""

    def pattern(self, q: Any, scale: Any, zero: Any) -> Any:
        return quantize(dequantize(q, const(scale), const(zero)), const(scale), const(zero))

    def rewrite(self, m: Any, q: Value, scale: Array, zero: Array) -> Any:
        back = m.quantize
        if q.type.dtype != back.dtype:
            return no_match("the two integer types differ")
        if back.lo > back.dtype.min or back.hi < back.dtype.max:
            return no_match("quantize clamps")
        if scale.dtype != np.float32 or not np.all((scale > 1e-30) & (scale < 1e30)):
            return no_match("scale is not such that (n * scale) / scale rounds to n")
        return q


IDENTITIES = (
    ClipOfClip(), ClipWithoutBounds(), AddNothing(), SubtractNothing(), TimesOne(mul), TimesOne(div),
    CastToSameType(), QuantizeOfDequantize(),
)  # fmt: skip
