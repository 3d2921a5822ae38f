"""Counterexamples made small: whatever a graph does not need to go wrong is taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..debugging.refit import without
from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value, apply, graph_input
from ..ir.text import print_graph
from ..ir.types import dtype_of

#: Constants of a counterexample stand in its text up to this size, so that it can be pasted as it is.
INLINE = 4096


def size(graph: Graph) -> int:
    """Nodes that compute something."""
    return sum(not isinstance(n.op, Const) for n in graph.nodes)


def text(graph: Graph) -> str:
    """The graph as `parse_graph` reads it."""
    return print_graph(graph, INLINE)[0]


def reduced(graph: Graph, fails: Callable[[Graph], bool]) -> Graph:
    """The smallest graph to be found that still fails; `fails` answers alike for the same graph.

    Tried, until nothing helps: one value as the only output, a node replaced by a new input or an earlier value (with
    constants cut to its size), constants of ones, zeros and whole numbers.
    """
    while (smaller := next(filter(fails, _smaller(graph)), None)) is not None:
        graph = smaller
    while (simpler := next(filter(fails, _simpler(graph)), None)) is not None:
        graph = simpler
    return graph


def _smaller(graph: Graph) -> Iterator[Graph]:
    """Variants with fewer nodes or outputs."""
    computed = [n for n in graph.nodes if not isinstance(n.op, Const)]
    for node in computed:
        yield from _changed(graph, node, _as_output)
    for node in computed:
        yield from _changed(graph, node, _as_input)
    for i, node in enumerate(computed):
        for source in [*graph.inputs, *(earlier.results[0] for earlier in computed[:i])]:
            for smaller in without(graph, node, source) if len(node.results) == 1 else ():
                yield from _tidy(smaller, graph)


def _changed(graph: Graph, node: Node, change: Callable[[Graph, Node], None]) -> Iterator[Graph]:
    """A copy in which the node's twin is changed."""
    copy = graph.clone()
    change(copy, dict(zip(graph.nodes, copy.nodes, strict=True))[node])
    return _tidy(copy, graph)


def _tidy(copy: Graph, graph: Graph) -> Iterator[Graph]:
    """The copy without what nothing needs any more, if that makes it smaller than the graph."""
    copy.prune_from(list(copy.nodes))
    copy.inputs = [v for v in copy.inputs if v.uses or copy.is_output(v)]
    copy.name = "counterexample"
    if (size(copy), len(copy.outputs)) < (size(graph), len(graph.outputs)) and size(copy):
        yield copy


def _as_output(graph: Graph, node: Node) -> None:
    graph.outputs, graph.output_names = [node.results[0]], ["y"]


def _as_input(graph: Graph, node: Node) -> None:
    name = next(n for i in range(len(graph.inputs) + 1) if (n := f"v{i}") not in graph.input_names)
    fresh: Value = graph_input(name, node.results[0].type)
    graph.inputs.append(fresh)
    graph.replace(node.results[0], fresh)


def _simpler(graph: Graph) -> Iterator[Graph]:
    """Variants with a constant that is easier to read."""
    for number, node in enumerate(graph.nodes):
        if not isinstance(node.op, Const) or not dtype_of(node.op.data).is_float:
            continue
        data = node.op.data
        if _is_whole(data):
            continue
        for plain in (np.ones_like(data), np.zeros_like(data), np.rint(data)):
            copy = graph.clone()
            twin = list(copy.nodes)[number]
            constant = apply(Const(plain), name=twin.results[0].name)
            copy.insert(constant, before=twin)
            copy.replace(twin.results[0], constant.result)
            copy.prune_from([twin])
            yield copy


def _is_whole(data: np.ndarray) -> bool:
    return bool(np.all(data == np.rint(data)))
