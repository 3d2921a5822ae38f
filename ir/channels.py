"""How slices of operands and results belong together: what `Op.channels` answers, and its answers for most ops.

A channel is what a slice along one axis of a tensor holds. Channels of a node's operands and results are tied where one
cannot be taken away without the other: channel c of a relu's result and of its operand, an output of a convolution
and a row of its weights. Solvers follow the ties from node to node (`passes/channels.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .types import Array, Sym, TensorType

#: (Index of an operand or of a result, axis) -> a number for each slice along that axis.
Places = Mapping[tuple[int, int], Array]


class Kept(NamedTuple):
    """The slices of a node that are left, ascending, for each axis that loses some."""

    operands: Places
    results: Places


@dataclass(frozen=True)
class Channels:
    """Ties of one node: any of its channels 0 ... count - 1 can be taken away, with all slices that belong to it.

    operands, results: the channel of each slice; -1 where it belongs to none, and stays. Without a channel's slices the
    op (`Op.resized`) gives its results without theirs. is_sum: the result is a sum over the channels, and what is
    taken away is missing from it; `bias` is the operand [O] that is added to this sum, if there is one.
    """

    count: int
    operands: Places
    results: Places
    is_sum: bool = False
    bias: int | None = None

    def kept(self, keep: Array) -> Kept:
        """The slices that are left of a node when these channels (bool [count]) are."""
        return Kept(*({p: np.flatnonzero((of < 0) | keep[of]) for p, of in side.items()} for side in self._sides))

    @property
    def _sides(self) -> tuple[Places, Places]:
        return self.operands, self.results


def tied(operands: Sequence[tuple[int, int]], results: Sequence[tuple[int, int]], count: int) -> Channels:
    """Axes of one length whose slices are the channels, in their order."""
    return Channels(count, {p: np.arange(count) for p in operands}, {p: np.arange(count) for p in results})


def summed(operands: Sequence[tuple[int, int]], count: int, bias: int | None = None) -> Channels:
    """Axes of operands along which products are summed."""
    return Channels(count, {place: np.arange(count) for place in operands}, {}, True, bias)


def tied_in_order(operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[Channels, ...]:
    """Ties of an elementwise op: every axis of the results with those of the operands that do not broadcast."""
    found = []
    rank = results[0].rank
    for axis, size in enumerate(results[0].shape):
        if isinstance(size, int):
            places = [(i, axis - rank + t.rank) for i, t in enumerate(operands) if axis >= rank - t.rank]
            places = [(i, a) for i, a in places if operands[i].shape[a] == size]
            found.append(tied(places, [(j, axis) for j in range(len(results))], size))
    return tuple(found)


#: Larger tensors are not labelled: nothing is known of them.
MOST_LABELS = 1 << 22


def tied_by_labels(
    move: Callable[..., Array], operands: Sequence[TensorType], result: TensorType
) -> tuple[Channels, ...]:
    """Ties of a data movement, found by moving one label per element; those that tell most channels apart come first.

    move: the movement of arrays of one batch.

    An axis of the operands and one of the result are tied where elements went from slice to slice. What a pad fills in
    belongs to no operand.
    """
    *shapes, moved_shape = one_batch(*operands, result) or [()]
    total = sum(map(math.prod, shapes))
    if not shapes or max(total, math.prod(moved_shape)) > MOST_LABELS:
        return ()
    labels = labelled(shapes)
    moved, again = move(*labels), move(*(label + total for label in labels))
    inside = again - moved == total  # what is filled in does not follow the labels
    found = []
    for a in range(max(t.rank for t in operands)):
        if any(a >= t.rank or isinstance(t.shape[a], Sym) for t in operands):
            continue
        starts = np.cumsum([0, *(shape[a] for shape in shapes)])
        slices = np.concatenate(
            [start + _along(shape, a).ravel() for start, shape in zip(starts, shapes, strict=False)]
        )
        for b in range(moved.ndim):
            if isinstance(result.shape[b], Sym) or (a != b and len(operands) > 1):
                continue  # operands that stand beside each other agree in their other axes
            before, after = slices[moved[inside]], _along(moved.shape, b)[inside]
            if _is_mixed(before, after):
                continue
            classes, count = _ties(before, after, starts, moved.shape[b])
            if len(set(classes[starts[-1] :].tolist()) - {-1}) > 1 or (a == b and count):
                found.append((-count, a != b, _placed(classes, count, starts, a, b)))
    return tuple(ties for *_, ties in sorted(found, key=lambda x: x[:2]))


def one_batch(*types: TensorType) -> list[tuple[int, ...]]:
    """Shapes of types that are known, or all but for a batch on axis 0, which is taken as one; else none.

    What moves within one batch moves alike in all of them. Where a symbol stands elsewhere, a reshape may mix what it
    counts with other axes, in a way that depends on its value.
    """
    batches = {t.shape[:1] for t in types}
    symbols = {d for t in types for d in t.shape if isinstance(d, Sym)}
    inner = any(isinstance(d, Sym) for t in types for d in t.shape[1:])
    if symbols and (inner or len(batches) > 1):
        return []
    return [tuple(1 if isinstance(d, Sym) else d for d in t.shape) for t in types]


def labelled(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """A number for each element of tensors of these shapes."""
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    return [np.arange(e - math.prod(shape), e).reshape(shape) for e, shape in zip(ends, shapes, strict=True)]


def _along(shape: tuple[int, ...], axis: int) -> Array:
    """The index along an axis of every element."""
    return np.broadcast_to(np.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - axis - 1)), shape)


#: Elements that are looked at first.
SAMPLE = 1024


def _is_mixed(before: Array, after: Array) -> bool:
    """Whether neither comes a slice of the result from one of the operands, nor goes one of theirs into one of it."""
    step = max(1, len(before) // SAMPLE)
    before, after = before[::step], after[::step]
    pairs = len(_pairs(before, after, int(after.max(initial=0)) + 1))
    return pairs > max(int(np.count_nonzero(np.bincount(slices))) for slices in (before, after))


def _pairs(before: Array, after: Array, size: int) -> Array:
    """Each pair of slices once, as one number: before * size + after."""
    codes = before * size + after
    largest = int(codes.max(initial=0)) + 1
    if largest > 64 * (len(codes) + SAMPLE):
        return np.unique(codes)
    met = np.zeros(largest, bool)
    met[codes] = True
    return np.flatnonzero(met)


def _ties(before: Array, after: Array, starts: Array, size: int) -> tuple[Array, int]:
    """Channels of all slices of operands, then of the result (-1: nothing was moved there), and how many there are."""
    total = int(starts[-1])
    pairs = _pairs(before, after, size)
    classes, _ = components(pairs // size, total + pairs % size, total + size)
    filled = np.ones(total + size, bool)
    filled[:total] = filled[total + pairs % size] = False
    used, classes[~filled] = np.unique(classes[~filled], return_inverse=True)
    classes[filled] = -1
    return classes, len(used)


def _placed(classes: Array, count: int, starts: Array, a: int, b: int) -> Channels:
    ends = pairwise(starts)
    return Channels(count, {(i, a): classes[x:y] for i, (x, y) in enumerate(ends)}, {(0, b): classes[starts[-1] :]})


def components(a: Array, b: Array, count: int) -> tuple[Array, int]:
    """Connected components of `count` points with edges a[i] - b[i]: a number for each point; how many there are."""
    root = np.arange(count)
    while np.any((first := root[a]) != (second := root[b])):
        np.minimum.at(root, np.maximum(first, second), np.minimum(first, second))
        while np.any((next_root := root[root]) != root):
            root = next_root
    roots, numbers = np.unique(root, return_inverse=True)
    return numbers, len(roots)
