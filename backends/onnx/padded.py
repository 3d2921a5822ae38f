"""Gathers by indices that a rule says: padding with elements of the operand itself is one Pad, a stride one Slice."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Node
from ...ir.ops.index import Gather
from .forms import Form, Written

#: Modes of Pad, and the first operator sets that have them; from PADS on pads are an operand.
MODES, PADS = {"edge": 2, "reflect": 2, "wrap": 19}, 11
#: From this operator set on bounds and steps of Slice are operands, and steps may be negative.
STEPS = 10
#: The end of a slice that goes backwards to the first element.
BEFORE_FIRST = -(2**63) + 1


def by_rule(node: Node) -> Form | None:
    """The Pad or Slice that a gather is, together with gathers of other axes before it that pad alike."""
    if not isinstance(node.op, Gather):
        return None
    if (indices := _descending(node.op.indices)) is not None:
        stop = indices.stop if indices.stop >= 0 else BEFORE_FIRST
        given = {"starts": [indices.start], "ends": [stop], "axes": [node.op.axis], "steps": [indices.step]}
        return Form(node, (), Written("Slice", (node.operands[0],), since=STEPS, given=given))
    for mode, since in MODES.items():
        rank, source, inside = node.result.type.rank, node, list[Node]()
        pads: dict[int, tuple[int, int]] = {}
        while (ends := _ends(source, mode)) is not None and source.op.axis not in pads:  # type: ignore[attr-defined]
            pads[source.op.axis] = ends  # type: ignore[attr-defined]
            inside.append(source)
            before = source.operands[0].producer
            if before is None or before.graph is None or before.graph.only_user(before.results[0]) is not source:
                break
            source = before
        if pads:
            both = [pads.get(axis, (0, 0)) for axis in range(rank)]
            flat = [left for left, _ in both] + [right for _, right in both]
            padding = Written("Pad", inside[-1].operands[:1], {"mode": mode}, since, {"pads": flat}, PADS)
            return Form(node, tuple(inside[1:]), padding)
    return None


def _descending(indices: tuple[int, ...]) -> range | None:
    """The range that the indices are, where it goes backwards."""
    if len(indices) < 2 or (step := indices[1] - indices[0]) >= 0:
        return None
    whole = range(indices[0], indices[-1] - 1, step)
    return whole if indices == tuple(whole) else None


def _ends(node: Node, mode: str) -> tuple[int, int] | None:
    """How many elements a gather puts before and behind all of its operand's, where that is padding of this mode."""
    if not isinstance(node.op, Gather):
        return None
    indices, size = np.array(node.op.indices, np.int64), node.operands[0].type.shape[node.op.axis]
    if not isinstance(size, int) or size < 1 or len(indices) <= size:
        return None
    zeros = np.flatnonzero(indices == 0)
    starts = [len(zeros) - 1] if mode == "edge" else zeros[:2].tolist()  # padding by reflection may have a 0, too
    most = {"edge": len(indices), "reflect": size - 1, "wrap": size}[mode]
    for left in starts:
        right = len(indices) - size - left
        if not (0 <= left <= most and 0 <= right <= most):
            continue
        if np.array_equal(np.pad(np.arange(size), (left, right), mode=mode), indices):  # type: ignore[call-overload]
            return left, right
    return None
