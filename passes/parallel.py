"""Layers and movements side by side: of one value, alike, and so one of them with slices behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from ..ir.builder import const_value
from ..ir.channels import Kept
from ..ir.graph import NOWHERE, Graph, Node, Value, apply
from ..ir.ops.dense import Dense
from ..ir.ops.shape import Reshape, Slice, Transpose, slice_
from .moving import axis_groups


@dataclass(frozen=True)
class Shares:
    """Neighbouring slices of one value along one axis, in order, from its beginning to its end."""

    axis: int
    slices: tuple[Node, ...]

    @property
    def sizes(self) -> list[int]:
        return [int(node.result.type.shape[self.axis]) for node in self.slices]  # type: ignore[arg-type]


def shares_of(value: Value) -> list[Shares]:
    """The ways in which slices share out a value among them, each element once."""
    slices = [(user, axis) for user in value.users if (axis := sliced_axis(user)) is not None]
    axes = dict.fromkeys(axis for _, axis in slices)
    found = (_shared_out(value, axis, [user for user, a in slices if a == axis]) for axis in axes)
    return [shares for shares in found if shares is not None]


def sliced_axis(node: Node) -> int | None:
    """The only axis along which a node slices, element by element."""
    if not isinstance(node.op, Slice) or set(node.op.steps) - {1}:
        return None
    bounds = zip(node.op.starts, node.op.stops, node.operands[0].type.shape, strict=True)
    sliced = [i for i, (start, stop, d) in enumerate(bounds) if (start, stop) != (0, d)]
    return sliced[0] if len(sliced) == 1 else None


def _shared_out(value: Value, axis: int, slices: Sequence[Node]) -> Shares | None:
    ordered = sorted(slices, key=lambda node: node.op.attributes()["starts"][axis])
    ends = [0, *(node.op.attributes()["stops"][axis] for node in ordered)]
    starts = [node.op.attributes()["starts"][axis] for node in ordered]
    return Shares(axis, tuple(ordered)) if [*starts, value.type.shape[axis]] == ends else None


def cut(whole: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """Slices of these sizes, one after another, along an axis."""
    shape = whole.type.shape
    ends = pairwise(accumulate(sizes, initial=0))
    return [
        slice_(
            whole, starts=tuple(start if i == axis else 0 for i in range(len(shape))),
            stops=tuple(stop if i == axis else d for i, d in enumerate(shape)), steps=(1,) * len(shape),
        )
        for start, stop in ends
    ]  # fmt: skip


# ---- movements


@dataclass(frozen=True)
class Movement:
    """A reshape or transpose of the whole, and the axis along which its parts are cut then, with their sizes."""

    op: Reshape | Transpose
    axis: int
    sizes: tuple[int, ...]


def common_movement(axis: int, movements: Sequence[Node]) -> Movement | None:
    """What moves a whole as each movement moves its part along the axis; None where there is no such."""
    ops = [node.op for node in movements]
    if isinstance(first := ops[0], Transpose):
        behind = first.perm.index(axis)
        return Movement(first, behind, _sizes(movements, behind)) if all(op == first for op in ops) else None
    shapes = [node.result.type.shape for node in movements]
    for at in sorted(set.intersection(*(_places(node, axis) for node in movements))):
        if len({(*shape[:at], *shape[at + 1 :]) for shape in shapes}) == 1:
            sizes = _sizes(movements, at)
            return Movement(Reshape((*shapes[0][:at], sum(sizes), *shapes[0][at + 1 :])), at, sizes)
    return None


def _sizes(nodes: Sequence[Node], axis: int) -> tuple[int, ...]:
    return tuple(int(node.result.type.shape[axis]) for node in nodes)  # type: ignore[arg-type]


def _places(node: Node, axis: int) -> set[int]:
    """The axes of a reshape's result along which it is cut where its operand is cut along this one.

    The outermost of those that it makes of the axis, where it mixes no other with it; or one of length 1 right before.
    """
    if not isinstance(node.op, Reshape):
        return set()
    shape = node.op.shape
    groups = axis_groups(node.operands[0].type.shape, shape) or []
    outermost = next((after[0] for before, after in groups if before == (axis,) and after), None)
    if outermost is None:
        return set()
    first = outermost
    while first and shape[first - 1] == 1:
        first -= 1
    return set(range(first, outermost + 1))


def movements_before_slices(graph: Graph) -> int:
    """Move values as a whole before they are cut, where each part alone is moved alike; returns how often."""
    moved = 0
    work = _values(graph)
    while work:
        value = work.pop()
        for shares in shares_of(value):
            users = [graph.only_user(part.result) for part in shares.slices]
            followers = [user for user in users if user is not None and isinstance(user.op, Reshape | Transpose)]
            if len(followers) < len(users) or len(users) < 2:
                continue
            if (movement := common_movement(shares.axis, followers)) is None:
                continue
            whole = _followed(graph, value, movement, followers)
            _replace(graph, followers, cut(whole, movement.axis, movement.sizes))
            work.append(whole)
            moved += 1
            break
    return moved


def _followed(graph: Graph, value: Value, movement: Movement, followers: Sequence[Node]) -> Value:
    """The movement of a whole value, right behind what computes it."""
    loc = NOWHERE
    for node in followers:
        loc |= node.loc
    whole = apply(movement.op, value, loc=loc).result
    graph.adopt(whole, before=_behind(graph, value))
    return whole


def _behind(graph: Graph, value: Value) -> Node | None:
    return value.producer.next if value.producer is not None else next(graph.nodes, None)


def _replace(graph: Graph, nodes: Sequence[Node], values: Sequence[Value]) -> None:
    for node, value in zip(nodes, values, strict=True):
        graph.adopt(value, before=node)
        if value.producer is not None:
            value.producer.loc = node.loc
        value.name = node.results[0].name
        value.type = value.type.with_quant(node.results[0].type.quant)
        graph.replace(node.results[0], value)
    graph.prune_from(nodes)


# ---- layers


def merge_layers(graph: Graph) -> int:
    """Make one of dense layers of one value, with slices behind, where that leaves fewer nodes; returns how many went.

    It does where reshapes and transposes follow that become one as well: heads of attention. Otherwise the slices would
    be as many nodes as the layers, and copies on top.
    """
    merged = 0
    for value in _values(graph):
        alike: list[Node] = []
        for layer in value.users:
            if _is_mergeable(graph, layer, value) and _have_one_movement(graph, [*alike, layer]):
                alike.append(layer)
        if len(alike) > 1:
            _merge(graph, value, alike)
            merged += len(alike) - 1
    return merged


def _values(graph: Graph) -> list[Value]:
    return [*graph.inputs, *(v for node in graph.nodes for v in node.results)]


def _is_mergeable(graph: Graph, node: Node, value: Value) -> bool:
    """Whether a node is a layer of floats with stored weights, and a reshape and a transpose alone follow."""
    floats = isinstance(node.op, Dense) and node.operands[0] is value and value.type.dtype.is_float
    if not floats or any(v.const is None for v in node.operands[1:]):
        return False
    reshaped = graph.only_user(node.result)
    transposed = None if reshaped is None else graph.only_user(reshaped.results[0])
    return transposed is not None and isinstance(transposed.op, Transpose)


def _have_one_movement(graph: Graph, layers: Sequence[Node]) -> bool:
    """Whether what follows several layers can follow all of them at once."""
    reshapes = [next(iter(node.result.users)) for node in layers]
    transposes = {next(iter(node.result.users)).op for node in reshapes}
    return len(transposes) == 1 and common_movement(layers[0].result.type.rank - 1, reshapes) is not None


def _merge(graph: Graph, value: Value, layers: Sequence[Node]) -> None:
    loc = NOWHERE
    for node in layers:
        loc |= node.loc
    w, b = (np.concatenate([np.asarray(node.operands[i].const) for node in layers]) for i in (1, 2))
    whole = apply(layers[0].op, value, const_value(w), const_value(b), loc=loc).result
    graph.adopt(whole, before=_behind(graph, value))
    sizes = [int(node.result.type.shape[-1]) for node in layers]  # type: ignore[arg-type]
    _replace(graph, layers, cut(whole, whole.type.rank - 1, sizes))


def split_layer(graph: Graph, value: Value) -> bool:
    """Compute a layer in parts where nothing but slices that share it out read it: one layer for each slice.

    Functions of single elements behind the layer are computed for each part, too. Returns whether the value is such.
    """
    node, behind = value.producer, list[Node]()
    while node is not None and node.op.elementwise and len(node.operands) == 1:
        behind.insert(0, node)
        (x,) = node.operands
        node = x.producer if graph.only_user(x) is node else None
    shares = [s for s in shares_of(value) if len(s.slices) == len(value.uses)]
    if node is None or not shares or len(shares[0].slices) < 2 or graph.is_output(value):
        return False
    axis, slices = shares[0].axis, shares[0].slices
    rows = _rows(node, axis)
    if rows is None:
        return False
    parts: list[Value] = []
    for part, (start, stop) in zip(slices, pairwise(accumulate(shares[0].sizes, initial=0)), strict=True):
        kept = Kept({(i, 0): np.arange(start, stop) for i in rows}, {(0, axis): np.arange(start, stop)})
        operands = [
            const_value(np.asarray(v.const)[start:stop], v.name) if i in rows else v
            for i, v in enumerate(node.operands)
        ]
        op = node.op.resized([v.type for v in operands], kept)
        assert op is not None
        result = apply(op, *operands, loc=node.loc | part.loc).result
        for follower in behind:
            result = apply(follower.op, result, loc=follower.loc).result
        parts.append(result)
    _replace(graph, slices, parts)
    graph.prune_from([behind[-1] if behind else node])
    return True


def _rows(node: Node, axis: int) -> list[int] | None:
    """The constant operands whose rows (along axis 0) belong to the slices of the result along an axis, in order.

    None where the op does not say so, or something else belongs to these as well.
    """
    for channels in node.op.channels([v.type.bare for v in node.operands]):
        places = {**channels.results, **channels.operands}
        ordered = all(np.array_equal(of, np.arange(channels.count)) for of in places.values())
        if (0, axis) in channels.results and ordered and not channels.is_sum:
            rows = [i for i, _ in channels.operands]
            constant = all(a == 0 and node.operands[i].const is not None for i, a in channels.operands)
            return rows if rows and constant and set(node.weights) & set(rows) else None
    return None
