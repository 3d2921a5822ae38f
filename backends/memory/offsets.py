"""Offsets of blocks in one arena: branch and bound, optimal within its budget.

A block is live over some steps and may have another height at each: values that take over each other's memory are one
block. Blocks that share a step must not overlap there. Ordered by offset, every block of some optimal packing can be
pushed down until it rests on a block below it; so trying all orders, with each block on top of those placed before it,
meets an optimum.
"""

from __future__ import annotations

from bisect import bisect, bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

BUDGET = 2_000_000
"""Work of the search at most, in blocks looked at times steps."""

LARGEST = 200
"""Blocks at most: the search recurses once per block."""

MEETINGS = 250_000
"""Pairs of blocks that share a step, at most: where there are more, blocks are placed in order of time, once."""


class Span(NamedTuple):
    """Steps first ... last, which need so many bytes (more than 0)."""

    first: int
    last: int
    height: int


@dataclass
class Block:
    """Spans in order of time that share no step; a step in none of them does not need the block."""

    spans: list[Span] = field(default_factory=list)

    def extend(self, first: int, last: int, height: int) -> None:
        """Need at least `height` bytes at steps first ... last, too; the first may be the last of those before."""
        if self.spans and self.spans[-1].last == first:
            before = self.spans[-1]
            if before.height >= height:
                first += 1
            elif before.first == first:
                self.spans.pop()
            else:
                self.spans[-1] = before._replace(last=first - 1)
        if first > last:
            return
        if self.spans and self.spans[-1][1:] == (first - 1, height):
            self.spans[-1] = self.spans[-1]._replace(last=last)
        else:
            self.spans.append(Span(first, last, height))

    @property
    def first(self) -> int:
        """The step that needs it first."""
        return self.spans[0].first if self.spans else 0

    @property
    def steps(self) -> int:
        """How many steps need it."""
        return sum(span.last - span.first + 1 for span in self.spans)

    @property
    def top(self) -> int:
        """The largest height."""
        return max((span.height for span in self.spans), default=0)


@dataclass(frozen=True)
class Packing:
    """Offsets by block, the arena's size, and whether no packing is smaller."""

    offsets: tuple[int, ...]
    size: int
    optimal: bool


def heights(blocks: Sequence[Block]) -> list[int]:
    """The sum of heights at each step, up to the last that needs any."""
    change = [0] * (1 + max((block.spans[-1].last + 1 for block in blocks if block.spans), default=0))
    for block in blocks:
        for span in block.spans:
            change[span.first] += span.height
            change[span.last + 1] -= span.height
    return list(accumulate(change))[:-1]


def pack(blocks: Sequence[Block], budget: int = BUDGET) -> Packing:
    """The smallest packing that the budget allows to find; heights are multiples of the alignment, offsets then too."""
    bound = max(heights(blocks), default=0)
    gap = _gaps(blocks)
    if gap is None:
        offsets, size = _in_order_of_time(blocks)
        return Packing(tuple(offsets), size, size == bound)
    search = _Search(blocks, gap, bound)
    for order in search.first_orders():
        search.try_greedy(order)
    complete = search.size == search.bound or (len(blocks) <= LARGEST and search.exhaust(budget))
    return Packing(tuple(search.offsets), search.size, complete)


def _gaps(blocks: Sequence[Block]) -> list[dict[int, int]] | None:
    """By block and other block: bytes by which the other lies above its offset at least, if it lies above.

    Only of blocks that meet; None where too many do.
    """
    gap: list[dict[int, int]] = [{} for _ in blocks]
    live: dict[int, Span] = {}
    meetings = 0
    for span, i in sorted((span, i) for i, block in enumerate(blocks) for span in block.spans):
        live = {j: other for j, other in live.items() if other.last >= span.first}
        meetings += len(live)
        if meetings > MEETINGS:
            return None
        for j, other in live.items():
            gap[i][j] = max(gap[i].get(j, 0), span.height)
            gap[j][i] = max(gap[j].get(i, 0), other.height)
        live[i] = span
    return gap


