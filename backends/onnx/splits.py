"""Slices that share out one axis of a value, which are one Split."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.graph import Graph, Node
from ...ir.ops.shape import Slice
from .reshaped import is_rows, spare
from .site import Operand, Site

#: From this operator set on the sizes are an operand.
SIZES = 13


@dataclass(frozen=True)
class Split:
    """Neighbouring slices along one axis, from its beginning to its end."""

    axis: int
    slices: tuple[Node, ...]

    def emit(self, site: Site, x: Operand, rows: bool) -> tuple[Operand, ...]:
        """One result for each slice. rows: of the matrix that x was made of, where there is one."""
        types, axis = [node.result.type for node in self.slices], self.axis
        sizes = [int(type.shape[axis]) for type in types]  # type: ignore[arg-type]
        matrix = x.made_of if rows and axis == x.type.rank - 1 and is_rows(x.made_of, x.type) else None
        if matrix is not None:
            x, axis, types = matrix, 1, [matrix.type.with_shape((matrix.type.shape[0], n)) for n in sizes]
        if site.opset < SIZES:
            parts = site.emit_all("Split", x, types=types, axis=axis, split=sizes)
        else:
            parts = site.emit_all("Split", x, site.array("sizes", sizes), types=types, axis=axis)
        if matrix is None:
            return parts
        return tuple(spare(site, y, node.result.type.shape) for y, node in zip(parts, self.slices, strict=True))


def splits(graph: Graph) -> dict[Node, Split]:
    """What can be written as a Split, by each of its slices."""
    found: dict[Node, Split] = {}
    for node in graph.nodes:
        for value in node.operands if isinstance(node.op, Slice) and node not in found else ():
            slices = [(user, axis) for user in value.users if (axis := _axis(user)) is not None]
            for at in dict.fromkeys(axis for _, axis in slices):
                split = _shared_out([user for user, axis in slices if axis == at], at)
                found.update(dict.fromkeys(split.slices, split) if split is not None else {})
    return found


def _axis(node: Node) -> int | None:
    """The only axis along which a node slices, element by element."""
    if not isinstance(node.op, Slice) or set(node.op.steps) - {1}:
        return None
    bounds = zip(node.op.starts, node.op.stops, node.operands[0].type.shape, strict=True)
    sliced = [i for i, (start, stop, d) in enumerate(bounds) if (start, stop) != (0, d)]
    return sliced[0] if len(sliced) == 1 else None


def _shared_out(slices: list[Node], axis: int) -> Split | None:
    """The Split of slices that are, each once and together, the whole axis."""
    ordered = sorted(slices, key=lambda node: node.op.attributes()["starts"][axis])
    end: object = 0
    for node in ordered:
        if node.op.attributes()["starts"][axis] != end:
            return None
        end = node.op.attributes()["stops"][axis]
    return Split(axis, tuple(ordered)) if end == ordered[0].operands[0].type.shape[axis] else None
