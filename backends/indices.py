"""Indices along an axis as arithmetic on the loop variable, where that says the same as a table of them.

Slices, reversed axes, reflected and repeated edges are a few arithmetic progressions, one after the other; an axis that
is enlarged is a quotient. Other indices are a table: 4 bytes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..ir.types import I32, Array
from ..runtime.target import Unsupported

#: Progressions at most: a table is read faster than more comparisons are made.
MOST_RUNS = 4
#: Shorter tables than so many entries for each progression are as small as its code.
ENTRIES_PER_RUN = 4
#: Rows or columns at most of a resized image, each of which needs entries in tables.
MOST_RESIZED = 1 << 22
#: From so many entries on a division for each element is better than the table.
LONG = 1 << 14


class Run(NamedTuple):
    """Indices offset + i * step, from i = start on."""

    start: int
    offset: int
    step: int


@dataclass(frozen=True)
class Runs:
    """One progression after the other; the first starts at 0."""

    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Quotient:
    """(i + offset) / divisor, rounded towards zero."""

    offset: int
    divisor: int


def arithmetic(entries: Array) -> Runs | Quotient | None:
    """The indices (i32 [n], n >= 1) as arithmetic on i = 0 ... n - 1; None where a table is better."""
    runs = _runs(entries)
    if runs is not None and (len(runs.runs) == 1 or len(entries) > ENTRIES_PER_RUN * len(runs.runs)):
        return runs
    quotient = _quotient(entries)
    if quotient is not None and (len(entries) >= LONG or (_is_power_of_two(quotient.divisor) and quotient.offset >= 0)):
        return quotient
    return None


def too_many(size: tuple[int, int]) -> Unsupported | None:
    """Why no tables are made for a resized image of this height and width."""
    if max(size) <= MOST_RESIZED:
        return None
    return Unsupported(
        f"resizing to {size[0]}x{size[1]} pixels takes tables of more than {MOST_RESIZED} entries",
        "resize to fewer rows and columns",
    )


def _runs(entries: Array) -> Runs | None:
    steps = np.diff(entries.astype(np.int64))
    turns = np.flatnonzero(np.diff(steps)) + 1  # where another step follows
    found: list[Run] = []
    start = 0
    while start < len(entries):
        if len(found) == MOST_RUNS:
            return None
        step = int(steps[start]) if start < len(steps) else 0
        if len(entries) * abs(step) > I32.max:
            return None
        found.append(Run(start, int(entries[start]) - start * step, step))
        following = np.searchsorted(turns, start + 1)
        start = int(turns[following]) + 1 if following < len(turns) else len(entries)
    return Runs(tuple(found))


def _quotient(entries: Array) -> Quotient | None:
    rises = np.flatnonzero(np.diff(entries)) + 1
    if len(rises) < 2:
        return None
    divisor = int(rises[1] - rises[0])
    offset = (int(entries[0]) + 1) * divisor - int(rises[0])
    i = np.arange(len(entries), dtype=np.int64) + offset
    fits = offset > -divisor and np.array_equal(np.maximum(i, 0) // divisor, entries)
    return Quotient(offset, divisor) if fits else None


def _is_power_of_two(n: int) -> bool:
    return n & (n - 1) == 0
