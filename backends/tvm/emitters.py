"""Elementwise ops as TIR expressions: each emitter says what its op's `ref` says, for one element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.op import Op
from ...ir.ops.elementwise import Add, Clip, Div, Maximum, Minimum, Mul, Pow, Sub, clip_ends
from ...ir.ops.logic import Equal, Less, LessEqual, Not, Where
from ...ir.ops.quant import Dequantize, Quantize, Rescale, RescaleAdd, Table
from ...ir.ops.unary import Abs, Cast, Erf, Exp, Gelu, HardSigmoid, HardSwish, Log, Sigmoid, Silu, Sqrt, Tanh, carrier
from ...ir.types import BOOL, F32, I32, U64, Array, DType
from . import tir as tirx
from .code import Code, Expr, tir_type


@dataclass(frozen=True)
class Scalar:
    """One element of an operand: an expression of its TIR type, and the constant behind it, if there is one.

    expr: None for a constant that is not read element by element.
    """

    expr: Expr
    dtype: DType
    array: Array | None = None


def number(value: Any, dtype: DType) -> Expr:
    """A constant of exactly this value.

    What TVM's folding gets wrong it sees as bits, whose meaning LLVM knows: infinities, NaN, and zero, times which
    everything would be zero, and division by which is an error; and large unsigned integers, which do not wrap.
    """
    kind = tir_type(dtype)
    if dtype.is_float and value == 0 and not np.signbit(value):
        return tirx.abs(number(-0.0, dtype))  # TVM takes no bits that are all zero
    if dtype.is_float and np.isfinite(value) and value != 0:
        return tirx.const(float(value), kind)
    if dtype.is_float or (dtype.kind == "uint" and value >> (dtype.bits - 1)):
        bits = dtype.numpy.type(value).view(f"i{dtype.bits // 8}")
        return tirx.reinterpret(kind, tirx.const(int(bits), f"int{dtype.bits}"))
    return tirx.const(int(value), kind)


def cast(kind: str, expr: Expr) -> Expr:
    """The number in another type; integers wrap."""
    return tirx.Cast(kind, expr)


def clamped(expr: Expr, lo: int, hi: int) -> Expr:
    """min(max(expr, lo), hi) of integers."""
    kind = _kind(expr)
    return tirx.min(tirx.max(expr, tirx.const(lo, kind)), tirx.const(hi, kind))


def _kind(expr: Expr) -> str:
    return str(expr.dtype) if hasattr(expr, "dtype") else str(expr.ty)


Emitter = Callable[[Any, Sequence[Scalar], Code], Expr]


def _rescale(op: Rescale, operands: Sequence[Scalar], code: Code) -> Expr:
    x, multiplier, shift = operands
    assert shift.array is not None
    wide = cast("int64", x.expr)
    if op.input_zero:
        wide = wide - tirx.const(op.input_zero, "int64")
    if shift.array.any():
        # Shifted by at most 30 bits; saturation cannot change what is clamped to 16 bits.
        wide = wide << cast("int64", shift.expr)
    if shift.array.any() or op.input_zero or x.dtype.kind == "uint":
        wide = clamped(wide, I32.min, I32.max)
    high = (wide * cast("int64", multiplier.expr) + tirx.const(1 << 31, "int64")) >> tirx.const(32, "int64")
    total = cast("int32", high)  # |x * M| < 2^62, so the high word has 31 bits, and a zero point fits beside
    if op.zero:
        total = cast("int32", high + tirx.const(op.zero, "int64"))
    return cast(tir_type(op.dtype), clamped(total, op.lo, op.hi))


def _rescale_add(op: RescaleAdd, operands: Sequence[Scalar], code: Code) -> Expr:
    a, b = operands
    reach = sum(abs(m) << s.dtype.bits for m, s in ((op.a_multiplier, a), (op.b_multiplier, b)))
    kind = "int32" if reach + abs(op.bias) <= I32.max else "int64"
    terms = [cast(kind, s.expr) * tirx.const(m, kind) for s, m in ((a, op.a_multiplier), (b, op.b_multiplier))]
    total = (terms[0] + terms[1] + tirx.const(op.bias, kind)) >> tirx.const(op.shift, kind)
    return cast(tir_type(op.dtype), clamped(total, op.lo, op.hi))


def _quantize(op: Quantize, operands: Sequence[Scalar], code: Code) -> Expr:
    x, scale, zero = operands
    reach = tirx.const(2.0**22, "float32")
    scaled = x.expr / scale.expr
    # Comparisons with NaN are false, so NaN becomes the lowest.
    low = tirx.Select(scaled > -reach, scaled, -reach)
    rounded = tirx.nearbyint(tirx.Select(low < reach, low, reach))
    return cast(tir_type(op.dtype), clamped(cast("int32", rounded) + cast("int32", zero.expr), op.lo, op.hi))


def _dequantize(op: Dequantize, operands: Sequence[Scalar], code: Code) -> Expr:
    x, scale, zero = operands
    kind = "int64" if x.dtype.bits >= 32 else "int32"
    difference = cast(kind, x.expr) - cast(kind, zero.expr)
    return cast("float32", difference) * scale.expr


def _clip(op: Clip, operands: Sequence[Scalar], code: Code) -> Expr:
    (x,) = operands
    # Comparisons with NaN are false, so NaN stays.
    expr = x.expr
    lo, hi = clip_ends(op, x.dtype)
    if lo is not None:
        low = number(lo, x.dtype)
        expr = tirx.Select(expr < low, low, expr) if lo == lo else low
    if hi is not None:
        high = number(hi, x.dtype)
        expr = tirx.Select(expr > high, high, expr) if hi == hi else high
    return expr


def _table(op: Table, operands: Sequence[Scalar], code: Code) -> Expr:
    x, table = operands
    assert table.array is not None
    return code.load(code.table(table.array), cast("int32", x.expr) - x.dtype.min)


def unrelated(x: Scalar) -> Expr:
    """The element, hidden from TVM: of x - x it says 0, and that x == x holds, though x may be no number."""
    if not x.dtype.is_float or x.array is not None:
        return x.expr
    return tirx.reinterpret(tir_type(x.dtype), tirx.reinterpret(f"int{x.dtype.bits}", x.expr))


Combine = Callable[[Expr, Expr], Expr]


def wrapping(combine: Combine) -> Emitter:
    """An arithmetic operator; integers wrap as NumPy's do."""
    return lambda op, operands, code: wrapped(combine, operands[0].expr, unrelated(operands[1]), operands[0].dtype)


