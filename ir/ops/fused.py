"""Grouping: nodes that one kernel executes together."""

from __future__ import annotations

from typing import Any

from ..evaluate import evaluate
from ..graph import Graph, graph_input
from ..op import Bounds, Cost, Draw, Instance, Op, expect, op
from ..perturbation import reach
from ..ranges import body_bounds
from ..types import F32, Array, TensorType
from .elementwise import add, relu


@op
class Fused(Op):
    """The body's nodes, executed as one. Adds no semantics: all hooks follow from the body's.

    Operand i is the body's input i. The body is not changed once it is in a node.
    """

    body: Graph

    def bodies(self) -> tuple[Graph, ...]:
        return (self.body,)

    def infer(self, *operands: TensorType) -> Any:
        expect(
            [t.bare for t in operands] == [v.type.bare for v in self.body.inputs],
            "operands do not fit the body's inputs",
        )
        types = tuple(v.type for v in self.body.outputs)
        return types[0] if len(types) == 1 else types

    def ref(self, *operands: Array) -> Any:
        results = tuple(evaluate(self.body, operands))
        return results[0] if len(results) == 1 else results

    def error(self, *operands: Array) -> Any:
        errors = tuple(reach(self.body, operands))
        return errors[0] if len(errors) == 1 else errors

    def cost(self, *operands: TensorType) -> Cost:
        macs = sum(n.op.cost(*(v.type for v in n.operands)).macs for n in self.body.nodes)
        types = self.infer(*operands)
        results = types if isinstance(types, tuple) else (types,)
        return Cost(macs, sum(t.nbytes for t in operands), sum(t.nbytes for t in results))

    def bounds(self, *operands: Bounds) -> Any:
        results = body_bounds(self.body, operands)
        return results[0] if len(results) == 1 else results

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(1)
        x, y = (graph_input(n, TensorType(shape, F32)) for n in "xy")
        body = Graph([x, y], [relu(add(x, y))], ["r"], "body")
        return Instance.of(Fused(body), draw.array(shape, F32), draw.array(shape, F32))
