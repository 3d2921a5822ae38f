"""Elementwise ops as expressions: each says what its op's `ref` says, for one element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...ir.op import Op
from ...ir.ops.elementwise import Add, Clip, Div, Maximum, Minimum, Mul, Pow, Sub, clip_ends
from ...ir.ops.logic import Equal, Less, LessEqual, Not, Where
from ...ir.ops.quant import Dequantize, Quantize, Rescale, RescaleAdd, Table
from ...ir.ops.unary import Abs, Cast, Erf, Exp, Gelu, HardSigmoid, HardSwish, Log, Sigmoid, Silu, Sqrt, Tanh, carrier
from ...ir.types import BOOL, F32, I32, I64, U64, Array, DType
from ..group import uniform
from .expressions import (
    Expr,
    Load,
    call,
    choose,
    computed,
    convert,
    define,
    equal,
    fitted,
    isnan,
    negated,
    number,
    rounded,
    table,
    unequal,
    wrapping,
)  # fmt: skip


@dataclass(frozen=True)
class Scalar:
    """One element of an operand; and the constant behind it, if there is one."""

    expr: Expr
    dtype: DType
    array: Array | None = None

    @property
    def fixed(self) -> Any:
        """The number, where all elements of a constant are one; else None."""
        return uniform(self.array) if self.array is not None else None


#: An op and its operands' elements give the result's element.
Element = Callable[[Any, Sequence[Scalar]], Expr]

# --------------------------------------------------------------------------------------------------------- definitions


def clamped(x: Expr, lo: float, hi: float) -> Expr:
    """At least lo, at most hi; NaN stays."""
    ends = number(lo, x.dtype), number(hi, x.dtype)
    return define("clamp", lambda x, a, b: choose(x < a, a, choose(x > b, b, x)), x, *ends, names="x lo hi")


def larger(a: Expr, b: Expr, greater: bool = True) -> Expr:
    """The larger (or smaller) of two; a where it is NaN, else b where that is."""

    def body(a: Expr, b: Expr) -> Expr:
        beyond = choose(a > b if greater else a < b, a, b)
        return choose(isnan(a), a, beyond) if a.dtype.is_float else beyond

    return define("larger" if greater else "smaller", body, a, b, names="a b")


def saturated(x: Expr) -> Expr:
    """The nearest 32-bit integer to one of 64 bits."""
    return define(
        "saturate",
        lambda x: choose(
            x < I32.min, number(I32.min, I32), choose(x > I32.max, number(I32.max, I32), convert(x, I32))
        ),
        x, says="The nearest 32-bit integer.",
    )  # fmt: skip


def multiplied_high(x: Expr, m: Expr, zero: int) -> Expr:
    """Zero + x * m / 2^32 of 32-bit integers, rounded half up."""

    def body(x: Expr, m: Expr) -> Expr:
        return (convert(x, I64) * convert(m, I64) + (1 << 31)) >> 32

    # |x * m| < 2^62, so the high word has 31 bits, and a zero point fits beside.
    if not zero:
        return define(
            "multiply_high", lambda x, m: convert(body(x, m), I32), x, m,
            says="x * m / 2^32, rounded half up.", names="x m",
        )  # fmt: skip
    return define(
        "multiply_high_add", lambda x, m, zero: convert(body(x, m) + convert(zero, I64), I32), x, m, number(zero, I32),
        says="zero + x * m / 2^32, rounded half up.", names="x m zero",
    )  # fmt: skip


def nearest(x: Expr) -> Expr:
    """The nearest 32-bit integer to a float, ties to even, within +-2^22; NaN gives -2^22."""
    reach = number(2.0**22, x.dtype)

    def low(x: Expr) -> Expr:
        return define("at_least", lambda x, end: choose(x > end, x, end), x, number(-(2.0**22), x.dtype), names="x end")

    def body(x: Expr) -> Expr:
        return convert(rounded(define("at_most", lambda x, end: choose(x < end, x, end), low(x), reach,
                                      names="x end")), I32)  # fmt: skip

    return define("nearest", body, x, says="The nearest integer, ties to even, within +-2^22; NaN gives -2^22.")


def truncated(x: Expr, dtype: DType) -> Expr:
    """The integer part of a float as I32 or I64, the nearest that it has beyond its ends; NaN gives 0."""
    low, high = (number(float(end), x.dtype) for end in (dtype.min, dtype.max + 1))

    def body(x: Expr) -> Expr:
        below = choose(isnan(x), number(0, dtype), number(dtype.min, dtype))
        return choose(x >= high, number(dtype.max, dtype), choose(x > low, convert(x, dtype), below))

    says = f"The integer part, the nearest {dtype.bits}-bit integer beyond them; NaN gives 0."
    return define(f"truncate_{dtype}", body, x, says=says)


def truncated_without_sign(x: Expr) -> Expr:
    """The integer part of a float as U64: of negative ones that of I64, which wraps."""

    def body(x: Expr) -> Expr:
        large = choose(x >= 2.0**63, convert(x, U64), convert(truncated(x, I64), U64))
        return choose(x >= 2.0**64, number(U64.max, U64), large)

    return define("truncate_u64", body, x, says="The same as 64 bits without a sign.")


# ----------------------------------------------------------------------------------------------------------- elements


def _rescale(op: Rescale, operands: Sequence[Scalar]) -> Expr:
    x, multiplier, shift = operands
    shifted = shift.fixed != 0
    value = convert(x.expr, computed(x.dtype))
    # Differences and shifts may leave 32 bits; saturation cannot change what is clamped to 16 bits.
    if x.dtype.bits == 32 and (op.input_zero != 0 or shifted or x.dtype != I32):
        value = convert(value, I64)
    if op.input_zero:
        value = value - op.input_zero
    if shifted:
        value = convert(value, I64) << convert(shift.expr, I32)
    narrow = saturated(value) if value.dtype == I64 else value
    return fitted(clamped(multiplied_high(narrow, multiplier.expr, op.zero), op.lo, op.hi), op.dtype)


def _rescale_add(op: RescaleAdd, operands: Sequence[Scalar]) -> Expr:
    a, b = operands
    # |a| + |b| of at most 2^15 by factors below 2^15 each, and a bias: only small operands are sure to fit 32 bits.
    reach = sum(abs(m) << s.dtype.bits for m, s in ((op.a_multiplier, a), (op.b_multiplier, b)))
    dtype = I32 if reach + abs(op.bias) <= I32.max else I64
    terms = convert(a.expr, dtype) * op.a_multiplier + convert(b.expr, dtype) * op.b_multiplier
    total = (terms + op.bias) >> op.shift
    return fitted(clamped(total if dtype == I32 else saturated(total), op.lo, op.hi), op.dtype)


def _quantize(op: Quantize, operands: Sequence[Scalar]) -> Expr:
    x, scale, zero = operands
    value = nearest(x.expr / scale.expr)
    whole = value if zero.fixed == 0 else value + convert(zero.expr, I32)
    return fitted(clamped(whole, op.lo, op.hi), op.dtype)


def _dequantize(op: Dequantize, operands: Sequence[Scalar]) -> Expr:
    x, scale, zero = operands
    difference = x.expr
    if zero.fixed != 0:
        wide = I64 if x.dtype.bits >= 32 else I32
        difference = convert(x.expr, wide) - convert(zero.expr, wide)
    return convert(difference, scale.dtype) * scale.expr


def _clip(op: Clip, operands: Sequence[Scalar]) -> Expr:
    (x,) = operands
    lo, hi = clip_ends(op, x.dtype)
    if lo is not None and hi is not None and computed(x.dtype) == I32:
        return clamped(x.expr, min(lo, hi), hi)  # the upper bound wins
    # With a bound that is no NaN first, NaN stays.
    expr = x.expr
    if lo is not None:
        expr = larger(number(lo, x.dtype), expr)
    return expr if hi is None else larger(number(hi, x.dtype), expr, greater=False)


def _table(op: Table, operands: Sequence[Scalar]) -> Expr:
    x, entries = operands
    assert entries.array is not None
    buffer = table(entries.array)
    return Load(buffer.dtype, buffer, convert(x.expr, I32) - x.dtype.min)


def arithmetic(symbol: str) -> Element:
    """`+`, `-` or `*`; integers wrap as NumPy's do."""
    return lambda op, operands: wrapping(symbol, operands[0].expr, operands[1].expr)


