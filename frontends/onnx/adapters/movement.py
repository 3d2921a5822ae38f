"""Operators that only move data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ....ir.errors import UnsupportedError
from ....ir.graph import Value
from ....ir.ops.index import expand as expand_
from ....ir.ops.index import gather as gather_
from ....ir.ops.index import take as take_
from ....ir.ops.shape import concat as concat_
from ....ir.ops.shape import depth_to_space as depth_to_space_
from ....ir.ops.shape import pad as pad_
from ....ir.ops.shape import reshape as reshape_
from ....ir.ops.shape import slice_ as slice__
from ....ir.ops.shape import transpose as transpose_
from ....ir.types import Array, Dim, Shape, Sym, broadcast, count
from ..source import Adapter, Parts, SourceNode

#: Elements that may be picked by indices that are known: each of them is an attribute.
MOST_PICKED = 2**18
#: Parts that a sequence may have.
MOST_PARTS = 2**12


def reshaped(x: Value, shape: Shape) -> Value:
    return x if shape == x.type.shape else reshape_(x, shape=shape)


def reshape(node: SourceNode) -> Value:
    x, wanted = node.value(0), node.dims(1)
    zeros_are_sizes = node.integer("allowzero", 0)
    if wanted is None or sum(d == -1 for d in wanted) > 1 or any(isinstance(d, int) and d < -1 for d in wanted):
        raise node.broken(f"{wanted} is no shape")
    shape: list[Dim] = []
    for i, dim in enumerate(wanted):
        if dim == 0 and not zeros_are_sizes:
            if i >= x.type.rank:
                raise node.broken(f"dimension {i} is to be copied from {x.type}")
            dim = x.type.shape[i]
        shape.append(dim)
    if -1 in shape:
        rest = [d for d in shape if d != -1]
        shape[shape.index(-1)] = _missing(node, list(x.type.shape), rest)
    return reshaped(x, tuple(shape))


def _missing(node: SourceNode, have: list[Dim], rest: list[Dim]) -> Dim:
    """The dimension d with product(have) = d * product(rest). Symbols that stand on both sides cancel."""
    symbols = [d.symbol for d in have if isinstance(d, Sym)]
    for dim in rest:
        if isinstance(dim, Sym):
            if dim.symbol not in symbols:
                raise node.unknown(f"dimension {dim} must be known: it is none of {node.value(0).type}")
            symbols.remove(dim.symbol)
    total, known = (math.prod(d.factor if isinstance(d, Sym) else d for d in dims) for dims in (have, rest))
    if not known or total % known:
        what = f"{list(node.value(0).type.shape)} has no shape {rest} with one dimension left free"
        raise node.unknown(what) if symbols and known else node.broken(what)
    return count((total // known, *map(Sym, symbols)))


def flatten(node: SourceNode) -> Value:
    x = node.value(0)
    axis = node.integer("axis", 1)
    axis = axis if axis == x.type.rank else node.axis(axis, x.type.rank)
    return reshaped(x, (count(x.type.shape[:axis]), count(x.type.shape[axis:])))


def transpose(node: SourceNode) -> Value:
    x, perm = node.value(0), node.integers("perm")
    perm = tuple(reversed(range(x.type.rank))) if perm is None else perm
    return x if perm == tuple(range(x.type.rank)) else transpose_(x, perm=perm)


def squeeze(node: SourceNode) -> Value:
    x, axes = node.value(0), node.ints_of("axes", 1)
    shape = x.type.shape
    gone = {i for i, d in enumerate(shape) if d == 1} if axes is None else {node.axis(a, len(shape)) for a in axes}
    if any(shape[i] != 1 for i in gone):
        raise node.broken(f"axes {sorted(gone)} of {x.type} are not all of size 1")
    return reshaped(x, tuple(d for i, d in enumerate(shape) if i not in gone))


def unsqueeze(node: SourceNode) -> Value:
    x, axes = node.value(0), node.ints_of("axes", 1) or ()
    rank = x.type.rank + len(axes)
    new = {node.axis(a, rank) for a in axes}
    if len(new) != len(axes):
        raise node.broken(f"axes {list(axes)} repeat")
    old = iter(x.type.shape)
    return reshaped(x, tuple(1 if i in new else next(old) for i in range(rank)))


def concat(node: SourceNode) -> Value:
    values = [node.value(i) for i in range(len(node.operands))]
    if not values:
        raise node.broken("nothing to concatenate")
    axis = node.axis(node.integer("axis", 0), values[0].type.rank)
    return values[0] if len(values) == 1 else concat_(*values, axis=axis)


def split(node: SourceNode) -> list[Value]:
    x = node.value(0)
    axis = node.axis(node.integer("axis", 0), x.type.rank)
    sizes = node.ints_of("split", 1)
    size, parts = node.known(x.type.shape[axis]), node.integer("num_outputs", len(node.proto.output))
    if parts != len(node.proto.output):
        raise node.broken(f"num_outputs is {parts}, {len(node.proto.output)} outputs are named")
    if sizes is None:
        each = -(-size // parts)
        sizes = tuple(max(0, min(each, size - i * each)) for i in range(parts))
    if sum(sizes) != size or len(sizes) != len(node.proto.output) or min(sizes) < 0:
        raise node.broken(f"parts {list(sizes)} of a dimension of {size}, {len(node.proto.output)} outputs")
    stops = np.cumsum(sizes).tolist()
    return [taken(x, axis, range(stop - n, stop)) for stop, n in zip(stops, sizes, strict=True)]


def taken(x: Value, axis: int, indices: range) -> Value:
    """The part of x at these indices of an axis of known size."""
    if indices == range(x.type.shape[axis]):  # type: ignore[arg-type]
        return x
    if indices.step < 0:
        return picked(x, axis, indices)
    starts, stops, steps = [0] * x.type.rank, list(x.type.shape), [1] * x.type.rank
    starts[axis], stops[axis], steps[axis] = indices.start, max(indices.start, indices.stop), indices.step
    return slice__(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def picked(x: Value, axis: int, indices: Sequence[int] | Array) -> Value:
    """The elements of x at these indices of an axis, which are attributes: not too many."""
    if len(indices) > MOST_PICKED:
        raise UnsupportedError(
            f"{len(indices)} elements of {x.type} are picked one by one", fix=f"at most {MOST_PICKED} can be"
        )
    return gather_(x, axis=axis, indices=tuple(map(int, indices)))


def slice_(node: SourceNode) -> Value:
    x = node.value(0)
    if node.opset < 10:
        starts, ends, axes, steps = node.integers("starts"), node.integers("ends"), node.integers("axes"), None
    else:
        starts, ends, axes, steps = node.dims(1), node.dims(2), node.ints(3), node.ints(4)  # type: ignore[assignment]
    if starts is None or ends is None:
        raise node.broken("starts and ends are missing")
    axes = axes or tuple(range(len(starts)))
    steps = steps or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.broken(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} do not fit each other")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = node.axis(axis, x.type.rank)
        size: Dim = x.type.shape[axis]
        everything = start == 0 and step == 1 and _reaches(end, size)
        if everything:
            continue
        for dim in (size, start, end):
            if isinstance(dim, Sym):
                raise node.unknown(f"dimension {dim} must be known to be sliced")
        x = taken(x, axis, positions(start, end, step, size))  # type: ignore[arg-type]
    return x


def _reaches(end: Dim, size: Dim) -> bool:
    """Whether a slice that ends there takes all that is left of an axis, whatever its size is."""
    if isinstance(end, Sym) and isinstance(size, Sym) and end.symbol == size.symbol:
        return end.factor >= size.factor
    return end == size or (isinstance(end, int) and end >= 2**31 - 1)


def positions(start: int, end: int, step: int, size: int) -> range:
    """The indices of one axis that Slice takes.

    As Python's slices, but for a start before the first element: going backwards it is clamped to the first (Slice-13),
    where Python takes nothing.
    """
    return range(*slice(max(start, -size) if step < 0 else start, end, step).indices(size))


def pad(node: SourceNode) -> Value:
    x = node.value(0)
    rank, mode = x.type.rank, node.text("mode", "constant")
    if node.opset < 11:
        pads, value = node.integers("pads"), node.real("value", 0.0)
        axes: tuple[int, ...] | None = None
    else:
        pads, axes = node.ints(1), node.ints(3)
        constant = node.number(2)
        value = 0 if constant is None else constant.item()
    axes = tuple(node.axis(a, rank) for a in (range(rank) if axes is None else axes))
    if pads is None or len(pads) != 2 * len(axes):
        raise node.broken(f"{pads} are no pads for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    for axis in range(rank):
        if min(before[axis], after[axis]) < 0:
            size = node.known(x.type.shape[axis])
            start, stop = max(0, -before[axis]), size - max(0, -after[axis])
            if start > stop:
                raise node.broken(f"pads {list(pads)} remove more than axis {axis} has")
            x = taken(x, axis, range(start, stop))
    before, after = [max(0, p) for p in before], [max(0, p) for p in after]
    if mode == "constant":
        none = not any(before) and not any(after)
        return x if none else pad_(x, before=tuple(before), after=tuple(after), value=value)
    return _mirrored(node, x, before, after, mode)


def _mirrored(node: SourceNode, x: Value, before: Sequence[int], after: Sequence[int], mode: str) -> Value:
    """Padding with elements of x itself: a gather along each padded axis."""
    if mode not in ("edge", "reflect", "wrap"):
        raise node.broken(f"mode is {mode!r}")
    for axis, (left, right) in enumerate(zip(before, after, strict=True)):
        if left or right:
            size = node.known(x.type.shape[axis])
            if left + size + right > MOST_PICKED or size < 1:
                raise node.unsupported(f"padding of {size} elements by {left} and {right} is too much")
            indices = np.pad(np.arange(size), (left, right), mode=mode)  # type: ignore[call-overload]
            x = picked(x, axis, indices)
    return x


def split_to_sequence(node: SourceNode) -> Parts:
    """A list of parts that is known while importing: only SequenceAt with a constant takes it apart."""
    x, sizes = node.value(0), node.array(1)
    axis = node.axis(node.integer("axis", 0), x.type.rank)
    size, keep = node.known(x.type.shape[axis]), node.integer("keepdims", 1)
    if sizes is None or sizes.ndim == 0:
        n = 1 if sizes is None else int(sizes)
        if n < 1 or size > n * MOST_PARTS:
            raise node.unsupported(f"parts of {n} of a dimension of {size}", fix=f"at most {MOST_PARTS} can be made")
        each = tuple(min(n, size - i) for i in range(0, size, n))
    else:
        each = node.ints(1) or ()
    if sum(each) != size or min(each, default=0) < 0:
        raise node.broken(f"parts {list(each)} of a dimension of {size}")
    stops = np.cumsum(each).tolist()
    parts = [taken(x, axis, range(stop - n, stop)) for stop, n in zip(stops, each, strict=True)]
    if sizes is None and not keep:
        shape = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
        parts = [reshape_(p, shape=shape) for p in parts]
    return Parts(tuple(parts))


def sequence_at(node: SourceNode) -> Value:
    parts, position = node.parts(0), node.ints(1)
    if position is None or len(position) != 1 or not -len(parts.values) <= position[0] < len(parts.values):
        raise node.broken(f"position {position} in a sequence of {len(parts.values)}")
    return parts.values[position[0]]


def gather(node: SourceNode) -> Value:
    x, given = node.value(0), node.value(1)
    if not given.type.dtype.is_integer:
        raise node.broken("the indices must be integers")
    axis = node.axis(node.integer("axis", 0), x.type.rank)
    if given.const is None:
        return take_(x, given, axis=axis)
    indices = given.const
    size = node.known(x.type.shape[axis])
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise node.broken(f"indices {indices.min()}..{indices.max()} of a dimension of {size}")
    flat = indices.reshape(-1).astype(np.int64) % max(size, 1)
    consecutive = flat.size > 0 and bool(np.all(np.diff(flat) == 1))
    y = taken(x, axis, range(int(flat[0]), int(flat[0]) + flat.size)) if consecutive else picked(x, axis, flat)
    return reshaped(y, (*x.type.shape[:axis], *indices.shape, *x.type.shape[axis + 1 :]))


def gather_elements(node: SourceNode) -> Value:
    """Of constants alone: exporters look up positions by it."""
    x, indices = node.value(0), node.value(1)
    if x.const is None or indices.const is None:
        raise node.unsupported("only elements of a constant at constant indices are taken", fix="use Gather")
    if not indices.type.dtype.is_integer:
        raise node.broken("the indices must be integers")
    axis = node.axis(node.integer("axis", 0), x.type.rank)
    size, index = x.const.shape[axis], indices.const
    others = [i for i in range(x.type.rank) if i != axis]
    fits = index.ndim == x.type.rank and all(index.shape[i] <= x.const.shape[i] for i in others)
    if not fits or not np.all((-size <= index) & (index < size)):
        raise node.broken(f"indices {indices.type} do not fit {x.type}")
    whole = tuple(slice(None) if i == axis else slice(index.shape[i]) for i in range(x.type.rank))
    return node.constant(np.take_along_axis(x.const[whole], index, axis))


def expand(node: SourceNode) -> Value:
    x, wanted = node.value(0), node.dims(1)
    if wanted is None or any(isinstance(d, int) and d < 0 for d in wanted):
        raise node.broken(f"{wanted} is no shape")
    shape = broadcast(x.type.shape, wanted)
    return x if shape == x.type.shape else expand_(x, shape=shape)


def tile(node: SourceNode) -> Value:
    """Each axis that repeats gets one before it, which is expanded and then joined to it."""
    x, repeats = node.value(0), node.dims(1)
    if repeats is None or len(repeats) != x.type.rank or any(isinstance(r, int) and r < 0 for r in repeats):
        raise node.broken(f"repeats {repeats} of {x.type}")
    split: list[Dim] = []
    wide: list[Dim] = []
    whole: list[Dim] = []
    for dim, times in zip(x.type.shape, repeats, strict=True):
        if times == 1:
            split, wide, whole = [*split, dim], [*wide, dim], [*whole, dim]
        else:
            split, wide, whole = [*split, 1, dim], [*wide, times, dim], [*whole, count((times, dim))]
    count(tuple(wide))
    repeated = reshaped(x, tuple(split))
    if split != wide:
        repeated = expand_(repeated, shape=tuple(wide))
    return reshaped(repeated, tuple(whole))


def dropout(node: SourceNode) -> Value:
    node.ignore("ratio", "seed")
    node.optional(1)
    training = node.array(2)
    if training is not None and training.any():
        raise node.unsupported("training mode is not supported", fix="export the model for inference")
    return node.value(0)


def depth_to_space(node: SourceNode) -> Value:
    mode = node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.broken(f"mode is {mode!r}")
    return depth_to_space_(node.value(0), block=node.integer("blocksize", 0), column_first=mode == "CRD")


def space_to_depth(node: SourceNode) -> Value:
    x, b = node.value(0), node.integer("blocksize", 0)
    if x.type.rank != 4 or b < 1:
        raise node.broken(f"an image [N,C,H,W] and a block of at least 1 are needed, not {x.type} and {b}")
    n, c, h, w = x.type.shape[0], *(node.known(d) for d in x.type.shape[1:])
    if h % b or w % b:
        raise node.broken(f"{h}x{w} pixels are no multiple of blocks of {b}")
    mode = node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.broken(f"mode is {mode!r}")
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    blocks = transpose_(reshape_(x, shape=(n, c, h // b, b, w // b, b)), perm=perm)
    return reshape_(blocks, shape=(n, c * b * b, h // b, w // b))


TABLE: dict[str, Adapter] = {
    "Reshape": reshape, "Flatten": flatten, "Transpose": transpose, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Concat": concat, "Split": split, "SplitToSequence": split_to_sequence, "SequenceAt": sequence_at,
    "Slice": slice_, "Pad": pad, "Gather": gather, "GatherElements": gather_elements, "Expand": expand, "Tile": tile,
    "Identity": lambda node: node.value(0), "Dropout": dropout,
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
}  # fmt: skip
