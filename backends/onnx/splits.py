"""Slices that share out one axis of a value, which are one Split."""

from __future__ import annotations

from ...ir.graph import Graph, Node
from ...ir.ops.shape import Slice
from ...passes.parallel import Shares, shares_of
from .site import Operand, Site

#: From this operator set on the sizes are an operand.
SIZES = 13


def splits(graph: Graph) -> dict[Node, Shares]:
    """What can be written as a Split, by each of its slices."""
    found: dict[Node, Shares] = {}
    for node in graph.nodes:
        if isinstance(node.op, Slice) and node not in found:
            found.update((part, shares) for shares in shares_of(node.operands[0]) for part in shares.slices)
    return found


def emit_split(site: Site, shares: Shares, x: Operand) -> tuple[Operand, ...]:
    """One Split, with a result for each slice."""
    types = [node.result.type for node in shares.slices]
    if site.opset < SIZES:
        return site.emit_all("Split", x, types=types, axis=shares.axis, split=shares.sizes)
    return site.emit_all("Split", x, site.array("sizes", shares.sizes), types=types, axis=shares.axis)