def _div(op: Div, operands: Sequence[Scalar]) -> Expr:
    """Integers too: they truncate, and `epilogue.refusal` sees to the divisor."""
    return operands[0].expr / operands[1].expr


def extremum(greater: bool) -> Element:
    """The smaller or larger of two, or NaN."""
    return lambda op, operands: larger(operands[0].expr, operands[1].expr, greater)


def function(name: str) -> Element:
    """A function of <math.h>, whose error is known."""
    return lambda op, operands: call(name, *(s.expr for s in operands))


def _one_plus_exp(x: Expr) -> Expr:
    return number(1.0, F32) + call("expf", x)


def _sigmoid(op: Sigmoid, operands: Sequence[Scalar]) -> Expr:
    return number(1.0, F32) / _one_plus_exp(-operands[0].expr)


def _silu(op: Silu, operands: Sequence[Scalar]) -> Expr:
    return define("silu", lambda x: x / _one_plus_exp(-x), operands[0].expr)


def _gelu(op: Gelu, operands: Sequence[Scalar]) -> Expr:
    """By the complementary error function; or x/2 (1 + tanh z) as x / (1 + e^-2z): nothing cancels."""
    if not op.tanh:
        half = math.sqrt(0.5)
        return define("gelu", lambda x: number(0.5, F32) * x * call("erfcf", number(-half, F32) * x), operands[0].expr)

    def body(x: Expr) -> Expr:
        z = number(math.sqrt(2 / math.pi), F32) * (x + number(0.044715, F32) * x * x * x)
        return x / _one_plus_exp(number(-2.0, F32) * z)

    return define("gelu_tanh", body, operands[0].expr)


