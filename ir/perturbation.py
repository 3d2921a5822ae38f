"""How far rounding may take a float graph's outputs: measured, by making the errors that executors may make.

A graph is evaluated in double precision, several times, and every result of every node is moved by as much as any
executor's own rounding may move it (`Op.error`, under `likely_roundings`). What that does to the outputs says how the
graph amplifies errors: Monte Carlo arithmetic, D. S. Parker, UCLA CSD-970002, 1997. An executor rounds in another way
than the interpreter, and no more than that; so it stays within a small factor of what is found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .composite import Composite, body_of
from .constant import Const
from .evaluate import evaluate_node, symbol_sizes
from .graph import Graph, Node, Value
from .precision import float64_twin, widened
from .rounding import likely_roundings
from .types import Array, DType, dtype_of, sized

#: Outputs of executors may lie so many times as far from the exact ones as the farthest of the trials.
TRIAL_FACTOR = 2

#: The part of its error bound by which each element of a result is moved, in [-1, 1].
Direction = Callable[[Array, np.random.Generator], Array]


def _each(result: Array, random: np.random.Generator) -> Array:
    return random.choice((-1.0, 1.0), result.shape)


def _node(result: Array, random: np.random.Generator) -> Array:
    return np.full(result.shape, random.choice((-1.0, 1.0)))


#: Errors of their own for each element; the same for all of a node; and, as of a library function that is always too
#: large, or of a sum that loses what is small, all upwards, or all away from 0.
TRIALS: Sequence[Direction] = (
    _each, _each, _node, _node,
    lambda result, random: np.ones(result.shape),
    lambda result, random: np.sign(result),
)  # fmt: skip


def reach(graph: Graph, inputs: Sequence[Array]) -> list[float]:
    """Per output, how far from the double-precision result executors may come; 0 for integers.

    inputs: one sample, in order. Elements that the output's own dtype cannot hold do not count. The same for the same
    graph and sample: directions are drawn from a fixed seed.
    """
    sizes = symbol_sizes((v.type.shape for v in graph.inputs), (x.shape for x in inputs))
    runs = _Runs(sizes, np.random.Generator(np.random.PCG64(0)))
    moved = runs.graph(graph, float64_twin(graph), [[widened(x)] * (1 + len(TRIALS)) for x in inputs])
    return [_farthest(arrays, largest_number(v.type.dtype)) for arrays, v in zip(moved, graph.outputs, strict=True)]


@dataclass(frozen=True)
class _Runs:
    """Evaluations side by side: the first without errors, then one for each of TRIALS. Every value has all its arrays.

    sizes: what symbols stand for.
    """

    sizes: Mapping[str, int]
    random: np.random.Generator

    def graph(self, graph: Graph, twin: Graph, inputs: Sequence[list[Array]]) -> list[list[Array]]:
        """The outputs of a graph, whose twin computes in double precision."""
        live: dict[Value, list[Array]] = dict(zip(twin.inputs, inputs, strict=True))
        remaining = {v: len(v.uses) for node in twin.nodes for v in node.results}
        kept = set(twin.outputs)
        originals = _originals(graph, twin)
        for other in twin.nodes:
            results = self._node(originals[other], other, [live[v] for v in other.operands])
            live.update(zip(other.results, results, strict=True))
            for value in other.operands:
                if value in remaining:
                    remaining[value] -= 1
                    if not remaining[value] and value not in kept:
                        del live[value]
        return [live[v] for v in twin.outputs]

    def _node(self, node: Node, twin: Node, operands: Sequence[list[Array]]) -> list[list[Array]]:
        """The results of a node: those of its body, or its own, moved by its own error."""
        if isinstance(twin.op, Const):
            return [[twin.op.data] * (1 + len(TRIALS))]
        bodies = [_body(n, self.sizes) for n in (node, twin)]
        if bodies[0] is not None and bodies[1] is not None:
            return self.graph(bodies[0], bodies[1], operands)
        runs = self._evaluated(twin, operands)
        moved = []
        for k, error in enumerate(_errors(node, [arrays[0] for arrays in operands], self.sizes)):
            exact, *trials = (run[k] for run in runs)
            if error is not None and np.any(error):
                trials = [t + move(t, self.random) * error for t, move in zip(trials, TRIALS, strict=True)]
            moved.append([exact, *trials])
        return moved

    def _evaluated(self, twin: Node, operands: Sequence[list[Array]]) -> list[tuple[Array, ...]]:
        count = 1 + len(TRIALS)
        if all(array is arrays[0] for arrays in operands for array in arrays):  # nothing has been moved yet
            return [evaluate_node(twin, [arrays[0] for arrays in operands], self.sizes)] * count
        return [evaluate_node(twin, [arrays[i] for arrays in operands], self.sizes) for i in range(count)]


def _originals(graph: Graph, twin: Graph) -> dict[Node, Node]:
    """Which node of the graph each of its twin's stands for; their orders may differ."""
    found: dict[Node, Node] = {}
    stack = list(zip(twin.outputs, graph.outputs, strict=True))
    while stack:
        other, value = stack.pop()
        if other.producer is not None and value.producer is not None and other.producer not in found:
            found[other.producer] = value.producer
            stack.extend(zip(other.producer.operands, value.producer.operands, strict=True))
    return found


def _body(node: Node, sizes: Mapping[str, int]) -> Graph | None:
    """What a node is made of, where its own error is that of its parts."""
    bodies = node.op.bodies()
    if len(bodies) == 1:
        return bodies[0]
    if not isinstance(node.op, Composite):
        return None
    types = [v.type.with_shape(sized(v.type.shape, sizes)) for v in node.operands]
    return body_of(node.op.sized(sizes) if sizes else node.op, types)


def _errors(node: Node, operands: Sequence[Array], sizes: Mapping[str, int]) -> list[Array | None]:
    """By how much the node's own rounding may move each element of each result; None where there is none."""
    if not any(v.type.dtype.is_float for v in node.results) or node.op.moves_data:
        return [None] * len(node.results)
    given = [
        x.astype(v.type.dtype.numpy) if v.type.dtype.is_float else x
        for v, x in zip(node.operands, operands, strict=True)
    ]
    with likely_roundings(), np.errstate(all="ignore"):
        out = (node.op.sized(sizes) if sizes else node.op).error(*given)
    errors = out if isinstance(out, tuple) else (out,)
    return [
        np.where(np.isfinite(e), e, 0.0) if v.type.dtype.is_float else None
        for e, v in zip(errors, node.results, strict=True)
    ]


def _farthest(arrays: Sequence[Array], limit: float) -> float:
    exact, *trials = arrays
    if not dtype_of(exact).is_float:
        return 0.0
    with np.errstate(all="ignore"):
        held = np.abs(exact) < limit
        gaps = [np.abs(t - exact) for t in trials]
    return TRIAL_FACTOR * max(float(np.max(g, initial=0, where=held & np.isfinite(g))) for g in gaps)


def largest_number(dtype: DType) -> float:
    """The largest finite number of a dtype; infinite for those that are no floats."""
    if not dtype.is_float:
        return math.inf
    return float(dtype.limits.max)
