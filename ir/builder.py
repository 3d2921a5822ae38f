"""Builders: one function per op, for graphs and for patterns alike.

conv2d = builder(Conv2d)
y = conv2d(x, w, b, strides=(2, 2))          # on values and arrays: a detached node, its result is returned
p = relu(conv2d(x, const(w), const(b)))      # on pattern variables: a pattern; attributes not given match anything
"""

from __future__ import annotations

import math
from typing import Any, Generic, TypeVar

import numpy as np

from .constant import Const
from .graph import NOWHERE, Loc, Value, apply
from .op import Op
from .pattern import Pattern, match_op
from .types import EXACT, Array, converted

O = TypeVar("O", bound=Op)  # noqa: E741
Operand = Value | Array | Pattern


class Builder(Generic[O]):
    """Applies one op class to values (arrays become constants) or to patterns."""

    def __init__(self, op: type[O]) -> None:
        self.op = op
        self.__doc__ = op.__doc__

    def __call__(self, *operands: Any, loc: Loc = NOWHERE, named: str = "", as_: str = "", **attributes: Any) -> Any:
        """The first result of a new detached node; or, with any pattern among the operands, a pattern.

        `named` names the result, `as_` names the match in a pattern that uses the op twice.
        """
        if any(isinstance(operand, Pattern) for operand in operands):
            return match_op(self.op, operands, attributes, as_)
        node = apply(self.op(**attributes), *(as_value(v) for v in operands), loc=loc, name=named)
        return node.results[0] if len(node.results) == 1 else node.results


def builder(op: type[O]) -> Builder[O]:
    """The builder of an op class."""
    return Builder(op)


def as_value(operand: Value | Array) -> Value:
    """The value itself, or a new constant that holds the array."""
    return operand if isinstance(operand, Value) else const_value(np.asarray(operand))


def const_value(array: Array, name: str = "", loc: Loc = NOWHERE) -> Value:
    """The result of a new detached constant. The array is shared and becomes read-only."""
    return apply(Const(array), loc=loc, name=name).result


def number(like: Value, *factors: float) -> Value:
    """A scalar constant of the same dtype: the product of the factors, rounded once."""
    dtype = like.type.dtype
    exact = [converted(np.array(factor), EXACT) for factor in factors] if dtype is EXACT else factors
    return const_value(converted(np.array(math.prod(exact)), dtype))
