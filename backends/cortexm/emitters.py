"""Elementwise ops as C expressions on scalars: each emitter says what its op's `ref` says, for one element."""

from __future__ import annotations

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
from .code import CTYPES, Code, scalar


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


Emitter = Callable[[Any, Sequence[Scalar], Code], str]

# ----------------------------------------------------------------------------------------------------------- helpers

CLAMP = """\
static inline int32_t @clamp(int32_t x, int32_t lo, int32_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}
"""

SATURATE = """\
/* The nearest 32-bit integer. */
static inline int32_t @saturate(int64_t x)
{
    return x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : (int32_t)x;
}
"""

MULTIPLY_HIGH = """\
/* x * m / 2^32, rounded half up. */
static inline int32_t @multiply_high(int32_t x, int32_t m)
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
static inline int32_t @round_clamped(float x)
{
    const float low = x > -4194304.0f ? x : -4194304.0f;
    const float clamped = low < 4194304.0f ? low : 4194304.0f;
    return (int32_t)((clamped + 12582912.0f) - 12582912.0f);
}
"""


def truncation(bits: int) -> str:
    """C: a function that gives the integer part of a float."""
    edge = f"{2 ** (bits - 1)}.0f"
    return f"""\
/* The integer part, the nearest {bits}-bit integer beyond them; NaN gives 0. */
static inline int{bits}_t @truncate_{bits}(float x)
{{
    return x >= {edge} ? INT{bits}_MAX : x > -{edge} ? (int{bits}_t)x : x != x ? 0 : INT{bits}_MIN;
}}
"""


#: What is compared, where either may be a constant, are the parameters of a function: of a comparison that a type
#: decides, or of something with itself, compilers warn.
CHOICE = """\
static inline {type} @{name}({type} a, {type} b)
{{
    return {condition} ? a : b;
}}
"""

COMPARISON = """\
static inline int32_t @{name}({type} a, {type} b)
{{
    return a {symbol} b;
}}
"""


TRUNCATE_U64 = """\
/* The same as 64 bits without a sign. */
static inline uint64_t @truncate_u64(float x)
{
    return x >= 18446744073709551616.0f ? UINT64_MAX
        : x >= 9223372036854775808.0f ? (uint64_t)x : (uint64_t)@truncate_64(x);
}
"""


def clamped(code: Code, text: str, lo: int, hi: int) -> str:
    """C: text, at least lo and at most hi."""
    return f"{code.helper('clamp', CLAMP)}({text}, {code.number(lo, I32)}, {code.number(hi, I32)})"


def chosen(code: Code, greater: bool, dtype: DType, a: str, b: str) -> str:
    """C: the smaller or larger of two; a where it is NaN, else b where that is."""
    name = f"{'larger' if greater else 'smaller'}_{typed(dtype)}"
    condition = f"a {'>' if greater else '<'} b" + (" || a != a" if dtype.is_float else "")
    return f"{code.helper(name, CHOICE.format(type=scalar(dtype), name=name, condition=condition))}({a}, {b})"


def typed(dtype: DType) -> str:
    """For names of functions: the type that `scalar` gives."""
    return dtype.name if dtype.is_float or dtype.bits > 16 else I32.name


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
    lo, hi = clip_ends(op, x.dtype)
    if lo is not None and hi is not None and scalar(x.dtype) == CTYPES[I32]:
        return clamped(code, x.text, min(lo, hi), hi)  # the upper bound wins
    # With a bound that is no NaN first, NaN stays.
    text = x.text
    if lo is not None:
        text = chosen(code, True, x.dtype, code.number(lo, x.dtype), text)
    return text if hi is None else chosen(code, False, x.dtype, code.number(hi, x.dtype), text)


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


def _div(op: Div, operands: Sequence[Scalar], code: Code) -> str:
    """Integers too: both truncate, and `scalars.refusal` sees to the divisor."""
    a, b = operands
    return f"{a.text} / {b.text}" if a.dtype.is_float else f"({CTYPES[a.dtype]})({a.text} / {b.text})"


def extremum(greater: bool) -> Emitter:
    """The smaller or larger of two, or NaN."""
    return lambda op, operands, code: chosen(code, greater, operands[0].dtype, operands[0].text, operands[1].text)


def function(name: str) -> Emitter:
    """A function of <math.h>."""

    def emit(op: Op, operands: Sequence[Scalar], code: Code) -> str:
        code.header("math.h")
        return f"{name}({', '.join(s.text for s in operands)})"

    return emit


