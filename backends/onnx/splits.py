"""Slices that share out one axis of a value, which are one Split."""

from __future__ import annotations

from ...ir.graph import Graph, Node, Value
from ...ir.ops.shape import Slice
from ...ir.types import Dim
from ...passes.parallel import Shares, shares_of, sliced_axis
from .reshaped import is_rows, spare
from .site import Operand, Site

#: From this operator set on the sizes are an operand.
SIZES = 13
#: Of one value at most so many are looked for.
SEVERAL = 8


def splits(graph: Graph) -> dict[Node, Shares]:
    """What can be written as a Split, by each of its slices."""
    found: dict[Node, Shares] = {}
    for node in graph.nodes:
        if isinstance(node.op, Slice) and node not in found:
            value = node.operands[0]
            found.update((part, shares) for shares in shares_of(value) or _several(value) for part in shares.slices)
    return found


def _several(value: Value) -> list[Shares]:
    """Splits of one value into different parts: slices that share it out more than once."""
    slices = [(user, axis) for user in value.users if (axis := sliced_axis(user)) is not None]
    found: list[Shares] = []
    for axis in dict.fromkeys(axis for _, axis in slices):
        left = sorted((_bounds(node, axis), i) for i, (node, a) in enumerate(slices) if a == axis)
        while len(found) < SEVERAL and (chain := _chain(left, value.type.shape[axis])):
            found.append(Shares(axis, tuple(slices[i][0] for _, i in chain)))
            left = [part for part in left if part not in chain]
    return found


Part = tuple[tuple[int, int], int]


def _chain(parts: list[Part], size: Dim) -> list[Part]:
    """Parts from the beginning to the end, one behind the other; none where there are no such. parts: in order."""
    behind: dict[Dim, Part | None] = {size: None}
    for part in reversed(parts):
        (start, stop), _ = part
        if stop in behind and start < stop:
            behind[start] = part
    chain, at = list[Part](), 0
    while (part := behind.get(at)) is not None:  # type: ignore[assignment]
        chain.append(part)
        at = part[0][1]
    return chain


def _bounds(node: Node, axis: int) -> tuple[int, int]:
    """Where a slice begins and ends along an axis."""
    op = node.op
    assert isinstance(op, Slice)
    return op.starts[axis], int(op.stops[axis])  # type: ignore[arg-type]


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
