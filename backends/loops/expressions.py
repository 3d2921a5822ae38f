"""Expressions of the loop language: scalars of the IR's element types, without side effects.

Every expression has a `dtype`. Arithmetic is of two kinds, which differ in what they mean for integers:

- `+ - * / % << >> & | ^` are for indices and sums whose author knows that they fit the type. `/` truncates; `%` is for
  numbers that are not negative; `<<` is a product with a power of two; `>>` keeps the sign.
- `wrapping(op, a, b)` is an element's arithmetic, as NumPy does it: integers wrap, and floats are those of IEEE 754 for
  any operands, infinities and NaN among them.

Both operands have one dtype (of shifts the first decides); a Python number takes that of the other.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.types import BOOL, I32, Array, DType, dtype_of

#: What an operator accepts beside an expression: a number, in the other operand's dtype.
Operand = "Expr | int | float"


@dataclass(frozen=True, eq=False)
class Expr:
    """Base. Operators make expressions; comparisons for equality are `equal` and `unequal`."""

    dtype: DType

    def __add__(self, other: Any) -> Expr:
        return binary("+", self, other)

    def __radd__(self, other: Any) -> Expr:
        return binary("+", other, self)

    def __sub__(self, other: Any) -> Expr:
        return binary("-", self, other)

    def __rsub__(self, other: Any) -> Expr:
        return binary("-", other, self)

    def __mul__(self, other: Any) -> Expr:
        return binary("*", self, other)

    def __rmul__(self, other: Any) -> Expr:
        return binary("*", other, self)

    def __truediv__(self, other: Any) -> Expr:
        return binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return binary("/", other, self)

    def __mod__(self, other: Any) -> Expr:
        return binary("%", self, other)

    def __lshift__(self, other: Any) -> Expr:
        return binary("<<", self, other)

    def __rlshift__(self, other: Any) -> Expr:
        return binary("<<", other, self)

    def __rshift__(self, other: Any) -> Expr:
        return binary(">>", self, other)

    def __lt__(self, other: Any) -> Expr:
        return binary("<", self, other)

    def __le__(self, other: Any) -> Expr:
        return binary("<=", self, other)

    def __gt__(self, other: Any) -> Expr:
        return binary(">", self, other)

    def __ge__(self, other: Any) -> Expr:
        return binary(">=", self, other)

    def __and__(self, other: Any) -> Expr:
        return binary("&", self, other)

    def __or__(self, other: Any) -> Expr:
        return binary("|", self, other)

    def __neg__(self) -> Expr:
        return Unary(self.dtype, "-", self)

    def __bool__(self) -> bool:
        raise TypeError("an expression is no truth value: it is computed when the kernel runs; use choose() or When")


@dataclass(frozen=True, eq=False)
class Number(Expr):
    """A constant of exactly this value, in the range of its dtype."""

    value: Any


@dataclass(frozen=True, eq=False)
class Variable(Expr):
    """A loop variable, a parameter of a `Definition`, or what a `Let` names."""

    name: str


@dataclass(frozen=True, eq=False)
class Native(Expr):
    """An expression in the words of one renderer: C text, or TIR. For kernels that are written for one machine."""

    text: Any


@dataclass(frozen=True, eq=False)
class Buffer:
    """A flat array of `size` elements, named as the function's parameters are (x0, y, scratch), or local."""

    name: str
    dtype: DType
    size: int


@dataclass(frozen=True, eq=False)
class Table(Buffer):
    """A constant array, flattened in row-major order. Its name is only a label: equal arrays are stored once."""

    array: Array


def table(array: Array, label: str = "table") -> Table:
    """A constant array, as a buffer."""
    return Table(label, dtype_of(array), array.size, array)


@dataclass(frozen=True, eq=False)
class Load(Expr):
    """One element of a buffer. index: i32, in the buffer."""

    buffer: Buffer
    index: Expr


@dataclass(frozen=True, eq=False)
class Unary(Expr):
    """op: `-`; `not`, of a truth value; `isnan` and `round`, of a float.

    `round`: to the nearest integer, ties to even, for floats of at most 2^22.
    """

    op: str
    operand: Expr


@dataclass(frozen=True, eq=False)
class Binary(Expr):
    """op: one of `OPERATORS`. Comparisons give BOOL; with NaN all but `!=` are false."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, eq=False)
class Wrapping(Expr):
    """op: `+`, `-` or `*`, as NumPy does it on elements."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, eq=False)
class Choose(Expr):
    """One of two. lazy: the other is not computed, for its load may be outside of the buffer."""

    condition: Expr
    then: Expr
    other: Expr
    lazy: bool


@dataclass(frozen=True, eq=False)
class Convert(Expr):
    """A number in another dtype: integers wrap, floats are rounded; a float becomes an integer only in its range.

    fits: that the other dtype has this number, so that C has nothing to do for it.
    """

    operand: Expr
    fits: bool = False


@dataclass(frozen=True, eq=False)
class Call(Expr):
    """A function of C's <math.h> on float32."""

    function: str
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Definition:
    """A function of scalars. It is C's `static inline`, once in a file; in TIR its body.

    says: one sentence, for the reader of the generated C.
    """

    name: str
    parameters: tuple[Variable, ...]
    body: Expr
    says: str = ""


@dataclass(frozen=True, eq=False)
class Apply(Expr):
    """A definition, of these arguments."""

    definition: Definition
    arguments: tuple[Expr, ...]


