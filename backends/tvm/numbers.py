"""Numbers in TIR: constants, casts, sums that wrap, the larger of two, where TVM and LLVM would say something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir.types import BOOL, DType
from . import tir as tirx
from .code import Expr, tir_type


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
    if dtype.is_float or (dtype.kind == "uint" and int(value) >> (dtype.bits - 1)):
        bits = dtype.numpy.type(value).view(f"i{dtype.bits // 8}")
        return tirx.reinterpret(kind, tirx.const(int(bits), f"int{dtype.bits}"))
    return tirx.const(int(value), kind)


def cast(kind: str, expr: Expr) -> Expr:
    """The number in another type; integers wrap."""
    return tirx.Cast(kind, expr)


def hidden(expr: Expr, dtype: DType) -> Expr:
    """A float, hidden from TVM: of x - x it says 0, and that x == x holds, though x may be no number."""
    if not dtype.is_float:
        return expr
    return tirx.reinterpret(tir_type(dtype), tirx.reinterpret(f"int{dtype.bits}", expr))


def wrapped(op: str, a: Expr, b: Expr, dtype: DType) -> Expr:
    """A sum, difference or product. TVM promises LLVM that integers of 32 bits and more, signed or not, never overflow.

    So those of 32 bits are computed in 64, and those of 64 in halves. All casts are of numbers that the other type has,
    as TVM's own casts of constants do not wrap.
    """
    combine = _COMBINE[op]
    if dtype.is_float or dtype.bits < 32:
        return combine(a, b)
    if dtype.bits == 64:
        return _in_halves(op, a, b, dtype)
    if dtype.kind == "int":
        return cast("int32", combine(cast("int64", a), cast("int64", b)))
    x, y = cast("uint64", a), cast("uint64", b)
    wide = x + (tirx.const(1 << 32, "uint64") - y) if op == "-" else combine(x, y)
    return cast("uint32", wide & tirx.const(0xFFFFFFFF, "uint64"))


_COMBINE: dict[str, Callable[[Expr, Expr], Expr]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def _in_halves(op: str, a: Expr, b: Expr, dtype: DType) -> Expr:
    """`wrapped` of 64 bits: 32 bits at a time, from numbers that are too small to overflow."""
    half, low = tirx.const(32, "uint64"), tirx.const(0xFFFFFFFF, "uint64")

    def halves(v: Expr) -> tuple[Expr, Expr]:
        own = tir_type(dtype)
        mask = tirx.const(0xFFFFFFFF, own)
        return cast("uint64", (v >> tirx.const(32, own)) & mask), cast("uint64", v & mask)

    (a1, a0), (b1, b0) = halves(a), halves(b)
    if op == "*":
        first = a0 * b0
        second = (first >> half) + ((a1 * b0) & low) + ((a0 * b1) & low)
    else:
        # A difference is a sum with the complement of every bit, and 1.
        less = op == "-"
        first = a0 + ((b0 ^ low) + tirx.const(1, "uint64") if less else b0)
        second = (first >> half) + a1 + (b1 ^ low if less else b1)
    return cast(tir_type(dtype), ((second & low) << half) | (first & low))


def call(name: str, *arguments: Expr) -> Expr:
    """A call of a float function of <math.h>."""
    return tirx.call_pure_extern("float32", name, *arguments)


def stored(expr: Expr, dtype: DType) -> Expr:
    """An element as it is in memory."""
    return tirx.Cast("uint8", expr) if dtype == BOOL and str(expr.ty) != "uint8" else expr
