"""Cycles of one instruction, as docs/npu-isa.md defines them: the mapper and its bounds count with these."""

from __future__ import annotations

from math import prod

from .machine import ArrayShape, Machine
from .program import View


def transfer(machine: Machine, external: View) -> int:
    """Cycles of LD or ST on the port, for a view of an external memory; the region's latency comes before."""
    region = machine.region(external.space)
    rows, row = external.rows
    moved = rows * -(-row // region.burst) * region.burst
    return _ceil(moved / (region.bytes_per_cycle * machine.dma.efficiency))


def convolution(
    machine: Machine, shape: ArrayShape, x: View, y: View, window: tuple[int, int], dense_rows: bool
) -> int:
    """MM conv. dense_rows: a window's row is contiguous bytes."""
    pixels, outputs, channels = prod(y.sizes[:3]), y.sizes[3], x.sizes[3]
    reduction = (
        window[0] * -(-window[1] * channels // shape.c) if dense_rows else prod(window) * -(-channels // shape.c)
    )
    block = max(-(-pixels // shape.p), -(-shape.k * shape.c // machine.array.weight_port))
    return machine.array.fill + -(-outputs // shape.k) * reduction * block * machine.array.precisions["a8w8"]


def depthwise(machine: Machine, y: View, window: tuple[int, int]) -> int:
    """MM depthwise."""
    shape = machine.array.depthwise
    pixels, channels = prod(y.sizes[:3]), y.sizes[3]
    block = max(-(-pixels // shape.p), -(-shape.k * shape.c // machine.array.weight_port))
    blocks = -(-channels // shape.k) * -(-prod(window) // shape.c)
    return machine.array.fill + blocks * block * machine.array.precisions["a8w8"]


def post(machine: Machine, elements: int) -> int:
    """PP, EW and (elements of dst times taps) POOL."""
    return machine.post.fill + -(-elements // machine.post.width)


def move(machine: Machine, nbytes: int) -> int:
    """MOV."""
    return machine.post.fill + -(-nbytes // machine.post.move_width)


def _ceil(x: float) -> int:
    return -int(-x // 1)