COMPARISONS = frozenset(("<", "<=", ">", ">=", "==", "!="))
LOGIC = frozenset(("and", "or"))
_FOLDED: Mapping[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
OPERATORS = frozenset(("+", "-", "*", "/", "%", "<<", ">>", "&", "|", *COMPARISONS, *LOGIC))


def number(value: Any, dtype: DType) -> Number:
    """A constant of exactly this value."""
    return Number(dtype, value)


def as_expr(value: Any, dtype: DType) -> Expr:
    """An expression; a Python or NumPy number becomes a constant of the dtype."""
    return value if isinstance(value, Expr) else Number(dtype, value)


def binary(op: str, left: Any, right: Any) -> Expr:
    """An operator's result. What is known of indices is folded: they are written with zeros and ones."""
    dtype = (left if isinstance(left, Expr) else right).dtype
    a, b = as_expr(left, dtype), as_expr(right, I32 if op in ("<<", ">>") else dtype)
    if a.dtype != b.dtype and op not in LOGIC and op not in ("<<", ">>"):
        raise TypeError(f"{op} of {a.dtype} and {b.dtype}")
    if dtype == I32 and (folded := _folded(op, a, b)) is not None:
        return folded
    return Binary(BOOL if op in COMPARISONS or op in LOGIC else dtype, op, a, b)


def _folded(op: str, a: Expr, b: Expr) -> Expr | None:
    x = a.value if isinstance(a, Number) else None
    y = b.value if isinstance(b, Number) else None
    if x is not None and y is not None and op in _FOLDED:
        result = _FOLDED[op](int(x), int(y))
        return Number(I32, result) if I32.min <= result <= I32.max else None
    if (op == "+" and y == 0) or (op == "-" and y == 0) or (op in ("*", "/") and y == 1):
        return a
    return b if (op == "+" and x == 0) or (op == "*" and x == 1) else None


def wrapping(op: str, left: Expr, right: Expr) -> Expr:
    """`+`, `-` or `*` of elements of one dtype: integers wrap."""
    return Wrapping(left.dtype, op, left, right)


def equal(left: Expr, right: Any) -> Expr:
    """Whether two numbers are equal."""
    return binary("==", left, right)


def unequal(left: Expr, right: Any) -> Expr:
    """Whether two numbers differ; NaN differs from all."""
    return binary("!=", left, right)


def both(left: Expr, right: Expr) -> Expr:
    """Whether two conditions hold."""
    return binary("and", left, right)


def either(left: Expr, right: Expr) -> Expr:
    """Whether one of two conditions holds."""
    return binary("or", left, right)


def negated(condition: Expr) -> Expr:
    """Whether a condition does not hold."""
    return Unary(BOOL, "not", condition)


def isnan(x: Expr) -> Expr:
    """Whether a float is no number."""
    return Unary(BOOL, "isnan", x)


def rounded(x: Expr) -> Expr:
    """The nearest integer to a float of at most 2^22, ties to even; a float."""
    return Unary(x.dtype, "round", x)


def choose(condition: Expr, then: Any, other: Any) -> Expr:
    """`then` where the condition holds, else `other`; both may be computed."""
    dtype = (then if isinstance(then, Expr) else other).dtype
    return Choose(dtype, condition, as_expr(then, dtype), as_expr(other, dtype), lazy=False)


def guarded(condition: Expr, then: Expr, other: Any) -> Expr:
    """`then` where the condition holds, else `other`; `then` is not computed elsewhere."""
    return Choose(then.dtype, condition, then, as_expr(other, then.dtype), lazy=True)


def convert(x: Expr, dtype: DType) -> Expr:
    """The number in another dtype; itself where it has that already."""
    return x if x.dtype == dtype else Convert(dtype, x)


def fitted(x: Expr, dtype: DType) -> Expr:
    """An integer in another dtype that is known to have it."""
    return x if x.dtype == dtype else Convert(dtype, x, fits=True)


def call(function: str, *arguments: Expr) -> Expr:
    """A function of C's <math.h> on float32, such as `expf`."""
    return Call(arguments[0].dtype, function, arguments)


def define(name: str, body: Callable[..., Expr], *arguments: Expr, says: str = "", names: str = "x y z") -> Expr:
    """`body(*arguments)`, which C computes by a function of its own: `name`, with the dtypes that it takes.

    An argument is computed once, however often the body reads it; so the body may compare what would be a constant.
    """
    parameters = tuple(Variable(a.dtype, n) for a, n in zip(arguments, names.split(), strict=False))
    result = body(*parameters)
    kinds = "_".join(dict.fromkeys(computed(a.dtype).name for a in arguments))
    return Apply(result.dtype, Definition(f"{name}_{kinds}", parameters, result, says), arguments)


def computed(dtype: DType) -> DType:
    """The dtype that C computes elements of this one in: integers of up to 16 bits are of 32."""
    return I32 if dtype.bits <= 16 and not dtype.is_float else dtype


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Distances between neighbours of a row-major tensor, in elements."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides)) if shape else ()


def flat(axes: Sequence[Any], strides: Sequence[int], offset: int = 0) -> Expr:
    """The index sum(axis * stride) + offset."""
    index: Expr = Number(I32, 0)
    for axis, stride in zip(axes, strides, strict=True):
        if stride:
            index = index + as_expr(axis, I32) * int(stride)
    return index + offset


def lowest(dtype: DType) -> Number:
    """What every element is at least."""
    return number(-np.inf if dtype.is_float else dtype.min, dtype)


def highest(dtype: DType) -> Number:
    """What every element is at most."""
    return number(np.inf if dtype.is_float else dtype.max, dtype)
