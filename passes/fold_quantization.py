"""Clusters of dequantize -> op -> quantize become integer ops, through `Op.quantized`.

The pass names no op but those that quantize and clip: what an op is on integers, it says itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir import arithmetic
from ..ir.arithmetic import fixed_point
from ..ir.builder import const_value
from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value, graph_input
from ..ir.op import Draw
from ..ir.ops.elementwise import add, clip, relu
from ..ir.ops.quant import Dequantize, Quantize, dequantize, quantize, rescale
from ..ir.ops.shape import transpose
from ..ir.ops.unary import sigmoid
from ..ir.pattern import const
from ..ir.quantized import QuantizedOperand, QuantizedResult, Refusal
from ..ir.rewrite import Matched, NoMatch, Rule, no_match
from ..ir.types import DTYPES, F32, I8, Array, DType, Quant, TensorType
from ..runtime.contracts import Contract, within
from .base import Changes, Context, RulePass


def operand_of(value: Value) -> QuantizedOperand:
    """A float value as its user sees it: integers, where it is dequantized; a constant; or neither."""
    seen = _integers(value)
    if seen is not None:
        return seen
    return QuantizedOperand(value.type, None, np.array(1.0), np.array(0), value.const)


def _integers(value: Value) -> QuantizedOperand | None:
    """`value` as dequantized integers, also through ops that keep the scale; None where it is something else."""
    node = value.producer
    if node is None or not node.operands:
        return None
    if isinstance(node.op, Dequantize):
        x, scale, zero = node.operands
        if scale.const is None or zero.const is None or not np.all(scale.const > 0):
            return None  # only a positive scale keeps the order
        wide_scale, wide_zero = scale.const.astype(np.float64), zero.const.astype(np.int64)
        real = None if x.const is None else (x.const.astype(np.int64) - wide_zero) * wide_scale
        return QuantizedOperand(value.type, x, wide_scale, wide_zero, real)
    if not node.op.keeps_scale:
        return None
    operands = [_integers(v) for v in node.operands]
    if len(operands) == 1 and operands[0] is not None and operands[0].real is not None and node.op.moves_data:
        return _moved_constant(node, operands[0])
    first = operands[0]
    if first is None or first.value is None or not first.per_tensor:
        return None
    dtype = first.value.type.dtype
    result = QuantizedResult(value.type, dtype, float(first.scale.item()), int(first.zero.item()), dtype.min, dtype.max)
    for v in operands:
        if v is None or v.value is None or not v.per_tensor or result.requantized(v) is not v.value:
            return None
    out = node.op.quantized([v for v in operands if v is not None], result)
    if isinstance(out, Refusal):
        return None
    return QuantizedOperand(value.type, out, first.scale, first.zero)


def _moved_constant(node: Node, x: QuantizedOperand) -> QuantizedOperand:
    """A quantized constant after a data movement; scales per axis move with it."""
    assert x.value is not None
    integers = np.asarray(x.value.const)
    data, scale, zero, real = (
        node.op.ref(np.broadcast_to(np.asarray(part), integers.shape)) for part in (integers, x.scale, x.zero, x.real)
    )
    return QuantizedOperand(node.result.type, const_value(np.array(data)), _squeezed(scale), _squeezed(zero), real)


def _squeezed(array: Array) -> Array:
    """The smallest array that broadcasts to this one: axes along which nothing changes have size 1; [] if none does."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if np.all(array == first):
            array = first
    return array.reshape(()) if array.size == 1 else array


def _drawn(draw: Draw, dtype: DType = I8) -> Value:
    """Integers, as an input."""
    return graph_input("x", TensorType(draw.shape(1, 4, 3), dtype))


def _moved(draw: Draw, x: Value) -> Value:
    """Its axes the other way round, or nothing below zero: what keeps a scale."""
    value: Value = transpose(x, perm=tuple(reversed(range(x.type.rank)))) if draw.boolean() else relu(x)
    return value


def _scaled(draw: Draw) -> tuple[Array, Array]:
    """A scale and a zero point of int8."""
    return np.array(draw.choice([0.25, 0.1, 0.02]), np.float32), np.array(draw.integer(-8, 8), np.int8)


class FoldCluster(Rule):
    """quantize(op(dequantize(x), ...)) is the op's integer form, or where x is integers already, x itself rescaled."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(x, const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        node = x.producer
        if node is None or node.graph is None or isinstance(node.op, Const):
            return no_match("it quantizes an input or a constant")
        if scale.size != 1 or zero.size != 1:
            return no_match("the result is quantized per channel")
        result = result_of(m.quantize)
        seen = _integers(x)
        if seen is not None and seen.per_tensor:
            return result.requantized(seen)
        if node.graph.only_user(x) is not m.quantize.node:
            return no_match(f"the float result of {node.op.name} has other uses")
        out = node.op.quantized([operand_of(v) for v in node.operands], result)
        return no_match(out.reason) if isinstance(out, Refusal) else out

    def examples(self, draw: Draw) -> Value:
        """An activation, a movement, a sum, or nothing but two scales."""
        x = dequantize(_drawn(draw), *_scaled(draw))
        between = draw.choice([relu, sigmoid, lambda v: add(v, v), lambda v: _moved(draw, v), lambda v: v])
        value: Value = quantize(between(x), *_scaled(draw))
        return value


def result_of(q: Matched) -> QuantizedResult:
    """What a matched `quantize` (constant, per tensor) wants."""
    x, scale, zero = q.node.operands
    return QuantizedResult(
        x.type, q.dtype, float(np.asarray(scale.const).item()), int(np.asarray(zero.const).item()), q.lo, q.hi
    )


class NarrowClip(Rule):
    """quantize(clip(x)) is a quantize with a narrower clamp: exact, as rounding is monotone."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(clip(x), const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        if scale.size != 1 or zero.size != 1:
            return no_match("the result is quantized per channel")
        ends = np.array([m.clip.lo, m.clip.hi], x.type.dtype.numpy)
        lo, hi = arithmetic.quantize(ends, scale.reshape(()), zero.reshape(()), m.quantize.lo, m.quantize.hi)
        return m.quantize.like(x, scale, zero, lo=int(min(lo, hi)), hi=int(hi))


