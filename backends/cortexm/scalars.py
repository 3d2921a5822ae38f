"""Elementwise ops as C expressions on scalars: the epilogue of every portable kernel.

Each op has one emitter, which says what its `ref` says, for one element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.graph import Value
from ...ir.op import Op
from ...ir.ops.elementwise import Add, Clip, Sub
from ...ir.ops.quant import Dequantize, Quantize, Rescale, RescaleAdd, Table
from ...ir.types import I32, I64, Array, DType
from ...runtime.target import Unsupported
from .code import CTYPES, Code, scalar
from .group import Group


@dataclass(frozen=True)
class Scalar:
    """One element of an operand: a C expression without side effects, and the constant behind it, if there is one."""

    text: str
    dtype: DType
    array: Array | None = None

    @property
    def fixed(self) -> Any:
        """The number, where all elements of a constant are one; else None."""
        return uniform(self.array) if self.array is not None else None


@dataclass(frozen=True)
class Position:
    """Where the result's element lies: C expressions for its index in memory and for its coordinates."""

    flat: str
    axes: tuple[str, ...]


Emitter = Callable[[Any, Sequence[Scalar], Code], str]


def store(group: Group, code: Code, at: Position, acc: str = "") -> str:
    """Statements that compute one element of the result from `acc`, the anchor's, and store it in `y`.

    Without `acc` the anchor is elementwise as well, and computed here.
    """
    known: dict[Value, Scalar] = {}
    if acc:
        known[group.anchor.result] = Scalar(acc, group.anchor.result.type.dtype)
    lines: list[str] = []
    for node in group.nodes:
        if node.result in known:
            continue
        operands = [known.get(v) or load(group, code, v, at) for v in node.operands]
        dtype = node.result.type.dtype
        name = f"v{len(lines)}"
        lines.append(f"const {scalar(dtype)} {name} = {EMITTERS[type(node.op)](node.op, operands, code)};\n")
        known[node.result] = Scalar(name, dtype)
    dtype = group.result.type.dtype
    text = known[group.result].text
    cast = text if scalar(dtype) == CTYPES[dtype] else f"({CTYPES[dtype]}){text}"
    return "".join([*lines, f"y[{at.flat}] = {cast};\n"])


def load(group: Group, code: Code, value: Value, at: Position) -> Scalar:
    """One element of an operand, broadcast to the result's element `at`."""
    dtype = value.type.dtype
    array = group.constant(value)
    if array is not None and (number := uniform(array)) is not None:
        return Scalar(code.number(number, dtype), dtype, array)
    name = pointer(group, code, value)
    index = _index(group.shape(value), group.shape(group.result), at)
    text = f"{name}[{index}]"
    return Scalar(text if scalar(dtype) == CTYPES[dtype] else f"(int32_t){text}", dtype, array)


def pointer(group: Group, code: Code, value: Value, label: str = "table") -> str:
    """C: the first element of an operand, in a table or behind a parameter."""
    array = group.constant(value)
    if array is not None:
        return code.table(label, array)
    name = group.parameter(value)
    assert name is not None
    return name


def residuals(group: Group) -> tuple[int, ...]:
    """Parameters that only the epilogue reads, element by element just before the result's is written: `in_place`."""
    result = group.result.type
    anchored = {group.parameter(v) for v in group.anchor.operands} if not group.is_elementwise else set()
    return tuple(
        i
        for i, v in enumerate(group.parameters)
        if f"x{i}" not in anchored and v.type.shape == result.shape and v.type.dtype.bits == result.dtype.bits
    )


def uniform(array: Array) -> Any:
    """The one number that all elements are, by bits; None where they differ or there are none."""
    if array.size == 0:
        return None
    first = array.reshape(-1)[:1]
    same = array.tobytes() == np.repeat(first, array.size).tobytes()
    return first[0] if same else None


def _index(shape: Sequence[int], result: Sequence[int], at: Position) -> str:
    """The index of a broadcast operand's element."""
    if tuple(shape) == tuple(result):
        return at.flat
    terms, stride = [], 1
    for size, axis in zip(reversed(shape), reversed(at.axes), strict=False):
        if size != 1:
            terms.append(axis if stride == 1 else f"({axis}) * {stride}")
        stride *= size
    return " + ".join(reversed(terms)) or "0"


def refusal(group: Group) -> Unsupported | None:
    """Why an elementwise op of the group cannot be computed here; None where all can."""
    for node in group.nodes:
        if node is group.anchor and not group.is_elementwise:
            continue
        if type(node.op) not in EMITTERS:
            return Unsupported(f"there is no C for {node.op.name}")
        if isinstance(node.op, Rescale | Table) and any(group.constant(v) is None for v in node.operands[1:]):
            return Unsupported(f"the parameters of {node.op.name} are computed, not constant")
        if isinstance(node.op, Rescale) and group.array(node.operands[2]).min() < 0:
            return Unsupported("rescale has a negative shift")
    return None


# ----------------------------------------------------------------------------------------------------------- helpers

CLAMP = """\
static inline int32_t clamp(int32_t x, int32_t lo, int32_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}
"""

SATURATE = """\
/* The nearest 32-bit integer. */
static inline int32_t saturate(int64_t x)
{
    return x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : (int32_t)x;
}
"""

MULTIPLY_HIGH = """\
/* x * m / 2^32, rounded half up. */
static inline int32_t multiply_high(int32_t x, int32_t m)
{
    return (int32_t)(((int64_t)x * m + ((int64_t)1 << 31)) >> 32);
}
"""

