"""Where a program puts things: external addresses, rings of local memory, rectangles of images in `act`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...ir.graph import Value
from .bands import Area
from .isa import Element, Space
from .jobs import View as Image
from .machine import Machine
from .memory import Constants, Ring
from .program import View

#: A stretch of channels or rows: the first, and how many.
Part = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """How one job's channels are cut: `block` output channels per instruction.

    channels: depthwise jobs and pools work on so many channels after one another. resident: all weights stay for the
    whole group; else every band loads them anew. shape: of the array. depth, taps: a sum is accumulated over so many
    input channels and rows of the window at a time, which are loaded for each block (0: over all at once).
    """

    block: int
    channels: int = 0
    resident: bool = True
    shape: int = 0
    depth: int = 0
    taps: int = 0

    @property
    def split(self) -> bool:
        """Whether sums are accumulated piece by piece."""
        return bool(self.depth or self.taps)


@dataclass
class Place:
    """Where a program puts things. kept: addresses in `act` of values that stay there as a whole."""

    machine: Machine
    addresses: Mapping[Value, tuple[Space, int]]
    constants: Constants
    rings: dict[Space, Ring] = field(default_factory=dict)
    kept: dict[Value, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rings:
            local = (Space.ACT, Space.WGT, Space.ACC, Space.TAB)
            self.rings = {s: Ring(s, self.machine.memories[s]) for s in local}

    def copy(self) -> Place:
        """The same, to try things at."""
        rings = {space: ring.copy() for space, ring in self.rings.items()}
        return replace(self, rings=rings, kept=dict(self.kept))

    def external(self, image: Image, area: Area, channels: Part | None = None) -> View:
        """A rectangle of an image in its external memory."""
        space, address = self.addresses[image.value]
        first, count = channels if channels is not None else (0, image.channels)
        address += image.offset + area.row * image.row + area.column * image.pixel + first
        return View(space, Element.I8, address, (1, area.rows, area.columns, count), (0, image.row, image.pixel, 1))

    def local(self, image: Image) -> Held:
        """An image of a value that is kept."""
        address, sizes = self.kept[image.value] + image.offset, (1, image.height, image.width, image.channels)
        view = View(Space.ACT, Element.I8, address, sizes, (0, image.row, image.pixel, 1))
        return Held(view, Area(0, 0, image.height, image.width))


@dataclass(frozen=True)
class Held:
    """A rectangle of an image in `act`."""

    view: View
    area: Area

    def part(self, area: Area, channels: Part | None = None) -> View:
        """A smaller rectangle, and some channels."""
        first, count = channels if channels is not None else (0, self.view.sizes[3])
        _, row, pixel, element = self.view.strides
        offset = (area.row - self.area.row) * row + (area.column - self.area.column) * pixel + first * element
        view = self.view
        return View(view.space, view.dtype, view.address + offset, (1, area.rows, area.columns, count), view.strides)


def pieces(size: int, most: int) -> list[Part]:
    """`size` cut into pieces of `most` (0: one piece)."""
    most = most or size
    return [(first, min(most, size - first)) for first in range(0, size, most)]
