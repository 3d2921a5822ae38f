"""Tilings of a group, lowered and timed with the cycles of their instructions; the fastest is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, product

from ...ir.errors import DoesNotFitError
from .bands import Area, Group, source
from .floors import floor
from .isa import Space
from .jobs import Job, Product, kind
from .loading import constant_bytes
from .lowering import Tiling, count_tiles, lower, lowered
from .machine import Machine
from .memory import Constants, NoRoomError, aligned
from .places import Cut, Place
from .timeline import busiest, estimate
from .timing import product_cycles, vector_cycles
from .worker import array_steps, lines_at_once

#: Tilings with more tiles than this are not looked at, for instructions take memory, too; but where nothing else fits.
MOST_TILES, MANY_TILES = 600, 9600
#: So many tiles are timed; what the others take follows from these.
SAMPLE = 40
#: After so many tilings none of which was better than those before, the search ends.
PATIENCE = 16


@dataclass(frozen=True, eq=False)
class Mapped:
    """A group with its tiling, and the cycles of the analytic model when it runs alone."""

    group: Group
    tiling: Tiling
    cycles: int


def signature(group: Group, place: Place) -> tuple[object, ...]:
    """What the search depends on: groups of equal signature, amid the same chunks of `act`, get the same tiling."""
    jobs = []
    for i, job in enumerate(group.jobs):
        views = []
        for view in (job.x, job.y, job.residual):
            if view is None:
                continue
            kept = place.kept.get(view.value, -1)
            space = place.addresses[view.value][0]
            shape = (view.height, view.width, view.channels, view.row, view.pixel)
            views.append((shape, kept, space, group.producer(view), view.key == job.x.key))
        finish = (job.input_zero != 0, job.finish.table is None) if isinstance(job, Product) else ()
        finish = (*finish, *constant_bytes(job))
        jobs.append(
            (kind(job), tuple(views), job.window, job.strides, job.dilations, job.pads, finish, group.stored[i])
        )
    return (tuple(jobs), tuple(sorted(place.rings[Space.ACT].live.items())))


@dataclass
class Mapper:
    """Finds tilings, each once. known: what was found, or that nothing takes fewer cycles than some number."""

    machine: Machine
    known: dict[tuple[object, ...], tuple[Tiling, int] | DoesNotFitError | int] = field(default_factory=dict)

    def best(self, group: Group, place: Place, limit: int | None = None) -> Mapped | None:
        """The fastest tiling amid what `place` keeps; None where none takes fewer cycles than `limit`.

        Raises DoesNotFitError where none fits the local memories.
        """
        key = signature(group, place)
        found = self.known.get(key, 0)
        if isinstance(found, int) and (limit is None or found < limit):
            try:
                found = self._search(group, place, limit)
            except DoesNotFitError as error:
                found = error
            self.known[key] = found
        if isinstance(found, DoesNotFitError):
            raise found
        return Mapped(group, *found) if not isinstance(found, int) else None

    def _search(self, group: Group, place: Place, limit: int | None) -> tuple[Tiling, int] | int:
        """Time tilings in order of their floor until it reaches the best, or the limit, which is returned then.

        Columns are cut, blocks are narrower than the array, and sums are split only where nothing else fits.
        """
        shortage: NoRoomError | None = None
        for tilings in stages(group, place):
            timed: list[tuple[int, int, Tiling]] = []
            best, vain = limit, 0
            for least, i, tiling in sorted((floor(group, t, place), i, t) for i, t in enumerate(tilings)):
                if best is not None and (least >= best or vain == PATIENCE):
                    break
                try:
                    cycles = self._time(group, tiling, place, best)
                except NoRoomError as error:
                    shortage = min(shortage or error, error, key=lambda e: e.needed / max(e.there, 1))
                    continue
                vain += 1
                if best is None or cycles < best:
                    timed.append((cycles, i, tiling))
                    best, vain = cycles, 0
            for cycles, _, tiling in sorted(timed):
                try:
                    lower(group, tiling, alone(place))
                except NoRoomError:  # it is later tiles that do not fit
                    continue
                return tiling, cycles
            if best is not None:
                return best
        raise _no_tiling(group.jobs[0], self.machine, shortage)

    def _time(self, group: Group, tiling: Tiling, place: Place, best: int | None) -> int:
        total = count_tiles(group, tiling)
        tiles = list(islice(lowered(group, tiling, alone(place)), SAMPLE))
        if best is not None and total <= SAMPLE and (busy := busiest(tiles)) >= best:
            return busy
        return estimate(tiles, self.machine, total)


def alone(place: Place) -> Place:
    """A place to try things at: the same is kept, and nothing else is in use."""
    rings = Place(place.machine, {}, place.constants).rings
    rings[Space.ACT].live = dict(place.rings[Space.ACT].live)
    return Place(place.machine, place.addresses, Constants(keep=False), rings, dict(place.kept))


def _no_tiling(job: Job, machine: Machine, shortage: NoRoomError | None) -> DoesNotFitError:
    details = [f"the tile that comes closest takes {shortage}"] if shortage is not None else []
    return DoesNotFitError(
        f"no tiling of {job.node.op.name} fits the local memories of {machine.name}",
        where=job.node.describe(),
        details=(*details, str(machine.memories), f"more than {MANY_TILES} tiles are not tried"),
        fix="choose a machine with larger local memories",
    )


def stages(group: Group, place: Place) -> Iterator[Iterator[Tiling]]:
    """Sets of tilings, each for where nothing of those before fits; the largest tiles first."""
    if len(group.jobs) != 1:
        yield _fused(group, place)
        return
    job = group.jobs[0]
    for columns in _cuts(job.y.width):
        yield _plain(group, place, columns, (False,))
    for columns in _cuts(job.y.width):
        split = _split(job, place.machine, columns) if kind(job) in ("conv", "depthwise") else ()
        yield chain(_plain(group, place, columns, (True,)), split)
    for columns in _cuts(job.y.width):
        yield _plain(group, place, columns, (False, True), range(MOST_TILES + 1, MANY_TILES))


def _plain(
    group: Group, place: Place, columns: int, narrow: Sequence[bool], tiles: range = range(MOST_TILES + 1)
) -> Iterator[Tiling]:
    """Of one job, of some width, into so many tiles. narrow: blocks that leave lanes unused."""
    job, machine = group.jobs[0], place.machine
    how, y = kind(job), job.y
    local = job.x.value in place.kept
    pins = (
        (False,)
        if local or how == "softmax" or not 0 < job.x.value.type.nbytes <= machine.memories.act
        else (False, True)
    )
    shapes = range(len(machine.array.shapes)) if how == "conv" else [0]
    rows_of = [y.height] if local and not group.stored[0] and columns == y.width else _cuts(y.height)
    for shape, rows in product(shapes, rows_of):
        step = machine.array.shapes[shape].k if how == "conv" else machine.array.depthwise.k
        blocks = [b for small in narrow for b in (_narrow(step) if small else _sizes(y.channels, step))]
        for cut in _channel_cuts(how, y.channels, [y.channels] if how == "softmax" else blocks, shape):
            slices = -(-y.channels // (cut.channels or y.channels))
            for pinned, carried in product(pins if slices > 1 else (False,), _carries(job, rows)):
                tiling = Tiling(rows, columns, (cut,), (True, carried and not pinned), pinned)
                if count_tiles(group, tiling) in tiles:
                    yield tiling


def _channel_cuts(how: str, outputs: int, blocks: Sequence[int], shape: int) -> Iterator[Cut]:
    """With weights that stay, that come again for each tile, or that stay for some channels while all tiles pass."""
    for block in blocks:
        if how == "conv":
            yield Cut(block, 0, True, shape)
            if block < outputs:
                yield Cut(block, 0, False, shape)
        for channels in blocks if how == "depthwise" else [block]:
            if block <= channels and (how != "conv" or channels < outputs):
                yield Cut(block, channels, True, shape)


def _carries(job: Job, rows: int) -> tuple[bool, ...]:
    """Whether to keep loaded rows for the next band, where bands share any."""
    shares = rows < job.y.height and (job.window[0] - 1) * job.dilations[0] + 1 > job.strides[0]
    return (False, True) if shares else (False,)


def _split(job: Job, machine: Machine, columns: int) -> Iterator[Tiling]:
    """Sums over some rows of the window and some input channels at a time: as many as fit, once and twice."""
    how, y, room = kind(job), job.y, machine.memories
    step = machine.array.depthwise.k if how == "depthwise" else machine.array.shapes[0].k
    blocks = [b for b in sorted({*_narrow(step), *_sizes(y.channels, step)}) if b <= y.channels]
    for block, rows, taps, copies in product(blocks, _cuts(y.height), _cuts(job.window[0]), (1, 2)):
        area, _ = source(job, Area(0, 0, rows, columns), (0, taps))
        each, pixels = block * taps * job.window[1], area.rows * area.columns
        if how == "depthwise":
            depth, pieces = 0, 1
            fits = aligned(each) * copies <= room.wgt and aligned(pixels * block) * copies <= room.act
        else:
            depth = min(
                room.wgt // copies // each, (room.act // copies - rows * columns * block) // pixels, job.x.channels
            )
            depth -= depth % machine.array.shapes[0].c if depth > machine.array.shapes[0].c else 0
            fits, pieces = depth > 0, -(-job.x.channels // max(depth, 1))
        tiles = -(-y.height // rows) * -(-y.width // columns) * -(-y.channels // block)
        pieces *= -(-job.window[0] // taps)
        if fits and pieces * tiles <= MANY_TILES and aligned(4 * rows * columns * block) <= room.acc:
            yield Tiling(rows, columns, (Cut(block, 0, False, 0, depth, taps),))


def _fused(group: Group, place: Place) -> Iterator[Tiling]:
    """Of several jobs: bands of the last result, as wide as it is, with the channels of each job cut for them."""
    last = group.jobs[-1].y
    if sum(constant_bytes(job)[0] for job in group.jobs) > place.machine.memories.wgt:
        return
    for rows in _cuts(last.height):
        if -(-last.height // rows) * len(group.jobs) > MOST_TILES:
            continue
        cuts = tuple(_cut(job, max(1, round(rows * job.y.height / last.height)), place.machine) for job in group.jobs)
        yield from (
            Tiling(rows, last.width, cuts, carried) for carried in ((True, True), (True, False), (False, False))
        )


def _cut(job: Job, rows: int, machine: Machine) -> Cut:
    """The shape and block with which so many rows of a job take the array and the post-process unit least time."""
    how, y = kind(job), job.y
    if how not in ("conv", "depthwise"):
        return Cut(y.channels)
    found: list[tuple[int, int, Cut]] = []
    for index in range(len(machine.array.shapes)) if how == "conv" else [0]:
        shape, steps = array_steps(job, Cut(1, shape=index), machine)
        for block in _sizes(y.channels, shape.k):
            if not (lines := lines_at_once(machine, y.width, block)):
                continue
            passes, blocks = -(-rows // lines), -(-y.channels // block)
            pixels = -(-rows // passes) * y.width
            array = product_cycles(machine, shape, block, pixels, steps, 0).cycles * passes * blocks
            vector = vector_cycles(machine, pixels * block).cycles * passes * blocks
            found.append((max(array, vector), array + vector, Cut(block, 0, True, index)))
    return min(found, key=lambda f: f[:2])[2] if found else Cut(1)


def _cuts(size: int) -> list[int]:
    """Lengths of equal pieces of `size`, each once, from the whole down."""
    return sorted({-(-size // n) for n in range(1, size + 1)}, reverse=True)


def _sizes(channels: int, step: int) -> list[int]:
    """Numbers of channels: multiples of the array's, doubling, and all."""
    sizes = {channels}
    size = step
    while size < channels:
        sizes.add(size)
        size *= 2
    return sorted(sizes, reverse=True)


def _narrow(step: int) -> list[int]:
    """Powers of two below the array's number of channels."""
    return [1 << i for i in reversed(range((step - 1).bit_length()))]
