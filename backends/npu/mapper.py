"""Tilings of a job, lowered and timed with the cycles of their instructions; the fastest is taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

from ...ir.errors import DoesNotFitError
from ...ir.graph import Value
from .isa import Space
from .jobs import Job, Product
from .lowering import CHANNEL, Place, Tiling, kind, lower
from .machine import Machine
from .memory import Constants, NoRoomError
from .schedule import Step, configured, issue_order, synchronized, timeline

#: Tilings with more tiles than this are not looked at: instructions take memory, too.
MOST_TILES = 600


@dataclass(frozen=True)
class Bound:
    """Cycles that no tiling of a job can beat, by what limits them: data, products, and elements of results."""

    memory: int
    array: int
    vector: int

    @property
    def cycles(self) -> int:
        return max(self.memory, self.array, self.vector)

    @property
    def limit(self) -> str:
        """The name of the largest."""
        return max(("memory", "array", "vector"), key=lambda name: getattr(self, name))

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.memory + other.memory, self.array + other.array, self.vector + other.vector)


def bound(job: Job, machine: Machine) -> Bound:
    """The roofline of a job: everything moved once at the full rate, every multiplier busy, every lane busy."""
    rate = {s: machine.region(s).bytes_per_cycle * machine.dma.efficiency for s in (Space.ARENA, Space.CONST)}
    moved = job.x.size + job.y.size + (job.residual.size if job.residual is not None else 0)
    how = kind(job)
    passes = {"pool": prod(job.window), "softmax": 5}.get(how, 1)
    constants = (
        job.weights.size * (how in ("conv", "depthwise")) + CHANNEL * job.y.channels if isinstance(job, Product) else 0
    )
    memory = moved / rate[Space.ARENA] + constants / rate[Space.CONST]
    macs = job.macs if how in ("conv", "depthwise") else 0
    vector = 0 if how == "copy" else job.y.size * passes / machine.post.width
    return Bound(int(np.ceil(memory)), -(-macs // machine.array.macs), int(np.ceil(vector)))


@dataclass(frozen=True)
class Mapped:
    """A job with its tiling, and the cycles of the analytic model when it runs alone."""

    job: Job
    tiling: Tiling
    cycles: int
    tried: int


def signature(job: Job) -> tuple[object, ...]:
    """What the search depends on: jobs of equal signature get the same tiling."""
    views = (job.x, job.y, job.residual)
    shapes = tuple(None if v is None else (v.height, v.width, v.channels, v.row, v.pixel) for v in views)
    finish = (job.input_zero != 0, job.finish.table is None) if isinstance(job, Product) else ()
    return (kind(job), shapes, job.window, job.strides, job.dilations, job.pads, finish)


def best(
    job: Job, machine: Machine, addresses: Mapping[Value, tuple[Space, int]], cache: dict[tuple[object, ...], Mapped]
) -> Mapped:
    """The fastest tiling. Raises DoesNotFitError where none fits the local memories."""
    key = signature(job)
    if key not in cache:
        cache[key] = _search(job, machine, addresses)
    return replace(cache[key], job=job)


def _search(job: Job, machine: Machine, addresses: Mapping[Value, tuple[Space, int]]) -> Mapped:
    """Time tilings in order of their floor until it reaches the best.

    Columns are cut, and blocks are narrower than the array, only where nothing else fits.
    """
    found: tuple[int, Tiling] | None = None
    tried = 0
    for narrow, columns in product((False, True), _cuts(job.y.width)):
        tilings = candidates(job, machine, columns, narrow)
        ordered = sorted((floor(job, t, machine), i, t) for i, t in enumerate(tilings))
        for least, _, tiling in ordered:
            if found is not None and least >= found[0]:
                break
            place = Place(machine, addresses, Constants(keep=False))
            try:
                steps = issue_order(lower(job, tiling, place))
            except NoRoomError:
                continue
            tried += 1
            cycles = estimate(steps, machine)
            if found is None or cycles < found[0]:
                found = cycles, tiling
        if found is not None:
            return Mapped(job, found[1], found[0], tried)
    raise DoesNotFitError(
        f"no tiling of {job.node.op.name} fits the local memories of {machine.name}",
        where=job.node.describe(),
        details=(str(machine.memories),),
        fix="choose a machine with larger local memories",
    )


def estimate(steps: Sequence[Step], machine: Machine) -> int:
    """Cycles of some steps alone, by the analytic model."""
    configured(steps)
    return max(
        timeline(synchronized(steps), machine.control.dispatch, machine.control.queue, machine.dma.channels), default=0
    )


def candidates(job: Job, machine: Machine, columns: int, narrow: bool = False) -> Iterator[Tiling]:
    """Tilings of some width that are worth a look, the largest tiles first. narrow: blocks that leave lanes unused."""
    how, y = kind(job), job.y
    shapes = range(len(machine.array.shapes)) if how == "conv" else [0]
    for shape in shapes:
        step = machine.array.shapes[shape].k if how == "conv" else machine.array.depthwise.k
        blocks = _narrow(step) if narrow else _sizes(y.channels, step)
        if how in ("softmax", "copy", "vector"):
            blocks = [y.channels]
        for rows in _cuts(y.height):
            for block in blocks:
                if (-(-y.height // rows)) * (-(-y.width // columns)) * (-(-y.channels // block)) > MOST_TILES:
                    continue
                if how == "conv":
                    yield Tiling(rows, columns, block, y.channels, True, shape)
                    if block < y.channels:
                        yield Tiling(rows, columns, block, y.channels, False, shape)
                else:
                    for channels in blocks if how in ("depthwise", "pool") else [y.channels]:
                        if block <= channels:
                            yield Tiling(rows, columns, block, channels)


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


def floor(job: Job, tiling: Tiling, machine: Machine) -> int:
    """Cycles that a tiling takes at least, counting full tiles alone.

    The busiest of port, array and post-process unit, and what must come before and after it.
    """
    how, y, x = kind(job), job.y, job.x
    per_channel = how != "conv"
    slices = max(1, y.channels // tiling.channels) if per_channel else 1
    outputs = min(tiling.channels, y.channels)
    rows, columns = min(tiling.rows, y.height), min(tiling.columns, y.width)
    tiles = (y.height // rows) * (y.width // columns)
    needed = [
        min((n - 1) * s + (k - 1) * d + 1 - 2 * p, size)
        for n, s, k, d, p, size in zip(
            (rows, columns), job.strides, job.window, job.dilations, job.pads, (x.height, x.width), strict=True
        )
    ]
    taken = max(1, needed[0]) * max(1, needed[1]) * (outputs if per_channel else x.channels)
    rate = machine.region(Space.ARENA).bytes_per_cycle * machine.dma.efficiency
    weights = job.weights.size if isinstance(job, Product) and how in ("conv", "depthwise") else 0
    reload = tiles if how == "conv" and not tiling.resident else 1
    moved = slices * tiles * taken + weights * reload + y.size + (job.residual.size if job.residual else 0)
    first, last = taken / rate, rows * columns * outputs / rate
    block = min(tiling.block, outputs)
    blocks = outputs // block
    pixels = rows * columns
    array = vector = 0
    if how == "conv":
        shape = machine.array.shapes[tiling.shape]
        reduction = job.window[0] * -(-job.window[1] * x.channels // shape.c)
        most = max(pixels // shape.p, -(-shape.k * shape.c // machine.array.weight_port))
        array = blocks * -(-block // shape.k) * reduction * most
    elif how == "depthwise":
        shape = machine.array.depthwise
        most = max(pixels // shape.p, -(-shape.k * shape.c // machine.array.weight_port))
        array = blocks * -(-block // shape.k) * -(-prod(job.window) // shape.c) * most
    if how != "copy":
        vector = pixels * outputs * (prod(job.window) if how == "pool" else 1) // machine.post.width
    busiest = slices * tiles * max(array, vector)
    return int(max(moved / rate, first + busiest + last))