def wrapped(combine: Combine, a: Expr, b: Expr, dtype: DType) -> Expr:
    """A sum, difference or product. TVM promises LLVM that integers of 32 bits and more, signed or not, never overflow.

    So those of 32 bits are computed in 64, and those of 64 in halves. All casts are of numbers that the other type has,
    as TVM's own casts of constants do not wrap.
    """
    if dtype.is_float or dtype.bits < 32:
        return combine(a, b)
    if dtype.bits == 64:
        return _in_halves(combine, a, b, dtype)
    if dtype.kind == "int":
        return cast("int32", combine(cast("int64", a), cast("int64", b)))
    x, y = cast("uint64", a), cast("uint64", b)
    wide = x + (tirx.const(1 << 32, "uint64") - y) if combine is difference else combine(x, y)
    return cast("uint32", wide & tirx.const(0xFFFFFFFF, "uint64"))


def _in_halves(combine: Combine, a: Expr, b: Expr, dtype: DType) -> Expr:
    """`wrapped` of 64 bits: 32 bits at a time, from numbers that are too small to overflow."""
    half, low = tirx.const(32, "uint64"), tirx.const(0xFFFFFFFF, "uint64")

    def halves(v: Expr) -> tuple[Expr, Expr]:
        own = tir_type(dtype)
        mask = tirx.const(0xFFFFFFFF, own)
        return cast("uint64", (v >> tirx.const(32, own)) & mask), cast("uint64", v & mask)

    (a1, a0), (b1, b0) = halves(a), halves(b)
    if combine is product:
        first = a0 * b0
        second = (first >> half) + ((a1 * b0) & low) + ((a0 * b1) & low)
    else:
        # A difference is a sum with the complement of every bit, and 1.
        less = combine is difference
        first = a0 + ((b0 ^ low) + tirx.const(1, "uint64") if less else b0)
        second = (first >> half) + a1 + (b1 ^ low if less else b1)
    return cast(tir_type(dtype), ((second & low) << half) | (first & low))


