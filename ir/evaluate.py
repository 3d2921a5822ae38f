"""Evaluate a graph with the ops' own reference semantics: folding, bodies and the interpreter use this one loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .constant import Const
from .errors import InferenceError
from .graph import Graph, Node, Value
from .types import Array, converted

Listener = Callable[[Node, tuple[Array, ...]], None]


def evaluate_node(node: Node, operands: Sequence[Array]) -> tuple[Array, ...]:
    """Result arrays of one node, in the dtypes that inference promised, in row-major order.

    The order of elements in memory decides how NumPy and BLAS sum; fixed, results depend on values alone.
    """
    with np.errstate(all="ignore"):
        out = node.op.ref(*operands)
        results = out if isinstance(out, tuple) else (out,)
        return tuple(converted(r, v.type.dtype) for r, v in zip(results, node.results, strict=True))


def evaluate(graph: Graph, inputs: Sequence[Array], listener: Listener | None = None) -> list[Array]:
    """Output arrays for input arrays given in order. Arrays are dropped after their last use.

    `listener(node, results)` sees every node that is not a constant. Raises InferenceError for a wrong count of inputs.
    """
    if len(inputs) != len(graph.inputs):
        raise InferenceError(f"{graph.name} has {len(graph.inputs)} inputs, {len(inputs)} were given")
    arrays = (np.asarray(x, order="C") for x in inputs)
    live: dict[Value, Array] = dict(zip(graph.inputs, arrays, strict=True))
    remaining = {v: len(v.uses) for n in graph.nodes for v in n.results}
    kept = set(graph.outputs)
    for node in graph.nodes:
        if isinstance(node.op, Const):
            live[node.results[0]] = node.op.data
            continue
        results = evaluate_node(node, [live[v] for v in node.operands])
        if listener is not None:
            listener(node, results)
        live.update(zip(node.results, results, strict=True))
        for v in node.operands:
            if v in remaining:
                remaining[v] -= 1
                if not remaining[v] and v not in kept:
                    del live[v]
    return [live[v] for v in graph.outputs]


def evaluate_by_name(graph: Graph, inputs: Mapping[str, Array], listener: Listener | None = None) -> dict[str, Array]:
    """As `evaluate`, keyed by input and output names."""
    outputs = evaluate(graph, [inputs[v.name] for v in graph.inputs], listener)
    return dict(zip(graph.output_names, outputs, strict=True))
