"""Ops that are their definition: everything else about them follows from the ops they are made of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .evaluate import evaluate
from .graph import Graph, graph_input
from .op import Bounds, Cost, Op, traffic
from .types import Array, TensorType, type_of


class Composite(Op):
    """Base: a subclass says its `definition`; types, meaning, rounding error, cost and bounds are those of its body."""

    def infer(self, *operands: Any, **_: Any) -> Any:
        return _one([v.type for v in body_of(self, operands).outputs])

    def ref(self, *operands: Any, **_: Any) -> Any:
        return _one(evaluate(_body(self, operands), operands))

    def error(self, *operands: Any, **_: Any) -> Any:
        from .perturbation import reach

        return _one(reach(_body(self, operands), operands))

    def cost(self, *operands: Any, **_: Any) -> Cost:
        nodes = body_of(self, operands).nodes
        return traffic(self, operands, sum(n.op.cost(*(v.type for v in n.operands)).macs for n in nodes))

    def bounds(self, *operands: Any, **_: Any) -> Any:
        from .ranges import body_bounds

        found: tuple[Bounds, ...] = body_bounds(body_of(self, [b.type for b in operands]), operands)
        return _one(found)


def body_of(op: Op, types: Any) -> Graph:
    """The definition as a graph, for operands of these types. Not to be changed: it is shared."""
    return _cached(op, tuple(t.bare for t in types))


@lru_cache(maxsize=1024)
def _cached(op: Op, types: tuple[TensorType, ...]) -> Graph:
    inputs = [graph_input(f"x{i}", type) for i, type in enumerate(types)]
    made = op.definition(*inputs)
    return Graph(inputs, made if isinstance(made, tuple) else [made], name=op.name)


def _body(op: Op, operands: tuple[Array, ...]) -> Graph:
    return body_of(op, [type_of(x) for x in operands])


def _one(results: Any) -> Any:
    return results[0] if len(results) == 1 else tuple(results)
