"""Which integers quantized values are: signed ones of 8 or 16 bits, whatever a model stores.

Clamps and shifts of integers become part of what makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.arithmetic import fixed_point
from ..ir.builder import Builder, const_value
from ..ir.graph import Value, graph_input
from ..ir.op import Draw
from ..ir.ops.elementwise import clip, relu
from ..ir.ops.quant import Quantize, dequantize, quantize, rescale
from ..ir.ops.quantized import QuantizedOperand, QuantizedResult, Refusal, integer_form
from ..ir.ops.shape import transpose
from ..ir.pattern import const
from ..ir.rewrite import Matched, NoMatch, Rule, no_match
from ..ir.types import DTYPES, F32, I8, Array, DType, TensorType


def drawn(draw: Draw, dtype: DType = I8) -> Value:
    """Integers, as an input."""
    return graph_input("x", TensorType(draw.shape(1, 4, 3), dtype))


def moved(draw: Draw, x: Value) -> Value:
    """Its axes the other way round, or nothing below zero: what keeps a scale."""
    value: Value = transpose(x, perm=tuple(reversed(range(x.type.rank)))) if draw.boolean() else relu(x)
    return value


def scaled(draw: Draw) -> tuple[Array, Array]:
    """A scale and a zero point of int8."""
    return np.array(draw.choice([0.25, 0.1, 0.02]), np.float32), np.array(draw.integer(-8, 8), np.int8)


class WholeBytes(Rule):
    """Integers of fewer than 8 bits are held in 8."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return dequantize(x, const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        if x.type.dtype.bits >= 8:
            return no_match("they have 8 bits or more")
        wide, node = DTYPES[f"{'u' if x.type.dtype.kind == 'uint' else 'i'}8"], x.producer
        if x.const is not None:
            return m.dequantize.like(x.const.astype(wide.numpy), scale, zero.astype(wide.numpy))
        if node is None or not isinstance(node.op, Quantize) or node.operands[2].const is None:
            return no_match("they are an input, or computed from integers")
        real, step, offset = node.operands
        twin = Matched(node).like(real, step, np.asarray(offset.const).astype(wide.numpy), dtype=wide)
        return m.dequantize.like(twin, scale, zero.astype(wide.numpy))

    def examples(self, draw: Draw) -> Value:
        """Weights, or an activation between a pair."""
        dtype = DTYPES[draw.choice(["i4", "u4"])]
        scale, zero = scaled(draw)[0], np.array(draw.integer(0, 7)).astype(dtype.numpy)
        if draw.boolean():
            return dequantize(draw.array(draw.shape(1, 4, 3), dtype), scale, zero)
        x = graph_input("x", TensorType(draw.shape(1, 4, 3), F32))
        return dequantize(quantize(x, scale, zero, dtype=dtype, lo=dtype.min, hi=dtype.max), scale, zero)


def signed(dtype: DType) -> DType:
    """The signed integers of the same width."""
    return DTYPES[f"i{dtype.bits}"]


def shifted(x: Value, offset: int, dtype: DType) -> Value:
    """The integers plus an offset, in another dtype, as a rescale by one; the offset fits the dtypes."""
    one = [v.reshape((1,) * min(x.type.rank, 1)) for v in fixed_point(1.0)]  # broadcasts to a scalar, too
    value: Value = rescale(x, *one, zero=offset, lo=dtype.min, hi=dtype.max, dtype=dtype)
    return value


class SignedQuantize(Rule):
    """Unsigned results are computed signed: uint8 is int8 with the zero point less 128."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(x, const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        if m.quantize.dtype.kind != "uint":
            return no_match("the result is signed")
        offset, dtype = 1 << (m.quantize.dtype.bits - 1), signed(m.quantize.dtype)
        twin = m.quantize.like(
            x, scale, _less(zero, offset, dtype), dtype=dtype, lo=m.quantize.lo - offset, hi=m.quantize.hi - offset
        )
        return shifted(twin, offset, m.quantize.dtype)


class SignedDequantize(Rule):
    """Unsigned integers are read as signed ones: uint8 is int8 with the zero point less 128."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return dequantize(x, const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        if x.type.dtype.kind != "uint" or x.type.dtype.bits > 16:
            return no_match("the integers are signed")
        offset, dtype = 1 << (x.type.dtype.bits - 1), signed(x.type.dtype)
        twin = shifted(x, -offset, dtype) if x.const is None else const_value(_less(x.const, offset, dtype))
        return m.dequantize.like(twin, scale, _less(zero, offset, dtype))


def _less(array: Array, offset: int, dtype: DType) -> Array:
    return (array.astype(np.int64) - offset).astype(dtype.numpy)


def is_one(multiplier: Array, shift: Array) -> bool:
    """Whether a rescale multiplies by one: it shifts the zero point and clamps, no more."""
    return all(np.array_equal(a.ravel(), b) for a, b in zip((multiplier, shift), fixed_point(1.0), strict=True))


