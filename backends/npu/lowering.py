"""From a group of jobs and its tiling to instructions on tiles.

A group of one job is the plain case. In a larger one what is between the jobs never leaves local memory: band by band,
each computes what the others need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from .bands import Area, Bands, Group, Key, bands
from .isa import Element, Space
from .jobs import Job, Softmax, inputs, sliced
from .jobs import View as Image
from .loading import Loader
from .memory import NoRoomError
from .places import Cut, Held, Place, pieces
from .program import View
from .schedule import Tile
from .worker import Worker


@dataclass(frozen=True)
class Tiling:
    """How a group is computed: rows x columns of its last result at a time; a cut for each of its jobs.

    carried: whether rows that the next band needs as well stay, of results and of what is loaded; else they are
    computed or loaded again. pinned: the image that a single job reads is loaded as a whole before anything else.
    staggered: jobs work bands behind each other, so that one's sums are computed while another's are post-processed;
    else each band is done before the next begins, which takes less memory.
    """

    rows: int
    columns: int
    cuts: tuple[Cut, ...]
    carried: tuple[bool, bool] = (True, False)
    pinned: bool = False
    staggered: bool = True


def lower(group: Group, tiling: Tiling, place: Place) -> list[Tile]:
    """The tiles of a group. Raises NoRoomError where the tiling does not fit the local memories.

    Chunks go on behind those of the group before, so that its loads need not wait; where that leaves gaps too small,
    they begin at the start.
    """
    before = place.copy()
    try:
        return list(lowered(group, tiling, place))
    except NoRoomError:
        place.kept, place.rings = before.kept, {s: replace(ring, position=0) for s, ring in before.rings.items()}
        return list(lowered(group, tiling, place))


def lowered(group: Group, tiling: Tiling, place: Place) -> Iterator[Tile]:
    """The tiles of a group, one after the other."""
    job, cut = group.jobs[0], tiling.cuts[0]
    parts: list[Group] = [group]
    if len(group.jobs) == 1 and not isinstance(job, Softmax) and 0 < cut.channels < job.y.channels:
        parts = [Group((sliced(job, *part),), group.stored) for part in pieces(job.y.channels, cut.channels)]
    if tiling.pinned:
        yield _pin(job, cut, place)
    for part in parts:
        yield from _Lowering(part, tiling, place).tiles()
    if tiling.pinned:
        place.rings[Space.ACT].release(place.kept.pop(job.x.value))


def _pin(job: Job, cut: Cut, place: Place) -> Tile:
    """Load all bytes of the value that a job reads."""
    value, tile = job.x.value, Tile()
    place.kept[value] = place.rings[Space.ACT].keep(value.type.nbytes)
    everything = Image.whole(value, (1, 1, value.type.nbytes))
    area = Area(0, 0, 1, 1)
    Loader(job, cut, place).load(tile, place.local(everything).part(area), place.external(everything, area))
    return tile


def count_tiles(group: Group, tiling: Tiling) -> int:
    """How many tiles `lower` gives."""
    last, cut = group.jobs[-1].y, tiling.cuts[0]
    number = -(-last.height // tiling.rows) * -(-last.width // tiling.columns) * len(group.jobs)
    if len(group.jobs) == 1:
        number *= -(-last.channels // (cut.channels or last.channels))
        number *= 1 if cut.resident else len(pieces(min(cut.channels or last.channels, last.channels), cut.block))
        number += tiling.pinned
        number *= len(pieces(group.jobs[0].window[0], cut.taps)) * len(pieces(group.jobs[0].x.channels, cut.depth))
    return number


@dataclass
class _Chunk:
    """An image's rows in `act`, and how many uses of it are still to come."""

    held: Held
    uses: int


