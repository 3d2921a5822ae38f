"""Structural equality of graphs: the same inputs, nodes in the same order with the same attributes, the same outputs.

Names inside do not count; those of inputs and outputs do. Floats are compared by bits, so NaN equals itself.
"""

from __future__ import annotations

import dataclasses
import struct
from itertools import zip_longest
from typing import Any

import numpy as np

from .exact import bits
from .graph import Graph, Node, Value
from .op import Op


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are structurally equal."""
    return difference(a, b) is None


def difference(a: Graph, b: Graph) -> str | None:
    """The first difference between two graphs, in words; None where they are equal."""
    if a.name != b.name:
        return f"graph names {a.name!r} and {b.name!r}"
    if a.input_names != b.input_names or a.output_names != b.output_names:
        return f"names {a.input_names} -> {a.output_names} and {b.input_names} -> {b.output_names}"
    return _difference(a, b)


def _difference(a: Graph, b: Graph) -> str | None:
    if [v.type for v in a.inputs] != [v.type for v in b.inputs]:
        return f"inputs {a.inputs} and {b.inputs}"
    twin: dict[Value, Value] = dict(zip(a.inputs, b.inputs, strict=True))
    for mine, other in zip_longest(a.nodes, b.nodes):
        if mine is None or other is None:
            return f"one has no counterpart of {mine or other}"
        if (reason := _node_difference(mine, other, twin)) is not None:
            return f"{reason}: {mine} and {other}"
        twin.update(zip(mine.results, other.results, strict=True))
    if [twin[v] for v in a.outputs] != list(b.outputs):
        return "outputs are different values"
    return None


def _node_difference(a: Node, b: Node, twin: dict[Value, Value]) -> str | None:
    if [twin[v] for v in a.operands] != list(b.operands):
        return "operands differ"
    if [v.type for v in a.results] != [v.type for v in b.results]:
        return f"results {a.results} and {b.results}"
    if a.loc != b.loc:
        return f"locations {a.loc} and {b.loc}"
    return op_difference(a.op, b.op)


def op_difference(a: Op, b: Op) -> str | None:
    """The first attribute in which two ops differ; None where they are equal."""
    if type(a) is not type(b):
        return "ops differ"
    for field in dataclasses.fields(a):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, Graph) and isinstance(other, Graph):
            if (reason := _difference(mine, other)) is not None:
                return f"in {field.name}: {reason}"
        elif not _equal(mine, other):
            return f"attribute {field.name} is {mine} and {other}"
    return None


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.dtype, a.shape, bits(a)) == (b.dtype, b.shape, bits(b))
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)
