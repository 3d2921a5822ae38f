"""Cycles of one instruction, as docs/npu-isa.md defines them: the mapper and its bounds count with these."""

from __future__ import annotations

from math import prod

from .isa import Space
from .machine import ArrayShape, Machine
from .tensor import Tensor


def transfer(machine: Machine, external: Tensor, local: Tensor) -> int:
    """LD or ST between two views of equal sizes."""
    region = machine.region(external.space)
    row, rows = contiguous(external, local)
    moved = rows * -(-row // region.burst) * region.burst
    return region.latency + _ceil(moved / (region.bytes_per_cycle * machine.dma.efficiency))


def contiguous(*views: Tensor) -> tuple[int, int]:
    """Bytes of the longest rows that are contiguous in the first view, and how many there are."""
    view = views[0]
    row = view.dtype.bytes
    for axis in (3, 2, 1, 0):
        if view.sizes[axis] > 1 and view.strides[axis] != row:
            return row, prod(view.sizes[: axis + 1])
        row *= view.sizes[axis]
    return row, 1


def convolution(machine: Machine, shape: ArrayShape, x: Tensor, y: Tensor, window: tuple[int, int], dense_rows: bool) -> int:
    """MM conv. dense_rows: a window's row is contiguous bytes."""
    pixels, outputs, channels = prod(y.sizes[:3]), y.sizes[3], x.sizes[3]
    reduction = window[0] * -(-window[1] * channels // shape.c) if dense_rows else prod(window) * -(-channels // shape.c)
    block = max(-(-pixels // shape.p), -(-shape.k * shape.c // machine.array.weight_port))
    return machine.array.fill + -(-outputs // shape.k) * reduction * block * machine.array.precisions["a8w8"]


def depthwise(machine: Machine, y: Tensor, window: tuple[int, int]) -> int:
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


def is_external(space: Space) -> bool:
    return not space.is_local


def _ceil(x: float) -> int:
    return -int(-x // 1)
