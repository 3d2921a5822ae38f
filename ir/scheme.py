"""How tensors become integers: a `Scheme` makes scales, zero points and codes; a `Recipe` gives roles their schemes.

real = scale * (code - zero). Scales are float32, for so graphs store them; codes follow `arithmetic.quantize`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np

from . import arithmetic
from .roles import Kind, Role
from .types import DTYPES, I8, Array, DType, Quant

#: The smallest scale: below it, float32 has fewer digits.
TINY = float(np.finfo(np.float32).tiny)
#: The largest power of two in float32.
LARGEST_POWER = 2.0**127


@dataclass(frozen=True)
class Encoding:
    """What the integers of one value mean: one scale (a float32) and zero point. Codes saturate at [lo, hi]."""

    dtype: DType
    scale: float
    zero: int
    lo: int
    hi: int

    @property
    def quant(self) -> Quant:
        """The same as an annotation of a type."""
        return Quant.of(self.scale, self.zero)

    def encode(self, x: Array) -> Array:
        """Reals as codes."""
        scale, zero = np.array(self.scale, np.float32), np.array(self.zero)
        return arithmetic.quantize(x, scale, zero, self.lo, self.hi).astype(self.dtype.numpy)

    def decode(self, codes: Array) -> Array:
        """Codes as reals, in float64."""
        return (codes.astype(np.float64) - self.zero) * self.scale


@dataclass(frozen=True)
class Scheme:
    """How a tensor becomes integers.

    dtype: of the codes. symmetric: zero point 0, and as many codes below it as above. per: one scale for the whole
    tensor, for each index of the output axis, or for each `group` of neighbours along the first reduction axis at each
    index of the output axis; the last group may be shorter. power_of_two: scales are powers of two. bits: how many of
    the dtype's are used, all where it is None; 7 in i8 are codes within +-63 if symmetric.
    Raises ValueError, with the reason, for what cannot be.
    """

    dtype: DType = I8
    symmetric: bool = False
    per: Literal["tensor", "axis", "group"] = "tensor"
    group: int | None = None
    power_of_two: bool = False
    bits: int | None = None

    def __post_init__(self) -> None:
        if not self.dtype.is_integer or self.dtype.bits > 16:
            raise ValueError(f"codes are integers of at most 16 bits, not {self.dtype}")
        if self.symmetric and self.dtype.kind != "int":
            raise ValueError(f"symmetric codes are signed, {self.dtype} is not")
        if not 2 <= self.width <= self.dtype.bits:
            raise ValueError(f"{self.dtype} holds codes of 2 to {self.dtype.bits} bits, not {self.bits}")
        if self.per not in ("tensor", "axis", "group"):
            raise ValueError(f"scales are per tensor, axis or group, not per {self.per}")
        if (self.group is not None) != (self.per == "group"):
            raise ValueError("a scale per group needs the size of a group, and nothing else has one")
        if self.group is not None and self.group < 1:
            raise ValueError(f"a group has at least one element, not {self.group}")

    @cached_property
    def width(self) -> int:
        """Bits of a code."""
        return self.dtype.bits if self.bits is None else self.bits

    @cached_property
    def lo(self) -> int:
        """The smallest code."""
        return -self.hi if self.symmetric else self.dtype.min >> (self.dtype.bits - self.width)

    @cached_property
    def hi(self) -> int:
        """The largest code."""
        return self.dtype.max >> (self.dtype.bits - self.width)

    def like(self, **changes: object) -> Self:
        """The same scheme with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @cached_property
    def centred(self) -> Scheme:
        """The scheme with zero point 0, and so with signed codes."""
        return self.like(symmetric=True, dtype=DTYPES[f"i{self.dtype.bits}"])

    # ---- values with one scale

    def encoding(self, lo: float, hi: float) -> Encoding:
        """For reals within [lo, hi], which is widened to contain 0: that has a code of its own.

        Where there is nothing but 0, all codes together span 1. Raises ValueError where an end is not finite.
        """
        if not (math.isfinite(lo) and math.isfinite(hi)):
            raise ValueError(f"no scale encodes {lo} to {hi}")
        lo, hi = min(lo, 0.0), max(hi, 0.0)
        scale = self._scales(lo, hi)
        if scale < TINY:
            scale = self._rounded(1 / ((1 << self.width) - 1))
        return self._encoding(float(scale), int(self._zeros(lo, scale)))

    def natural(self, lo: float, hi: float) -> Encoding:
        """For results that are known to lie in [lo, hi): the codes divide it evenly, `hi` itself is one beyond them."""
        span = 2 * max(-lo, hi) if self.symmetric else hi - lo
        scale = self._rounded(span / (1 << self.width))
        return self._encoding(float(scale), int(self._zeros(lo, scale)))

    def _encoding(self, scale: float, zero: int) -> Encoding:
        """Codes saturate where the dtype ends, if the scheme uses all of its bits: -128 of int8 is a code, too."""
        whole = self.width == self.dtype.bits
        ends = (self.dtype.min, self.dtype.max) if whole else (self.lo, self.hi)
        return Encoding(self.dtype, scale, zero, *ends)

    # ---- weights

    def of_weights(self, w: Array, role: Role) -> tuple[Array, Array]:
        """Scales (float32) and zero points (int64) of weights, by the granularity of the scheme.

        Per tensor their shape is []; else of w's rank, with length 1 along all axes but the output axis and, per group,
        the first reduction axis, which has one for each group. Slices without weights take the largest scale of the
        others. Raises ValueError for weights that are not finite, and for roles without the axes that are asked for.
        """
        if not np.isfinite(w).all():
            raise ValueError("weights that are not finite have no scale")
        lo, hi = self._ends(w.astype(np.float64), role)
        span = np.maximum(-lo, hi) if self.symmetric else hi - lo
        if not span.any():
            lo, hi = np.full_like(lo, -float(self.symmetric)), np.full_like(hi, 1.0)
        else:
            widest = span.argmax()
            lo, hi = (np.where(span > 0, end, end.flat[widest]) for end in (lo, hi))
        scale = np.maximum(self._scales(lo, hi), np.float32(TINY))
        return np.asarray(scale), np.asarray(self._zeros(lo, scale), np.int64)

    def _ends(self, w: Array, role: Role) -> tuple[Array, Array]:
        """The range of each slice that shares a scale, with 0."""
        if self.per == "tensor":
            return np.asarray(w.min(initial=0)), np.asarray(w.max(initial=0))
        if role.output is None:
            raise ValueError(f"only weights have a scale per {self.per}, this operand is of the kind {role.kind.value}")
        least = most = w
        kept = {role.output}
        if self.group is not None:
            if not role.reduction:
                raise ValueError("groups lie along a reduction axis, and these weights have none")
            axis = role.reduction[0]
            starts = range(0, w.shape[axis], self.group)
            if starts:
                least, most = (f.reduceat(w, starts, axis) for f in (np.minimum, np.maximum))
            kept.add(axis)
        others = tuple(axis for axis in range(w.ndim) if axis not in kept)
        return least.min(others, initial=0, keepdims=True), most.max(others, initial=0, keepdims=True)

    def codes(self, w: Array, scale: Array, zero: Array) -> Array:
        """Weights as codes of these scales and zero points, the nearest ones."""
        scale, zero = (self.spread(part, w.shape) for part in (scale, zero))
        return arithmetic.quantize(w, scale, zero, self.lo, self.hi).astype(self.dtype.numpy)

    def spread(self, part: Array, shape: tuple[int, ...]) -> Array:
        """Scales or zero points such that they broadcast to the weights: one per group, for each of its members."""
        for axis, (count, size) in enumerate(zip(part.shape, shape, strict=False)):
            if self.group is not None and count not in (1, size):
                part = part.repeat(self.group, axis).take(range(size), axis)
        return part

    # ---- the formulas, for numbers and arrays of them; ranges contain 0

    def _scales(self, lo: Any, hi: Any) -> Any:
        """The length of the range by the number of steps in it; symmetric: of the larger side."""
        return self._rounded(np.maximum(-lo, hi) / self.hi if self.symmetric else (hi - lo) / (self.hi - self.lo))

    def _rounded(self, scale: Any) -> Any:
        """Scales in float32; if they are to be powers of two, the smallest that is no smaller."""
        if self.power_of_two:
            mantissa, exponent = np.frexp(scale)  # mantissa in [0.5, 1): 0.5 is a power already
            power = np.where((mantissa == 0.5) | (scale == 0), scale, np.ldexp(1.0, exponent))
            scale = np.minimum(power, LARGEST_POWER)
        return np.float32(scale)

    def _zeros(self, lo: Any, scale: Any) -> Any:
        """The codes of 0, where the range begins at the smallest code."""
        if self.symmetric:
            return np.zeros(np.shape(scale))
        zero = np.rint(self.lo - lo / np.float64(scale))
        return np.minimum(np.maximum(zero, self.lo), self.hi)


@dataclass(frozen=True)
class Recipe:
    """The scheme of each role.

    stored: of weights whose layer computes in floats. Biases and parameters have none: the steps of a bias are those of
    the products that it is added to.
    """

    activation: Scheme = Scheme()
    weight: Scheme = Scheme(symmetric=True, per="axis")
    stored: Scheme = Scheme(symmetric=True, per="axis")

    def of(self, role: Role) -> Scheme | None:
        """The scheme of an operand in this role, None where it is not quantized."""
        if role.kind is Kind.weight:
            return self.weight
        if role.kind is Kind.activation:
            return self.activation.centred if role.symmetric else self.activation
        return None
