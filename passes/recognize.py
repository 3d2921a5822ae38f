"""Activations that a model writes as their formula, recognized: one op, which integers compute through one table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.graph import Value
from ..ir.ops.elementwise import add, clip, div, mul
from ..ir.ops.unary import erf, gelu, hard_sigmoid, hard_swish, sigmoid, silu
from ..ir.pattern import const
from ..ir.rewrite import Rule, no_match
from ..ir.types import Array


def near(constant: Array, value: float) -> bool:
    """Whether all elements are this real number, rounded to their dtype (once more or less)."""
    if constant.dtype.kind != "f":
        return False
    wanted = np.array(value, constant.dtype)
    return bool(np.all(np.abs(constant - wanted) <= np.spacing(np.abs(wanted))))


@dataclass(eq=False)
class GeluByErf(Rule):
    """x/2 (1 + erf(x / sqrt 2)), with the half on either side of the product."""

    divides: bool
    half_last: bool

    @property
    def title(self) -> str:
        """The rule and the form it is for."""
        inner = "x / sqrt 2" if self.divides else "x * sqrt 1/2"
        return f"{type(self).__name__}({inner}, {'half last' if self.half_last else 'half first'})"

    def pattern(self, x: Any, a: Any, one: Any, half: Any) -> Any:
        share = add(erf((div if self.divides else mul)(x, const(a))), const(one))
        if self.half_last:
            return mul(mul(x, share, as_="inner"), const(half), as_="outer")
        return mul(mul(x, const(half), as_="inner"), share, as_="outer")

    def rewrite(self, m: Any, x: Value, a: Array, one: Array, half: Array) -> Any:
        root = math.sqrt(2) if self.divides else math.sqrt(0.5)
        if not (near(a, root) and near(one, 1) and near(half, 0.5)):
            return no_match("the constants are not those of GELU")
        if m.outer.value.type.shape != x.type.shape:
            return no_match("a constant broadcasts the operand")
        return gelu(x)


class SiluBySigmoid(Rule):
    """x * sigmoid(x)."""

    def pattern(self, x: Any) -> Any:
        return mul(x, sigmoid(x))

    def rewrite(self, m: Any, x: Value) -> Any:
        return silu(x)


class HardSwishBySigmoid(Rule):
    """x * hard_sigmoid(x)."""

    def pattern(self, x: Any) -> Any:
        return mul(x, hard_sigmoid(x))

    def rewrite(self, m: Any, x: Value) -> Any:
        alpha, beta = m.hard_sigmoid.alpha, m.hard_sigmoid.beta
        if not (near(np.array(alpha, np.float32), 1 / 6) and beta == 0.5):
            return no_match("the hard sigmoid has another slope or offset than that of hard swish")
        return hard_swish(x)


@dataclass(eq=False)
class HardSigmoidByClip(Rule):
    """clip(x + 3, 0, 6) / 6, or times 1/6."""

    divides: bool

    @property
    def title(self) -> str:
        """The rule and the form it is for."""
        return f"{type(self).__name__}({'/ 6' if self.divides else '* 1/6'})"

    def pattern(self, x: Any, three: Any, six: Any) -> Any:
        clipped = clip(add(x, const(three)), lo=0, hi=6)
        return (div if self.divides else mul)(clipped, const(six), as_="outer")

    def rewrite(self, m: Any, x: Value, three: Array, six: Array) -> Any:
        if not (near(three, 3) and near(six, 6 if self.divides else 1 / 6)):
            return no_match("the constants are not those of a hard sigmoid")
        if m.outer.value.type.shape != x.type.shape or not m.outer.dtype.is_float:
            return no_match("a constant broadcasts the operand, or it is an integer")
        return hard_sigmoid(x, alpha=1 / 6, beta=0.5)


@dataclass(eq=False)
class HardSwishByClip(Rule):
    """x * clip(x + 3, 0, 6) / 6, the product first."""

    divides: bool

    @property
    def title(self) -> str:
        """The rule and the form it is for."""
        return f"{type(self).__name__}({'/ 6' if self.divides else '* 1/6'})"

    def pattern(self, x: Any, three: Any, six: Any) -> Any:
        product = mul(x, clip(add(x, const(three)), lo=0, hi=6), as_="inner")
        return (div if self.divides else mul)(product, const(six), as_="outer")

    def rewrite(self, m: Any, x: Value, three: Array, six: Array) -> Any:
        if not (near(three, 3) and near(six, 6 if self.divides else 1 / 6)):
            return no_match("the constants are not those of hard swish")
        if m.outer.value.type.shape != x.type.shape or not m.outer.dtype.is_float:
            return no_match("a constant broadcasts the operand, or it is an integer")
        return hard_swish(x)


ACTIVATIONS: tuple[Rule, ...] = (
    *(GeluByErf(divides, half_last) for divides in (True, False) for half_last in (True, False)),
    SiluBySigmoid(), HardSwishBySigmoid(),
    *(rule(divides) for rule in (HardSigmoidByClip, HardSwishByClip) for divides in (True, False)),
)  # fmt: skip
