"""What a transformation promises about the values that a graph computes."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Promise(enum.IntEnum):
    """Kinds of promises, from the strictest to the loosest."""

    EXACT = 0
    REASSOCIATING = 1
    WITHIN = 2
    APPROXIMATE = 3


@dataclass(frozen=True)
class Contract:
    """A promise; `steps` is WITHIN's bound in quantization steps of the rewritten node's result."""

    promise: Promise
    steps: int = 0

    def __or__(self, other: Contract) -> Contract:
        """The contract of one transformation after another: the looser one; steps add up."""
        return Contract(max(self.promise, other.promise), self.steps + other.steps)

    def __str__(self) -> str:
        return f"WITHIN({self.steps})" if self.promise is Promise.WITHIN else self.promise.name


#: Outputs are bit-equal.
EXACT = Contract(Promise.EXACT)
#: Floats are summed or scaled in another order; equal over the reals.
REASSOCIATING = Contract(Promise.REASSOCIATING)
#: Values change; measured on data and reported.
APPROXIMATE = Contract(Promise.APPROXIMATE)


def within(steps: int) -> Contract:
    """Every rewritten node, given the same inputs, differs by at most so many quantization steps."""
    return Contract(Promise.WITHIN, steps)
