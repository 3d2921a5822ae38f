"""Loop nests over the coordinates of tensors, as C text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ....ir.types import Array
from ...indices import Quotient, Run, Runs, arithmetic
from ..code import Code
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


def picked(code: Code, label: str, entries: Array, name: str) -> str:
    """C: which of some indices it is at a loop variable; arithmetic where that says it, else a table's entry."""
    match arithmetic(entries):
        case Runs(runs):
            text = _progression(runs[-1], name)
            for run, following in reversed(list(pairwise(runs))):
                text = f"{name} < {following.start} ? {_progression(run, name)} : {text}"
        case Quotient(offset, divisor):
            shift = divisor.bit_length() - 1
            dividend = f"({name} + {offset})" if offset > 0 else f"({name} - {-offset})" if offset else name
            text = f"{dividend} >> {shift}" if offset >= 0 and divisor == 1 << shift else f"{dividend} / {divisor}"
        case None:
            text = f"{code.table(label, entries)}[{name}]"
    return text if text.isalnum() or text.endswith("]") else f"({text})"


def _progression(run: Run, name: str) -> str:
    if not run.step:
        return str(run.offset)
    sign, size = ("-" if run.step < 0 else "+"), abs(run.step)
    term = name if size == 1 else f"{name} * {size}"
    if run.offset:
        return f"{run.offset} {sign} {term}"
    return term if sign == "+" else f"-{term}"


def position(names: Sequence[str], shape: Sequence[int]) -> Position:
    """The element of a row-major tensor at these coordinates."""
    return Position(index(names, dense_strides(shape)), tuple(names))
