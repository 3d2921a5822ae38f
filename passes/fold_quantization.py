"""Clusters of dequantize -> op -> quantize become integer ops, through `Op.quantized`.

The pass names no op but those that quantize and clip: what an op is on integers, it says itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir import arithmetic
from ..ir.builder import Builder, const_value
from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value, graph_input
from ..ir.op import Draw
from ..ir.ops.conv import conv2d
from ..ir.ops.dense import dense, matmul
from ..ir.ops.elementwise import add, clip, relu
from ..ir.ops.quant import Dequantize, Quantize, dequantize, quantize, rescale
from ..ir.ops.quantized import QuantizedOperand, QuantizedResult, Refusal, integer_form, integer_sum, squeezed
from ..ir.ops.shape import transpose
from ..ir.ops.unary import sigmoid
from ..ir.pattern import const, only_use
from ..ir.rewrite import Matched, NoMatch, Rule, no_match, rewrite
from ..ir.types import F32, I8, I32, Array, Quant, TensorType
from ..runtime.contracts import Contract, within
from .base import Changes, Context, Pass
from .decompose import decompose, has_products
from .fuse import LayerRule, along, channel_axis
from .integer_types import (
    ClampedInside,
    HoistShift,
    MergeShift,
    QuantizeShifted,
    SignedDequantize,
    SignedQuantize,
    WholeBytes,
    drawn,
    moved,
    scaled,
)


def operand_of(value: Value) -> QuantizedOperand:
    """A float value as its user sees it: integers, where it is dequantized; a constant; or neither."""
    seen = _integers(value)
    if seen is None or (seen.value is not None and seen.value.type.dtype.bits > 16):  # wider than ops take
        real = value.const if seen is None else seen.real
        return QuantizedOperand(value.type, None, np.array(1.0), np.array(0), real)
    return seen


def _integers(value: Value) -> QuantizedOperand | None:
    """`value` as dequantized integers, also through ops that keep the scale; None where it is something else."""
    node = value.producer
    if node is None or not node.operands:
        return None
    if isinstance(node.op, Dequantize):
        x, scale, zero = node.operands
        if scale.const is None or zero.const is None:
            return None
        wide_scale, wide_zero = squeezed(scale.const.astype(np.float64)), squeezed(zero.const.astype(np.int64))
        if x.const is None and not np.all(wide_scale > 0):
            return None
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
    out = integer_form(node.op, [v for v in operands if v is not None], result)
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
    return QuantizedOperand(node.result.type, const_value(np.array(data)), squeezed(scale), squeezed(zero), real)


class FoldCluster(Rule):
    """quantize(op(dequantize(x), ...)) is the op's integer form, or where x is integers already, x itself rescaled."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(x, const(scale), const(zero))

    def rewrite(self, m: Any, x: Value, scale: Array, zero: Array) -> Value | NoMatch:
        node = x.producer
        if node is None or node.graph is None or isinstance(node.op, Const):
            return no_match("it quantizes an input or a constant")
        if reason := _unlike(scale, zero):
            return no_match(reason)
        result = result_of(m.quantize)
        seen = _integers(x)
        if seen is not None and seen.real is not None:
            return const_value(result.of_reals(seen.real))
        if seen is not None and seen.per_tensor:
            return result.requantized(seen)
        if node.graph.only_user(x) is not m.quantize.node:
            return no_match(f"the float result of {node.op.name} has other uses")
        out = integer_form(node.op, [operand_of(v) for v in node.operands], result)
        if isinstance(out, Refusal):
            return no_match("an operand has a scale that is not positive" if _any_flipped(node) else out.reason)
        return out

    def examples(self, draw: Draw) -> Value:
        """An activation, a movement, a sum, or nothing but two scales."""
        x = dequantize(drawn(draw), *scaled(draw))
        between = draw.choice([relu, sigmoid, lambda v: add(v, v), lambda v: moved(draw, v), lambda v: v])
        value: Value = quantize(between(x), *scaled(draw))
        return value


