"""Places: rings of local memory, the constants of a program, and the external address of every value."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.errors import DoesNotFitError
from .isa import Space

ALIGNMENT = 16


class NoRoomError(Exception):
    """A chunk is larger than its memory."""


def aligned(nbytes: int) -> int:
    """Rounded up to a whole line."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Ring:
    """A local memory whose chunks are handed out one behind the other, and again from the start.

    What was handed out longest ago is overwritten first; dependences keep that from happening too early.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.position = 0

    def take(self, nbytes: int) -> int:
        """The address of a new chunk. Raises NoRoomError where the memory is smaller."""
        nbytes = aligned(nbytes)
        if nbytes > self.size:
            raise NoRoomError(f"{nbytes} bytes in a memory of {self.size}")
        if self.position + nbytes > self.size:
            self.position = 0
        address, self.position = self.position, self.position + nbytes
        return address


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


def require_room(space: Space, needed: int, there: int, machine: str) -> None:
    """Raise DoesNotFitError where an external memory is too small."""
    if needed > there:
        raise DoesNotFitError(
            f"the model needs {needed} bytes of {space.name.lower()} on {machine}, {there} are there",
            fix="use a smaller input, prune, or choose a machine with more memory",
        )
