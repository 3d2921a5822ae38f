"""Runs of consecutive nodes on one side, and what each host run reads from the arena and writes to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...ir.constant import Const
from ...ir.graph import Graph, Value
from ...ir.ops.shape import Reshape
from .isa import Space
from .partition import Placement

Addresses = Mapping[Value, tuple[Space, int]]


def runs(placements: Sequence[Placement], graph: Graph, addresses: Addresses) -> tuple[tuple[Placement, ...], ...]:
    """Placements in order of execution, cut where the side changes.

    A host run is cut, too, before it would write where it has read: its functions may run in another order.
    """
    found: list[list[Placement]] = []
    for placement in placements:
        if found and found[-1][0].on_host == placement.on_host:
            found[-1].append(placement)
        else:
            found.append([placement])
    return tuple(tuple(part) for run in found for part in _apart(run, graph, addresses))


def _apart(run: list[Placement], graph: Graph, addresses: Addresses) -> list[list[Placement]]:
    parts: list[list[Placement]] = []
    while run and run[0].on_host:
        count = next(n for n in range(len(run), 0, -1) if n == 1 or not _overwrites(run[:n], graph, addresses))
        parts.append(run[:count])
        run = run[count:]
    return [*parts, run] if run else parts


def _overwrites(run: Sequence[Placement], graph: Graph, addresses: Addresses) -> bool:
    def place(value: Value) -> tuple[int, int]:
        return (first := addresses[value][1]), first + value.type.nbytes

    read, written = map(place, reads(run)), [place(v) for v in writes(run, graph)]
    return any(a < end and first < b for a, b in read for first, end in written)


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
