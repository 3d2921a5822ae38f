"""Ops that are their definition: everything else about them follows from the ops they are made of."""

from __future__ import annotations

from typing import Any, ClassVar

from .definition import body_of
from .evaluate import evaluate
from .graph import Graph
from .op import Bounds, Cost, Op, traffic
from .perturbation import reach
from .ranges import body_bounds
from .types import Array, type_of


class Composite(Op):
    """Base: a subclass says its `definition`; types, meaning, rounding error, cost and bounds are those of its body."""

    only_defined: ClassVar[bool] = True

    def infer(self, *operands: Any, **_: Any) -> Any:
        return _one([v.type for v in body_of(self, operands).outputs])

    def ref(self, *operands: Any, **_: Any) -> Any:
        return _one(evaluate(_body(self, operands), operands))

    def error(self, *operands: Any, **_: Any) -> Any:
        return _one(reach(_body(self, operands), operands))

    def cost(self, *operands: Any, **_: Any) -> Cost:
        nodes = body_of(self, operands).nodes
        return traffic(self, operands, sum(n.op.cost(*(v.type for v in n.operands)).macs for n in nodes))

    def bounds(self, *operands: Any, **_: Any) -> Any:
        found: tuple[Bounds, ...] = body_bounds(body_of(self, [b.type for b in operands]), operands)
        return _one(found)


def _body(op: Op, operands: tuple[Array, ...]) -> Graph:
    return body_of(op, [type_of(x) for x in operands])


def _one(results: Any) -> Any:
    return results[0] if len(results) == 1 else tuple(results)
