"""Channels that go together: ties of single nodes (`Op.channels`) followed through a graph, and cutting along them.

    bundle = Solver(graph).bundle(conv.result, axis=1)     # everything that channels of this image are tied to
    keep, _ = settled(bundle, wanted)                      # bool per class; what cannot go stays
    cut(graph, bundle, keep)                               # weights, attributes and types without the rest

Which classes may go, and what their going does to sums over them, is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..ir.channels import Channels, Kept, components, labelled, one_batch
from ..ir.errors import InferenceError
from ..ir.graph import Graph, Node, Value, infer
from ..ir.op import Op
from ..ir.types import Array, Quant, TensorType
from .moving import replaced_constant


@dataclass(frozen=True)
class Tie:
    """What one node ties together, and the class of each of its channels."""

    channels: Channels
    classes: Array


@dataclass(frozen=True)
class Bundle:
    """Slices anywhere in a graph, in classes 0 ... count - 1: those of one class can only be taken away together.

    slices: for each (computed) value its axis, and the class of each slice along it. fixed: classes that stay, and why.
    """

    count: int
    slices: Mapping[Value, tuple[int, Array]]
    ties: Mapping[Node, list[Tie]]
    fixed: Mapping[int, str]


class Solver:
    """Bundles of one graph. Ties are asked for once; `forget` a node whose operands have changed."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._ties: dict[Node, tuple[Channels, ...]] = {}

    def ties(self, node: Node) -> tuple[Channels, ...]:
        """What the node's op says."""
        if node not in self._ties:
            self._ties[node] = node.op.channels([v.type.bare for v in node.operands])
        return self._ties[node]

    def origins(self) -> Iterator[tuple[Value, int]]:
        """Where channels begin, last first: axes of results with slices that come from no computed operand."""
        nodes = [node for node in self.graph.nodes if node.operands]
        for node in reversed(nodes):
            if node.op.moves_data and all(v.const is None for v in node.operands):
                continue
            for channels in self.ties(node):
                computed = [of for (i, _), of in channels.operands.items() if node.operands[i].const is None]
                known = np.concatenate([[-1], *computed])
                for (i, axis), of in channels.results.items():
                    if not np.all(np.isin(of, known)):
                        yield node.results[i], axis

    def forget(self, node: Node) -> None:
        self._ties.pop(node, None)

    def bundle(self, value: Value, axis: int) -> Bundle:
        """All that is tied to slices of a value along an axis."""
        return _Search(self).run(value, axis)


class _Search:
    """A walk from tie to tie. Slices and channels are points; those that are tied become one class."""

    def __init__(self, solver: Solver) -> None:
        self.solver = solver
        self.size = 0
        self.points: dict[tuple[Value, int], Array] = {}
        self.ties: dict[tuple[Node, int], Array] = {}  # by node and the number of its answer
        self.edges: list[tuple[Array, Array]] = []
        self.fixed: list[tuple[Array, str]] = []
        self.waiting: list[tuple[Value, int]] = []

    def run(self, value: Value, axis: int) -> Bundle:
        graph = self.solver.graph
        self.slices(value, axis)
        while self.waiting:
            value, axis = self.waiting.pop()
            if value.producer is None:
                self.fix(value, axis, f"%{value.name} is an input of the graph")
            else:
                self.follow(value.producer, "result", value.index, value, axis)
            if graph.is_output(value):
                self.fix(value, axis, f"%{value.name} is an output of the graph")
            for node, index in value.uses:
                self.follow(node, "operand", index, value, axis)
        return self.bundle()

    def slices(self, value: Value, axis: int) -> Array:
        """The points of a value's slices."""
        if (value, axis) not in self.points:
            self.points[value, axis] = self.new(int(value.type.shape[axis]))  # type: ignore[arg-type]
            self.waiting.append((value, axis))
        return self.points[value, axis]

    def new(self, count: int) -> Array:
        self.size += count
        return np.arange(self.size - count, self.size)

    def fix(self, value: Value, axis: int, reason: str) -> None:
        self.fixed.append((self.points[value, axis], reason))

    def follow(self, node: Node, side: str, index: int, value: Value, axis: int) -> None:
        """Tie what the node ties to this axis of one of its operands or results, in the way it was tied before."""
        answers = [
            (number, channels)
            for number, channels in enumerate(self.solver.ties(node))
            if (index, axis) in (channels.operands if side == "operand" else channels.results)
        ]
        if not answers:
            self.fix(value, axis, f"{node.op.name} does not keep the channels of its {side} apart")
        elif not any((node, number) in self.ties for number, _ in answers):
            self.tie(node, *answers[0])

    def tie(self, node: Node, number: int, channels: Channels) -> None:
        own = self.ties[node, number] = self.new(channels.count)
        for values, places in ((node.operands, channels.operands), (node.results, channels.results)):
            for (index, axis), of in places.items():
                if values[index].const is None:
                    points = self.slices(values[index], axis)
                    self.edges.append((points[of >= 0], own[of[of >= 0]]))
                    self.fixed.append((points[of < 0], f"{node.op.name} fills it in"))

    def bundle(self) -> Bundle:
        a, b = (np.concatenate([np.zeros(0, int), *(edge[i] for edge in self.edges)]) for i in (0, 1))
        classes, count = components(a, b, self.size)
        fixed: dict[int, str] = {}
        for points, reason in self.fixed:
            fixed.update(dict.fromkeys(classes[points].tolist(), reason))
        slices: dict[Value, tuple[int, Array]] = {}
        for (value, axis), points in self.points.items():
            if value in slices:
                fixed = dict.fromkeys(range(count), f"%{value.name} would be cut along two axes")
            slices[value] = axis, classes[points]
        ties: dict[Node, list[Tie]] = {}
        for (node, number), own in self.ties.items():
            ties.setdefault(node, []).append(Tie(self.solver.ties(node)[number], classes[own]))
        return Bundle(count, slices, ties, fixed)


