"""What no tiling of a job can beat: its roofline, given what of it is moved at all."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from math import ceil, prod

from .bands import Group, Key
from .isa import Space
from .jobs import Job, inputs, kind
from .jobs import View as Image
from .loading import constant_bytes
from .machine import Machine


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


def bounds(group: Group, machine: Machine, local: Container[Key]) -> list[Bound]:
    """The roofline of each job of a group: what is moved for it once at the full rate, every multiplier and lane busy.

    local: keys of images that are not loaded. What several jobs read is loaded for the first of them.
    """
    loaded: set[Key] = set()
    result = []
    for i, job in enumerate(group.jobs):
        moved: list[Image] = [job.y] if group.stored[i] else []
        for view in inputs(job):
            if view.key not in loaded and view.key not in local and group.producer(view) is None:
                loaded.add(view.key)
                moved.append(view)
        result.append(_bound(job, machine, sum(view.size for view in moved)))
    return result


def _bound(job: Job, machine: Machine, moved: int) -> Bound:
    rate = {s: machine.region(s).bytes_per_cycle * machine.dma.efficiency for s in (Space.ARENA, Space.CONST)}
    how = kind(job)
    passes = {"pool": prod(job.window), "softmax": 5}.get(how, 1)
    times = [moved / rate[Space.ARENA], sum(constant_bytes(job)) / rate[Space.CONST]]
    one_port = machine.region_name(Space.ARENA) == machine.region_name(Space.CONST)
    macs = job.macs if how in ("conv", "depthwise") else 0
    vector = 0 if how == "copy" else job.y.size * passes / machine.post.width
    return Bound(ceil(sum(times) if one_port else max(times)), -(-macs // machine.array.macs), ceil(vector))
