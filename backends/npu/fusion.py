"""Which jobs of a segment are computed together, and which values stay in local memory: dynamic programming.

From left to right, for each set of values that may lie in `act` between two groups, the cheapest way to get there.
Costs are those of groups alone, by the analytic model; places are real, so what is chosen can be lowered again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...ir.errors import DoesNotFitError
from ...ir.graph import Value
from .bands import Group
from .isa import Space
from .jobs import Job, inputs, kind
from .lowering import count_tiles, lower
from .mapper import Mapped, Mapper
from .memory import Constants, NoRoomError
from .places import Place
from .schedule import Tile
from .timeline import estimate

#: Jobs in a group at most.
LONGEST = 4
#: Of a group with more tiles than this, it is not asked how much of the next one's loads it hides.
MOST_TAIL = 24


@dataclass(frozen=True, eq=False)
class Segment:
    """Jobs without the host between them. outside: values that somebody else reads as well."""

    jobs: tuple[Job, ...]
    outside: Collection[Value]

    def last_use(self) -> dict[Value, int]:
        """The last job that reads or writes each value."""
        return {v: i for i, job in enumerate(self.jobs) for v in _values(job)}

    def leaves(self, value: Value, end: int, last: Mapping[Value, int]) -> bool:
        """Whether a value is of use to anybody but the jobs before `end`."""
        return last[value] >= end or value in self.outside


@dataclass(frozen=True, eq=False)
class Planned:
    """A group with its tiling, and the values that lie in `act` from its begin on."""

    mapped: Mapped
    keeps: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class _State:
    """Some jobs are done: at what cost, how, and what is where.

    tail: the last group's tiles, if they are few; alone: what they take by themselves.
    """

    cycles: int
    place: Place
    groups: tuple[Planned, ...] = ()
    tail: tuple[Tile, ...] = ()
    alone: int = 0


def plan(segment: Segment, mapper: Mapper, addresses: Mapping[Value, tuple[Space, int]], local: bool) -> list[Planned]:
    """Groups in order. local: whether anything may stay in local memory; else every job is a group of its own.

    Raises DoesNotFitError where a job has no tiling.
    """
    count, last = len(segment.jobs), segment.last_use()
    start = _State(0, Place(mapper.machine, addresses, Constants(keep=False)))
    states: list[dict[frozenset[Value], _State]] = [{frozenset(): start}, *({} for _ in range(count))]
    for end in range(1, count + 1):
        there = states[end]
        for begin in range(end - 1, max(-1, end - 1 - LONGEST) if local else end - 2, -1):
            if end - begin > 1 and not _fusable(segment, begin, end):
                break
            for state in states[begin].values():
                for group, keeps in _choices(segment, begin, end, last, state.place.kept, local):
                    try:
                        following = _advance(state, group, keeps, mapper, last, end, there)
                    except NoRoomError:
                        continue
                    except DoesNotFitError:
                        if len(group.jobs) == 1 and not state.place.kept and not keeps:
                            raise
                        continue
                    if following is not None:
                        there[frozenset(following.place.kept)] = following
    return list(min(states[count].values(), key=lambda s: s.cycles).groups)


def _advance(
    state: _State, group: Group, keeps: tuple[Value, ...], mapper: Mapper, last: Mapping[Value, int], end: int,
    there: Mapping[frozenset[Value], _State],
) -> _State | None:  # fmt: skip
    """What follows from a state with one more group; None where others (`there`) reach the same for less."""
    place = state.place.copy()
    keep(place, keeps)
    kept = [v for v in place.kept if last[v] >= end]
    other = there.get(frozenset(kept))
    # What of it the group before hides is not known yet; that is less than the whole of the one before.
    limit = other.cycles - state.cycles + state.alone if other is not None else None
    mapped = mapper.best(group, place, limit)
    if mapped is None:
        return None
    tail: tuple[Tile, ...] = ()
    hidden = 0
    if count_tiles(group, mapped.tiling) <= MOST_TAIL:
        tail = tuple(lower(group, mapped.tiling, place))
        if state.tail:
            machine = place.machine
            together = (*state.tail, *tail)
            hidden = state.alone + mapped.cycles - estimate(together, machine, len(together))
    forget(place, last, end)
    total = state.cycles + mapped.cycles - hidden
    if other is not None and total >= other.cycles:
        return None
    return _State(total, place, (*state.groups, Planned(mapped, keeps)), tail, mapped.cycles if tail else 0)


def keep(place: Place, values: Sequence[Value]) -> None:
    """Give values a place in `act`. Raises NoRoomError."""
    for value in values:
        place.kept[value] = place.rings[Space.ACT].keep(value.type.nbytes)


def forget(place: Place, last: Mapping[Value, int], end: int) -> None:
    """Give back the places of values that no job from `end` on touches."""
    for value in [v for v in place.kept if last[v] < end]:
        place.rings[Space.ACT].release(place.kept.pop(value))


def tiles(segment: Segment, planned: Sequence[Planned], place: Place) -> list[Tile]:
    """The tiles of a whole segment."""
    result: list[Tile] = []
    end, last = 0, segment.last_use()
    for p in planned:
        keep(place, p.keeps)
        result += lower(p.mapped.group, p.mapped.tiling, place)
        end += len(p.mapped.group.jobs)
        forget(place, last, end)
    return result


def _choices(
    segment: Segment, begin: int, end: int, last: Mapping[Value, int], kept: Collection[Value], local: bool
) -> Iterator[tuple[Group, tuple[Value, ...]]]:
    """The group of some jobs, with values that stay from there on."""
    jobs = segment.jobs[begin:end]
    if len(jobs) > 1 and any(job.y.value in kept for job in jobs):
        return
    leaving = [v for v in dict.fromkeys(job.y.value for job in jobs) if segment.leaves(v, end, last)]
    # What was begun elsewhere goes on there.
    begun = {job.y.value for job in segment.jobs[:begin]}
    read = {view.value for job in segment.jobs[end:] for view in inputs(job)}
    new = tuple(v for v in leaving if v not in begun and v in read)
    for keeps in ((), new) if new and local else ((),):
        here = {*kept, *keeps}
        stored = (v in leaving and (v not in here or v in segment.outside) for v in (job.y.value for job in jobs))
        yield Group(jobs, tuple(stored)), keeps


def _fusable(segment: Segment, begin: int, end: int) -> bool:
    """Whether consecutive jobs can be computed band by band: each has to do with those before it."""
    jobs = segment.jobs[begin:end]
    if any(kind(job) in ("copy", "softmax") for job in jobs):
        return False
    results = {job.y.value: job.y.key for job in jobs}
    read = [view for job in jobs for view in inputs(job)]
    if len(results) < len(jobs) or any(v.value in results and v.key != results[v.value] for v in read):
        return False
    mine = {view.key for job in jobs[1:] for view in (*inputs(job), job.y)}
    return any(view.key in mine for view in (*inputs(jobs[0]), jobs[0].y))


def _values(job: Job) -> list[Value]:
    return [view.value for view in (job.x, job.y, job.residual) if view is not None]
