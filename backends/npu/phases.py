"""Resizing as a few regular parts: pixels of the result that lie alike between those of the operand, along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import gcd
from typing import Any

import numpy as np

from ...ir.graph import Node
from ...ir.ops.resize import ResizeLinear, ResizeNearest, linear_taps, nearest_taps
from .jobs import Finish, Product, View, copy

#: Longer periods than this are not looked for.
LONGEST = 16


@dataclass(frozen=True)
class Phase:
    """Pixels `first + i * step` of the result, i < count: sums of operand pixels from `taken + i * stride` on.

    weights: of these pixels, one after the other.
    """

    first: int
    step: int
    count: int
    taken: int
    stride: int
    weights: tuple[int, ...]

    @property
    def reach(self) -> int:
        """Operand pixels from the first that is read to the last."""
        return (self.count - 1) * self.stride + len(self.weights)


def resizing(node: Node, x: View, y: View, rows: Phase, columns: Phase, finish: Finish | None) -> Product:
    """The job of some rows and columns of an image: a copy, or with a finish weighted sums.

    x: the whole operand, y: the whole result. Weights that do not fit are left in 32 bits.
    """
    result, first = _part(y, rows, columns), x.offset + rows.taken * x.row + columns.taken * x.pixel
    if finish is None:
        steps = x.row * rows.stride, x.pixel * columns.stride
        return copy(node, View(x.value, first, rows.count, columns.count, x.channels, *steps), result)
    weights = np.outer(rows.weights, columns.weights)
    kernel = np.repeat(weights[np.newaxis, ..., np.newaxis], x.channels, axis=0)
    if finish.residual is not None:
        finish = replace(finish, residual=_part(finish.residual, rows, columns))
    op: Any = node.op
    return Product(
        node, replace(x, offset=first, height=rows.reach, width=columns.reach), result,
        kernel.astype(np.int8 if weights.max() <= 127 else np.int32), np.zeros(x.channels, np.int32), finish,
        (rows.stride, columns.stride), input_zero=op.input_zero, depthwise=True,
    )  # fmt: skip


def _part(view: View, rows: Phase, columns: Phase) -> View:
    """The pixels of a phase in an image as large as the result."""
    first = view.offset + rows.first * view.row + columns.first * view.pixel
    steps = view.row * rows.step, view.pixel * columns.step
    return View(view.value, first, rows.count, columns.count, view.channels, *steps)


def phases(op: ResizeNearest | ResizeLinear, axis: int, size: int) -> tuple[list[Phase], int]:
    """As few phases as a period of up to LONGEST gives, along axis 0 (rows) or 1 of an image of this size.

    And n: real weights are 2^-n times these.
    """
    if isinstance(op, ResizeNearest):
        return _fewest([(int(t), (1,)) for t in nearest_taps(op, axis, size)]), 0
    found = linear_taps(op, axis, size)
    near, far = found.weights
    rows = zip(found.first.tolist(), found.second.tolist(), near.tolist(), far.tolist(), strict=True)
    taps = [_merged(*row) for row in rows]
    # A divisor of all divides what those of one pixel add up to: it is a power of two.
    common = reduce(gcd, (w for _, weights in taps for w in weights))
    whole = sum(taps[0][1]) // common
    return _fewest([(t, tuple(w // common for w in weights)) for t, weights in taps]), whole.bit_length() - 1


def _merged(first: int, second: int, near: int, far: int) -> tuple[int, tuple[int, ...]]:
    """Without pixels that do not count."""
    if first == second or far == 0:
        return first, (near + far,)
    return (second, (far,)) if near == 0 else (first, (near, far))


def _fewest(taps: Sequence[tuple[int, Any]]) -> list[Phase]:
    periods = range(1, min(len(taps), LONGEST) + 1)
    return min(([p for o in range(n) for p in _regular(taps, o, n)] for n in periods), key=len)


def _regular(taps: Sequence[tuple[int, tuple[int, ...]]], offset: int, period: int) -> list[Phase]:
    """Of every `period`-th pixel from `offset` on, the longest runs whose operand pixels are equally far apart."""
    found: list[Phase] = []
    for o in range(offset, len(taps), period):
        taken, weights = taps[o]
        last = found[-1] if found else None
        if last is not None and last.weights == weights:
            stride = taken - last.taken if last.count == 1 else last.stride
            if stride > 0 and taken == last.taken + last.count * stride:
                found[-1] = Phase(last.first, period, last.count + 1, last.taken, stride, weights)
                continue
        found.append(Phase(o, period, 1, taken, 1, weights))
    return found
