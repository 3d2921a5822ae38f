"""Running error analysis: numbers that carry a bound of how far off float arithmetic may have taken them.

N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd edition, sections 3.1 and 3.3. A formula that is
written once, for arrays, gives a bound of its own error when it is evaluated on these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .types import Array

#: Below float32's smallest normal number precision is lost, or the value flushed, at each rounding.
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Approximate:
    """value: float64, as if nothing were rounded; off: at least the distance of what is computed from it.

    unit: the unit roundoff of the arithmetic; functions: the relative error of sigmoid and tanh. Shapes broadcast as
    those of arrays do.
    """

    value: Array
    off: Array
    unit: float
    functions: float

    @staticmethod
    def exactly(value: Array, unit: float, functions: float) -> Approximate:
        """An operand: as it is, it is right."""
        wide = np.asarray(value, np.float64)
        return Approximate(wide, np.zeros_like(wide), unit, functions)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def size(self) -> Array:
        """At least what is computed, in absolute value."""
        return np.abs(self.value) + self.off

    def __getitem__(self, index: Any) -> Approximate:
        return replace(self, value=self.value[index], off=self.off[index])

    def __add__(self, other: Approximate) -> Approximate:
        return self._rounded(self.value + other.value, self.off + other.off)

    def __rsub__(self, other: float) -> Approximate:
        return self._rounded(other - self.value, self.off)

    def __mul__(self, other: Approximate) -> Approximate:
        value = self.value * other.value
        return self._rounded(value, self.size * other.size - np.abs(value))

    def sigmoid(self) -> Approximate:
        """The logistic function: nowhere steeper than a quarter."""
        with np.errstate(over="ignore"):
            value = 1 / (1 + np.exp(-self.value))
        return self._through(value, self.off / 4)

    def tanh(self) -> Approximate:
        """Nowhere steeper than one."""
        return self._through(np.tanh(self.value), self.off)

    def relu(self) -> Approximate:
        """What is positive; nothing is rounded."""
        return replace(self, value=np.maximum(self.value, 0), off=self.off)

    def _through(self, value: Array, off: Array) -> Approximate:
        return replace(self, value=value, off=off + self.functions * (np.abs(value) + off) + TINY)

    def _rounded(self, value: Array, off: Array) -> Approximate:
        return replace(self, value=value, off=off + self.unit * (np.abs(value) + off) + TINY)


def dot(products: Sequence[tuple[Approximate, Approximate]], plus: Sequence[Approximate]) -> Approximate:
    """Sums of `a @ b.T` over the products, and of what is added, in any order: Higham's gamma_n for n terms."""
    first = plus[0]

    def total(of: Callable[[Approximate], Array]) -> Array:
        parts = [of(a) @ of(b).T for a, b in products] + [of(p) for p in plus]
        return sum(parts[1:], parts[0])

    value, size = total(lambda v: v.value), total(lambda v: v.size)
    right = total(lambda v: np.abs(v.value))
    n = sum(a.shape[-1] for a, _ in products) + len(plus)
    gamma = n * first.unit / (1 - n * first.unit)
    return replace(first, value=value, off=size - right + gamma * size + n * TINY)
