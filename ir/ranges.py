"""Bounds of every value of a graph, computed once from `Op.bounds`: an abstract interpretation with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .graph import Graph, Value
from .op import Bounds


def ranges(graph: Graph, inputs: Mapping[Value, Bounds] | None = None) -> dict[Value, Bounds]:
    """Bounds of every value. Inputs that are not given may hold anything their dtype can."""
    known = {v: (inputs or {}).get(v) or Bounds.top(v.type) for v in graph.inputs}
    for node in graph.nodes:
        with np.errstate(all="ignore"):
            result = node.op.bounds(*(known[v] for v in node.operands))
        bounds = result if isinstance(result, tuple) else (result,)
        known.update(zip(node.results, bounds, strict=True))
    return known


def body_bounds(body: Graph, operands: Sequence[Bounds]) -> tuple[Bounds, ...]:
    """Bounds of the outputs of a body from those of its inputs."""
    known = ranges(body, dict(zip(body.inputs, operands, strict=True)))
    return tuple(known[v] for v in body.outputs)
