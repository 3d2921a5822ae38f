"""The lowered graph as reports keep it: what a drawing of it needs, and names instead of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ir.constant import Const
from .ir.graph import NOWHERE, Graph, Node, Value
from .runtime.target import Layer


def outline(graph: Graph, layers: Sequence[Layer]) -> list[dict[str, Any]]:
    """Inputs, nodes without constants, and outputs, in a valid order.

    Each has a kind (`input`, `output`, or what the work of a node is like), a title, the source nodes, the type of what
    it gives, the index of its layer or None, and `from`: the indices, in this list, of what it reads.
    """
    layer_of = {layer.node: index for index, layer in enumerate(layers) if layer.node is not None}
    place: dict[Value, int] = {}
    found: list[dict[str, Any]] = []

    def add(kind: str, title: str, source: str, values: Sequence[Value], layer: int | None, *reads: Value) -> None:
        sources = list(dict.fromkeys(place[v] for v in reads if v in place))
        type = str(values[0].type.bare) if values else ""
        place.update((value, len(found)) for value in values if value not in place)
        found.append({"kind": kind, "title": title, "source": source, "type": type, "layer": layer, "from": sources})

    for value in graph.inputs:
        add("input", value.name, "", [value], None)
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.op, Const):
            source = "" if node.loc == NOWHERE else str(node.loc)
            add(_kind(node), title(node), source, node.results, layer_of.get(index), *node.operands)
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        add("output", name, "", [value], None, value)
    return found


def _parts(node: Node) -> list[Node]:
    """What a node computes: itself, or the nodes of its bodies without constants."""
    bodies = [n for body in node.op.bodies() for n in body.nodes if not isinstance(n.op, Const)]
    return [part for n in bodies for part in _parts(n)] or [node]


def title(node: Node) -> str:
    """`conv2d + rescale` for a group, else the name of the op."""
    return " + ".join(part.op.name for part in _parts(node))


def _kind(node: Node) -> str:
    """The kind of the part that is not elementwise, where there is one, else of the first."""
    parts = _parts(node)
    part = next((p for p in parts if not p.op.elementwise), parts[0])
    if part.op.cost(*(v.type for v in part.operands)).macs:
        return "linear"
    if part.op.moves_data:
        return "move"
    if part.op.name in ("quantize", "dequantize", "rescale"):
        return "quantize"
    return "elementwise" if part.op.elementwise else "reduce"
