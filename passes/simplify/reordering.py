"""Data movements change places, so that they meet others and become one with them. All bit-exact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...ir.graph import Value, graph_input
from ...ir.op import Draw, product
from ...ir.ops.index import gather
from ...ir.ops.shape import Reshape, reshape, slice_, transpose
from ...ir.pattern import only_use
from ...ir.rewrite import Rule, no_match
from ...ir.types import F32, Shape, TensorType, static
from ..moving import axis_groups, is_reshape, regrouped

Interval = tuple[int, int]

#: A gather names all its indices; a transpose of so many says the same with a few numbers.
MOST_INDICES = 1 << 12


class ShuffleIsGather(Rule):
    """An axis split into several, which change places and become one again: a gather along that axis.

    Channel shuffle (Zhang et al. 2018, arXiv:1707.01083), as every exporter writes it.
    """

    def pattern(self, x: Any) -> Any:
        return reshape(only_use(transpose(only_use(reshape(x, as_="split")))), as_="joined")

    def rewrite(self, m: Any, x: Value) -> Any:
        shape, split, perm = x.type.shape, m.split.shape, m.transpose.perm
        if m.joined.shape != shape:
            return no_match("the shape is another one at the end")
        for axis in range(len(shape)):
            end = len(split) - (len(shape) - axis - 1)
            inner, moved = split[axis:end], perm[axis:end]
            same = split[:axis] == shape[:axis] and split[end:] == shape[axis + 1 :]
            inside = sorted(moved) == list(range(axis, end)) and perm[:axis] == tuple(range(axis))
            if same and inside and len(inner) > 1 and all(isinstance(d, int) for d in inner):
                if product(inner) > MOST_INDICES:
                    return no_match(f"more than {MOST_INDICES} elements change places")
                labels = np.arange(product(inner)).reshape(static(inner))
                order = labels.transpose([i - axis for i in moved]).ravel()
                return gather(x, axis=axis, indices=tuple(order.tolist()))
        return no_match("elements of several axes change places")

    def examples(self, draw: Draw) -> Value:
        """An axis in two or three parts, in any order, among up to two other axes."""
        parts = [draw.integer(1, 3) for _ in range(draw.integer(2, 3))]
        order = draw.choice(list(itertools.permutations(range(len(parts)))))
        before, after = draw.shape(0, 1, 3), draw.shape(0, 1, 3)
        shape, n = (*before, product(tuple(parts)), *after), len(before)
        x = graph_input("x", TensorType(shape, F32))
        rest = range(n + len(parts), n + len(parts) + len(after))
        moved = transpose(reshape(x, shape=(*before, *parts, *after)), perm=(*range(n), *(n + i for i in order), *rest))
        return reshape(moved, shape=shape)


class SliceOfGather(Rule):
    """A slice along a gathered axis gathers less."""

    def pattern(self, x: Any) -> Any:
        return slice_(gather(x))

    def rewrite(self, m: Any, x: Value) -> Any:
        axis, cut = m.gather.axis, m.slice.op
        shape = m.gather.value.type.shape
        if any(i != axis and d != e for i, (d, e) in enumerate(zip(shape, m.slice.value.type.shape, strict=True))):
            return no_match("other axes are sliced, too")
        return m.gather.like(x, indices=m.gather.indices[cut.starts[axis] : cut.stops[axis] : cut.steps[axis]])


class GatherOfGather(Rule):
    """Two gathers along one axis are one."""

    def pattern(self, x: Any) -> Any:
        return gather(gather(x, as_="inner"), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        if m.inner.axis != m.outer.axis:
            return no_match("the axes differ")
        return m.outer.like(x, indices=tuple(m.inner.indices[i] for i in m.outer.indices))


class GatherOfRange(Rule):
    """A gather of neighbours in their order is a slice."""

    def pattern(self, x: Any) -> Any:
        return gather(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        axis, indices, shape = m.gather.axis, m.gather.indices, x.type.shape
        if not indices or indices != tuple(range(indices[0], indices[0] + len(indices))):
            return no_match("the indices are no range")
        starts = tuple(indices[0] if i == axis else 0 for i in range(len(shape)))
        stops = tuple(indices[-1] + 1 if i == axis else d for i, d in enumerate(shape))
        return slice_(x, starts=starts, stops=stops, steps=(1,) * len(shape))


class SliceBeforeTranspose(Rule):
    """A slice comes before a transpose that serves nothing else, or that is a reshape of what is left and meets one."""

    def pattern(self, x: Any) -> Any:
        return slice_(transpose(x))

    def rewrite(self, m: Any, x: Value) -> Any:
        perm, cut = m.transpose.perm, m.slice.op
        back = [perm.index(i) for i in range(len(perm))]
        starts, stops, steps = (tuple(part[i] for i in back) for part in (cut.starts, cut.stops, cut.steps))
        sliced = m.slice.like(x, starts=starts, stops=stops, steps=steps)
        vanishes = is_reshape(perm, sliced.type.shape) and _meets_reshapes(m.slice.value)
        if not vanishes and not _serves_one(m.transpose.value):
            return no_match("the transpose serves others, and would be done once more")
        return transpose(sliced, perm=perm)


class SliceBeforeReshape(Rule):
    """A slice comes before a reshape that serves nothing else, or that meets another one behind the slice."""

    def pattern(self, x: Any) -> Any:
        return slice_(reshape(x))

    def rewrite(self, m: Any, x: Value) -> Any:
        if not _serves_one(m.reshape.value) and not _meets_reshapes(m.slice.value):
            return no_match("the reshape serves others, and would be done once more")
        cut, shape = m.slice.op, x.type.shape
        groups = axis_groups(shape, m.reshape.shape)
        if groups is None:
            return no_match("the axes before and after do not correspond")
        starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
        for before, after in groups:
            sliced = [i for i in after if (cut.starts[i], cut.stops[i], cut.steps[i]) != (0, m.reshape.shape[i], 1)]
            if not sliced:
                continue
            interval = _before(shape, before, m.reshape.shape, after, cut)
            if interval is None:
                return no_match("the slice is no range of one axis of the operand")
            axis, (start, stop) = interval
            starts[axis], stops[axis] = start, stop
            steps[axis] = cut.steps[sliced[0]]
        smaller = m.slice.like(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
        return reshape(smaller, shape=m.slice.value.type.shape)


def _serves_one(value: Value) -> bool:
    """Whether a value has one user, and is no output."""
    graph = value.producer.graph if value.producer is not None else None
    first = next(iter(value.uses), (None, 0))[0]
    alone = first is not None and all(user is first for user, _ in value.uses)
    return alone and not (graph is not None and graph.is_output(value))


def _meets_reshapes(value: Value) -> bool:
    """Whether all that use a value are reshapes: one more before them becomes one with them."""
    output = value.producer is not None and value.producer.graph is not None and value.producer.graph.is_output(value)
    return bool(value.uses) and not output and all(isinstance(user.op, Reshape) for user, _ in value.uses)


def _before(
    shape: Shape, before: tuple[int, ...], wanted: Shape, after: tuple[int, ...], cut: Any
) -> tuple[int, Interval] | None:
    """A slice along the outermost of the axes `after`, as an interval of the outermost of the axes `before`."""
    old = [i for i in before if shape[i] != 1]
    new = [i for i in after if wanted[i] != 1]
    if not old or not new:
        return None
    first, *rest = new
    if any((cut.starts[i], cut.stops[i], cut.steps[i]) != (0, wanted[i], 1) for i in rest):
        return None
    if len(old) == len(new) == 1:
        return old[0], (cut.starts[first], cut.stops[first])
    inner, outer = product(tuple(wanted[i] for i in rest)), product(tuple(shape[i] for i in old[1:]))
    start, stop = cut.starts[first] * inner, cut.stops[first] * inner
    if cut.steps[first] != 1 or start % outer or stop % outer:
        return None
    return old[0], (start // outer, stop // outer)


class ReshapeBeforeTranspose(Rule):
    """Of reshape, transpose, reshape the last can join the first, where it only splits, joins or adds whole axes."""

    def pattern(self, x: Any) -> Any:
        return reshape(only_use(transpose(reshape(x, as_="inner"))), as_="outer")

    def rewrite(self, m: Any, x: Value) -> Any:
        regrouping = regrouped(m.inner.shape, m.transpose.perm, m.outer.shape)
        if regrouping is None:
            return no_match("axes that are joined do not lie together before the transpose")
        shape, perm = regrouping
        return transpose(m.inner.like(x, shape=shape), perm=perm)


REORDERING = (
    ShuffleIsGather(), SliceOfGather(), GatherOfGather(), GatherOfRange(),
    SliceBeforeTranspose(), SliceBeforeReshape(), ReshapeBeforeTranspose(),
)  # fmt: skip
