"""Several of our ops that are one operator of ONNX: the inverse of what the importer's adapters compose.

A form is a pattern, as rewrite rules have it, and says which operator it is with which operands. It is written where
nothing else uses what stands inside and the operator set has the operator; else every op is written by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.op import invert
from ...ir.ops.dense import matmul
from ...ir.ops.elementwise import add, clip, div, maximum, minimum, mul, sub
from ...ir.ops.logic import less, where
from ...ir.ops.reduce import reduce_max, reduce_sum
from ...ir.ops.shape import reshape, transpose
from ...ir.ops.softmax import softmax
from ...ir.ops.unary import abs_, exp, log, sqrt
from ...ir.pattern import Mismatch, either, match, one
from ...ir.rewrite import Match, Rule
from ...ir.types import F16, F64, Array, broadcast
from .site import Operand, RefusedError, Site, TooOldError

#: From this operator set on reductions have axes as an operand: ReduceSum already had.
REDUCE = 18
#: From this operator set on Softmax and LogSoftmax are about one axis.
SOFTMAX = 13


@dataclass(frozen=True)
class Written:
    """One operator. operands: values; since: the first operator set in which it means this.

    given: numbers that are operands from operator set `given_since` on, and attributes before.
    """

    kind: str
    operands: tuple[Value, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    since: int = 1
    given: Mapping[str, Sequence[int] | Array] = field(default_factory=dict)
    given_since: int = 1

    def emit(self, site: Site, *operands: Operand) -> Operand:
        """Write it. Raises TooOldError for an operator set that does not have it."""
        if site.opset < self.since:
            raise TooOldError(f"{self.kind} of opset {site.opset} is another")
        attributes, arrays = dict(self.attributes), list[Operand]()
        if site.opset < self.given_since:
            attributes.update({role: list(numbers) for role, numbers in self.given.items()})
        else:
            arrays = [site.array(role, numbers) for role, numbers in self.given.items()]
        return site.emit(self.kind, *operands, *arrays, **attributes)


@dataclass(frozen=True)
class Form:
    """Nodes that are one operator: `root` gives the result, `inside` are the others."""

    root: Node
    inside: tuple[Node, ...]
    written: Written

    @property
    def operands(self) -> tuple[Value, ...]:
        return self.written.operands

    def emit(self, site: Site, *operands: Operand) -> Operand:
        """Write it. Raises RefusedError, TooOldError for an operator set that does not have it."""
        return self.written.emit(site, *operands)

    def fits(self, opset: int, operand: Callable[[Value], Operand]) -> bool:
        """Whether it can be written in this operator set."""
        try:
            self.emit(Site(opset, self.root.result.type), *map(operand, self.operands))
        except RefusedError:
            return False
        return True


#: The form whose root a node is.
Finder = Callable[[Node], Form | None]


def forms(graph: Graph, finders: Iterable[Finder], fits: Callable[[Form], bool]) -> Iterator[Form]:
    """The forms of a graph that fit, the largest first; no two share a node."""
    taken = set[Node]()
    for node in reversed(list(graph.nodes)):
        if node in taken or len(node.results) != 1:
            continue
        for find in finders:
            form = find(node)
            if form is not None and taken.isdisjoint((node, *form.inside)) and fits(form):
                taken.update((node, *form.inside))
                yield form
                break


class Pattern(Rule):
    """A form that a pattern finds. `rewrite` gives what it is, or None."""

    whole = True

    def __call__(self, node: Node) -> Form | None:
        """The form whose root the node is."""
        if not isinstance(node.op, self.roots):
            return None
        found = match(self.compiled, node.results[0])
        if isinstance(found, Mismatch) or next(found.shared(), None) is not None:
            return None
        written = self.rewrite(Match(found.nodes), **self._arguments(found))
        return None if written is None else Form(node, found.matched[1:], written)


def negative(x: Any) -> Any:
    """-x in a pattern."""
    return mul(x, -1.0)


def magnitude(x: Any) -> Any:
    """|x| in a pattern."""
    return either(abs_(x), maximum(x, negative(x)))


class Negative(Pattern):
    """x times minus one."""

    def pattern(self, x: Any) -> Any:
        return negative(x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return Written("Neg", (x,)) if m.mul.value.type == x.type else None


class Reciprocal(Pattern):
    """One over x."""

    def pattern(self, x: Any) -> Any:
        return div(1.0, x)

    def rewrite(self, m: Any, x: Value) -> Any:
        return Written("Reciprocal", (x,)) if m.div.value.type == x.type else None


class Magnitude(Pattern):
    """The larger of x and -x."""

    def pattern(self, x: Any) -> Any:
        return maximum(x, negative(x))

    def rewrite(self, m: Any, x: Value) -> Any:
        return Written("Abs", (x,)) if m.maximum.value.type == x.type else None


class Softsign(Pattern):
    """x / (1 + |x|)."""

    def pattern(self, x: Any) -> Any:
        return div(x, add(magnitude(x), 1.0))

    def rewrite(self, m: Any, x: Value) -> Any:
        return Written("Softsign", (x,)) if m.div.value.type == x.type else None


class Sloped(Pattern):
    """x where it is positive and slope * x elsewhere: LeakyRelu where the slope is a number, else PRelu."""

    def pattern(self, x: Any, slope: Any) -> Any:
        return add(clip(x, lo=0.0, hi=math.inf), mul(clip(x, lo=-math.inf, hi=0.0, as_="below"), slope, as_="slanted"))

    def rewrite(self, m: Any, x: Value, slope: Value) -> Any:
        if m.slanted.value.type != x.type or not x.type.dtype.is_float:
            return None
        if slope.const is not None and slope.const.size == 1:
            alpha = float(slope.const.item())
            return Written("LeakyRelu", (x,), {"alpha": alpha}) if math.isfinite(alpha) else None
        return Written("PRelu", (x, slope))


class Thresholded(Pattern):
    """x where it is above a number, else zero."""

    def pattern(self, x: Any, alpha: Any) -> Any:
        return where(less(one(alpha), x), x, 0.0)

    def rewrite(self, m: Any, x: Value, alpha: Array) -> Any:
        if m.where.value.type != x.type or not x.type.dtype.is_float or not np.isfinite(alpha.astype(np.float64)).all():
            return None
        return Written("ThresholdedRelu", (x,), {"alpha": float(alpha.item())}, since=10)


class Clipped(Pattern):
    """x between two numbers that are computed."""

    def pattern(self, x: Any, lo: Any, hi: Any) -> Any:
        return minimum(maximum(x, lo), hi)

    def rewrite(self, m: Any, x: Value, lo: Value, hi: Value) -> Any:
        if x.const is None and lo.type.rank == hi.type.rank == 0:
            return Written("Clip", (x, lo, hi), since=11)
        return None


class Length(Pattern):
    """The root of a sum of squares."""

    def pattern(self, x: Any, axes: Any, keepdims: Any) -> Any:
        return sqrt(reduce_sum(mul(x, x), axes=axes, keepdims=keepdims))

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], keepdims: bool) -> Any:
        return reduction("ReduceL2", x, axes, keepdims)


class Squares(Pattern):
    """A sum of squares."""

    def pattern(self, x: Any, axes: Any, keepdims: Any) -> Any:
        return reduce_sum(mul(x, x), axes=axes, keepdims=keepdims)

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], keepdims: bool) -> Any:
        return reduction("ReduceSumSquare", x, axes, keepdims, _one_source(m))


class Magnitudes(Pattern):
    """A sum of magnitudes."""

    def pattern(self, x: Any, axes: Any, keepdims: Any) -> Any:
        return reduce_sum(magnitude(x), axes=axes, keepdims=keepdims)

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], keepdims: bool) -> Any:
        return reduction("ReduceL1", x, axes, keepdims, _one_source(m))


class LogSum(Pattern):
    """The logarithm of a sum."""

    def pattern(self, x: Any, axes: Any, keepdims: Any) -> Any:
        return log(reduce_sum(x, axes=axes, keepdims=keepdims))

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], keepdims: bool) -> Any:
        return reduction("ReduceLogSum", x, axes, keepdims)


class LogSumExp(Pattern):
    """The logarithm of a sum of powers, shifted by the largest."""

    def pattern(self, x: Any, axes: Any, low: Any, high: Any) -> Any:
        most = reduce_max(x, axes=axes, keepdims=True)
        largest = either(clip(most, lo=low, hi=high), most)
        kept = add(log(reduce_sum(exp(sub(x, largest)), axes=axes, keepdims=True)), largest)
        return either(reshape(kept, as_="flat"), kept)

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], low: float | None, high: float | None) -> Any:
        finite = 3e38 if x.type.dtype not in (F16, F64) else float(np.finfo(x.type.dtype.numpy).max)
        if low is not None and high is not None and not (low <= -finite and finite <= high):
            return None
        if "flat" not in m.nodes:
            return reduction("ReduceLogSumExp", x, axes, True)
        rest = tuple(d for i, d in enumerate(x.type.shape) if i not in axes)
        return reduction("ReduceLogSumExp", x, axes, False) if m.flat.value.type.shape == rest else None


class Smallest(Pattern):
    """The largest of the negatives, negated."""

    def pattern(self, x: Any, axes: Any, keepdims: Any) -> Any:
        return mul(reduce_max(mul(x, -1.0, as_="inner"), axes=axes, keepdims=keepdims), -1.0, as_="outer")

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], keepdims: bool) -> Any:
        whole = m.inner.value.type == x.type and m.outer.value.type == m.reduce_max.value.type
        return reduction("ReduceMin", x, axes, keepdims) if whole else None


def _one_source(m: Any) -> bool:
    """Whether all that matched came from one node of the source."""
    (first, *others) = {node.loc for node in m.nodes.values()}
    return bool(first) and not others


def reduction(kind: str, x: Value, axes: tuple[int, ...], keepdims: bool, integers: bool = False) -> Written | None:
    """A reduction of floats, or of integers; runtimes have the latter for few types. No axes would mean all."""
    if not axes or not (x.type.dtype.is_float or integers):
        return None
    return Written(kind, (x,), {"keepdims": int(keepdims)}, given={"axes": axes}, given_since=REDUCE)


class Normalized(Pattern):
    """x over its length along one axis, which is at least the smallest number."""

    def pattern(self, x: Any, axes: Any, least: Any) -> Any:
        squares = sqrt(reduce_sum(mul(x, x), axes=axes, keepdims=True))
        sums = reduce_sum(magnitude(x), axes=axes, keepdims=True, as_="sums")
        return div(x, clip(either(squares, sums), lo=least, hi=math.inf), as_="quotient")

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...], least: float) -> Any:
        dtype = x.type.dtype
        if len(axes) != 1 or not dtype.is_float or not 0 < least <= float(np.finfo(dtype.numpy).tiny):
            return None
        return Written("LpNormalization", (x,), {"axis": axes[0], "p": 1 if "sums" in m.nodes else 2})


class LogSoftmax(Pattern):
    """x less its largest, less the logarithm of the sum of powers, along an axis."""

    def pattern(self, x: Any, axes: Any) -> Any:
        shifted = sub(x, reduce_max(x, axes=axes, keepdims=True))
        return sub(shifted, log(reduce_sum(exp(shifted), axes=axes, keepdims=True)))

    def rewrite(self, m: Any, x: Value, axes: tuple[int, ...]) -> Any:
        since = 1 if axes == (x.type.rank - 1,) else SOFTMAX
        return Written("LogSoftmax", (x,), {"axis": axes[0]}, since) if len(axes) == 1 else None


class SoftmaxAlong(Pattern):
    """Softmax between transposes: along another axis than the last."""

    def pattern(self, x: Any, before: Any, behind: Any) -> Any:
        return transpose(softmax(transpose(x, perm=before)), perm=behind)

    def rewrite(self, m: Any, x: Value, before: tuple[int, ...], behind: tuple[int, ...]) -> Any:
        return Written("Softmax", (x,), {"axis": before[-1]}, SOFTMAX) if behind == invert(before) else None


class SpaceToDepth(Pattern):
    """Blocks of pixels become channels."""

    def pattern(self, x: Any) -> Any:
        blocks = transpose(reshape(x, as_="blocked"), perm=(0, 3, 5, 1, 2, 4))
        return reshape(blocks, as_="stacked")

    def rewrite(self, m: Any, x: Value) -> Any:
        if x.type.rank != 4 or len(m.blocked.shape) != 6:
            return None
        n, c, h, block, w, _ = m.blocked.shape
        if m.blocked.shape != (n, c, h, block, w, block) or x.type.shape[:2] != (n, c):
            return None
        if x.type.shape != (n, c, h * block, w * block) or m.stacked.shape != (n, c * block * block, h, w):
            return None
        return Written("SpaceToDepth", (x,), {"blocksize": block})


class General(Pattern):
    """A product of two computed matrices and a term."""

    def pattern(self, a: Any, b: Any, c: Any) -> Any:
        left, right = transpose(a, perm=(1, 0), as_="left"), transpose(b, perm=(1, 0), as_="right")
        return add(matmul(either(left, a), either(right, b)), c)

    def rewrite(self, m: Any, a: Value, b: Value, c: Value) -> Any:
        type = m.matmul.value.type
        if type.rank != 2 or c.type.rank > 2 or broadcast(c.type.shape, type.shape) != type.shape:
            return None
        flags = {"transA": int("left" in m.nodes), "transB": int("right" in m.nodes)}
        return Written("Gemm", (a, b, c), flags)


FINDERS: tuple[Finder, ...] = (
    SoftmaxAlong(), LogSoftmax(), LogSumExp(), Normalized(), Length(), Squares(), Magnitudes(), LogSum(), Smallest(),
    Softsign(), Sloped(), Thresholded(), Clipped(), Magnitude(), SpaceToDepth(), General(), Negative(), Reciprocal(),
)  # fmt: skip
