"""Channels whose values are known, or that nobody reads, go: bit for bit.

A channel goes with everything it is tied to (`passes/channels.py`), where each sum over it gets the same from it
whatever the inputs are: the bounds of its share (`ir/ranges.py`) are one number, which becomes part of the bias. Why
floats are left alone, and what stays: docs/decisions/0014-channels.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..ir.channels import Channels
from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value
from ..ir.op import Bounds, product
from ..ir.ops.fused import Fused
from ..ir.ranges import ranges
from ..ir.types import I32, Array, static
from .base import Changes, Context, Pass
from .channels import Bundle, Solver, cut, left, settled, taken
from .group import fuse, inline

FLOATS = "a float sum of fewer terms is rounded in another order"
BORDER = "padding lies between: the sum gets something else at the border"
BIAS = "the bias would not fit 32 bits, or is computed"


@dataclass(frozen=True)
class DeadChannels(Pass):
    """Remove channels that are proven constant, or that nobody reads. Bit-exact; channels of float sums stay.

    What a constant channel adds to a sum of integers goes into the bias, where padding does not make that differ at
    the border. Channels go through elementwise ops, pooling, depthwise convolutions, residual sums, concats, gathers
    and reshapes, and through groups; those of public inputs and outputs stay.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        if not any(v.type.dtype.is_integer for node in graph.nodes for v in node.results if v.const is None):
            return Changes()  # floats alone: nothing will go
        if context.assumed:
            return Changes()  # at other ranges other channels are constant
        if not any(_is_group(node) for node in graph.nodes):
            return _thinned(graph)
        trial = graph.clone()
        _ungrouped(trial)
        if not (found := _thinned(trial)):
            return found
        members = _ungrouped(graph)
        changes = _thinned(graph)
        for nodes in members:
            fuse(graph, nodes)
        return changes


def _is_group(node: Node) -> bool:
    """A group as `group` makes them: what the last node computes is the only result."""
    return isinstance(node.op, Fused) and [v.producer for v in node.op.body.outputs] == list(node.op.body.nodes)[-1:]


def _ungrouped(graph: Graph) -> list[list[Node]]:
    """Put the nodes of groups into the graph, in place; returns those of each group."""
    return [inline(graph, node) for node in list(graph.nodes) if _is_group(node)]


def _thinned(graph: Graph) -> Changes:
    changes, solver = Changes(), Solver(graph)
    while removed := _Round(graph, changes, solver).run():
        changes.count("channel removed", removed)
    return changes