def _unlike(scale: Array, zero: Array) -> str:
    """Why integers of this scale and zero point are not what ops give; "" where they are."""
    if scale.size != 1 or zero.size != 1:
        return "the result is quantized per channel"
    return "" if np.all(scale > 0) else "the result has a scale that is not positive"


def _any_flipped(node: Node) -> bool:
    """Whether an activation that the node takes is dequantized by a scale that is not positive."""
    sources = [v.producer for v in node.operands]
    pairs = [n for n in sources if n is not None and isinstance(n.op, Dequantize) and n.operands[0].const is None]
    return any(n.operands[1].const is not None and not np.all(n.operands[1].const > 0) for n in pairs)


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
        if reason := _unlike(scale, zero):
            return no_match(reason)
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
        if reason := _unlike(scale, zero):
            return no_match(reason)
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
        out = integer_form(node.op, operands, result)
        return no_match(out.reason) if isinstance(out, Refusal) else out

    def examples(self, draw: Draw) -> Value:
        """A movement between a float input and its integers."""
        x = graph_input("x", TensorType(draw.shape(1, 4, 3), F32))
        value: Value = quantize(moved(draw, x), *scaled(draw))
        return value


class QuantizeConstant(Rule):
    """quantize of a constant is a constant."""

    def pattern(self, x: Any, scale: Any, zero: Any) -> Any:
        return quantize(const(x), const(scale), const(zero))

    def rewrite(self, m: Any, x: Array, scale: Array, zero: Array) -> Value:
        return const_value(m.quantize.op.ref(x, scale, zero).astype(m.quantize.dtype.numpy))


class StoredBias(LayerRule):
    """A stored number per output channel that is added to a layer of dequantized weights is part of its bias."""

    def pattern(self, x: Any, w: Any, b: Any, c: Any) -> Any:
        return add(only_use(self.layer(x, w, b, as_="layer")), c, as_="sum")

    def rewrite(self, m: Any, x: Value, w: Value, b: Value, c: Value) -> Value | NoMatch:
        if m.layer.dtype.is_integer or _integers(w) is None:
            return no_match("the weights are not dequantized")
        parts, result = [operand_of(v).real for v in (b, c)], m.layer.value.type
        if parts[0] is None or parts[1] is None:
            return no_match("the bias, or what is added to it, is computed")
        more = along(channel_axis(m.layer), parts[1].astype(result.dtype.numpy), result)
        if more is None or m.sum.value.type.shape != result.shape:
            return no_match("what is added is not one number per output channel")
        return m.layer.like(x, w, (parts[0] + more).astype(result.dtype.numpy))

    def examples(self, draw: Draw) -> Value:
        """Integers of one image or row."""
        c = dequantize(draw.array((1,), I32, -99, 99), np.float32(0.1), np.int32(0))
        value: Value = add(_stored_layer(draw, self.layer), c)
        return value


class MatmulOfStored(Rule):
    """A matrix product with dequantized weights is a dense layer, which takes any zero point of its input."""

    def pattern(self, x: Any, w: Any) -> Any:
        return matmul(x, w)

    def rewrite(self, m: Any, x: Value, w: Value) -> Value | NoMatch:
        seen = _integers(w)
        if w.type.rank != 2 or seen is None or seen.value is None or seen.real is None:
            return no_match("the second operand is no matrix of dequantized weights")
        zeros = np.zeros(seen.real.shape[1], m.matmul.dtype.numpy)
        value: Value = dense(x, transpose(w, perm=(1, 0)), zeros)
        return value

    def examples(self, draw: Draw) -> Value:
        """Integers by stored ones, which may have been moved."""
        rows, inner, columns = (draw.integer(1, 3) for _ in range(3))
        x = dequantize(graph_input("x", TensorType((rows, inner), I8)), *scaled(draw))
        value: Value = matmul(x, dequantize(draw.array((inner, columns), I8), *scaled(draw)))
        return value