def _sigmoid(op: Sigmoid, operands: Sequence[Scalar], code: Code) -> str:
    code.header("math.h")
    return f"1.0f / (1.0f + expf(-{operands[0].text}))"


def comparison(name: str, symbol: str) -> Emitter:
    """A truth value, 0 or 1; false where an operand is NaN."""

    def emit(op: Op, operands: Sequence[Scalar], code: Code) -> str:
        a, b = operands
        own = f"{name}_{typed(a.dtype)}"
        text = COMPARISON.format(type=scalar(a.dtype), name=own, symbol=symbol)
        return f"{code.helper(own, text)}({a.text}, {b.text})"

    return emit


def _where(op: Where, operands: Sequence[Scalar], code: Code) -> str:
    condition, a, b = (s.text for s in operands)
    return f"({condition} ? {a} : {b})"


GELU = """\
/* x times the normal distribution function of x. */
static inline float @gelu(float x)
{
    return 0.5f * x * erfcf(-0.70710678f * x);
}
"""

GELU_TANH = """\
/* x/2 (1 + tanh z) as x / (1 + e^-2z): nothing cancels. */
static inline float @gelu_tanh(float x)
{
    const float z = 0.79788456f * (x + 0.044715f * x * x * x);
    return x / (1.0f + expf(-2.0f * z));
}
"""


def _gelu(op: Gelu, operands: Sequence[Scalar], code: Code) -> str:
    code.header("math.h")
    name = code.helper("gelu_tanh", GELU_TANH) if op.tanh else code.helper("gelu", GELU)
    return f"{name}({operands[0].text})"


def _hard(x: Scalar, alpha: float, beta: float, code: Code) -> str:
    """C: alpha * x + beta, clipped to 0 and 1; NaN stays."""
    line = f"({x.text} * {code.number(alpha, F32)} + {code.number(beta, F32)})"
    return f"({line} < 0.0f ? 0.0f : {line} > 1.0f ? 1.0f : {line})"


def _hard_sigmoid(op: HardSigmoid, operands: Sequence[Scalar], code: Code) -> str:
    return _hard(operands[0], op.alpha, op.beta, code)


def _hard_swish(op: HardSwish, operands: Sequence[Scalar], code: Code) -> str:
    return f"{operands[0].text} * {_hard(operands[0], 1 / 6, 0.5, code)}"


def _silu(op: Silu, operands: Sequence[Scalar], code: Code) -> str:
    code.header("math.h")
    return f"{operands[0].text} / (1.0f + expf(-{operands[0].text}))"


def _cast(op: Cast, operands: Sequence[Scalar], code: Code) -> str:
    (x,) = operands
    if op.dtype == BOOL:
        return f"{x.text} != {code.number(0, x.dtype)}"
    text = x.text
    if x.dtype.is_float and not op.dtype.is_float:
        high = carrier(op.dtype)[1]
        bits = 32 if high == I32.max else 64
        name, helper = f"truncate_{bits}", truncation(bits)
        if high == U64.max:
            code.helper(name, helper)
            name, helper = "truncate_u64", TRUNCATE_U64
        text = f"{code.helper(name, helper)}({text})"
    return f"({CTYPES[op.dtype]}){text}"


def _abs(op: Abs, operands: Sequence[Scalar], code: Code) -> str:
    (x,) = operands
    if x.dtype.is_float:
        code.header("math.h")
        return f"fabsf({x.text})"
    if x.dtype.kind == "uint":
        return x.text
    kind = f"uint{max(x.dtype.bits, 32)}_t"
    return f"({CTYPES[x.dtype]})({x.text} < 0 ? 0u - ({kind}){x.text} : ({kind}){x.text})"  # the lowest wraps


EMITTERS: Mapping[type[Op], Emitter] = {
    Add: wrapping("+"),
    Sub: wrapping("-"),
    Mul: wrapping("*"),
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
    Equal: comparison("equal", "=="),
    Less: comparison("less", "<"),
    LessEqual: comparison("less_equal", "<="),
    Not: lambda op, operands, code: f"!{operands[0].text}",
    Where: _where,
    Quantize: _quantize,
    Dequantize: _dequantize,
    Rescale: _rescale,
    RescaleAdd: _rescale_add,
    Table: _table,
}