class _Search:
    def __init__(self, blocks: Sequence[Block], gap: list[dict[int, int]], bound: int) -> None:
        self.blocks = blocks
        self.n = len(blocks)
        self.gap = gap
        self.bound = bound
        self.offsets = [0] * self.n
        self.size = 1 << 62 if self.n else 0

    def first_orders(self) -> list[list[int]]:
        """Large blocks first; long-lived ones first; in order of time."""
        top, steps = [b.top for b in self.blocks], [b.steps for b in self.blocks]
        keys = (
            lambda i: (-top[i], -steps[i], i),
            lambda i: (-steps[i], -top[i], i),
            lambda i: (self.blocks[i].first, -top[i], i),
        )
        return [sorted(range(self.n), key=key) for key in keys]

    def keep(self, offsets: list[int]) -> None:
        size = max((o + b.top for o, b in zip(offsets, self.blocks, strict=True)), default=0)
        if size < self.size:
            self.offsets, self.size = list(offsets), size

    def try_greedy(self, order: list[int]) -> None:
        """Each block at its lowest place among those placed before it."""
        offsets = [0] * self.n
        placed: set[int] = set()
        for i in order:
            # Where it would overlap another: above the first, below the second number.
            below = [(j, gap) for j, gap in self.gap[i].items() if j in placed]
            taken = sorted((offsets[j] - gap, offsets[j] + self.gap[j][i]) for j, gap in below)
            for low, high in taken:
                if low >= offsets[i]:
                    break
                offsets[i] = max(offsets[i], high)
            placed.add(i)
        self.keep(offsets)

    def exhaust(self, budget: int) -> bool:
        """Try all orders by offset that may still beat the best packing; False when the budget ended the search."""
        # What is live at any step is live at the one where the last span began: the others need not be looked at.
        steps = sorted({span.first for block in self.blocks for span in block.spans})
        heights_of = [
            {t: s.height for s in b.spans for t in steps[bisect_left(steps, s.first) : bisect(steps, s.last)]}
            for b in self.blocks
        ]
        left = {t: sum(h.get(t, 0) for h in heights_of) for t in steps}  # heights that are yet to be placed
        top = dict.fromkeys(steps, 0)  # the highest byte in use
        lowest = [0] * self.n
        cost = self.n * max(len(steps), 1)

        def visit(unplaced: frozenset[int], last: tuple[int, int]) -> bool:
            nonlocal budget
            budget -= cost
            if budget < 0:
                return False
            if not unplaced:
                self.keep(lowest)
                return True
            choices = sorted((lowest[i], i) for i in unplaced if (lowest[i], i) > last)
            for place, i in choices:
                heights = heights_of[i]
                before = {t: (left[t], top[t]) for t in heights}
                for t, h in heights.items():
                    left[t] -= h
                    top[t] = place + h
                rest = unplaced - {i}
                raised = {j: lowest[j] for j, gap in self.gap[i].items() if j in rest and lowest[j] < place + gap}
                for j in raised:
                    lowest[j] = place + self.gap[i][j]
                # Whatever is not placed yet lies above what is.
                if all(top[t] + left[t] < self.size for t in steps) and not visit(rest, (place, i)):
                    return False
                for j, value in raised.items():
                    lowest[j] = value
                for t, saved in before.items():
                    left[t], top[t] = saved
                if self.size == self.bound:
                    return True
            return True

        return visit(frozenset(range(self.n)), (-1, -1))


# ---- where many blocks meet


def _in_order_of_time(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Each block at its lowest place when it begins; and the size. What a block no longer needs is free again."""
    offsets, size, free = [0] * len(blocks), 0, _Free()
    begin = [(block.first, 1, -block.top, i) for i, block in enumerate(blocks)]
    shrink = [(step, 0, height, i) for i, block in enumerate(blocks) for step, height in _shrinking(block)]
    held = [block.top for block in blocks]
    for _, begins, height, i in sorted(begin + shrink):
        if begins:
            offsets[i] = free.take(held[i])
            size = max(size, offsets[i] + held[i])
        else:
            free.give(offsets[i] + height, offsets[i] + held[i])
            held[i] = height
    return offsets, size


def _shrinking(block: Block) -> Iterator[tuple[int, int]]:
    """Steps from which a block never again needs as much as before, and how much it needs from then on."""
    needed = 0
    for span in reversed(block.spans):
        if span.height > needed:
            yield span.last + 1, needed
            needed = span.height


class _Free:
    """Free bytes as intervals from a start to an end, in order; the last goes on for ever."""

    def __init__(self) -> None:
        self.starts, self.ends = [0], [1 << 62]

    def take(self, size: int) -> int:
        """The start of the first interval that is long enough, of which so many bytes go."""
        i = next(i for i, start in enumerate(self.starts) if self.ends[i] - start >= size)
        start = self.starts[i]
        self.starts[i] += size
        if self.starts[i] == self.ends[i]:
            del self.starts[i], self.ends[i]
        return start

    def give(self, start: int, end: int) -> None:
        """Make an interval free again."""
        i = bisect(self.starts, start)
        if self.starts[i] == end:  # the last never goes
            end = self.ends[i]
            del self.starts[i], self.ends[i]
        if i and self.ends[i - 1] == start:
            self.ends[i - 1] = end
        else:
            self.starts.insert(i, start)
            self.ends.insert(i, end)