class _Round:
    """One walk through the graph, from its end to its start: what is not read behind is not read before."""

    def __init__(self, graph: Graph, changes: Changes, solver: Solver) -> None:
        self.graph, self.changes, self.solver = graph, changes, solver
        changes.refused.clear()  # of what was refused in the round before, some may have gone
        self.known = ranges(graph)

    def run(self) -> int:
        """How many classes of channels went."""
        if not any(map(self.may_go, self.graph.nodes)):
            return 0
        removed, seen = 0, set[tuple[Value, int]]()
        for value, axis in self.solver.origins():
            if (value, axis) not in seen:
                bundle = self.solver.bundle(value, axis)
                seen.update((v, a) for v, (a, _) in bundle.slices.items())
                removed += self.remove(bundle)
        return removed

    def may_go(self, node: Node) -> bool:
        """Whether channels of an operand are constant or not read, as far as this node is concerned."""
        if node.op.moves_data:
            return sum(product(v.type.shape) for v in node.operands) > sum(product(v.type.shape) for v in node.results)
        if node.op.elementwise or isinstance(node.op, Const):
            return False
        return any(self.candidates(node, c).any() for c in self.solver.ties(node) if c.is_sum)

    def remove(self, bundle: Bundle) -> int:
        """Take away what can go; returns how many classes that were."""
        stays = self.needed(bundle)
        while True:
            keep, reasons = settled(bundle, np.isin(np.arange(bundle.count), list(stays)))
            stays = reasons | stays
            added: dict[Node, tuple[int, Array]] = {}
            for node, channels, classes in _sums(bundle):
                gone = np.flatnonzero(~keep[classes])
                if not gone.size:
                    continue
                share = self.share(node, channels, gone)
                if share is None or not _fits(node, channels, share):
                    stays |= dict.fromkeys(classes[gone].tolist(), BIAS)
                    break
                if channels.bias is not None:
                    added[node] = channels.bias, share
            else:
                break
        self.note(bundle, stays)
        if not keep.all():
            self.cut(bundle, keep, added)
        return int(np.count_nonzero(~keep))

    def needed(self, bundle: Bundle) -> dict[int, str]:
        """Classes that some sum needs, or of which a float sum is in want, and why."""
        stays: dict[int, str] = {}
        for node, channels, classes in _sums(bundle):
            candidates, constant = self.candidates(node, channels), self.constant(node, channels)
            stays |= dict.fromkeys(classes[~candidates].tolist(), f"{_name(node)} needs what it is tied to")
            reason = BORDER if channels.bias is not None else f"{_name(node)} has no bias that would take what it adds"
            stays |= dict.fromkeys(classes[candidates & ~constant].tolist(), reason)
        for node, ties in bundle.ties.items():
            if any(v.type.dtype.is_float for v in node.results) and not (node.op.elementwise or node.op.keeps_scale):
                stays |= dict.fromkeys(np.concatenate([tie.classes for tie in ties]).tolist(), FLOATS)
        return stays

    def note(self, bundle: Bundle, stays: dict[int, str]) -> None:
        """Say why channels that seem to be dead stay."""
        for node, channels, classes in _sums(bundle):
            values = [node.operands[i] for i, _ in channels.operands if node.operands[i].const is None]
            by_reason: dict[str, list[int]] = {}
            for i in np.flatnonzero(self.candidates(node, channels)).tolist():
                if (reason := stays.get(int(classes[i]))) is not None:
                    by_reason.setdefault(reason, []).append(i)
            for value in values[:1]:
                said = (f"{', '.join(map(str, channels))}: {reason}" for reason, channels in by_reason.items())
                if by_reason:
                    self.changes.refused["constant channels", value.name or _name(node)] = "; ".join(said)

    def cut(self, bundle: Bundle, keep: Array, added: dict[Node, tuple[int, Array]]) -> None:
        for value, (axis, of) in bundle.slices.items():
            self.known[value] = _part(self.known[value], {axis: np.flatnonzero(keep[of])})
        cut(self.graph, bundle, keep, added)
        for node in bundle.ties:
            self.solver.forget(node)
            self.known.update({v: Bounds.exactly(v.const) for v in node.operands if v.const is not None})

    # ---- what channels are to a sum

    def candidates(self, node: Node, channels: Channels) -> Array:
        """Channels (bool) whose values are known, or whose weights are zero."""
        constant, unread = np.ones(channels.count, bool), np.zeros(channels.count, bool)
        for (i, axis), of in channels.operands.items():
            value = node.operands[i]
            others = [a for a in range(value.type.rank) if a != axis]
            if value.const is not None:
                unread[of] |= ~value.const.any(axis=tuple(others))
            else:
                lo, hi = self.known[value].over(others)
                constant[of] &= (lo == hi).ravel()
        return constant | unread

    def constant(self, node: Node, channels: Channels) -> Array:
        """Channels (bool) of which a sum gets the same whatever the inputs are."""
        candidates = self.candidates(node, channels)
        indices = np.flatnonzero(candidates)
        if indices.size and (channels.bias is None or self.share(node, channels, indices) is None):
            candidates[indices] = [
                self.share(node, channels, indices[i : i + 1]) is not None for i in range(len(indices))
            ]
        return candidates

    def share(self, node: Node, channels: Channels, which: Array) -> Array | None:
        """What some channels add to a sum, in the shape of its bias; None where that is not one number."""
        if not all(v.type.dtype.is_integer for v in node.results):
            return None
        kept = channels.kept(np.isin(np.arange(channels.count), which))
        parts = []
        for i, value in enumerate(node.operands):
            axes = {axis: indices for (j, axis), indices in kept.operands.items() if i == j}
            if value.const is None:
                parts.append(_part(self.known[value], axes))
            elif i == channels.bias:
                parts.append(Bounds.exactly(np.zeros_like(value.const)))
            else:
                parts.append(Bounds.exactly(taken(value.const, axes)))
        op = node.op.resized([b.type for b in parts], kept)
        bounds = op.bounds(*parts) if op is not None else Bounds.top(node.results[0].type)
        if np.any(bounds.lo != bounds.hi):
            return None
        if channels.bias is None:
            return None if np.any(bounds.lo) else np.zeros(())
        shape = static(node.operands[channels.bias].type.shape)
        return np.broadcast_to(bounds.lo.ravel(), shape) if bounds.lo.size in (1, product(shape)) else None


def _sums(bundle: Bundle) -> Iterator[tuple[Node, Channels, Array]]:
    """Nodes that sum over channels of a bundle."""
    for node, ties in bundle.ties.items():
        yield from ((node, tie.channels, tie.classes) for tie in ties if tie.channels.is_sum)


def _name(node: Node) -> str:
    return f"{node.op.name} {f'%{name}' if (name := node.results[0].name) else f'from {node.loc}'}"


def _fits(node: Node, channels: Channels, share: Array) -> bool:
    """Whether the share can be added to the bias."""
    if channels.bias is None:
        return True
    bias = node.operands[channels.bias].const
    if bias is None:
        return not share.any()
    total = bias.astype(np.int64) + share
    return bool(np.all((total >= I32.min) & (total <= I32.max)))


def _part(bounds: Bounds, axes: dict[int, Array]) -> Bounds:
    """The bounds of some slices along some axes."""
    rank = bounds.type.rank
    ends = []
    for end in (bounds.lo, bounds.hi):
        full = end.reshape(*(1,) * (rank - end.ndim), *end.shape)
        ends.append(taken(full, {axis: indices for axis, indices in axes.items() if full.shape[axis] > 1}))
    return Bounds(left(bounds.type, axes), *ends)