def total(a: Expr, b: Expr) -> Expr:
    """`a + b`, for `wrapped`."""
    return a + b


def difference(a: Expr, b: Expr) -> Expr:
    """`a - b`, for `wrapped`."""
    return a - b


def product(a: Expr, b: Expr) -> Expr:
    """`a * b`, for `wrapped`."""
    return a * b


def quotient(op: Div, operands: Sequence[Scalar], code: Code) -> Expr:
    """Integers too: they truncate, and `scalars.refusal` sees to the divisor."""
    a, b = operands
    return a.expr / b.expr if a.dtype.is_float else tirx.truncdiv(a.expr, b.expr)


def extremum(greater: bool) -> Emitter:
    """The smaller or larger of two, or NaN."""

    def emit(op: Op, operands: Sequence[Scalar], code: Code) -> Expr:
        a, b = operands
        return larger(a.expr, b.expr, a.dtype, greater)

    return emit


def larger(a: Expr, b: Expr, dtype: DType, greater: bool = True) -> Expr:
    """The larger (or smaller) of two; NaN where one is."""
    if not dtype.is_float:
        return tirx.max(a, b) if greater else tirx.min(a, b)
    first = tirx.Select((a > b) if greater else (a < b), a, b)  # b, where either is NaN
    return tirx.Select(tirx.isnan(a), a, first)


def farthest(dtype: DType, greater: bool = True) -> Expr:
    """What every element is at least; or, not greater, at most."""
    ends = (-np.inf, np.inf) if dtype.is_float else (dtype.min, dtype.max)
    return number(ends[0 if greater else 1], dtype)


def function(name: str) -> Emitter:
    """A function of <math.h>, whose error is known."""

    def emit(op: Op, operands: Sequence[Scalar], code: Code) -> Expr:
        return call(name, *(s.expr for s in operands))

    return emit


def call(name: str, *arguments: Expr) -> Expr:
    """A call of a float function of <math.h>."""
    return tirx.call_pure_extern("float32", name, *arguments)


def _sigmoid(op: Sigmoid, operands: Sequence[Scalar], code: Code) -> Expr:
    one = tirx.const(1.0, "float32")
    return one / (one + call("expf", -operands[0].expr))


def _sqrt(op: Sqrt, operands: Sequence[Scalar], code: Code) -> Expr:
    return tirx.sqrt(operands[0].expr)


def _hard(x: Expr, alpha: float, beta: float) -> Expr:
    """Alpha * x + beta, clipped to 0 and 1; NaN stays."""
    zero, one = (tirx.const(end, "float32") for end in (0.0, 1.0))
    line = x * number(alpha, F32) + number(beta, F32)
    low = tirx.Select(line < zero, zero, line)
    return tirx.Select(low > one, one, low)


def _hard_sigmoid(op: HardSigmoid, operands: Sequence[Scalar], code: Code) -> Expr:
    return _hard(operands[0].expr, op.alpha, op.beta)


def _hard_swish(op: HardSwish, operands: Sequence[Scalar], code: Code) -> Expr:
    return operands[0].expr * _hard(operands[0].expr, 1 / 6, 0.5)


def _silu(op: Silu, operands: Sequence[Scalar], code: Code) -> Expr:
    x = operands[0].expr
    return x / (tirx.const(1.0, "float32") + call("expf", -x))


def _gelu(op: Gelu, operands: Sequence[Scalar], code: Code) -> Expr:
    """By the complementary error function, or as x / (1 + e^-2z): nothing cancels."""
    x = operands[0].expr
    if not op.tanh:
        return tirx.const(0.5, "float32") * x * call("erfcf", x * tirx.const(-math.sqrt(0.5), "float32"))
    z = tirx.const(math.sqrt(2 / math.pi), "float32") * (x + tirx.const(0.044715, "float32") * x * x * x)
    return x / (tirx.const(1.0, "float32") + call("expf", z * tirx.const(-2.0, "float32")))


