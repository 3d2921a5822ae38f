"""The definition of a composite op as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from .graph import Graph, graph_input
from .op import Op
from .types import TensorType


def body_of(op: Op, types: Sequence[TensorType]) -> Graph:
    """The definition as a graph, for operands of these types. Not to be changed: it is shared."""
    return _cached(op, tuple(t.bare for t in types))


@lru_cache(maxsize=1024)
def _cached(op: Op, types: tuple[TensorType, ...]) -> Graph:
    inputs = [graph_input(f"x{i}", type) for i, type in enumerate(types)]
    made = op.definition(*inputs)
    return Graph(inputs, made if isinstance(made, tuple) else [made], name=op.name)