class _Lowering:
    def __init__(self, group: Group, tiling: Tiling, place: Place) -> None:
        self.group, self.place = group, place
        self.levels = group.levels() if tiling.staggered else [0] * len(group.jobs)
        self.bands: Bands = bands(group, tiling.rows, tiling.columns, tiling.carried, place.kept)
        self.workers = [Worker(job, cut, place) for job, cut in zip(group.jobs, tiling.cuts, strict=True)]
        self.chunks: dict[tuple[Key, int], _Chunk] = {}
        self.moved: list[tuple[Image, int]] = []

    def tiles(self) -> Iterator[Tile]:
        count = len(self.bands.computed)
        for t in range(count + max(self.levels)):
            for i, level in enumerate(self.levels):
                if 0 <= t - level < count:
                    yield from self.stage(i, t - level)
        for worker in self.workers:
            worker.release()

    def stage(self, i: int, band: int) -> Iterator[Tile]:
        """One job's part of a band."""
        job, area, worker = self.group.jobs[i], self.bands.computed[band][i], self.workers[i]
        tile = Tile()
        if not worker.cut.split and area is not None:
            worker.prepare(tile)
        if worker.kind == "copy":
            assert area is not None
            self.copy(tile, worker, area, self.group.stored[i])
            yield tile
            return
        images = [view for view in inputs(job) if not (view is job.x and worker.cut.split)]
        for view in images:
            self.fetch(tile, worker, view, band)
        if not worker.cut.split:
            self.drop_moved()
        self.extend(tile, worker, job.y, band)
        if area is None:
            tiles = [tile]
        else:
            x = None if worker.cut.split and job.x.value not in self.place.kept else self.image(job.x, band)
            residual = None if job.residual is None else self.image(job.residual, band)
            tiles = list(worker.compute(tile, area, x, residual, self.image(job.y, band)))
        if self.group.stored[i] and (left := self.bands.left[band][i]) is not None:
            source = self.image(job.y, band).part(left)
            worker.store(tiles[-1], self.place.external(job.y, left), source)
        self.drop_moved()
        for view in (*images, job.y):
            self.used(view, band)
        yield from tiles

    def copy(self, tile: Tile, worker: Worker, area: Area, stored: bool) -> None:
        """Between two places, of which either may be local; the result may be wanted in both."""
        x, y, kept = worker.job.x, worker.job.y, self.place.kept
        target = self.place.local(y).part(area) if y.value in kept else None
        source = self.place.local(x).part(area) if x.value in kept else target
        chunk = None
        if source is None:
            source = chunk = self.chunk(area, x.channels).view
        if x.value not in kept:
            worker.load(tile, source, self.place.external(x, area))
        elif target is not None:
            worker.move(tile, target, source)
        if stored:
            worker.store(tile, self.place.external(y, area), source)
        if chunk is not None:
            self.place.rings[Space.ACT].release(chunk.address)

    # ---- images between the jobs

    def image(self, view: Image, band: int) -> Held:
        """Where an image is."""
        return self.place.local(view) if view.value in self.place.kept else self.chunks[view.key, band].held

    def chunk(self, area: Area, channels: int) -> Held:
        sizes = (1, area.rows, area.columns, channels)
        address = self.place.rings[Space.ACT].take(prod(sizes))
        return Held(View.of(Space.ACT, Element.I8, address, sizes), area)

    def fetch(self, tile: Tile, worker: Worker, view: Image, band: int) -> None:
        """Load what is new of an image that comes from external memory, for the first of its readers."""
        if view.value in self.place.kept or self.group.producer(view) is not None or (view.key, band) in self.chunks:
            return
        self.extend(tile, worker, view, band)
        if (fresh := self.bands.images[view.key].fresh[band]) is not None:
            worker.load(tile, self.image(view, band).part(fresh), self.place.external(view, fresh))

    def extend(self, tile: Tile, worker: Worker, view: Image, band: int) -> None:
        """A chunk for a band of an image; rows that the band before has are moved there."""
        if view.value in self.place.kept:
            return
        image, last = self.bands.images[view.key], self.chunks.get((view.key, band - 1))
        wanted, fresh = image.held[band], image.fresh[band]
        uses = self.uses(view) + image.continues(band)
        if fresh is None:
            if last is not None:
                last.uses += uses - 1
                self.chunks[view.key, band] = last
            return
        held = self.chunk(wanted, view.channels)
        self.chunks[view.key, band] = _Chunk(held, uses)
        if last is not None and image.continues(band - 1):
            old = wanted.between(wanted.row, fresh.row)
            worker.move(tile, held.part(old), last.held.part(old))
            self.moved.append((view, band - 1))

    def drop_moved(self) -> None:
        """Give back where rows were moved from: after all loads of the tile, for these come before its moves."""
        for view, band in self.moved:
            self.drop(view, band)
        self.moved.clear()

    def uses(self, view: Image) -> int:
        """How many jobs read or write an image in each band."""
        reads = sum(v.key == view.key for job in self.group.jobs for v in inputs(job))
        return reads + (self.group.producer(view) is not None)

    def used(self, view: Image, band: int) -> None:
        if view.value not in self.place.kept:
            self.drop(view, band)

    def drop(self, view: Image, band: int) -> None:
        chunk = self.chunks.get((view.key, band))
        if chunk is None:  # no band until now needed any of it
            return
        chunk.uses -= 1
        if not chunk.uses:
            self.place.rings[Space.ACT].release(chunk.held.view.address)
