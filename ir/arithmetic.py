"""Fixed-point arithmetic, defined once over the integers; every executor agrees with these formulas bit for bit."""

from __future__ import annotations

import numpy as np

from .types import Array


def fixed_point(factor: Array | float) -> tuple[Array, Array]:
    """Multiplier M (i32, even) and shift k (i8) of `rescale` for a real factor r >= 0, elementwise.

    k is the smallest k >= 0 with round(r * 2^(31-k)) < 2^30, and M = 2 * round(r * 2^(31-k)), so that
    acc * r ~ (acc * 2^k * M + 2^31) >> 32. Raises ValueError for factors that are negative, not finite or >= 2^29.
    """
    r = np.atleast_1d(np.asarray(factor, np.float64))
    if not np.all(np.isfinite(r)) or np.any(r < 0) or np.any(r >= 2.0**29):
        raise ValueError(f"factor {r} cannot be a fixed-point multiplier")
    shift = np.zeros(r.shape, np.int8)
    while np.any(large := np.rint(np.ldexp(r, 31 - shift.astype(int))) >= 2**30):
        shift[large] += 1
    return (2 * np.rint(np.ldexp(r, 31 - shift.astype(int)))).astype(np.int32), shift


def rescale(acc: Array, multiplier: Array, shift: Array) -> Array:
    """(acc * 2^shift * multiplier + 2^31) >> 32, as int64.

    acc * 2^shift saturates at 32 bits, which no clamp to 16 bits can see: a shifted multiplier is at least 2^29.
    """
    shifted = np.clip(acc.astype(np.int64) << shift.astype(np.int64), -(2**31), 2**31 - 1)
    return (shifted * multiplier.astype(np.int64) + 2**31) >> 32


def quantize(x: Array, scale: Array, zero: Array, lo: int, hi: int) -> Array:
    """clamp(round_half_even(x / scale) + zero, lo, hi), the division in float32 as ONNX says; NaN becomes lo. int64."""
    with np.errstate(over="ignore"):
        scaled = np.rint(np.asarray(x, np.float32) / np.asarray(scale, np.float32))
    # Clamp as float first: casting infinities or 1e30 to an integer is undefined.
    scaled = np.nan_to_num(np.clip(scaled, -(2.0**24), 2.0**24), nan=-(2.0**24))
    return np.clip(scaled.astype(np.int64) + np.asarray(zero).astype(np.int64), lo, hi)