def comparison(holds: Callable[[Expr, Expr], Expr]) -> Emitter:
    """A truth value, 0 or 1; false where an operand is NaN."""
    return lambda op, operands, code: cast("uint8", holds(operands[0].expr, unrelated(operands[1])))


def _where(op: Where, operands: Sequence[Scalar], code: Code) -> Expr:
    condition, a, b = (s.expr for s in operands)
    return tirx.Select(cast("uint8", condition) != tirx.const(0, "uint8"), a, b)


def _truncated(x: Scalar, lo: int, hi: int) -> Expr:
    """The integer part of a float, the nearer end of [lo, hi] beyond them, 0 for NaN; from 2^63 on it wraps."""
    kind, whole = tir_type(x.dtype), "int32" if hi == I32.max else "int64"
    low, high = (tirx.const(float(end), kind) for end in (lo, hi + 1))
    # What is beyond, or no number, is not converted: LLVM says nothing about the result.
    inside = tirx.Select(tirx.all(x.expr > low, x.expr < high), x.expr, tirx.const(0.0, kind))
    if hi == U64.max:
        inside = tirx.Select(inside >= tirx.const(2.0**63, kind), inside - high, inside)
    ends = (tirx.const(lo, whole), tirx.const(-1 if hi == U64.max else hi, whole))
    return tirx.Select(x.expr >= high, ends[1], tirx.Select(x.expr <= low, ends[0], cast(whole, inside)))


def _cast(op: Cast, operands: Sequence[Scalar], code: Code) -> Expr:
    (x,) = operands
    if op.dtype == BOOL:
        # TVM's "not equal" is false of NaN.
        return tirx.Select(x.expr == number(0, x.dtype), tirx.const(0, "uint8"), tirx.const(1, "uint8"))
    if x.dtype.is_float and not op.dtype.is_float:
        return cast(tir_type(op.dtype), _truncated(x, *carrier(op.dtype)))
    return cast(tir_type(op.dtype), x.expr)


def _abs(op: Abs, operands: Sequence[Scalar], code: Code) -> Expr:
    (x,) = operands
    if x.dtype.is_float:
        return call("fabsf", x.expr)
    if x.dtype.kind == "uint":
        return x.expr
    unsigned = f"uint{x.dtype.bits}"
    # As two's complement: TVM takes 0 minus what is unsigned for 0.
    negative = cast(tir_type(x.dtype), cast(unsigned, tirx.bitwise_not(x.expr)) + tirx.const(1, unsigned))
    return tirx.Select(x.expr < number(0, x.dtype), negative, x.expr)


EMITTERS: Mapping[type[Op], Emitter] = {
    Add: wrapping(total),
    Sub: wrapping(difference),
    Mul: wrapping(product),
    Div: quotient,
    Minimum: extremum(greater=False),
    Maximum: extremum(greater=True),
    Pow: function("powf"),
    Clip: _clip,
    Abs: _abs,
    Exp: function("expf"),
    Log: function("logf"),
    Sqrt: _sqrt,
    Erf: function("erff"),
    Tanh: function("tanhf"),
    Sigmoid: _sigmoid,
    HardSigmoid: _hard_sigmoid,
    HardSwish: _hard_swish,
    Silu: _silu,
    Gelu: _gelu,
    Equal: comparison(lambda a, b: a == b),
    Less: comparison(lambda a, b: a < b),
    LessEqual: comparison(lambda a, b: a <= b),
    Not: lambda op, operands, code: cast("uint8", cast("uint8", operands[0].expr) == tirx.const(0, "uint8")),
    Where: _where,
    Cast: _cast,
    Quantize: _quantize,
    Dequantize: _dequantize,
    Rescale: _rescale,
    RescaleAdd: _rescale_add,
    Table: _table,
}
