"""Smaller variants of a graph, each made of the one before: fewer nodes, fewer outputs, smaller sizes, other weights.

All are pure functions; None, or nothing, means that there is no such variant. Values keep their names, which are
unique, so that it is known what each one held in the original.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value, apply, graph_input
from ..ir.op import Op
from ..ir.types import Array
from .refit import MISFIT, without
from .sources import copied


def uniquely_named(graph: Graph) -> Graph:
    """A copy in which every value has a name of its own; public names stay."""
    copy, taken = graph.clone(), set(graph.input_names)
    for node in copy.nodes:
        for value in node.results:
            wanted = value.name or "v"
            name = next(n for n in _numbered(wanted) if n not in taken)
            taken.add(name)
            value.name = name
    return copy


def _numbered(name: str) -> Iterable[str]:
    yield name
    number = 0
    while True:
        number += 1
        yield f"{name}_{number}"


def nodes_of(graph: Graph) -> list[Node]:
    """What is computed: all nodes but constants."""
    return [node for node in graph.nodes if not isinstance(node.op, Const)]


def only(graph: Graph, nodes: Collection[Node]) -> Graph | None:
    """These nodes alone. What they take from others becomes an input; what others took of them, an output."""
    chosen = set(nodes)
    if not chosen:
        return None
    values: dict[Value, Value] = {}
    copy = Graph([], [], name=graph.name)
    for node in (n for n in graph.nodes if n in chosen):
        for value in node.operands:
            if value in values:
                continue
            if value.const is not None and value.producer is not None:
                twin = copied(value.producer, values)
                copy.insert(twin)
                values[value] = twin.result
            else:
                values[value] = graph_input(value.name, value.type)
                copy.inputs.append(values[value])
        twin = copied(node, values)
        copy.insert(twin)
        values.update(zip(node.results, twin.results, strict=True))
    public = [v for n in graph.nodes if n in chosen for v in n.results if _leaves(graph, v, chosen)]
    copy.outputs = [values[v] for v in public]
    copy.output_names = [v.name for v in public]
    return copy


def _leaves(graph: Graph, value: Value, chosen: Collection[Node]) -> bool:
    users = value.users
    return graph.is_output(value) or not users or any(user not in chosen for user in users)


def without_output(graph: Graph, index: int) -> Graph | None:
    """One output less, and what only that needed."""
    if len(graph.outputs) < 2:
        return None
    copy = graph.clone()
    dropped = copy.outputs[index]
    copy.outputs = (*copy.outputs[:index], *copy.outputs[index + 1 :])
    copy.output_names.pop(index)
    if dropped.producer is not None:
        copy.prune_from([dropped.producer])
    return _without_unused_inputs(copy)


def bypassed(graph: Graph, index: int) -> Iterator[Graph]:
    """The computed node with this number replaced by one of its operands; constants further down are cut to fit."""
    node = nodes_of(graph)[index]
    if len(node.results) != 1:
        return
    for source in dict.fromkeys(v for v in node.operands if v.const is None):
        if source.producer is not None or not graph.is_output(node.result):
            yield from map(_without_unused_inputs, without(graph, node, source))


def _without_unused_inputs(graph: Graph) -> Graph:
    graph.inputs = [v for v in graph.inputs if v.uses or graph.is_output(v)]
    return graph


# ---- sizes


def volume(graph: Graph) -> int:
    """Elements of all values together."""
    return sum(v.type.size for v in [*graph.inputs, *(v for node in graph.nodes for v in node.results)])


def sizes(graph: Graph) -> list[int]:
    """Every size above 1 of any dimension, the largest first."""
    values = [*graph.inputs, *(v for node in graph.nodes for v in node.results)]
    return sorted({d for v in values for d in v.type.shape if isinstance(d, int) and d > 1}, reverse=True)


def resized(graph: Graph, old: int, new: int) -> Graph | None:
    """Every dimension of this size with another one: inputs, constants (their first elements), shapes and groups."""
    values: dict[Value, Value] = {}
    for v in graph.inputs:
        shape = tuple(new if d == old else d for d in v.type.shape)
        values[v] = graph_input(v.name, v.type.with_shape(shape))
    copy = Graph(list(values.values()), [], name=graph.name)
    try:
        for node in graph.nodes:
            twin = apply(_resized(node.op, old, new), *(values[v] for v in node.operands), loc=node.loc)
            for before, after in zip(node.results, twin.results, strict=True):
                quant = before.type.quant
                after.name = before.name
                if quant is not None and quant.axis is None:
                    after.type = after.type.with_quant(quant)
            copy.insert(twin)
            values.update(zip(node.results, twin.results, strict=True))
    except MISFIT:
        return None
    copy.outputs = [values[v] for v in graph.outputs]
    copy.output_names = list(graph.output_names)
    return copy if volume(copy) < volume(graph) else None


def _resized(op: Op, old: int, new: int) -> Op:
    if isinstance(op, Const):
        return Const(op.data[tuple(slice(new) if d == old else slice(None) for d in op.data.shape)])
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.name == "groups" and value == old:
            changes[field.name] = new
        elif field.name == "shape" and isinstance(value, tuple):
            changes[field.name] = tuple(new if d == old else d for d in value)
    return op.like(**changes) if changes else op


# ---- weights


def weights(graph: Graph) -> list[str]:
    """Names of constants that can hold other numbers of the same range."""
    return [v.name for v, array in graph.constants.items() if array.tobytes() != _random(v.name, array).tobytes()]


def anonymous(graph: Graph, names: Collection[str]) -> Graph:
    """The graph with seeded random numbers, of the same range, in the place of these constants."""
    copy = graph.clone()
    for value, array in copy.constants.items():
        if value.name in names and value.producer is not None:
            value.producer.op = Const(_random(value.name, array))
    return copy


def _random(name: str, array: Array) -> Array:
    if array.size == 0 or array.dtype.kind not in "fiu":
        return array
    random = np.random.Generator(np.random.PCG64(list(name.encode("utf-8", "surrogatepass"))))
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)].astype(np.float64)
        lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (-1.0, 1.0)
        if lo == hi:
            return np.full_like(array, float(f"{lo:.1g}"))
        return random.uniform(lo, hi, array.shape).astype(array.dtype)
    lo, hi = int(array.min()), int(array.max())
    return random.integers(lo, hi, array.shape, dtype=np.int64, endpoint=True).astype(array.dtype)


def ranges_of(arrays: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """Least and greatest finite value of each array; a range that is a point is widened."""
    found = {}
    for name, array in arrays.items():
        finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
        lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (-1.0, 1.0)
        found[name] = (lo, hi) if lo < hi else (lo, lo + 1)
    return found
