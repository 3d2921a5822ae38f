"""Bounds of rounding errors: what `Op.error` is written with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from .types import F16, F64, Array, dtype_of


def rounding_error(ref: Callable[..., Any], operands: Sequence[Array], terms: int, ulps: float) -> Any:
    """gamma_n * max(ref(|x|), |ref(x)|), n = terms + 2 * ulps. Higham, Accuracy and Stability, 2nd ed., 3.1 and 3.5.

    Below float32's smallest normal number precision is lost, or the value flushed: one of these for each rounding.
    """
    wide = [x.astype(np.float64) if dtype_of(x).is_float else x for x in operands]
    own = 2 * ulps
    n, factor = terms + own, gamma(likely(terms) + own, operands)
    alike = gamma(likely(terms, alike=True) + own, operands)
    tiny = n * float(np.finfo(np.float32).tiny) if factor else 0.0

    def scaled(upper: Array, exact: Array) -> Array:
        size = np.abs(exact).astype(np.float64)
        return np.maximum(factor * np.maximum(upper, size), alike * size) + tiny

    upper, exact = ref(*map(np.abs, wide)), ref(*wide)
    return tuple(map(scaled, upper, exact)) if isinstance(exact, tuple) else scaled(upper, exact)


#: Of a sum of n terms that are alike (a blank image) all roundings go the same way, as far as the next power of 2: that
#: is a third of the worst case. So many are counted that what `ir/perturbation.py` multiplies with makes a third of it.
ALIKE = 1 / 16
_likely: ContextVar[bool] = ContextVar("likely", default=False)


@contextmanager
def likely_roundings() -> Iterator[None]:
    """Inside, `Op.error` says by how much rounding is likely to move a result, not by how much it may at worst.

    That is to within a small factor. Roundings of a long sum are as good as independent, and add up as sqrt(n) does:
    N. J. Higham and T. Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5), 2019.
    """
    token = _likely.set(True)
    try:
        yield
    finally:
        _likely.reset(token)


def likely(terms: float, alike: bool = False) -> float:
    """How many roundings of a sum of so many terms count: all of them, but under `likely_roundings` sqrt(n).

    alike: the terms may be, so that the sum grows by about as much with each; then at least n * ALIKE.
    """
    if not _likely.get():
        return terms
    return max(math.sqrt(terms), terms * ALIKE if alike else 0.0)


def gamma(n: float, operands: Sequence[Array]) -> float:
    """Higham's gamma_n: n * u / (1 - n * u), u the unit roundoff of the coarsest float operand; 0 without one."""
    u = max((2.0 ** -_PRECISION[d.name] for x in operands if (d := dtype_of(x)).is_float), default=0.0)
    return n * u / (1 - n * u)


def smallest(x: Array) -> float:
    """The smallest normal number of a float array's dtype: results below it may lose digits, or be flushed to 0."""
    return 2.0**-14 if dtype_of(x) is F16 else 2.0**-1022 if dtype_of(x) is F64 else 2.0**-126


#: Bits of the significand, the hidden one included.
_PRECISION = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8}
