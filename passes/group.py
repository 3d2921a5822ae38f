"""Grouping for kernels: a node and the elementwise ops behind it become one `fused` node."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.builder import const_value
from ..ir.constant import Const
from ..ir.graph import NOWHERE, Graph, Node, Value, apply, graph_input
from ..ir.ops.fused import Fused
from .base import Changes, Context, Pass


@dataclass(frozen=True)
class Group(Pass):
    """Put each node whose only user is elementwise, with a result of the same shape, into one `fused` op with it.

    conv2d + rescale + rescale_add(residual) is one group; of a residual add's two convolutions the later one takes it.
    Constants stay outside and are operands. Bit-exact: grouping adds no semantics.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for members in _groups(graph):
            fuse(graph, members)
            changes.count(" + ".join(n.op.name for n in members), 1)
        return changes


def _groups(graph: Graph) -> list[list[Node]]:
    """Chains of two or more nodes, each the only user of the one before, in order."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    chain: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        chain[node] = [node]
        producers = [v.producer for v in node.operands if _joins(graph, v, node) and v.producer is not None]
        if producers:
            # A convolution rather than another sum; of two, the later one.
            taker = max(producers, key=lambda p: (not chain[p][0].op.elementwise, position[p]))
            if _may_move(node, chain[taker], position):
                chain[node] = [*chain.pop(taker), node]
    return [nodes for nodes in chain.values() if len(nodes) > 1]


def _joins(graph: Graph, value: Value, user: Node) -> bool:
    """Whether the node that computes the value may form a group with its user."""
    node = value.producer
    if node is None or isinstance(node.op, Const | Fused) or node.op.moves_data or value.index:
        return False
    is_epilogue = user.op.elementwise and len(user.results) == 1 and user.result.type.shape == value.type.shape
    return is_epilogue and graph.only_user(value) is user


def _may_move(node: Node, members: list[Node], position: Mapping[Node, int]) -> bool:
    """Whether a node may follow at once what it is to be grouped with.

    Behind an op of several results it may not where it needs one of the later ones, or what may come of them.
    """
    head = members[0]
    if len(head.results) == 1:
        return True
    others = [v.producer for v in node.operands if v.producer is not None and v.producer not in members[1:]]
    beside = [p for p in others if not isinstance(p.op, Const) and p is not head]
    later = any(v.producer is head and v.index for v in node.operands)
    return not later and all(position[p] < position[head] for p in beside)


def fuse(graph: Graph, members: list[Node]) -> Node:
    """Replace nodes by one `fused` node at the place of the last, whose result it has first; returns it.

    Of the others only later results of the first node may be used outside: then it stands at the place of that one,
    and the last one's result is followed by them. Operands come in order of their first use, each once.
    """
    inside = set(members)
    outer = dict.fromkeys(v for node in members for v in node.operands if v.producer not in inside)
    inner = {v: graph_input(name, v.type) for v, name in zip(outer, _input_names(list(outer)), strict=True)}
    loc = NOWHERE
    for node in members:
        copy = Node(node.op, [inner[v] for v in node.operands], [v.type for v in node.results], node.loc)
        _name(copy, node)
        inner |= dict(zip(node.results, copy.results, strict=True))
        loc |= node.loc
    first, last = members[0], members[-1]
    beside = [v for v in first.results[1:] if v.uses or graph.is_output(v)]
    results = [last.result, *beside]
    names = [v.name or ("result" if len(results) == 1 else f"result{i}") for i, v in enumerate(results)]
    body = Graph([inner[v] for v in outer], [inner[v] for v in results], names, "body")
    # What reads the results beside may stand before the last member; constants may stand behind the first.
    operands = [const_value(v.const, v.name) if beside and v.const is not None else v for v in outer]
    fused = apply(Fused(body), *operands, loc=loc)
    for new, old in zip(fused.results, results, strict=True):
        new.name = old.name
    graph.adopt(fused.results[0], before=first if beside else last)
    for old, new in zip(results, fused.results, strict=True):
        graph.replace(old, new)
    graph.prune_from([last])
    return fused


def ungroup(graph: Graph) -> int:
    """Put the nodes of all `fused` bodies back into the graph, in place; returns how many groups there were."""
    groups = [node for node in graph.nodes if isinstance(node.op, Fused)]
    for node in groups:
        inline(graph, node)
    return len(groups)


def inline(graph: Graph, fused: Node) -> list[Node]:
    """Replace one `fused` node by the nodes of its body; returns them."""
    (body,) = fused.op.bodies()
    outer = dict(zip(body.inputs, fused.operands, strict=True))
    members = []
    for node in body.nodes:
        copy = Node(node.op, [outer[v] for v in node.operands], [v.type for v in node.results], node.loc)
        _name(copy, node)
        outer |= dict(zip(node.results, copy.results, strict=True))
        graph.insert(copy, before=fused)
        members.append(copy)
    for old, new in zip(fused.results, body.outputs, strict=True):
        graph.replace(old, outer[new])
    graph.prune_from([fused])
    return members


def _input_names(values: list[Value]) -> list[str]:
    """Names of the body's inputs: those of the operands, where they have one and it is theirs alone."""
    names = [v.name for v in values]
    unique = {name for name, count in Counter(names).items() if name and count == 1}
    free = (name for i in itertools.count() if (name := f"x{i}") not in unique)
    return [name if name in unique else next(free) for name in names]


def _name(copy: Node, original: Node) -> None:
    for new, old in zip(copy.results, original.results, strict=True):
        new.name = old.name