def _hard(x: Expr, alpha: float, beta: float) -> Expr:
    """Alpha * x + beta, clipped to 0 and 1; NaN stays."""
    return clamped(x * number(alpha, F32) + number(beta, F32), 0.0, 1.0)


def _hard_sigmoid(op: HardSigmoid, operands: Sequence[Scalar]) -> Expr:
    return _hard(operands[0].expr, op.alpha, op.beta)


def _hard_swish(op: HardSwish, operands: Sequence[Scalar]) -> Expr:
    return define("hard_swish", lambda x: x * _hard(x, 1 / 6, 0.5), operands[0].expr)


def comparison(name: str, holds: Callable[[Expr, Expr], Expr]) -> Element:
    """A truth value; false where an operand is NaN.

    What is compared, where either may be a constant, are the parameters of a definition: of a comparison that a type
    decides, or of something with itself, compilers warn.
    """
    return lambda op, operands: define(name, holds, operands[0].expr, operands[1].expr, names="a b")


def _where(op: Where, operands: Sequence[Scalar]) -> Expr:
    condition, a, b = (s.expr for s in operands)
    return choose(condition, a, b)


def _cast(op: Cast, operands: Sequence[Scalar]) -> Expr:
    (x,) = operands
    if op.dtype == BOOL:
        return unequal(x.expr, 0)
    if x.dtype.is_float and not op.dtype.is_float:
        high = carrier(op.dtype)[1]
        if high == U64.max:
            return convert(truncated_without_sign(x.expr), op.dtype)
        return convert(truncated(x.expr, I32 if high == I32.max else I64), op.dtype)
    return convert(x.expr, op.dtype)


def _abs(op: Abs, operands: Sequence[Scalar]) -> Expr:
    (x,) = operands
    if x.dtype.is_float:
        return call("fabsf", x.expr)
    if x.dtype.kind == "uint":
        return x.expr
    return choose(x.expr < 0, wrapping("-", number(0, x.dtype), x.expr), x.expr)  # the lowest wraps


ELEMENTS: Mapping[type[Op], Element] = {
    Add: arithmetic("+"),
    Sub: arithmetic("-"),
    Mul: arithmetic("*"),
    Div: _div,
    Minimum: extremum(greater=False),
    Maximum: extremum(greater=True),
    Pow: function("powf"),
    Clip: _clip,
    Abs: _abs,
    Exp: function("expf"),
    Log: function("logf"),
    Sqrt: function("sqrtf"),
    Erf: function("erff"),
    Tanh: function("tanhf"),
    Sigmoid: _sigmoid,
    Gelu: _gelu,
    HardSigmoid: _hard_sigmoid,
    HardSwish: _hard_swish,
    Silu: _silu,
    Cast: _cast,
    Equal: comparison("equal", equal),
    Less: comparison("less", lambda a, b: a < b),
    LessEqual: comparison("less_equal", lambda a, b: a <= b),
    Not: lambda op, operands: negated(operands[0].expr),
    Where: _where,
    Quantize: _quantize,
    Dequantize: _dequantize,
    Rescale: _rescale,
    RescaleAdd: _rescale_add,
    Table: _table,
}
