"""Bounds of every value of a graph, computed once from `Op.bounds`: an abstract interpretation with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .constant import Const
from .graph import Graph, Value
from .op import Bounds


def ranges(graph: Graph, inputs: Mapping[Value, Bounds] | None = None) -> dict[Value, Bounds]:
    """Bounds of every value, per channel where ops keep them apart. Inputs that are not given may hold anything."""
    known = {v: (inputs or {}).get(v) or Bounds.top(v.type) for v in graph.inputs}
    for node in graph.nodes:
        with np.errstate(all="ignore"):
            result = node.op.bounds(*(known[v] for v in node.operands))
        bounds = result if isinstance(result, tuple) else (result,)
        if not isinstance(node.op, Const):
            bounds = tuple(map(_compact, bounds))
        known.update(zip(node.results, bounds, strict=True))
    return known


def _compact(bounds: Bounds) -> Bounds:
    """The same bounds without repetitions along axes: what is one number for all stays one number."""
    lo, hi = np.broadcast_arrays(bounds.lo, bounds.hi)
    for axis in range(lo.ndim):
        if lo.shape[axis] > 1:
            first = lo.take([0], axis), hi.take([0], axis)
            if np.all(first[0] == lo) and np.all(first[1] == hi):
                lo, hi = first
    return Bounds(bounds.type, lo, hi)


def body_bounds(body: Graph, operands: Sequence[Bounds]) -> tuple[Bounds, ...]:
    """Bounds of the outputs of a body from those of its inputs."""
    known = ranges(body, dict(zip(body.inputs, operands, strict=True)))
    return tuple(known[v] for v in body.outputs)
