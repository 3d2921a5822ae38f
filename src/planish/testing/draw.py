"""`Draw` by hypothesis: what `Op.examples` draws from, shrinking towards small and simple."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from operator import itemgetter
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ..ir.types import F32, NCHW, NHWC, Array, DType, Layout

#: Up to this many elements are drawn one by one; a larger array is drawn by its style and a seed.
SMALL = 12
#: What "moderate size" means where an op does not say: products and sums stay far from overflow.
FLOAT_RANGE = (-4.0, 4.0)
WIDE_RANGE = (-(2**30), 2**30)


P = ParamSpec("P")
T = TypeVar("T")


def composite(build: Callable[Concatenate[st.DrawFn, P], T]) -> Callable[P, st.SearchStrategy[T]]:
    """As `st.composite`, but each value is drawn anew.

    Of whatever hypothesis draws, five of six examples may be the one before with a part of it copied over another of
    the same kind. Graphs made so are alike, and a rare one takes as much longer to find. The elements of a unique
    collection it leaves alone.
    """
    strategy = st.composite(build)

    @wraps(build)
    def anew(*args: P.args, **kwargs: P.kwargs) -> st.SearchStrategy[T]:
        return st.lists(strategy(*args, **kwargs), min_size=1, max_size=1, unique_by=id).map(itemgetter(0))

    return anew


def unhurried(wanted: settings | None = None, **others: Any) -> settings:
    """The active profile's settings, or those that are wanted, for checks that hold on a machine however busy it is.

    No example has a deadline, and no health check measures how long drawing takes. Nor does one refuse large examples:
    graphs and constants are.
    """
    checks = list(HealthCheck)  # pyright: ignore[reportArgumentType]  # the enum has a metaclass
    return settings(wanted or settings(), deadline=None, suppress_health_check=checks, **others)


#: Strategies of integers, as they are drawn by the hundred for each example: hypothesis checks each new one.
_integers = lru_cache(maxsize=1024)(st.integers)
_BOOLEANS = st.booleans()


class HypothesisDraw:
    """Implements `planish.ir.op.Draw` on top of hypothesis' own `draw`."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(_integers(low, high))

    def boolean(self) -> bool:
        return self._draw(_BOOLEANS)

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self._draw(_integers(0, len(options) - 1))]

    def real(self, low: float, high: float) -> float:
        low, high = _representable(low, high)
        return self._draw(st.floats(low, high, width=32, allow_subnormal=False)) + 0.0  # no -0.0

    def dtype(self, *allowed: DType) -> DType:
        return self._draw(st.sampled_from(allowed))

    def shape(self, min_rank: int = 0, max_rank: int = 4, max_dim: int = 5) -> tuple[int, ...]:
        return tuple(self._draw(st.lists(st.integers(1, max_dim), min_size=min_rank, max_size=max_rank)))

    def size2(self, low: int, high: int) -> tuple[int, int]:
        return self.integer(low, high), self.integer(low, high)

    def layout(self) -> Layout:
        return self._draw(st.sampled_from((NCHW, NHWC)))

    def array(self, shape: Sequence[int], dtype: DType, low: float | None = None, high: float | None = None) -> Array:
        if dtype.kind == "bool":
            return np.asarray(self.array(shape, F32, 0, 1) > 0.5)
        ends = FLOAT_RANGE if dtype.is_float else (max(dtype.min, WIDE_RANGE[0]), min(dtype.max, WIDE_RANGE[1]))
        low, high = ends[0] if low is None else low, ends[1] if high is None else high
        if math.prod(shape) <= SMALL:
            return self._small(tuple(shape), dtype, low, high)
        return self._large(tuple(shape), dtype, low, high)

    def _small(self, shape: tuple[int, ...], dtype: DType, low: float, high: float) -> Array:
        element: Any = st.integers(math.ceil(low), math.floor(high))
        if dtype.is_float:
            element = st.floats(*_representable(low, high), width=32, allow_subnormal=False)
        size = math.prod(shape)
        values = self._draw(st.lists(element, min_size=size, max_size=size))
        return np.array(values, np.float64 if dtype.is_float else np.int64).astype(dtype.numpy).reshape(shape)

    def _large(self, shape: tuple[int, ...], dtype: DType, low: float, high: float) -> Array:
        """One value, small whole numbers, one element set, anything, or the ends alone: in order of simplicity."""
        style = self.choice(("constant", "whole", "single", "uniform", "ends"))
        random = np.random.Generator(np.random.PCG64(self.integer(0, 2**16)))
        whole = (math.ceil(max(low, min(high, -3))), math.floor(min(high, max(low, 3))))
        values: Array
        if style in ("constant", "whole") and whole[0] <= whole[1]:
            one = style == "constant"
            values = np.full(shape, random.integers(*whole, None if one else shape, endpoint=True), np.float64)
        elif style == "single":
            values = np.full(shape, min(max(0.0, low), high))
            values.flat[int(random.integers(values.size))] = high
        elif style == "uniform":
            values = random.uniform(low, high, shape)
        else:
            values = random.choice(np.array([low, high], np.float64), shape)
        return np.clip(values if dtype.is_float else np.rint(values), low, high).astype(dtype.numpy)


class SeededDraw(HypothesisDraw):
    """The same from a seed, without hypothesis: for programs of so many examples that it cannot hold them."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))

    def integer(self, low: int, high: int) -> int:
        return int(self._random.integers(low, high, endpoint=True))

    def boolean(self) -> bool:
        return self.integer(0, 1) == 1

    def choice(self, options: Sequence[Any]) -> Any:
        return options[self.integer(0, len(options) - 1)]

    def real(self, low: float, high: float) -> float:
        low, high = _representable(low, high)
        return float(np.clip(np.float32(self._random.uniform(low, high)), low, high)) + 0.0

    def dtype(self, *allowed: DType) -> DType:
        found: DType = self.choice(allowed)
        return found

    def shape(self, min_rank: int = 0, max_rank: int = 4, max_dim: int = 5) -> tuple[int, ...]:
        return tuple(self.integer(1, max_dim) for _ in range(self.integer(min_rank, max_rank)))

    def layout(self) -> Layout:
        return NHWC if self.boolean() else NCHW

    def _small(self, shape: tuple[int, ...], dtype: DType, low: float, high: float) -> Array:
        return self._large(shape, dtype, low, high)


def _representable(low: float, high: float) -> tuple[float, float]:
    """The ends, moved inwards to numbers that float32 has."""
    inner_low, inner_high = np.float32(low), np.float32(high)
    if inner_low < low:
        inner_low = np.nextafter(inner_low, np.float32(np.inf))
    if inner_high > high:
        inner_high = np.nextafter(inner_high, np.float32(-np.inf))
    return float(inner_low), float(inner_high)