# ---- cutting


def settled(bundle: Bundle, keep: Array) -> tuple[Array, dict[int, str]]:
    """The classes that are kept (bool [count]) when these should be, and why others stay with them.

    Fixed classes stay; so does the first of an axis that would be left with nothing, and what no attributes of a data
    movement can express.
    """
    keep = keep.copy()
    reasons = {c: reason for c, reason in bundle.fixed.items() if not keep[c]}
    keep[list(reasons)] = True
    for value, (_, of) in bundle.slices.items():
        if of.size and not keep[of].any():
            keep[of[0]] = True
            reasons[int(of[0])] = f"%{value.name} would have no channel left"
    while not keep.all():
        misfit = next((node for node in bundle.ties if _without(node, bundle, keep) is None), None)
        if misfit is None:
            break
        stays = np.unique(np.concatenate([tie.classes for tie in bundle.ties[misfit]]))
        reasons |= dict.fromkeys(stays[~keep[stays]].tolist(), f"no {misfit.op.name} takes what would be left")
        keep[stays if not keep[stays].all() else slice(None)] = True  # an op that never fits stays as it is
    return keep, reasons


def cut(graph: Graph, bundle: Bundle, keep: Array, added: Mapping[Node, tuple[int, Array]] | None = None) -> None:
    """Take away all slices whose class is not kept, in place; `keep` is `settled`.

    added: what is added to a constant operand (its index, an array of its type) before it is cut.
    """
    changed = [(node, _without(node, bundle, keep), _kept(ties, keep)) for node, ties in bundle.ties.items()]
    for value, (axis, of) in bundle.slices.items():
        value.type = left(value.type, {axis: np.flatnonzero(keep[of])})
    constants: dict[tuple[Value, object, Node | None], Value] = {}  # what served several nodes still does
    for node, op, kept in changed:
        assert op is not None
        node.op = op
        index, array = (added or {}).get(node, (-1, None))
        for i, old in enumerate(node.operands):
            axes = {axis: indices for (j, axis), indices in kept.operands.items() if i == j}
            if old.const is None or old.producer is None or not (axes or i == index):
                continue
            key = old, tuple((axis, indices.tobytes()) for axis, indices in axes.items()), node if i == index else None
            if key not in constants:
                data = old.const if array is None or i != index else (old.const + array).astype(old.const.dtype)
                constants[key] = replaced_constant(old, taken(data, axes), left(old.type, axes).quant)
                graph.adopt(constants[key], before=old.producer)
            graph.set_operand(node, i, constants[key])
    graph.prune_from([old.producer for old, *_ in constants if old.producer is not None])


def taken(array: Array, axes: Mapping[int, Array]) -> Array:
    """Some slices along some axes."""
    for axis, left in axes.items():
        array = array.take(left, axis)
    return array


def left(type: TensorType, axes: Mapping[int, Array]) -> TensorType:
    """The type of what is left, with its annotation."""
    quant = type.quant
    if quant is not None and quant.axis is not None and quant.axis in axes:
        kept = axes[quant.axis].tolist()
        quant = Quant(tuple(quant.scale[i] for i in kept), tuple(quant.zero[i] for i in kept), quant.axis)
    shape = tuple(len(axes[i]) if i in axes else d for i, d in enumerate(type.shape))
    return replace(type, shape=shape, quant=quant)


def _kept(ties: list[Tie], keep: Array) -> Kept:
    """The slices of a node that are left."""
    parts = [tie.channels.kept(keep[tie.classes]) for tie in ties]
    return Kept(*({p: indices for part in parts for p, indices in part[side].items()} for side in (0, 1)))


def _without(node: Node, bundle: Bundle, keep: Array) -> Op | None:
    """The op on what is left of its operands; None where no attributes give what is left of its results."""
    kept = _kept(bundle.ties[node], keep)
    operands, results = (
        [left(v.type.bare, {a: indices for (j, a), indices in places.items() if i == j}) for i, v in enumerate(values)]
        for values, places in ((node.operands, kept.operands), (node.results, kept.results))
    )
    op = node.op.resized(operands, kept)
    if op is None:
        return None
    try:
        fits = list(infer(op, operands)) == results
    except InferenceError:
        return None
    return op if fits and (not node.op.moves_data or _moves_alike(node, op, kept)) else None


def _moves_alike(node: Node, op: Op, kept: Kept) -> bool:
    """Whether the op moves what is left as the node's moved all: ref(labels[kept]) == ref(labels)[kept]."""
    labels = labelled(one_batch(*(v.type for v in node.operands)))
    parts = [taken(x, {a: k for (j, a), k in kept.operands.items() if i == j}) for i, x in enumerate(labels)]
    whole = taken(node.op.of_one_batch().ref(*labels), {a: k for (_, a), k in kept.results.items()})
    return np.array_equal(op.of_one_batch().ref(*parts), whole)
