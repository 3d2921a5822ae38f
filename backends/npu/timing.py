"""What one command costs: cycles by what they are spent on, and energy. The formulas are in docs/npu-isa.md, "Time".

The mapper searches with these functions; the simulator adds up what they say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .isa import Depthwise, Elementwise, Engine, Ew, Fill, Move, Pool, Space
from .machine import ArrayShape, Machine
from .program import Command, View


@dataclass(frozen=True)
class Work:
    """Cycles of one command on its engine, in parts.

    useful: as many as the array (or the vector unit, or the port) needs at its full rate. padding: lanes of an array
    shape without work. weights: waiting for weights to enter the array. fill: the pipeline. latency: of a region;
    it overlaps with the transfers before. burst: bytes that nobody asked for. energy: pJ.
    """

    useful: int = 0
    padding: int = 0
    weights: int = 0
    fill: int = 0
    latency: int = 0
    burst: int = 0
    macs: int = 0
    external_bytes: int = 0
    energy: float = 0.0

    @property
    def cycles(self) -> int:
        """Without the latency."""
        return self.useful + self.padding + self.weights + self.fill + self.burst


def conv_steps(shape: ArrayShape, window: tuple[int, int], channels: int, seamless: bool) -> int:
    """Steps per output pixel of `mm.conv`; seamless: the columns of a window follow each other without gaps."""
    rows, columns = window
    if seamless:
        return rows * math.ceil(columns * channels / shape.c)
    return rows * columns * math.ceil(channels / shape.c)


def product_cycles(
    machine: Machine, shape: ArrayShape, outputs: int, pixels: int, steps: int, macs: int, precision: str = "a8w8"
) -> Work:
    """MM: for each block of output channels and each step all pixels pass, or, if that takes longer, new weights come.

    steps: per output pixel, `conv_steps` or, for depthwise, ceil(taps / shape.c).
    """
    each = machine.array.precisions[precision]
    blocks, groups = math.ceil(outputs / shape.k) * steps, math.ceil(pixels / shape.p)
    busy = blocks * groups * each
    useful = min(busy, math.ceil(macs * each / machine.array.macs))
    entering = math.ceil(shape.k * shape.c / machine.array.weight_port)
    waiting = blocks * max(groups, entering) * each - busy
    local = machine.energy.local
    moved = blocks * groups * (shape.c * shape.p * local["act"] + 8 * shape.k * shape.p * local["acc"])
    energy = macs * machine.energy.mac + moved + blocks * shape.k * shape.c * local["wgt"]
    return Work(useful, busy - useful, waiting, machine.array.fill, macs=macs, energy=energy)


def transfer_cycles(machine: Machine, space: Space, rows: int, row_bytes: int) -> Work:
    """LD and ST: `rows` contiguous rows of `row_bytes` in the external memory `space`."""
    region = machine.region(space)
    rate = region.bytes_per_cycle * machine.dma.efficiency
    taken = rows * math.ceil(row_bytes / region.burst) * region.burst
    useful = math.ceil(rows * row_bytes / rate)
    energy = taken * machine.energy.external[machine.region_name(space)]
    return Work(
        useful, burst=math.ceil(taken / rate) - useful, latency=region.latency, external_bytes=taken, energy=energy
    )


def vector_cycles(machine: Machine, elements: int, each: int = 1) -> Work:
    """PP, EW, POOL, RED: `each` cycles for every `width` elements."""
    post = machine.post
    return Work(math.ceil(elements / post.width) * each, fill=post.fill, energy=elements * machine.energy.post)


def move_cycles(machine: Machine, nbytes: int) -> Work:
    """MOV: bytes at the rate of the local memories."""
    return Work(math.ceil(nbytes / machine.post.move_width), fill=machine.post.fill)


def work(command: Command, machine: Machine) -> Work:
    """What a command costs."""
    i, views = command.instruction, command.views
    if not views:  # halt, sync and their like
        return Work()
    match command.engine:
        case Engine.MM:
            return _product(command, machine)
        case Engine.LD | Engine.ST:
            outer, inner = (views["src"], views["dst"]) if command.engine is Engine.LD else (views["dst"], views["src"])
            moved = transfer_cycles(machine, outer.space, *outer.rows)
            return _with_local(moved, machine, inner)
        case Engine.PP:
            dst = views["dst"]
            if isinstance(i, (Move, Fill)):
                return _with_local(move_cycles(machine, dst.bytes), machine, *views.values())
            elements, each = dst.size, 1
            if isinstance(i, Pool) and (w := command.window):
                elements *= w.kernel_h * w.kernel_w
            elif isinstance(i, Elementwise) and i.function is Ew.RECIP:
                each = machine.post.divide
            elif "src" in views:
                elements = views["src"].size
            return _with_local(vector_cycles(machine, elements, each), machine, *views.values())
    return Work()


def _product(command: Command, machine: Machine) -> Work:
    x, y, w = command.views["src"], command.views["dst"], command.window
    assert w is not None
    pixels, outputs, taps = y.sizes[1] * y.sizes[2], y.sizes[3], w.kernel_h * w.kernel_w
    precision = f"a{8 * x.dtype.bytes}w8"
    if isinstance(command.instruction, Depthwise):
        shape = machine.array.depthwise
        steps = math.ceil(taps / shape.c)
        return product_cycles(machine, shape, outputs, pixels, steps, pixels * outputs * taps, precision)
    channels, width = x.sizes[3], x.dtype.bytes
    seamless = w.dilation_w == 1 and x.strides[2:] == (channels * width, width)
    shape = machine.array.shapes[w.shape]
    steps = conv_steps(shape, (w.kernel_h, w.kernel_w), channels, seamless)
    return product_cycles(machine, shape, outputs, pixels, steps, pixels * outputs * taps * channels, precision)


def _with_local(done: Work, machine: Machine, *views: View) -> Work:
    """The energy of reading or writing each view once comes on top."""
    names: Any = ("act", "wgt", "acc", "tab")
    local = sum(v.bytes * machine.energy.local[names[v.space]] for v in views if v.space.is_local)
    return Work(**{**vars(done), "energy": done.energy + local})