class MergeShift(Rule):
    """A rescale by one after another rescale is part of it; signed to unsigned and back again is nothing."""

    def pattern(self, x: Any, m1: Any, k1: Any, m2: Any, k2: Any) -> Any:
        return rescale(rescale(x, const(m1), const(k1), as_="inner"), const(m2), const(k2), as_="outer")

    def rewrite(self, m: Any, x: Value, m1: Array, k1: Array, m2: Array, k2: Array) -> Value | NoMatch:
        inner, outer = m.inner.op, m.outer.op
        if not is_one(m2, k2):
            return no_match("the scale changes")
        if not is_one(m1, k1) and m.inner.node.graph.only_user(m.inner.value) is not m.outer.node:
            return no_match("the first rescale has other uses")
        offset = outer.zero - outer.input_zero
        lo, hi = (int(np.clip(end + offset, outer.lo, outer.hi)) for end in (inner.lo, inner.hi))
        zero, dtype = inner.zero + offset, outer.dtype
        whole = lo <= x.type.dtype.min and hi >= x.type.dtype.max and dtype == x.type.dtype
        if is_one(m1, k1) and zero == inner.input_zero and whole:
            return x
        return m.inner.like(x, m1, k1, zero=zero, lo=lo, hi=hi, dtype=dtype)

    def examples(self, draw: Draw) -> Value:
        """Any rescale to int8, and one by one."""
        factor = draw.choice([1.0, 0.3])
        inner = rescale(drawn(draw), *fixed_point(factor), input_zero=draw.integer(-8, 8), zero=draw.integer(-8, 8))
        return shifted(inner, *draw.choice([(128, DTYPES["u8"]), (0, I8), (-5, I8)]))


class QuantizeShifted(Rule):
    """Integers that are shifted to signed ones, and clamped, are quantized so."""

    def pattern(self, x: Any, scale: Any, zero: Any, multiplier: Any, shift: Any) -> Any:
        return rescale(quantize(x, const(scale), const(zero)), const(multiplier), const(shift))

    def rewrite(
        self, m: Any, x: Value, scale: Array, zero: Array, multiplier: Array, shift: Array
    ) -> Value | NoMatch:  # fmt: skip
        dtype, offset = m.rescale.op.dtype, m.rescale.zero - m.rescale.input_zero
        if dtype.kind != "int" or not is_one(multiplier, shift):
            return no_match("the scale changes, or the result is unsigned")
        moved_zero = zero.astype(np.int64) + offset
        if moved_zero.min() < dtype.min or moved_zero.max() > dtype.max:
            return no_match("the zero point does not fit")
        lo, hi = (int(np.clip(end + offset, m.rescale.lo, m.rescale.hi)) for end in (m.quantize.lo, m.quantize.hi))
        return m.quantize.like(x, scale, moved_zero.astype(dtype.numpy), dtype=dtype, lo=lo, hi=hi)

    def examples(self, draw: Draw) -> Value:
        """A float input."""
        x = graph_input("x", TensorType(draw.shape(1, 4, 3), F32))
        return shifted(quantize(x, *scaled(draw)), draw.choice([0, -5, 7]), I8)


@dataclass(eq=False)
class ClampedInside(Rule):
    """A clip of integers that quantize or rescale makes is their clamp."""

    maker: Builder[Any]

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.maker.op.name})"

    def pattern(self, x: Any, p: Any, q: Any) -> Any:
        return clip(self.maker(x, p, q, as_="made"))

    def rewrite(self, m: Any, x: Value, p: Value, q: Value) -> Value:
        lo, hi = (int(np.clip(end, m.clip.lo, m.clip.hi)) for end in (m.made.lo, m.made.hi))
        return m.made.like(x, p, q, lo=lo, hi=hi)

    def examples(self, draw: Draw) -> Value:
        """Bounds inside of int8, or one of them."""
        if self.maker is quantize:
            made = quantize(graph_input("x", TensorType(draw.shape(1, 4, 3), F32)), *scaled(draw))
        else:
            made = rescale(drawn(draw), *fixed_point(0.3))
        ends = draw.choice([{"lo": -20.0}, {"hi": 33.0}, {"lo": -127.0, "hi": 100.0}])
        value: Value = clip(made, **ends)
        return value


class HoistShift(Rule):
    """Unsigned integers that are only moved or compared are made signed before that."""

    def pattern(self, x: Any, multiplier: Any, shift: Any) -> Any:
        return rescale(x, const(multiplier), const(shift))

    def rewrite(self, m: Any, x: Value, multiplier: Array, shift: Array) -> Value | NoMatch:
        node, wanted, offset = x.producer, m.rescale.op.dtype, m.rescale.zero - m.rescale.input_zero
        if x.type.dtype.kind != "uint" or wanted != signed(x.type.dtype) or offset != wanted.min:
            return no_match("it does not make unsigned integers signed")
        if not is_one(multiplier, shift):
            return no_match("the scale changes")
        if node is None or not node.op.keeps_scale or node.graph is None or node.graph.only_user(x) is None:
            return no_match("no data movement comes before, or it has other uses")
        result = QuantizedResult(x.type, wanted, 1.0, offset, m.rescale.lo, m.rescale.hi)
        operands = [
            QuantizedOperand(v.type, shifted(v, offset, wanted), np.array(1.0), np.array(offset)) for v in node.operands
        ]
        out = integer_form(node.op, operands, result)
        return no_match(out.reason) if isinstance(out, Refusal) else bare(out)

    def examples(self, draw: Draw) -> Value:
        """Bytes that are moved."""
        return shifted(moved(draw, drawn(draw, DTYPES["u8"])), -128, I8)


def bare(value: Value) -> Value:
    """The value without an annotation that was only a means."""
    value.type = value.type.bare
    return value
