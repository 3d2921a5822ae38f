"""What one inference costs, whatever executes it: multiply-accumulates and bytes, per node and in total."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.constant import Const
from ..ir.graph import Graph, Node
from ..ir.op import Cost


@dataclass(frozen=True)
class Totals:
    """Sums over a graph. parameters: elements of constants; constant_bytes: what they take, bodies included."""

    macs: int
    bytes_read: int
    bytes_written: int
    parameters: int
    constant_bytes: int


def node_cost(node: Node) -> Cost:
    """Cost of one node. Raises InferenceError where a dimension is not known."""
    return node.op.cost(*(v.type for v in node.operands))


def costs(graph: Graph) -> dict[Node, Cost]:
    """Cost of every node that is not a constant, in order."""
    return {node: node_cost(node) for node in graph.nodes if not isinstance(node.op, Const)}


def totals(graph: Graph) -> Totals:
    """Costs of one inference, and the size of the constants."""
    each = list(costs(graph).values())
    constants = list(_constants(graph))
    return Totals(
        macs=sum(c.macs for c in each),
        bytes_read=sum(c.bytes_read for c in each),
        bytes_written=sum(c.bytes_written for c in each),
        parameters=sum(node.result.type.size for node in constants),
        constant_bytes=sum(node.result.type.nbytes for node in constants),
    )


def _constants(graph: Graph) -> list[Node]:
    found = [node for node in graph.nodes if isinstance(node.op, Const)]
    return found + [c for node in graph.nodes for body in node.op.bodies() for c in _constants(body)]
