"""Quantized graphs cut behind every `quantize`: each layer gets the integers that it should have got.

Layers of a whole graph in floats between integers cannot be judged by its outputs: one value that rounding tips to the
next integer changes all that follows. Cut, every layer is judged given the same inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.graph import Graph, Node, graph_input
from ..ir.ops.quant import Quantize
from ..ir.types import Array
from .interpreter import run


@dataclass(frozen=True)
class Cut:
    """A graph whose quantized values come in as inputs `given`, and go out as outputs `made`; and the whole one."""

    whole: Graph
    graph: Graph
    given: tuple[str, ...]
    made: tuple[str, ...]

    def without_steps(self) -> Graph:
        """The graph of the other outputs alone."""
        twin = self.graph.clone()
        kept = [(v, n) for v, n in zip(twin.outputs, twin.output_names, strict=True) if n not in self.made]
        twin.outputs, twin.output_names = [v for v, _ in kept], [n for _, n in kept]
        twin.prune_from(list(twin.nodes))
        return twin


def unchained(graph: Graph, names: Sequence[str]) -> Cut:
    """The graph cut behind every `quantize`; `names` of these values, in order, become inputs.

    An output that is such a value is among `made` instead. Raises ValueError for a wrong number of names.
    """
    twin = graph.clone()
    taken = {*names, *graph.input_names, *graph.output_names}
    made: list[str] = []
    for node, name in zip(_steps(twin), names, strict=True):
        given = graph_input(name, node.result.type)
        twin.inputs.append(given)
        twin.replace(node.result, given)
        made.append(_free(name, taken))
    cut = set(twin.inputs[len(graph.inputs) :])
    kept = [(v, n) for v, n in zip(twin.outputs, twin.output_names, strict=True) if v not in cut]
    results = [node.result for node in _steps(twin)]
    twin.outputs = [*(v for v, _ in kept), *results]
    twin.output_names = [*(n for _, n in kept), *made]
    return Cut(graph, twin, tuple(names), tuple(made))


def _steps(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if isinstance(node.op, Quantize)]


def _free(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}.{number}" in taken:
        number += 1
    taken.add(f"{name}.{number}")
    return f"{name}.{number}"


def step_values(graph: Graph, inputs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
    """What the interpreter gives for every `quantize`, under these names; one sample."""
    values: list[Array] = []

    def listen(node: Node, results: tuple[Array, ...]) -> None:
        if isinstance(node.op, Quantize):
            values.append(results[0])

    run(graph, inputs, listen)
    return dict(zip(names, (np.asarray(v) for v in values), strict=True))
