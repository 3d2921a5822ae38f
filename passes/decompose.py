"""Composite ops become the simpler ops they are made of, where the target does not take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ir.definition import body_of
from ..ir.graph import Graph, Node
from ..ir.rewrite import replace_value, rewrite
from ..runtime.contracts import REASSOCIATING, Contract
from .base import Changes, Context, Pass
from .fuse import INTO_NEIGHBOURS


@dataclass(frozen=True)
class Decompose(Pass):
    """Write composite ops (gelu, layer_norm, ...) with simpler ones where the target does not take them; else all.

    An op says itself what it is made of (`Op.definition`). Constants that appear go into the layers beside them.
    """

    contract: ClassVar[Contract] = REASSOCIATING

    def run(self, graph: Graph, context: Context) -> Changes:
        every = [n for n in graph.nodes if n.op.is_composite]
        return decompose(graph, every if context.target is None else context.target.decomposes(graph))


def has_products(node: Node) -> bool:
    """Whether it is a composite made of layers or matrix products, which have integer forms of their own."""
    if not node.op.is_composite:
        return False
    inside = body_of(node.op, [v.type for v in node.operands]).nodes
    return any(role.is_weight or role.symmetric for n in inside for role in n.roles)


def decompose(graph: Graph, nodes: list[Node]) -> Changes:
    """Replace these composite nodes, in place, and let the constants that appear go into their neighbours."""
    changes = Changes()
    fresh: list[Node] = []
    for node in nodes:
        fresh.extend(decomposed(graph, node))
        changes.count(node.op.name, 1)
    users = [user for node in fresh for value in node.results for user in value.users]
    changes.add(rewrite(graph, INTO_NEIGHBOURS, start=dict.fromkeys([*fresh, *users])))
    return changes


def decomposed(graph: Graph, node: Node) -> list[Node]:
    """Put its definition in the place of one node; returns the nodes that appear."""
    made = node.op.definition(*node.operands)
    results = made if isinstance(made, tuple) else (made,)
    because = f"the definition of {node.op.name}"
    pairs = list(zip(node.results, results, strict=True))
    return [new for old, value in pairs for new in replace_value(graph, old, value, because)]