class HoistQuantize(Rule):
    """quantize(op(x)) is op(quantize(x)) for ops that keep the scale: exact, and the op moves fewer bytes."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(x, const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        node = x.producer
        if node is None or not node.op.keeps_scale or not node.operands:
            return no_match("no data movement comes before")
        if scale.size != 1 or zero.size != 1:
            return no_match("the result is quantized per channel")
        if node.graph is None or node.graph.only_user(x) is not m.quantize.node:
            return no_match(f"the float result of {node.op.name} has other uses")
        result = result_of(m.quantize)
        wide = {"lo": result.dtype.min, "hi": result.dtype.max}
        operands = [
            QuantizedOperand(
                v.type, None if v.const is not None else m.quantize.like(v, scale, zero, **wide),
                np.array(result.scale), np.array(result.zero), v.const,
            )
            for v in node.operands
        ]  # fmt: skip
        out = node.op.quantized(operands, result)
        return no_match(out.reason) if isinstance(out, Refusal) else out

    def examples(self, draw: Draw) -> Value:
        """A movement between a float input and its integers."""
        x = graph_input("x", TensorType(draw.shape(1, 4, 3), F32))
        value: Value = quantize(_moved(draw, x), *_scaled(draw))
        return value


class QuantizeConstant(Rule):
    """quantize of a constant is a constant."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(const(x), const(scale), const(zero))

    def rewrite(self, m: Any, x: Array, scale: Array, zero: Array) -> Value:
        return const_value(m.quantize.op.ref(x, scale, zero).astype(m.quantize.dtype.numpy))


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
        inner = rescale(_drawn(draw), *fixed_point(factor), input_zero=draw.integer(-8, 8), zero=draw.integer(-8, 8))
        return shifted(inner, *draw.choice([(128, DTYPES["u8"]), (0, I8), (-5, I8)]))


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
        out = node.op.quantized(operands, result)
        return no_match(out.reason) if isinstance(out, Refusal) else bare(out)

    def examples(self, draw: Draw) -> Value:
        """Bytes that are moved."""
        return shifted(_moved(draw, _drawn(draw, DTYPES["u8"])), -128, I8)


def bare(value: Value) -> Value:
    """The value without an annotation that was only a means."""
    value.type = value.type.bare
    return value


@dataclass(frozen=True)
class FoldQuantization(RulePass):
    """Turn dequantize -> op -> quantize into integer ops; what cannot be proven or has no integer form stays float.

    Takes the clusters that `quantize` makes and those of imported QDQ and QOperator models. Weights are symmetric
    afterwards, integers signed; public inputs and outputs keep their dtypes. NaNs aside, every node that is rewritten
    gives the float cluster's integers within one step.
    """

    contract: ClassVar[Contract] = within(1)
    rules: ClassVar[tuple[Rule, ...]] = (
        SignedQuantize(), SignedDequantize(), MergeShift(), HoistShift(),
        QuantizeConstant(), NarrowClip(), FoldCluster(), HoistQuantize(),
    )  # fmt: skip

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = super().run(graph, context)
        changes.refused = dict(_left(graph))
        changes.count("annotated types", _annotate(graph))
        for (op, place), reason in changes.refused.items():
            if not any(note.endswith(f"(at {place})") for note in context.notes):  # quantize has said so
                context.notes.append(f"{op} stays float: {reason} (at {place})")
        return changes


def _left(graph: Graph) -> Iterator[tuple[tuple[str, str], str]]:
    """Quantized clusters that are still float, with the reason: ((op, place), reason)."""
    fold = FoldCluster()
    for node in graph.nodes:
        if not isinstance(node.op, Quantize) or (producer := node.operands[0].producer) is None:
            continue
        if isinstance(outcome := fold.attempt(node), NoMatch):
            yield (producer.op.name, str(producer.loc or node.loc)), outcome.reason


def _annotate(graph: Graph) -> int:
    """Write what the integers at the borders mean into their types, where quantize and dequantize nodes say it.

    Returns how many there were.
    """
    annotated = 0
    for node in graph.nodes:
        if not isinstance(node.op, Quantize | Dequantize):
            continue
        integers = node.results[0] if isinstance(node.op, Quantize) else node.operands[0]
        scale, zero = (v.const for v in node.operands[1:])
        if scale is None or zero is None or not scale.size == zero.size == 1 or scale.item() <= 0:
            continue
        if integers.type.quant is None:
            integers.type = integers.type.with_quant(Quant.of(scale.item(), zero.item()))
            annotated += 1
    return annotated
