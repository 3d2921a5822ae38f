"""Activations that exporters write with several ops."""

from __future__ import annotations

from typing import Any

from ...ir.graph import Value
from ...ir.literals import GELU_CUBIC, SIXTH, SQRT_2, SQRT_2_OVER_PI, SQRT_HALF
from ...ir.ops.conv import Conv2d
from ...ir.ops.dense import Dense
from ...ir.ops.elementwise import add, clip, div, mul, pow_
from ...ir.ops.unary import erf, exp, gelu, hard_sigmoid, hard_swish, sigmoid, silu, tanh
from ...ir.pattern import either, one
from ...ir.precision import scalar
from ...ir.rewrite import Rule, no_match
from ...ir.types import Array


def half(x: Any) -> Any:
    """X / 2 in a pattern."""
    return either(mul(x, 0.5), div(x, 2.0))


def sixth(x: Any) -> Any:
    """X / 6 in a pattern."""
    return either(mul(x, SIXTH), div(x, 6.0))


def gated(x: Any, share: Any) -> Any:
    """X * (1 + share) / 2 in a pattern: the half stands anywhere."""
    both = add(share, 1.0)
    return either(
        mul(half(x), both), mul(x, half(both)), mul(x, add(half(share), 0.5)), mul(mul(x, both), 0.5),
        div(mul(x, both), 2.0),
    )  # fmt: skip


class Gelu(Rule):
    """x/2 (1 + erf(x / sqrt 2)) is gelu."""

    whole = True

    def pattern(self, x: Any) -> Any:
        return gated(x, erf(either(mul(x, SQRT_HALF), div(x, SQRT_2))))

    def rewrite(self, m: Any, x: Value) -> Any:
        return gelu(x)


class GeluByTanh(Rule):
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) is gelu by its approximation."""

    whole = True

    def pattern(self, x: Any) -> Any:
        square = mul(x, x)
        cube = either(
            mul(pow_(x, 3.0), GELU_CUBIC), mul(mul(square, x), GELU_CUBIC), mul(square, mul(x, GELU_CUBIC)),
            mul(mul(square, GELU_CUBIC), x),
        )  # fmt: skip
        line = add(either(mul(square, GELU_CUBIC), mul(mul(x, GELU_CUBIC), x)), 1.0)
        inner = either(
            mul(add(x, cube), SQRT_2_OVER_PI), mul(mul(x, SQRT_2_OVER_PI), line), mul(mul(x, line), SQRT_2_OVER_PI)
        )
        return gated(x, tanh(inner))

    def rewrite(self, m: Any, x: Value) -> Any:
        return gelu(x, tanh=True)


class Silu(Rule):
    """x * sigmoid(x) is silu."""

    whole = True

    def pattern(self, x: Any) -> Any:
        return either(mul(x, sigmoid(x)), div(x, add(exp(mul(x, -1.0)), 1.0)))

    def rewrite(self, m: Any, x: Value) -> Any:
        return silu(x)


class HardSigmoid(Rule):
    """A line clipped to [0, 1] is hard_sigmoid; so is (x + 3) clipped to [0, 6], over 6."""

    whole = True

    def pattern(self, x: Any, alpha: Any, beta: Any) -> Any:
        line = add(mul(x, one(alpha)), one(beta))
        return either(clip(line, lo=0.0, hi=1.0), sixth(clip(add(x, 3.0), lo=0.0, hi=6.0)))

    def rewrite(self, m: Any, x: Value, alpha: Array | None, beta: Array | None) -> Any:
        if alpha is None or beta is None:
            return hard_sigmoid(x, alpha=SIXTH, beta=0.5)
        if m.clip.value.type != x.type:
            return no_match("the line has more axes")
        if x.producer is not None and isinstance(x.producer.op, Conv2d | Dense) and len(x.uses) == 1:
            return no_match("the line goes into the layer before")
        return hard_sigmoid(x, alpha=scalar(alpha), beta=scalar(beta))


class HardSwish(Rule):
    """x * hard_sigmoid(x), of slope 1/6, is hard_swish."""

    whole = True

    def pattern(self, x: Any) -> Any:
        gate = clip(add(x, 3.0), lo=0.0, hi=6.0)
        return either(
            mul(x, hard_sigmoid(x, alpha=SIXTH, beta=0.5)), mul(sixth(x), gate), mul(x, sixth(gate)),
            mul(mul(x, gate), SIXTH), div(mul(x, gate), 6.0),
        )  # fmt: skip

    def rewrite(self, m: Any, x: Value) -> Any:
        return hard_swish(x)


ACTIVATIONS: tuple[Rule, ...] = (Gelu(), GeluByTanh(), Silu(), HardSigmoid(), HardSwish())
