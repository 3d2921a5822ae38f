"""Groups of elementwise ops alone."""

from __future__ import annotations

import math

from ....ir.graph import Node
from ...group import Group
from ..code import Code
from ..elements import ELEMENTS
from ..epilogue import Position, read
from ..expressions import dense_strides, flat
from ..kernel import LoopKernel


class Elementwise(LoopKernel):
    """One loop over the elements where operands are of the result's shape or single numbers; nested loops elsewhere."""

    name = "elementwise"
    ops = tuple(ELEMENTS)

    def write(self, group: Group, code: Code) -> None:
        shape = group.shape(group.result)
        whole = all(_is_whole(group, n) for n in group.nodes)
        outer, inner = ((), math.prod(shape)) if whole else (shape[:-1], shape[-1])
        with code.loops(outer) as axes, code.lanes(inner) as i:
            base = flat(axes, dense_strides(shape)[: len(outer)])
            code.result(Position(base + i, (*axes, i)))


def _is_whole(group: Group, node: Node) -> bool:
    """Whether each operand is of the result's shape, or one number."""
    result = group.shape(group.result)
    return all(group.shape(v) == result or math.prod(group.shape(v)) == 1 for v in read(node))
