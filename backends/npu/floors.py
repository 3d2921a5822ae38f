"""Cycles that a tiling takes at least, without lowering it: what orders the search and ends it early."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .bands import Group, Key
from .isa import Space
from .jobs import Job, inputs, kind
from .jobs import View as Image
from .loading import constant_bytes
from .lowering import Tiling
from .machine import Machine
from .places import Cut, Place
from .timing import product_cycles, vector_cycles
from .worker import array_steps, lines_at_once


@dataclass
class _Work:
    """Of some job: cycles of the array and of the post-process unit."""

    array: int = 0
    vector: int = 0


def floor(group: Group, tiling: Tiling, place: Place) -> int:
    """The busiest of ports, array and post-process unit, and what must come before and after it; full tiles alone."""
    machine = place.machine
    rates = {s: machine.region(s).bytes_per_cycle * machine.dma.efficiency for s in (Space.ARENA, Space.CONST)}
    last = group.jobs[-1].y
    rows, columns = min(tiling.rows, last.height), min(tiling.columns, last.width)
    tiles = (last.height // rows) * (last.width // columns)
    moved = dict.fromkeys(rates, 0.0)
    total, seen = _Work(), set[Key]()
    for i, (job, cut) in enumerate(zip(group.jobs, tiling.cuts, strict=True)):
        for height, n in _sizes(job.y.height, rows if len(group.jobs) == 1 else max(1, job.y.height // tiles)):
            for width, m in _sizes(job.y.width, columns if len(group.jobs) == 1 else job.y.width):
                work = _work(job, cut, height, width, machine)
                total.array += n * m * work.array
                total.vector += n * m * work.vector
        slices = max(1, job.y.channels // (cut.channels or job.y.channels))
        for view in inputs(job):
            if view.value not in place.kept and group.producer(view) is None and view.key not in seen:
                seen.add(view.key)
                space = place.addresses[view.value][0]
                taken = _taken(job, view, cut, tiling, tiles if len(group.jobs) == 1 else 1)
                sliced = view is not job.x or (job.depthwise and not tiling.pinned)
                moved[space] += taken * _waste(view, slices if sliced else 1, space, place)
        moved[Space.ARENA] += job.y.size * group.stored[i] * _waste(job.y, slices, Space.ARENA, place)
        moved[Space.CONST] += sum(constant_bytes(job)) * (1 if cut.resident else tiles)
    first, end = 0.0, 0.0
    if len(group.jobs) == 1:
        x, channels = group.jobs[0].x, tiling.cuts[0].channels or last.channels
        depth = x.channels if kind(group.jobs[0]) == "conv" else min(channels, last.channels)
        if x.value not in place.kept and not tiling.cuts[0].split and not tiling.pinned:
            first = prod(_needed(group.jobs[0], rows, columns)) * depth / rates[Space.ARENA]
        end = rows * columns * min(channels, last.channels) * group.stored[0] / rates[Space.ARENA]
    ports: dict[str, float] = {}
    for space, nbytes in moved.items():
        name = machine.region_name(space)
        ports[name] = ports.get(name, 0.0) + nbytes / rates[space]
    return int(max(*ports.values(), first + max(total.array, total.vector) + end))


def _needed(job: Job, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of x that a tile needs at least, wherever it lies."""
    zipped = zip(
        (rows, columns), job.strides, job.window, job.dilations, job.pads, (job.x.height, job.x.width), strict=True
    )
    height, width = (max(1, min((n - 1) * s + (k - 1) * d + 1 - 2 * p, size)) for n, s, k, d, p, size in zipped)
    return height, width


def _taken(job: Job, view: Image, cut: Cut, tiling: Tiling, tiles: int) -> int:
    """Bytes that are loaded of an image."""
    if view is not job.x:
        return view.size
    if tiling.pinned:
        return view.value.type.nbytes
    again = 1
    if kind(job) == "conv":  # for all blocks, or all slices, of output channels
        again = max(1, job.y.channels // (cut.block if cut.split else cut.channels or job.y.channels))
    once = prod(_needed(job, job.y.height, job.y.width)) * view.channels * again
    if tiles == 1 or (tiling.carried[1] and tiling.columns >= job.y.width):
        return once
    rows, columns = min(tiling.rows, job.y.height), min(tiling.columns, job.y.width)
    return tiles * prod(_needed(job, rows, columns)) * view.channels * again


def _waste(view: Image, slices: int, space: Space, place: Place) -> float:
    """How many bytes move for each that is wanted, where pixels are moved by slices of their channels."""
    channels = max(1, view.channels // slices)
    burst = place.machine.region(space).burst
    return -(-channels // burst) * burst / channels if slices > 1 and view.width * view.height > 1 else 1.0


def _sizes(length: int, piece: int) -> list[tuple[int, int]]:
    """Pieces of a length, and how many there are of each."""
    whole, rest = divmod(length, piece)
    return [(piece, whole)] + [(rest, 1)] * (rest > 0)


def _work(job: Job, cut: Cut, rows: int, columns: int, machine: Machine) -> _Work:
    """Of one tile."""
    how, y = kind(job), job.y
    if how == "copy":
        return _Work()
    if how not in ("conv", "depthwise"):
        passes = prod(job.window) if how == "pool" else 1
        return _Work(0, machine.post.fill + rows * columns * y.channels * passes // machine.post.width)
    block = min(cut.block, y.channels)
    lines = lines_at_once(machine, columns, block) or 1
    passes = -(-rows // lines) if not cut.split else 1
    shape, steps = array_steps(job, cut, machine)
    pieces = -(-job.window[0] // (cut.taps or job.window[0])) * -(-job.x.channels // (cut.depth or job.x.channels))
    pixels = rows // passes * columns
    array = product_cycles(machine, shape, block, pixels, steps, 0).cycles
    vector = vector_cycles(machine, pixels * block).cycles
    count = y.channels // block * passes
    return _Work(count * (array + (pieces - 1) * machine.array.fill), count * vector)
