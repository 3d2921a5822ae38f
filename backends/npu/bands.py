"""Which rectangles of which images a group of jobs computes, band by band. Geometry alone: no memory, no time.

A group's last result is computed in bands. What each band needs of the images before follows backwards, job by job.
Rows that the band before has left are kept (carried) or computed, or loaded, again.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from ...ir.graph import Value
from .jobs import Job, View, inputs

Key = tuple[object, ...]


@dataclass(frozen=True)
class Area:
    """A rectangle of an image."""

    row: int
    column: int
    rows: int
    columns: int

    @property
    def end(self) -> int:
        """The row behind the last."""
        return self.row + self.rows

    def hull(self, other: Area | None) -> Area:
        """The smallest rectangle that holds both."""
        if other is None:
            return self
        row, column = min(self.row, other.row), min(self.column, other.column)
        right = max(self.column + self.columns, other.column + other.columns)
        return Area(row, column, max(self.end, other.end) - row, right - column)

    def between(self, first: int, end: int) -> Area:
        """Its columns, of other rows."""
        return Area(first, self.column, end - first, self.columns)


def whole(image: View) -> Area:
    """All of an image."""
    return Area(0, 0, image.height, image.width)


def reach(job: Job, axis: int, first: int, count: int, taps: tuple[int, int] | None = None) -> tuple[int, int, int]:
    """Where x starts, how much of it, and the padding before, for `count` results from `first` on along one axis.

    taps: first and number of the window's rows (or columns) that take part. At least one element, even where all that
    is needed is padding; then so much padding comes before that the element is never met.
    """
    size = (job.x.height, job.x.width)[axis]
    tap, number = taps if taps is not None else (0, job.window[axis])
    start = first * job.strides[axis] + tap * job.dilations[axis] - job.pads[axis]
    stop = start + (count - 1) * job.strides[axis] + (number - 1) * job.dilations[axis] + 1
    begin = min(max(start, 0), size - 1)
    if start > begin or stop <= begin:
        return begin, 1, stop - start
    return begin, min(stop, size) - begin, begin - start


def source(job: Job, area: Area, taps: tuple[int, int] | None = None) -> tuple[Area, tuple[int, int]]:
    """What of x a rectangle of the result needs, and the padding above and left of it. taps: rows of the window."""
    row, rows, top = reach(job, 0, area.row, area.rows, taps)
    column, columns, left = reach(job, 1, area.column, area.columns)
    return Area(row, column, rows, columns), (top, left)


@dataclass(frozen=True, eq=False)
class Group:
    """Consecutive jobs that are computed together. stored: whose results go to external memory."""

    jobs: tuple[Job, ...]
    stored: tuple[bool, ...]

    def producer(self, view: View) -> int | None:
        """Which job of the group computes an image."""
        return next((i for i, job in enumerate(self.jobs) if job.y.key == view.key), None)

    def levels(self) -> list[int]:
        """How many jobs, one after another, come before each: it works so many bands behind the first."""
        levels: list[int] = []
        for i in range(len(self.jobs)):
            before = [p for view in inputs(self.jobs[i]) if (p := self.producer(view)) is not None and p < i]
            levels.append(1 + max((levels[p] for p in before), default=-1))
        return levels


@dataclass
class Image:
    """What one band after another holds of an image, and what of it is new; None: as the band before."""

    view: View
    held: list[Area] = field(default_factory=list)
    fresh: list[Area | None] = field(default_factory=list)

    def continues(self, band: int) -> bool:
        """Whether the band after it holds something that is not new."""
        if band + 1 == len(self.held):
            return False
        held, fresh = self.held[band + 1], self.fresh[band + 1]
        return fresh is None or fresh.row > held.row


@dataclass
class Bands:
    """computed: for each band what each job computes. left: what of it has not been computed before. images: by key."""

    computed: list[list[Area | None]]
    left: list[list[Area | None]]
    images: dict[Key, Image]


def bands(group: Group, rows: int, columns: int, carried: tuple[bool, bool], kept: Container[Value]) -> Bands:
    """Cut the last result into bands. carried: whether rows stay for the next band, of results and of what is loaded.

    columns: less than the whole width for groups of one job. kept: values that lie in local memory as a whole.
    """
    last = group.jobs[-1].y
    areas = [
        Area(r, c, min(rows, last.height - r), min(columns, last.width - c))
        for r in range(0, last.height, rows)
        for c in range(0, last.width, columns)
    ]
    carry = carried if columns >= last.width else (False, False)
    result = Bands([], [], {})
    done = [0] * len(group.jobs)
    for b, area in enumerate(areas):
        needed: dict[Key, Area] = {}
        computed: list[Area | None] = [None] * len(group.jobs)
        left: list[Area | None] = [None] * len(group.jobs)
        for i in reversed(range(len(group.jobs))):
            job = group.jobs[i]
            leaves = group.stored[i] or job.y.value in kept
            wanted = needed.get(job.y.key)
            if i == len(group.jobs) - 1:
                wanted = area
            elif leaves:
                end = -(-job.y.height * (b + 1) // len(areas))
                wanted = whole(job.y).between(done[i], end).hull(wanted) if end > done[i] else wanted
            elif wanted is not None:
                wanted = whole(job.y).between(wanted.row, wanted.end)
            if wanted is None:
                _hold(result, job.y, None, None, kept)
                continue
            fresh: Area | None = wanted
            if len(group.jobs) > 1:
                first = max(wanted.row, done[i])
                left[i] = wanted.between(first, wanted.end) if wanted.end > first else None
                fresh = left[i] if carry[0] or job.y.value in kept else wanted
                done[i] = max(done[i], wanted.end)
            else:
                left[i] = wanted
            computed[i] = fresh
            _hold(result, job.y, wanted, fresh, kept)
            if fresh is not None:
                part, _ = source(job, fresh)
                needed[job.x.key] = part.hull(needed.get(job.x.key))
                if job.residual is not None:
                    needed[job.residual.key] = fresh.hull(needed.get(job.residual.key))
        for view in {v.key: v for job in group.jobs for v in inputs(job)}.values():
            if group.producer(view) is None:
                _load(result, view, needed.get(view.key), carry[1], kept)
        result.computed.append(computed)
        result.left.append(left)
    return result


def _load(result: Bands, view: View, wanted: Area | None, carry: bool, kept: Container[Value]) -> None:
    image = result.images.get(view.key)
    fresh = wanted
    if wanted is not None and image is not None and image.held and carry:
        before = max(area.end for area in image.held)
        fresh = wanted.between(max(wanted.row, before), wanted.end) if wanted.end > before else None
    _hold(result, view, wanted, fresh, kept)


def _hold(result: Bands, view: View, wanted: Area | None, fresh: Area | None, kept: Container[Value]) -> None:
    if view.value in kept:
        return
    image = result.images.setdefault(view.key, Image(view))
    if wanted is None or fresh is None:
        wanted, fresh = image.held[-1] if image.held else Area(0, 0, 0, 0), None
    image.held.append(wanted)
    image.fresh.append(fresh)
