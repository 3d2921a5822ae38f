"""Data movements: what moves nothing goes, what moves twice moves once, and constants move at compile time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value, apply, graph_input
from ...ir.op import Draw
from ...ir.ops.elementwise import Elementwise
from ...ir.ops.index import Expand, expand
from ...ir.ops.quant import dequantize
from ...ir.ops.shape import Concat, Slice, concat, pad, reshape, slice_, transpose
from ...ir.rewrite import NodeRule, NoMatch, Rule, no_match
from ...ir.types import F32, I8, Dim, Shape, TensorType, broadcast
from ..moving import is_reshape, moved_constant


class ReshapeToSameShape(Rule):
    """reshape to the shape that is there already."""

    def pattern(self, x: Any) -> Any:
        return reshape(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return x if x.type.shape == m.reshape.shape else no_match("the shape changes")


class ReshapeOfReshape(Rule):
    """The last shape is what counts."""

    def pattern(self, x: Any) -> Any:
        return reshape(reshape(x, as_="inner"), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        return m.outer.like(x)


class TransposeOfTranspose(Rule):
    """Two permutations are one."""

    def pattern(self, x: Any) -> Any:
        return transpose(transpose(x, as_="inner"), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        return m.outer.like(x, perm=tuple(m.inner.perm[i] for i in m.outer.perm))


class TransposeThatOnlyReshapes(Rule):
    """A transpose that keeps the order of all axes longer than 1 is a reshape."""

    def pattern(self, x: Any) -> Any:
        return transpose(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        if not is_reshape(m.transpose.perm, x.type.shape):
            return no_match("elements change their order")
        return reshape(x, shape=m.transpose.value.type.shape)


class TransposeOfConstants(Rule):
    """The transpose of an expression of constants, such as dequantize(weights), moves the constants."""

    def pattern(self, x: Any) -> Any:
        return transpose(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        moved = moved_constant(x, m.transpose.perm)
        return moved if moved is not None else no_match("the operand is no expression of constants")

    def examples(self, draw: Draw) -> Value:
        """Quantized weights, one scale or one per index of the first axis."""
        shape = draw.shape(1, 4, 3)
        per_axis = (shape[0], *(1,) * (len(shape) - 1)) if draw.boolean() else ()
        scale, zero = draw.array(per_axis, F32, 0.01, 1), np.zeros(per_axis, np.int8)
        perm = draw.choice(list(itertools.permutations(range(len(shape)))))
        return transpose(dequantize(draw.array(shape, I8), scale, zero), perm=perm)


class SliceOfEverything(Rule):
    """slice that keeps the shape keeps everything."""

    def pattern(self, x: Any) -> Any:
        return slice_(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return x if x.type.shape == m.slice.value.type.shape else no_match("something is cut off")


class SliceOfSlice(Rule):
    """Two slices are one."""

    def pattern(self, x: Any) -> Any:
        return slice_(slice_(x, as_="inner"), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        inner, outer = m.inner, m.outer
        starts, stops, steps = [], [], []
        for i, count in enumerate(outer.value.type.shape):
            if not isinstance(count, int):  # an axis that is not known yet is taken whole
                start, stop, step = 0, count, 1
            else:
                start = inner.starts[i] + outer.starts[i] * inner.steps[i]
                step = inner.steps[i] * outer.steps[i]
                stop = start + (count - 1) * step + 1 if count else start
            starts.append(start)
            stops.append(stop)
            steps.append(step)
        return outer.like(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


class PadByNothing(Rule):
    """pad without pads."""

    def pattern(self, x: Any) -> Any:
        return pad(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return no_match("something is padded") if any(m.pad.before) or any(m.pad.after) else x


class PadOfPad(Rule):
    """Two pads with the same value are one."""

    def pattern(self, x: Any) -> Any:
        return pad(pad(x, as_="inner"), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        if m.inner.op.value != m.outer.op.value:
            return no_match("the values differ")
        sums = {k: tuple(map(sum, zip(getattr(m.inner, k), getattr(m.outer, k), strict=True))) for k in SIDES}
        return m.outer.like(x, **sums)


SIDES = ("before", "after")


class ExpandToSameShape(Rule):
    """expand to the shape that is there already."""

    def pattern(self, x: Any) -> Any:
        return expand(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return x if x.type.shape == m.expand.value.type.shape else no_match("the shape changes")


def drop_expands(graph: Graph) -> int:
    """Let elementwise ops broadcast by themselves what an expand repeats for them; returns how often."""
    dropped = 0
    for node in graph.nodes:
        for i, value in enumerate(node.operands if isinstance(node.op, Elementwise) else ()):
            if value.producer is None or not isinstance(value.producer.op, Expand):
                continue
            source = value.producer.operands[0]
            others = [v.type.shape for j, v in enumerate(node.operands) if j != i]
            if broadcast(source.type.shape, *others) == node.result.type.shape:
                graph.set_operand(node, i, source)
                node.loc = value.producer.loc | node.loc
                dropped += 1
    return dropped


class ConcatOfOne(NodeRule):
    """concat of one operand is that operand; operands without elements do not count."""

    root = Concat

    def replacement(self, node: Node) -> Value | NoMatch:
        axis = node.op.attributes()["axis"]
        parts = [v for v in node.operands if v.type.shape[axis] != 0] or [node.operands[0]]
        if len(parts) == len(node.operands) > 1:
            return no_match("there is more than one operand")
        return parts[0] if len(parts) == 1 else apply(node.op, *parts, loc=node.loc).result


class ConcatOfConcat(NodeRule):
    """A concat of concats along the same axis is one concat, where the inner ones serve nothing else."""

    root = Concat

    def replacement(self, node: Node) -> Value | NoMatch:
        parts: list[Value] = []
        for v in node.operands:
            inner = v.producer
            mergeable = inner is not None and inner.op == node.op and len(v.uses) == 1
            parts.extend(inner.operands if inner is not None and mergeable and not _is_output(v) else (v,))
        if len(parts) == len(node.operands):
            return no_match("no operand is a concat along the same axis that serves nothing else")
        return apply(node.op, *parts, loc=node.loc).result


class ConcatOfSlices(NodeRule):
    """Neighbouring slices of one value, put together again, are one slice."""

    root = Concat

    def replacement(self, node: Node) -> Value | NoMatch:
        axis = node.op.attributes()["axis"]
        parts = list(node.operands[:1])
        for v in node.operands[1:]:
            joined = _joined(parts[-1], v, axis)
            parts[-1:] = [joined] if joined is not None else [parts[-1], v]
        if len(parts) == len(node.operands):
            return no_match("no two operands are neighbouring slices")
        return apply(node.op, *parts, loc=node.loc).result

    def examples(self, draw: Draw) -> Value:
        """A value, perhaps without its beginning, cut into two or three and put together again."""
        shape = draw.shape(1, 4, 3)
        axis = draw.integer(0, len(shape) - 1)
        inside = [draw.integer(0, shape[axis]) for _ in range(draw.integer(1, 2))]
        ends = sorted([draw.integer(0, min(inside[0], shape[axis] - 1)), *inside, shape[axis]])
        x, zeros, ones = graph_input("x", TensorType(shape, F32)), (0,) * len(shape), (1,) * len(shape)
        parts = [
            slice_(x, starts=_at(zeros, axis, a), stops=_at(shape, axis, b), steps=ones)
            for a, b in itertools.pairwise(ends)
        ]
        return concat(*parts, axis=axis)


def _at(shape: Shape, axis: int, size: Dim) -> Shape:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _joined(a: Value, b: Value, axis: int) -> Value | None:
    """The slice that holds a and then b along the axis, where they are such slices of one value."""
    if a.producer is None or b.producer is None or a.producer.operands != b.producer.operands:
        return None
    first, second = a.producer.op, b.producer.op
    if not (isinstance(first, Slice) and isinstance(second, Slice)) or first.steps != second.steps:
        return None
    others_equal = all(
        i == axis or (first.starts[i], first.stops[i]) == (second.starts[i], second.stops[i])
        for i in range(len(first.starts))
    )
    if not others_equal or first.steps[axis] != 1 or first.stops[axis] != second.starts[axis]:
        return None
    stops = _at(first.stops, axis, second.stops[axis])
    loc = a.producer.loc | b.producer.loc
    return apply(first.like(stops=stops), *a.producer.operands, loc=loc).result


class SliceOfConcat(NodeRule):
    """A slice that lies within one operand of a concat is a slice of that operand."""

    root = Slice

    def replacement(self, node: Node) -> Value | NoMatch:
        source, cut = node.operands[0].producer, node.op
        if source is None or not isinstance(source.op, Concat) or not isinstance(cut, Slice):
            return no_match("the operand is no concat")
        axis, offset = source.op.axis, 0
        for part in source.operands:
            size, stop = part.type.shape[axis], cut.stops[axis]
            if not isinstance(size, int) or not isinstance(stop, int):
                break
            if offset <= cut.starts[axis] and stop <= offset + size:
                starts = (*cut.starts[:axis], cut.starts[axis] - offset, *cut.starts[axis + 1 :])
                stops = _at(cut.stops, axis, stop - offset)
                return apply(cut.like(starts=starts, stops=stops), part, loc=node.loc).result
            offset += size
        return no_match("the slice takes from more than one operand")


def _is_output(value: Value) -> bool:
    graph = value.producer.graph if value.producer is not None else None
    return graph is not None and graph.is_output(value)


DATA_MOVEMENT = (
    ReshapeToSameShape(), ReshapeOfReshape(),
    TransposeOfTranspose(), TransposeThatOnlyReshapes(), TransposeOfConstants(),
    SliceOfEverything(), SliceOfSlice(), SliceOfConcat(),
    PadByNothing(), PadOfPad(), ExpandToSameShape(),
    ConcatOfOne(), ConcatOfConcat(), ConcatOfSlices(),
)  # fmt: skip