ROUND_CLAMPED = """\
/* The nearest integer, ties to even, of x clamped to +-2^22; NaN gives -2^22. Adding 3 * 2^22 leaves no bits for a
   fraction, and exact floats are needed for that: */
#ifdef __FAST_MATH__
#error "compile without -ffast-math"
#endif
static inline int32_t round_clamped(float x)
{
    const float low = x > -4194304.0f ? x : -4194304.0f;
    const float clamped = low < 4194304.0f ? low : 4194304.0f;
    return (int32_t)((clamped + 12582912.0f) - 12582912.0f);
}
"""


def clamped(code: Code, text: str, lo: int, hi: int) -> str:
    """C: text, at least lo and at most hi."""
    return f"{code.helper('clamp', CLAMP)}({text}, {lo}, {hi})"


# ---------------------------------------------------------------------------------------------------------- emitters


def _rescale(op: Rescale, operands: Sequence[Scalar], code: Code) -> str:
    x, multiplier, shift = operands
    text = x.text
    wide = x.dtype.bits == 32 and (op.input_zero != 0 or shift.fixed != 0 or x.dtype != I32)
    if wide:
        text = f"(int64_t){text}"
    if op.input_zero:
        text = f"({text} - {code.number(op.input_zero, I32)})"
    if shift.fixed != 0:
        text = f"{text if wide else '(int64_t)' + text} * ((int64_t)1 << {shift.text})"
    if wide or shift.fixed != 0:
        text = f"{code.helper('saturate', SATURATE)}({text})"
    high = f"{code.helper('multiply_high', MULTIPLY_HIGH)}({text}, {multiplier.text})"
    return clamped(code, f"{high} + {code.number(op.zero, I32)}" if op.zero else high, op.lo, op.hi)


def _rescale_add(op: RescaleAdd, operands: Sequence[Scalar], code: Code) -> str:
    a, b = operands
    # |a| + |b| of at most 2^15 by factors below 2^15 each, and a bias: only small operands are sure to fit 32 bits.
    reach = sum(abs(m) << s.dtype.bits for m, s in ((op.a_multiplier, a), (op.b_multiplier, b)))
    cast = "" if reach + abs(op.bias) <= I32.max else "(int64_t)"
    a_term, b_term = (
        f"{cast}{s.text} * {code.number(m, I32)}" for s, m in ((a, op.a_multiplier), (b, op.b_multiplier))
    )
    bias = code.number(op.bias, I32 if abs(op.bias) <= I32.max else I64)
    total = f"({a_term} + {b_term} + {bias}) >> {op.shift}"
    if cast:
        total = f"{code.helper('saturate', SATURATE)}({total})"
    return clamped(code, total, op.lo, op.hi)


def _quantize(op: Quantize, operands: Sequence[Scalar], code: Code) -> str:
    x, scale, zero = operands
    rounded = f"{code.helper('round_clamped', ROUND_CLAMPED)}({x.text} / {scale.text})"
    return clamped(code, rounded if zero.fixed == 0 else f"{rounded} + {zero.text}", op.lo, op.hi)


def _dequantize(op: Dequantize, operands: Sequence[Scalar], code: Code) -> str:
    x, scale, zero = operands
    difference = x.text if zero.fixed == 0 else f"({x.text} - {zero.text})"
    if x.dtype.bits == 32 and zero.fixed != 0:
        difference = f"((int64_t){x.text} - {zero.text})"
    return f"({scalar(scale.dtype)}){difference} * {scale.text}"


def _clip(op: Clip, operands: Sequence[Scalar], code: Code) -> str:
    (x,) = operands
    # Comparisons with NaN are false, so NaN stays. Infinite bounds are left out, as in `ref`.
    text = x.text
    if op.lo != -np.inf:
        low = code.number(x.dtype.numpy.type(op.lo), x.dtype)
        text = f"({text} < {low} ? {low} : {text})"
    if op.hi != np.inf:
        high = code.number(x.dtype.numpy.type(op.hi), x.dtype)
        text = f"({text} > {high} ? {high} : {text})"
    return text


def _table(op: Table, operands: Sequence[Scalar], code: Code) -> str:
    x, table = operands
    assert table.array is not None
    name = code.table("table", table.array)
    index = f"{x.text} + 128" if x.dtype.min else x.text
    return f"{name}[{index}]"


def wrapping(symbol: str) -> Emitter:
    """An arithmetic operator; integers wrap as NumPy's do, by way of unsigned ones, where C says nothing."""

    def emit(op: Op, operands: Sequence[Scalar], code: Code) -> str:
        a, b = operands
        dtype = a.dtype
        if dtype.is_float:
            return f"{a.text} {symbol} {b.text}"
        if dtype.bits == 8:
            return f"({CTYPES[dtype]})({a.text} {symbol} {b.text})"
        unsigned = f"uint{max(dtype.bits, 32)}_t"
        return f"({CTYPES[dtype]})(({unsigned}){a.text} {symbol} ({unsigned}){b.text})"

    return emit


EMITTERS: Mapping[type[Op], Emitter] = {
    Add: wrapping("+"),
    Sub: wrapping("-"),
    Clip: _clip,
    Quantize: _quantize,
    Dequantize: _dequantize,
    Rescale: _rescale,
    RescaleAdd: _rescale_add,
    Table: _table,
}
