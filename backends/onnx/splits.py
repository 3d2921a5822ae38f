"""Slices that share out one axis of a value, which are one Split."""

from __future__ import annotations

from ...ir.graph import Graph, Node
from ...ir.ops.shape import Slice
from ...passes.parallel import Shares, shares_of
from .reshaped import is_rows, spare
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


def emit_split(site: Site, shares: Shares, x: Operand, rows: bool) -> tuple[Operand, ...]:
    """One Split, with a result for each slice. rows: of the matrix that x was made of, where there is one."""
    types, axis = [node.result.type for node in shares.slices], shares.axis
    matrix = x.made_of if rows and axis == x.type.rank - 1 and is_rows(x.made_of, x.type) else None
    if matrix is not None:
        x, axis, types = matrix, 1, [matrix.type.with_shape((matrix.type.shape[0], n)) for n in shares.sizes]
    if site.opset < SIZES:
        parts = site.emit_all("Split", x, types=types, axis=axis, split=shares.sizes)
    else:
        parts = site.emit_all("Split", x, site.array("sizes", shares.sizes), types=types, axis=axis)
    if matrix is None:
        return parts
    return tuple(spare(site, y, node.result.type.shape) for y, node in zip(parts, shares.slices, strict=True))
