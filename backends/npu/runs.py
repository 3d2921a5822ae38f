"""Runs of consecutive nodes on one side, and what each host run reads from the arena and writes to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ...ir.constant import Const
from ...ir.graph import Graph, Value
from ...ir.ops.shape import Reshape
from .partition import Placement


def runs(placements: Sequence[Placement]) -> tuple[tuple[Placement, ...], ...]:
    """Placements in order of execution, cut where the side changes."""
    return tuple(tuple(run) for _, run in groupby(placements, key=lambda p: p.on_host))


def reads(run: Sequence[Placement]) -> list[Value]:
    """Activations that a run uses and does not compute: once each, though several may be the same bytes reshaped."""
    own = {v for p in run for v in p.node.results}
    operands = dict.fromkeys(v for p in run for v in p.node.operands)
    return [v for v in operands if (start := root(v)) not in own and start.const is None]


def writes(run: Sequence[Placement], graph: Graph) -> list[Value]:
    """Results of a run that are used outside of it."""
    own = dict.fromkeys(p.node for p in run)
    others = (n for n in graph.nodes if n not in own and not isinstance(n.op, Const | Reshape))
    used = {root(v) for v in (*(v for n in others for v in n.operands), *graph.outputs)}
    return [v for node in own for v in node.results if v in used]


def root(value: Value) -> Value:
    """The value whose bytes it is: itself, or of a reshape the operand's."""
    while value.producer is not None and isinstance(value.producer.op, Reshape):
        value = value.producer.operands[0]
    return value
