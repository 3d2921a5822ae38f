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


#: Floats are summed in blocks of so many products: errors grow with the length of a block plus the number of blocks
#: (Higham, Accuracy and Stability of Numerical Algorithms, chapter 4), not with the length of the sum.
BLOCK = 32


def accumulate(name: str, count: int, product: str, floats: bool) -> str:
    """C: acc += the sum over `name` of `product`, an expression in it."""
    loop = "for (int32_t {0} = {1}; {0} < {2}; ++{0}) {{\n{3} += {4};\n}}\n"
    if not floats or count == 1:
        return loop.format(name, 0, count, "acc", product)
    if count <= BLOCK:
        return "{\nfloat part = 0.0f;\n" + loop.format(name, 0, count, "part", product) + "acc += part;\n}\n"
    ends = f"{name}_block + {BLOCK}"
    if count % BLOCK:
        ends = f"({ends} < {count} ? {ends} : {count})"
    return (
        f"for (int32_t {name}_block = 0; {name}_block < {count}; {name}_block += {BLOCK}) {{\nfloat part = 0.0f;\n"
        + loop.format(name, f"{name}_block", ends, "part", product)
        + "acc += part;\n}\n"
    )


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
