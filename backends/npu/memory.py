"""Places: chunks of local memories, and the constants of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...ir.errors import DoesNotFitError
from .isa import Space
from .machine import Machine

ALIGNMENT = 16


class NoRoomError(Exception):
    """A chunk does not fit into its memory. space, needed, there: bytes that it takes at least, and that there are."""

    def __init__(self, what: str, space: Space | None = None, needed: int = 0, there: int = 0) -> None:
        super().__init__(what)
        self.space, self.needed, self.there = space, needed, there


def aligned(nbytes: int) -> int:
    """Rounded up to a whole line."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass
class Ring:
    """A local memory whose chunks are handed out one behind the other, and again from the start, around those in use.

    What was released longest ago is overwritten first; dependences keep that from happening too early. So the next
    tile's data arrive while this one is computed, wherever two chunks fit. live: address and end of chunks in use.
    """

    space: Space
    size: int
    position: int = 0
    live: dict[int, int] = field(default_factory=dict)

    def take(self, nbytes: int) -> int:
        """The address of a new chunk. Raises NoRoomError where no gap is large enough."""
        nbytes = aligned(nbytes)
        for start in (self.position, 0):
            if (address := self._fit(start, nbytes)) is not None:
                self.live[address] = self.position = address + nbytes
                return address
        raise self._full(nbytes)

    def keep(self, nbytes: int) -> int:
        """The highest address of a chunk that stays for long, so that one gap remains below. Raises NoRoomError."""
        nbytes = aligned(nbytes)
        end = self.size // ALIGNMENT * ALIGNMENT
        for first, stop in sorted(self.live.items(), reverse=True):
            if end - nbytes >= stop:
                break
            end = first
        if end < nbytes:
            raise self._full(nbytes)
        self.live[end - nbytes] = end
        return end - nbytes

    def release(self, address: int) -> None:
        """Give a chunk back: whoever comes later in the program may write over it."""
        del self.live[address]

    def copy(self) -> Ring:
        return Ring(self.space, self.size, self.position, dict(self.live))

    def _fit(self, at: int, nbytes: int) -> int | None:
        for first, stop in sorted(self.live.items()):
            if stop <= at:
                continue
            if at + nbytes <= first:
                break
            at = stop
        return at if at + nbytes <= self.size else None

    def _full(self, nbytes: int) -> NoRoomError:
        name = self.space.name.lower()
        used = f", of which {n} are in use" if (n := sum(b - a for a, b in self.live.items())) else ""
        return NoRoomError(f"{nbytes} bytes in {name}, which has {self.size}{used}", self.space, nbytes, self.size)


class Constants:
    """The bytes that CONST holds; equal ones once. Without `keep` only addresses are made up, for the search."""

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self.data = bytearray()
        self.size = 0
        self.known: dict[bytes, int] = {}

    def place(self, nbytes: int, make: Callable[[], bytes]) -> int:
        """The address of constant bytes."""
        if not self.keep:
            self.size += aligned(nbytes)
            return self.size - aligned(nbytes)
        data = make()
        if data not in self.known:
            self.known[data] = len(self.data)
            self.data += data + bytes(aligned(len(data)) - len(data))
        return self.known[data]


def require_room(arena: int, constants: int, machine: Machine) -> None:
    """Raise DoesNotFitError where an external memory is too small; both may lie in one."""
    shared = machine.region_name(Space.ARENA) == machine.region_name(Space.CONST)
    wanted = [(Space.ARENA, "of arena and constants", arena + constants)] if shared else [
        (Space.ARENA, "of arena", arena), (Space.CONST, "of constants", constants)
    ]  # fmt: skip
    for space, what, needed in wanted:
        if needed > machine.size(space):
            raise DoesNotFitError(
                f"the model needs {needed} bytes {what} on {machine.name}, {machine.size(space)} are there",
                fix="use a smaller input or model, or choose a machine (or a memory mode) with more memory",
            )
