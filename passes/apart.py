"""Values whose parts have unlike ranges: one scale for all of them would leave too little of some.

A concat of boxes (0..640) and scores (0..1) has no scale that serves both. What is asked is how much of each part is
left: its signal-to-noise ratio at the scale of the whole, expected from what calibration saw. Where that is below
`LEAST_DB` and the part would fare better by at least a bit with a scale of its own, the value is *apart*: it stays
float, except for layers that it is known to serve well, because their results were measured (`served_db`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ir.evaluate import evaluate, evaluate_node
from ..ir.graph import Graph, Node, Value
from ..ir.ops.elementwise import Clip
from ..ir.ops.logic import Where
from ..ir.scheme import Encoding
from ..ir.types import Array, count
from .calibration import Calibrator, Statistics, decibel
from .quantization_plan import Unit

Parts = Mapping[Value, tuple[Value, ...]]


def apart(
    graph: Graph, units: Sequence[Unit], statistics: Mapping[Value, Statistics], calibrator: Calibrator
) -> dict[Value, str]:
    """The values that no one scale serves, with the reason. units: those that may become integer."""
    sources, cuts = _sources(graph), _cuts(graph, {unit.node: unit.result for unit in units})
    found = {}
    for whole, seen in statistics.items():
        parts = dict.fromkeys([*sources.get(whole, ()), *cuts.get(whole, ())])
        lost = _lost(seen, {v: statistics[v] for v in parts if v in statistics}, calibrator)
        if lost is not None:
            part, db = lost
            found[whole] = (
                f"%{part.name or '?'} is within {statistics[part]}, %{whole.name or '?'} within {seen}: "
                f"with one scale for both its SQNR would be {db:.1f} dB"
            )
    return found


def _lost(seen: Statistics, parts: Mapping[Value, Statistics], calibrator: Calibrator) -> tuple[Value, float] | None:
    """The part that loses most at the scale of the whole, where that is too much, and its expected SQNR in dB."""
    worst = None
    whole = calibrator.encoding(seen) if parts else None
    for value, all_of_it in parts.items():
        part = all_of_it.within(seen.lo, seen.hi)
        if part is None or whole is None or not calibrator.is_lost(part, whole):
            continue
        if worst is None or calibrator.sqnr_db(part, whole) < worst[1]:
            worst = value, calibrator.sqnr_db(part, whole)
    return worst


def _sources(graph: Graph) -> Parts:
    """Values that others are put together from, whole; also behind clips, and movements of all elements."""
    found: dict[Value, tuple[Value, ...]] = {}
    for node in graph.nodes:
        operands = [v for v in node.operands if v.const is None and v.type.dtype.is_float]
        if _joins(node):
            above = [v for operand in operands for v in (operand, *found.get(operand, ()))]
            found[node.results[0]] = tuple(dict.fromkeys(above))
        elif operands and operands[0] in found and (isinstance(node.op, Clip) or _keeps_all(node)):
            found[node.results[0]] = found[operands[0]]
    return found


def _joins(node: Node) -> bool:
    """Whether elements of the result are elements of several operands; which, does not matter."""
    return (node.op.keeps_scale or isinstance(node.op, Where)) and len(node.operands) > 1


def _keeps_all(node: Node) -> bool:
    """Whether the result has all elements of the only operand."""
    (first, *others), result = node.operands, node.results[0]
    return node.op.moves_data and not others and count(first.type.shape) == count(result.type.shape)


def _cuts(graph: Graph, results: Mapping[Node, Value]) -> Parts:
    """Values whose elements are some of another's. results: of nodes, after the clips that belong to them."""
    found: dict[Value, tuple[Value, ...]] = {}
    for node in reversed(list(graph.nodes)):
        if node.op.keeps_scale and node in results and len(node.operands) == 1:
            below = (results[node], *found.get(results[node], ()))
            found[node.operands[0]] = (*found.get(node.operands[0], ()), *below)
    return found


# ---- what becomes of layers


def served_db(
    graph: Graph, inputs: Sequence[Sequence[Array]], users: Mapping[Node, Mapping[Value, Encoding]]
) -> dict[Node, float]:
    """SQNR of a node's result in dB, at most 200, were these operands of it quantized and nothing else."""
    needed = {v for node in users for v in node.operands if v.const is None}
    signal, noise = dict.fromkeys(users, 0.0), dict.fromkeys(users, 0.0)
    for sample in inputs:
        live = {v: np.asarray(x) for v, x in zip(graph.inputs, sample, strict=True) if v in needed}

        def listener(node: Node, results: tuple[Array, ...], live: dict[Value, Array] = live) -> None:
            if node in users:
                operands = [_rounded(v, live, users[node].get(v)) for v in node.operands]
                with np.errstate(all="ignore"):
                    difference = evaluate_node(node, operands)[0].astype(np.float64) - results[0]
                known = np.isfinite(difference)
                signal[node] += float(np.square(results[0][known], dtype=np.float64).sum())
                noise[node] += float(np.square(difference[known]).sum())
            live.update((v, x) for v, x in zip(node.results, results, strict=True) if v in needed)

        evaluate(graph, sample, listener)
    return {node: decibel(signal[node], noise[node]) for node in users}


def _rounded(value: Value, live: Mapping[Value, Array], encoding: Encoding | None) -> Array:
    """A value's array, rounded to the steps of an encoding."""
    if value.const is not None or encoding is None:
        return live[value] if value.const is None else value.const
    return encoding.decode(encoding.encode(live[value])).astype(live[value].dtype)