class IntegerSum(LayerRule):
    """A layer of integers whose result stays float is an integer sum, dequantized."""

    def pattern(self, x: Any, w: Any, b: Any) -> Any:
        return self.layer(x, w, b, as_="layer")

    def rewrite(self, m: Any, x: Value, w: Value, b: Value) -> Value | NoMatch:
        if m.layer.dtype.is_integer:
            return no_match("the layer computes integers")
        out = integer_sum(m.layer.op, [operand_of(v) for v in (x, w, b)])
        return no_match(out.reason) if isinstance(out, Refusal) else out

    def examples(self, draw: Draw) -> Value:
        """Integers of one image or row."""
        return _stored_layer(draw, self.layer)


def _stored_layer(draw: Draw, layer: Builder[Any]) -> Value:
    """A layer of dequantized integers."""
    inputs, outputs = draw.integer(1, 3), draw.integer(1, 3)
    after = (2, 2) if layer is conv2d else ()
    x = dequantize(graph_input("x", TensorType((1, inputs, *after), I8)), *scaled(draw))
    w = draw.array((outputs, inputs, *(1,) * len(after)), I8)
    scale = np.array([draw.choice([0.5, 0.03]) for _ in range(outputs)], np.float32).reshape(-1, *(1,) * (w.ndim - 1))
    value: Value = layer(x, dequantize(w, scale, np.zeros(scale.shape, np.int8)), draw.array((outputs,), F32))
    return value


LAYERS = (conv2d, dense)
CLUSTERS: tuple[Rule, ...] = (
    WholeBytes(), SignedQuantize(), SignedDequantize(), MergeShift(), HoistShift(), QuantizeShifted(),
    ClampedInside(quantize), ClampedInside(rescale), QuantizeConstant(), NarrowClip(),
    MatmulOfStored(), *(StoredBias(layer) for layer in LAYERS), FoldCluster(), HoistQuantize(),
)  # fmt: skip
#: After the clusters: what they take has a result of integers, which is better.
SUMS: tuple[Rule, ...] = tuple(IntegerSum(layer) for layer in LAYERS)


@dataclass(frozen=True)
class FoldQuantization(Pass):
    """Turn dequantize -> op -> quantize into integer ops; what cannot be proven or has no integer form stays float.

    Takes the clusters that `quantize` makes and those of imported QDQ and QOperator models. Weights are symmetric
    afterwards (of 16 bits, where 8 do not hold them less their zero point), integers signed; public inputs and outputs
    keep their dtypes. Layers of integers whose results stay float are integer sums, dequantized. NaNs aside, every node
    that is rewritten gives the float cluster's integers within one step, and floats up to rounding.
    """

    contract: ClassVar[Contract] = within(1)
    rules: ClassVar[tuple[Rule, ...]] = (*CLUSTERS, *SUMS)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = decompose(graph, [n for n in graph.nodes if has_products(n) and any(map(_integers, n.operands))])
        changes.add(rewrite(graph, (*self.joined(), *CLUSTERS)))
        left = dict(_left(graph))
        changes.applied.update(rewrite(graph, SUMS).applied)
        changes.refused = {**dict(_not_summed(graph)), **left}
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


def _not_summed(graph: Graph) -> Iterator[tuple[tuple[str, str], str]]:
    """Layers of dequantized integers that are still float, with the reason."""
    for node in graph.nodes:
        if not (weights := node.weights) or len(node.results) > 1 or not node.result.type.dtype.is_float:
            continue
        operands = [operand_of(v) for v in node.operands]
        if not operands[0].is_integer or not all(operands[i].is_integer for i in weights):
            continue
        if isinstance(outcome := integer_sum(node.op, operands), Refusal):
            yield (node.op.name, str(node.loc)), outcome.reason


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
        if scale is None or zero is None or integers.type.quant is not None:
            continue
        if scale.size == zero.size == 1 and scale.item() > 0:
            integers.type = integers.type.with_quant(Quant.of(scale.item(), zero.item()))
            annotated += 1
    return annotated
