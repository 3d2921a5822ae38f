"""Forms of movements, of logic and of normalization: what exporters write as one operator, and our ops as several."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ir.graph import Node, Value
from ...ir.ops.dense import matmul
from ...ir.ops.elementwise import Add, Clip, Div, Maximum, Minimum, add, mul
from ...ir.ops.index import Expand, Gather
from ...ir.ops.logic import equal, not_
from ...ir.ops.norm import layer_norm
from ...ir.ops.shape import Reshape, Slice, reshape
from ...ir.pattern import const, either, one
from ...ir.types import BOOL, Array, Dim, Shape, static
from .forms import Finder, Form, Pattern, Written

#: From this operator set on Gemm's third operand may be left out.
GEMM_TERM = 11


class Different(Pattern):
    """Whether two booleans are not equal."""

    def pattern(self, a: Any, b: Any) -> Any:
        return not_(equal(a, b))

    def rewrite(self, m: Any, a: Value, b: Value) -> Any:
        return Written("Xor", (a, b), since=7) if a.type.dtype == BOOL else None


class Scaled(Pattern):
    """A product of two computed matrices, one of them times a number, and maybe a term."""

    def pattern(self, a: Any, b: Any, c: Any, alpha: Any) -> Any:
        product = matmul(mul(a, one(alpha), as_="scaled"), b)
        return either(add(product, c, as_="sum"), product)

    def rewrite(self, m: Any, a: Value, b: Value, alpha: Array, c: Value | None = None) -> Any:
        type = m.matmul.value.type
        if type.rank != 2 or not type.dtype.is_float or m.scaled.value.type != a.type:
            return None
        if c is not None and (c.type.rank > 2 or m.sum.value.type != type):
            return None
        if not math.isfinite(number := float(alpha.item())):
            return None
        operands = (a, b) if c is None else (a, b, c)
        return Written("Gemm", operands, {"alpha": number}, since=1 if c else GEMM_TERM)


class Instance(Pattern):
    """Each channel of each image normalized over its pixels, then maybe scaled and shifted per channel."""

    def pattern(self, x: Any, scale: Any, shift: Any, factor: Any, term: Any, epsilon: Any) -> Any:
        rows = layer_norm(either(reshape(x, as_="rows"), x), const(scale), const(shift), epsilon=epsilon, as_="normal")
        normal = either(reshape(rows, as_="image"), rows)
        scaled = either(mul(normal, const(factor), as_="product"), normal)
        return either(add(scaled, const(term), as_="sum"), scaled)

    def rewrite(
        self,
        m: Any,
        x: Value,
        scale: Array,
        shift: Array,
        epsilon: float,
        factor: Array | None = None,
        term: Array | None = None,
    ) -> Any:
        shape, rows = x.type.shape, m.normal.value.type.shape
        if len(shape) < 3 or len(rows) != 3 or rows[:2] != shape[:2] or not isinstance(channels := shape[1], int):
            return None
        if ("rows" in m.nodes) != ("image" in m.nodes) or ("image" in m.nodes and m.image.value.type != x.type):
            return None
        if "rows" not in m.nodes and factor is None and term is None:
            return None  # rows of a sequence, more likely
        vectors = [_per_channel(v, len(shape), channels) for v in (factor, term)]
        uniform = all((v == v.flat[0]).all() for v in (scale, shift) if v.size) and scale.size
        if not uniform or any(v is None for v in vectors):
            return None
        if any(part in m.nodes and getattr(m, part).value.type != x.type for part in ("product", "sum")):
            return None
        k, t = (
            (np.ones(channels) if factor is None else vectors[0]),
            (np.zeros(channels) if term is None else vectors[1]),
        )
        dtype = x.type.dtype.numpy
        given = {"scale": (scale.flat[0] * k).astype(dtype), "shift": (shift.flat[0] * k + t).astype(dtype)}
        return Written("InstanceNormalization", (x,), {"epsilon": epsilon}, 6, given)


def _per_channel(array: Array | None, rank: int, channels: int) -> Array | None:
    """A constant beside images as a vector over the channels; of nothing a scalar, None where it is something else."""
    if array is None:
        return np.zeros(())
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or any(d != 1 for i, d in enumerate(shape) if i != 1):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def tiled(node: Node) -> Form | None:
    """A Tile: axes of one before those that repeat, an expand, and a reshape that joins both."""
    inside = _chain(node, (Reshape, Expand, Reshape)) or _chain(node, (Reshape, Expand))
    if inside is None:
        return None
    wide, x = inside[0], inside[-1].operands[0]
    whole, shape, split = node.result.type.shape, x.type.shape, wide.operands[0].type.shape
    if len(shape) != len(whole):
        return None
    repeats = [n for d, m in zip(shape, whole, strict=True) if (n := _times(d, m)) is not None]
    if len(repeats) != len(shape):
        return None
    canonical: list[tuple[Dim, Dim]] = []
    for d, n in zip(shape, repeats, strict=True):
        canonical += [(1, n)] * (n != 1) + [(d, d)] * (d != 1)
    lead = len(wide.result.type.shape) - len(split)
    found = zip((1,) * lead + split, wide.result.type.shape, strict=True)
    if [pair for pair in found if pair != (1, 1)] != canonical:
        return None
    return Form(node, inside, Written("Tile", (x,), since=6, given={"repeats": repeats}))


def _times(d: Dim, n: Dim) -> int | None:
    """How often an axis of d repeats where it became n; None where it does not."""
    if d == n:
        return 1
    whole = isinstance(d, int) and isinstance(n, int) and d > 0 and n % d == 0
    return n // d if whole else None  # type: ignore[operator]


def picked(node: Node) -> Form | None:
    """A Gather at one index: a slice of one element along an axis, which the reshape behind it takes away."""
    inside = _chain(node, (Reshape, Slice))
    if inside is None:
        return None
    (part,) = inside
    x, op = part.operands[0], part.op
    assert isinstance(op, Slice)
    cut = [i for i, (a, b) in enumerate(zip(x.type.shape, part.result.type.shape, strict=True)) if a != b]
    if len(cut) != 1 or part.result.type.shape[cut[0]] != 1:
        return None
    shape: Shape = tuple(d for i, d in enumerate(x.type.shape) if i != cut[0])
    if node.result.type.shape != shape:
        return None
    index = np.array(op.starts[cut[0]], np.int64)
    return Form(node, inside, Written("Gather", (x,), {"axis": cut[0]}, given={"index": index}))


def gathered(node: Node) -> Form | None:
    """A Gather by an array of indices: one by a row of them, and a reshape that makes axes of it."""
    inside = _chain(node, (Reshape, Gather))
    if inside is None:
        return None
    (row,) = inside
    x, op = row.operands[0], row.op
    assert isinstance(op, Gather)
    before, behind = x.type.shape[: op.axis], x.type.shape[op.axis + 1 :]
    shape = node.result.type.shape
    axes = shape[len(before) : len(shape) - len(behind)]
    if (*before, *axes, *behind) != shape or not all(isinstance(d, int) for d in axes):
        return None
    indices = np.array(op.indices, np.int64)
    if math.prod(static(axes)) != indices.size:
        return None
    given = {"indices": indices.reshape(static(axes))}
    return Form(node, inside, Written("Gather", (x,), {"axis": op.axis}, given=given))


def _chain(node: Node, kinds: tuple[type, ...]) -> tuple[Node, ...] | None:
    """The nodes before this one, where they are of these ops from here backwards and nothing else uses them."""
    if not isinstance(node.op, kinds[0]) or node.graph is None:
        return None
    found: list[Node] = []
    for kind in kinds[1:]:
        user = found[-1] if found else node
        before = user.operands[0].producer
        if before is None or not isinstance(before.op, kind) or node.graph.only_user(before.results[0]) is not user:
            return None
        found.append(before)
    return tuple(found)


def variadic(node: Node) -> Form | None:
    """A chain that was one operator of the source: Max, Min, Sum, Mean. A clip on one side is a Max or Min, too."""
    kinds: dict[Any, str] = {Maximum: "Max", Minimum: "Min", Add: "Sum"}
    root, inside, divisor = node, list[Node](), None
    if isinstance(node.op, Div) and node.operands[1].const is not None and node.operands[0].producer is not None:
        divisor, root = node.operands[1].const, node.operands[0].producer
        if not _is_part(root, node) or not isinstance(root.op, Add):
            return None
        inside.append(root)
    kind, _ = _combined(root)
    if kind is None:
        return None
    operands, limits = list[Value](), list[float]()
    open_ = [root]
    while open_:
        user = open_.pop()
        _, limit = _combined(user)
        limits += [] if limit is None else [limit]
        for value in user.operands:
            inner = value.producer
            if inner is not None and _combined(inner)[0] is kind and _is_part(inner, user):
                inside.append(inner)
                open_.append(inner)
            else:
                operands.append(value)
    if divisor is None:
        dtype = node.result.type.dtype.numpy
        given = {f"limit{i}": np.array(limit, dtype) for i, limit in enumerate(limits)}
        return Form(node, tuple(inside), Written(kinds[kind], tuple(operands), given=given)) if inside else None
    if divisor.size != 1 or divisor.item() != len(operands):
        return None
    return Form(node, tuple(inside), Written("Mean", tuple(operands)))


def _combined(node: Node) -> tuple[type | None, float | None]:
    """Which of its operands a node takes, the largest or the smallest, or their sum; and the limit that a clip has."""
    if not isinstance(node.op, Clip):
        return (type(node.op) if isinstance(node.op, Maximum | Minimum | Add) else None), None
    if node.op.lo == -math.inf:
        return Minimum, node.op.hi
    return (Maximum, node.op.lo) if node.op.hi == math.inf else (None, None)


def _is_part(node: Node, of: Node) -> bool:
    """Whether it came from the same node of the source, and nothing else uses its result."""
    alone = node.graph is not None and node.graph.only_user(node.results[0]) is of
    return alone and bool(node.loc) and node.loc == of.loc


COMPOSED: tuple[Finder, ...] = (Instance(), Different(), Scaled(), tiled, picked, gathered, variadic)
