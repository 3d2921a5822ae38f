"""Groups of elementwise ops alone."""

from __future__ import annotations

import math

from ....ir.graph import Node
from ....ir.ops.quant import Table
from ...group import Group
from .. import scalars
from ..code import Code
from ..emitters import EMITTERS
from ..scalars import Position
from .base import LANES, TirKernel


class TirElementwise(TirKernel):
    """The last axes that all operands run along together, or not at all, are one loop in vectors."""

    name = "elementwise"
    ops = tuple(EMITTERS)

    def emit(self, group: Group, code: Code) -> None:
        rows(group, code)


def rows(group: Group, code: Code) -> None:
    """Store every element of a group whose anchor is elementwise."""
    shape = group.shape(group.result)
    whole = all(_is_whole(group, n) for n in group.nodes)
    outer, inner = ((), math.prod(shape)) if whole else (shape[:-1], shape[-1])
    with code.loops(outer) as axes:
        base = scalars.flat(axes, scalars.dense_strides(shape)[: len(outer)])
        code.lanes(inner, LANES, lambda i: scalars.store(group, code, Position(base + i, (*axes, i))))


def _is_whole(group: Group, node: Node) -> bool:
    """Whether each operand is the result's shape, or one number."""
    result = group.shape(group.result)
    read = node.operands[:1] if isinstance(node.op, Table) else node.operands
    return all(group.shape(v) == result or math.prod(group.shape(v)) == 1 for v in read)
