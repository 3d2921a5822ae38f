"""Constants that repeat themselves, stored once.

What a source computes of constants (Expand, Tile, Gather, Range, ...) is folded on the way, and the result may be much
larger than what it came from. Beside other operands an elementwise operator repeats a constant by itself; elsewhere
one operator takes the place of those that were folded: such a constant has the place in the source that it came from.
"""

from __future__ import annotations

import math

import numpy as np

from ...ir.graph import Node
from ...ir.ops.elementwise import Elementwise
from ...ir.ops.shape import Concat
from ...ir.types import Array, Shape, broadcast
from .site import Operand, RefusedError, Site

#: Fewer bytes than that are not worth an operator.
LEAST = 512
#: From this operator set on there is Range.
RANGE = 11
#: From this operator set on Resize says where elements lie: the nearest of twice as many are each one twice.
RESIZE = 11
#: From this operator set on there is ConstantOfShape.
FILLED = 9


def shrunk(array: Array, others: list[Shape], shape: Shape) -> Array:
    """The constant without repetitions along axes that the other operands have: it broadcasts to the same."""
    small = array
    for axis, size in enumerate(array.shape):
        one = small.take([0], axis) if size > 1 else small
        if size > 1 and _equal(small, one) and broadcast(*others, one.shape) == shape:
            small = one
    return small if small.nbytes + LEAST <= array.nbytes else array


def may_be_computed(node: Node) -> bool:
    """Whether a constant was computed in the source, and all that use it take what is computed as well."""
    users = [user.op for user in node.result.users]
    return bool(node.loc) and all(isinstance(op, Concat | Elementwise) for op in users)


def recomputed(site: Site, array: Array) -> Operand | None:
    """One operator that gives the array, of a constant that takes less than half of its bytes; None where none does."""
    if array.nbytes < LEAST:
        return None
    try:
        return _ramp(site, array) or _repeated(site, array) or _enlarged(site, array) or _gathered(site, array)
    except RefusedError:
        return None


def _ramp(site: Site, array: Array) -> Operand | None:
    """A Range of whole numbers in equal steps: what a float holds exactly, so that their count is exact, too."""
    if array.ndim != 1 or array.dtype.name not in ("float32", "float64", "int32", "int64") or site.opset < RANGE:
        return None
    if not (np.abs(array) < 2**23).all() or not (array == np.rint(array)).all():
        return None
    start, step, count = int(array[0]), int(array[1] - array[0]), len(array)
    if step == 0 or not _equal(array, (start + np.arange(count) * step).astype(array.dtype)):
        return None
    ends = {"start": start, "limit": start + count * step, "delta": step}
    return site.emit("Range", *(site.array(role, np.array(v, array.dtype)) for role, v in ends.items()))


def _repeated(site: Site, array: Array) -> Operand | None:
    """An Expand of what repeats along whole axes; of one number a ConstantOfShape."""
    small = array
    for axis in range(array.ndim):
        one = small.take([0], axis)
        small = one if array.shape[axis] > 1 and _equal(small, one) else small
    if 2 * small.nbytes > array.nbytes:
        return None
    if small.size == 1 and site.opset >= FILLED:
        value = None if small.dtype == np.float32 and not small.tobytes().strip(b"\0") else small.reshape(1)
        return site.emit("ConstantOfShape", site.array("shape", array.shape), value=value)
    return site.emit("Expand", site.array("repeated", small), site.array("shape", array.shape))


def _enlarged(site: Site, array: Array) -> Operand | None:
    """A Resize to the nearest of images whose rows or columns all repeat as often."""
    if site.opset < RESIZE or array.dtype != np.float32 or array.ndim != 4:
        return None
    factors = [1, 1]
    for axis, size in list(enumerate(array.shape))[2:]:
        slices = np.moveaxis(array, axis, 0)
        changes = [i for i in range(1, size) if not _equal(slices[i], slices[i - 1])]
        factors.append(math.gcd(size, *changes))
    small = np.ascontiguousarray(array[tuple(slice(None, None, factor) for factor in factors)])
    if 2 * small.nbytes > array.nbytes:
        return None
    scales = np.array(factors, np.float32)
    nowhere = np.zeros(0, np.float32)
    return site.emit("Resize", site.array("small", small), site.array("roi", nowhere), site.array("scales", scales))


def _gathered(site: Site, array: Array) -> Operand | None:
    """A Gather of the different slices along the axis that has the fewest of them."""
    best: tuple[int, int, Array, list[int]] | None = None
    for axis in range(array.ndim):
        numbers: dict[bytes, int] = {}
        slices = np.moveaxis(array, axis, 0)
        indices = [numbers.setdefault(part.tobytes(), len(numbers)) for part in slices]
        size = array.nbytes // array.shape[axis] * len(numbers) + 8 * len(indices)
        if 2 * size <= array.nbytes and (best is None or size < best[0]):
            first = [indices.index(k) for k in range(len(numbers))]
            best = size, axis, array.take(first, axis), indices
    if best is None:
        return None
    _, axis, different, indices = best
    return site.emit("Gather", site.array("slices", different), site.array("indices", indices), axis=axis)


def _equal(a: Array, b: Array) -> bool:
    """Whether all bits are equal, b being broadcast."""
    kind = f"u{a.dtype.itemsize}"
    whole, other = (np.ascontiguousarray(v).view(kind) for v in (a, b.astype(a.dtype, copy=False)))
    return bool((whole == other).all())
