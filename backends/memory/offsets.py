"""Offsets of blocks in one arena: branch and bound, optimal within its budget.

A block is live over some steps and may have another height at each: values that take over each other's memory are one
block. Blocks that share a step must not overlap there. Ordered by offset, every block of some optimal packing can be
pushed down until it rests on a block below it; so trying all orders, with each block on top of those placed before it,
meets an optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

BUDGET = 2_000_000
"""Work of the search at most, in blocks looked at times steps."""

LARGEST = 200
"""Blocks at most: the search recurses once per block."""


@dataclass
class Block:
    """heights: bytes (more than 0) by step; a step that is missing does not need the block."""

    heights: dict[int, int] = field(default_factory=dict)

    def raise_to(self, first: int, last: int, height: int) -> None:
        """Need at least `height` bytes at every step in [first, last]."""
        for t in range(first, last + 1):
            self.heights[t] = max(self.heights.get(t, 0), height)


@dataclass(frozen=True)
class Packing:
    """Offsets by block, the arena's size, and whether no packing is smaller."""

    offsets: tuple[int, ...]
    size: int
    optimal: bool


def lower_bound(blocks: Sequence[Block]) -> int:
    """The largest sum of heights at any step."""
    sums: dict[int, int] = {}
    for block in blocks:
        for t, h in block.heights.items():
            sums[t] = sums.get(t, 0) + h
    return max(sums.values(), default=0)


def pack(blocks: Sequence[Block], budget: int = BUDGET) -> Packing:
    """The smallest packing that the budget allows to find; heights are multiples of the alignment, offsets then too."""
    search = _Search(blocks)
    for order in search.first_orders():
        search.try_greedy(order)
    complete = search.size == search.bound or (len(blocks) <= LARGEST and search.exhaust(budget))
    return Packing(tuple(search.offsets), search.size, complete)


class _Search:
    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.n = len(blocks)
        self.bound = lower_bound(blocks)
        at: dict[int, list[int]] = {}
        for i, block in enumerate(blocks):
            for t in block.heights:
                at.setdefault(t, []).append(i)
        #: gap[i][j]: bytes by which j must lie above i's offset, if it lies above; only of blocks that meet.
        self.gap: list[dict[int, int]] = [{} for _ in blocks]
        for t, meeting in at.items():
            for i in meeting:
                height = blocks[i].heights[t]
                for j in meeting:
                    if i != j:
                        self.gap[i][j] = max(self.gap[i].get(j, 0), height)
        self.offsets = [0] * self.n
        self.size = 1 << 62 if self.n else 0

    def first_orders(self) -> list[list[int]]:
        """Large blocks first; long-lived ones first; in order of time."""
        top = [max(b.heights.values(), default=0) for b in self.blocks]
        keys = (
            lambda i: (-top[i], -len(self.blocks[i].heights), i),
            lambda i: (-len(self.blocks[i].heights), -top[i], i),
            lambda i: (min(self.blocks[i].heights, default=0), -top[i], i),
        )
        return [sorted(range(self.n), key=key) for key in keys]

    def keep(self, offsets: list[int]) -> None:
        size = max(
            (o + max(b.heights.values(), default=0) for o, b in zip(offsets, self.blocks, strict=True)), default=0
        )
        if size < self.size:
            self.offsets, self.size = list(offsets), size

    def try_greedy(self, order: list[int]) -> None:
        """Each block at its lowest place among those placed before it."""
        offsets = [0] * self.n
        placed: set[int] = set()
        for i in order:
            neighbours = [j for j in self.gap[i] if j in placed]
            places = sorted({0, *(offsets[j] + self.gap[j][i] for j in neighbours)})
            offsets[i] = next(
                p
                for p in places
                if all(p >= offsets[j] + self.gap[j][i] or p + self.gap[i][j] <= offsets[j] for j in neighbours)
            )
            placed.add(i)
        self.keep(offsets)

    def exhaust(self, budget: int) -> bool:
        """Try all orders by offset that may still beat the best packing; False when the budget ended the search."""
        steps = sorted({t for b in self.blocks for t in b.heights})
        left = {t: sum(b.heights.get(t, 0) for b in self.blocks) for t in steps}  # heights that are yet to be placed
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
                heights = self.blocks[i].heights
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
