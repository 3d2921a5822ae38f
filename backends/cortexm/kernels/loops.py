"""Loop nests over the coordinates of tensors, as C text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..scalars import Position


def variables(shape: Sequence[int], prefix: str = "i") -> tuple[str, ...]:
    """A loop variable per axis: i0, i1, ...; an axis of size 1 needs none, its coordinate is 0."""
    return tuple(f"{prefix}{axis}" if size > 1 else "0" for axis, size in enumerate(shape))


def nest(names: Sequence[str], shape: Sequence[int], body: str) -> str:
    """`body` for all coordinates, in row-major order; an axis of size 1 has no loop, its name is no variable."""
    for name, size in reversed(list(zip(names, shape, strict=True))):
        if size > 1:
            body = f"for (int32_t {name} = 0; {name} < {size}; ++{name}) {{\n{body}\n}}\n"
    return body if any(size > 1 for size in shape) else f"{{\n{body}\n}}\n"


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Distances between neighbours of a row-major tensor, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def index(names: Sequence[str], strides: Sequence[int], offset: int = 0) -> str:
    """C: offset + sum(name * stride)."""
    terms = [n if s == 1 else f"{n} * {s}" for n, s in zip(names, strides, strict=True) if n != "0" and s != 0]
    return " + ".join([*terms, *([str(offset)] if offset or not terms else [])])


def position(names: Sequence[str], shape: Sequence[int]) -> Position:
    """The element of a row-major tensor at these coordinates."""
    return Position(index(names, dense_strides(shape)), tuple(names))
