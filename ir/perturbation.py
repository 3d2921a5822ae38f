"""How far rounding may take a float graph's outputs: measured, element by element.

A graph is evaluated in double precision, several times, and every result of every node is moved at random, by about as
much as an executor's own rounding may move it (`Op.error`, under `likely_roundings`). How far the outputs come says how
the graph amplifies errors: Monte Carlo arithmetic, D. S. Parker, UCLA CSD-970002, 1997; discrete stochastic arithmetic,
J. Vignes, Numerical Algorithms 37, 2004. `factor` says how far beyond that an executor may be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .constant import Const
from .definition import body_of
from .evaluate import evaluate_node, symbol_sizes
from .graph import Graph, Node, Value
from .precision import float64_twin, widened
from .rounding import likely_roundings
from .types import Array, DType, dtype_of, sized

#: Evaluations side by side, which memory is taken for, and how often these are repeated.
ABREAST = 4
ROUNDS = 4
#: The probability that one element of a right result is called wrong, at most.
ALARM = 1e-6
#: What is within so many times the root mean square of the first round is so within `factor` of all rounds.
EARLY = 3.0


def factor(trials: int, alarm: float = ALARM) -> float:
    """How many times the root mean square of Gaussian trials an executor's error exceeds with this probability at most.

    To first order an output's error is a sum of its nodes' errors, times derivatives. Of independent ones, with mean 0
    and at most e, it exceeds t * sigma with probability 2 exp(-t^2 / 2) (Hoeffding), where sigma^2 is the sum of
    squares; trials that move each by e times a normal number are normal, of that very sigma. So k trials with root mean
    square s have k s^2 / sigma^2 distributed as chi squared, and the mean of 2 exp(-(T s / sigma)^2 / 2) over s is
    2 (1 + T^2 / k)^(-k / 2).
    """
    return math.sqrt(trials * ((2 / alarm) ** (2 / trials) - 1))


def reach(graph: Graph, inputs: Sequence[Array], early: bool = False) -> list[Array]:
    """Per output, how far from the double-precision result each element may be that an executor computes.

    inputs: one sample, in order. early: of one round of trials, and less than that of all: what is within is right,
    what is not may be. Infinite or NaN where rounding decides whether there is a number. Integers: the farthest of the
    trials; 0 where none moves them. The same for the same graph and sample: directions are drawn from fixed seeds.
    """
    sizes = symbol_sizes((v.type.shape for v in graph.inputs), (x.shape for x in inputs))
    rounds, twin = 1 if early else ROUNDS, float64_twin(graph)
    times = EARLY if early else factor(ABREAST * rounds)
    far: list[Array] = [np.zeros(())] * len(graph.outputs)
    for seed in range(rounds):
        runs = _Runs(sizes, np.random.Generator(np.random.PCG64(seed)))
        moved = runs.graph(graph, twin, [[widened(x)] * (1 + ABREAST) for x in inputs])
        far = [_gathered(f, arrays) for f, arrays in zip(far, moved, strict=True)]
    floats = (v.type.dtype.is_float for v in graph.outputs)
    return [times * np.sqrt(f / (ABREAST * rounds)) if is_float else f for f, is_float in zip(far, floats, strict=True)]


def _gathered(far: Array, arrays: Sequence[Array]) -> Array:
    """The sum of squares of the distances of trials from the first array, or for integers the largest."""
    exact, *trials = arrays
    is_float = dtype_of(exact).is_float
    with np.errstate(all="ignore"):
        for t in trials:
            same = (t == exact) | ((t != t) & (exact != exact))
            gap = np.where(same, 0.0, np.abs(t.astype(np.float64) - exact.astype(np.float64)))
            far = far + gap * gap if is_float else np.maximum(far, gap)
    return far


#: Pseudorandom numbers that equal elements share.
SHARED = 12


def _direction(result: Array, random: np.random.Generator) -> Array:
    """By how many times its error each element of a result is moved: a normal number, of four equal parts.

    One of each element's own; one that equal elements share, for the same operands give an executor the same error; one
    of the whole node, as of sums that are all too low; and one away from 0 or towards it, as of a library function that
    is always too large.
    """
    bits = np.ascontiguousarray(result, np.float64).view(np.uint64)
    odd = random.integers(2**64, dtype=np.uint64, endpoint=False) | np.uint64(1)
    equals = random.standard_normal(1 << SHARED)[bits * odd >> np.uint64(64 - SHARED)]
    shift, stretch = random.standard_normal(2)
    moved = random.standard_normal(result.shape) + equals.reshape(result.shape) + shift + stretch * np.sign(result)
    return np.asarray(0.5 * moved)


@dataclass(frozen=True)
class _Runs:
    """Evaluations side by side: the first without errors, then trials. Every value has all its arrays.

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
            return [[twin.op.data] * (1 + ABREAST)]
        bodies = [_body(n, self.sizes) for n in (node, twin)]
        if bodies[0] is not None and bodies[1] is not None:
            return self.graph(bodies[0], bodies[1], operands)
        runs = self._evaluated(twin, operands)
        moved = []
        for k, error in enumerate(_errors(node, [arrays[0] for arrays in operands], self.sizes)):
            exact, *trials = (run[k] for run in runs)
            if error is not None and np.any(error):
                trials = [t + _direction(exact, self.random) * error for t in trials]
            moved.append([exact, *trials])
        return moved

    def _evaluated(self, twin: Node, operands: Sequence[list[Array]]) -> list[tuple[Array, ...]]:
        count = 1 + ABREAST
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
    if not node.op.only_defined:
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


def largest_number(dtype: DType) -> float:
    """The largest finite number of a dtype; infinite for those that are no floats."""
    if not dtype.is_float:
        return math.inf
    return float(dtype.limits.max)
