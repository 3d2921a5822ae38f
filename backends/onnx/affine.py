"""x * k + t per channel, which is one BatchNormalization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.graph import Graph, Node, Value
from ...ir.ops.elementwise import Add, Mul
from ...ir.types import Array
from .site import Operand, Site


@dataclass(frozen=True)
class Affine:
    """`product` and the sum behind it are x * factor + term; factor and term are vectors [channels]."""

    product: Node
    x: Value
    factor: Array
    term: Array

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.x,)

    def emit(self, site: Site, x: Operand) -> Operand:
        """Exact but for a fused multiply-add: mean 0, variance 1 and epsilon 0 change no bit."""
        zeros, ones = np.zeros_like(self.factor), np.ones_like(self.factor)
        given = {"scale": self.factor, "bias": self.term, "mean": zeros, "variance": ones}
        parameters = (site.array(role, v) for role, v in given.items())
        return site.emit("BatchNormalization", x, *parameters, epsilon=0.0)


def affines(graph: Graph) -> dict[Node, Affine]:
    """Sums of the graph that are affine per channel, with what they are."""
    found = ((node, _affine(graph, node)) for node in graph.nodes if isinstance(node.op, Add))
    return {node: affine for node, affine in found if affine is not None}


def _affine(graph: Graph, node: Node) -> Affine | None:
    for product, term in (node.operands, node.operands[::-1]):
        inner = product.producer
        if inner is None or not isinstance(inner.op, Mul) or graph.only_user(product) is not node:
            continue
        for x, factor in (inner.operands, inner.operands[::-1]):
            if x.const is not None or x.type.shape != node.result.type.shape or not x.type.dtype.is_float:
                continue
            vectors = [_per_channel(v.const, x) for v in (factor, term)]
            if vectors[0] is not None and vectors[1] is not None:
                return Affine(inner, x, vectors[0], vectors[1])
    return None


def _per_channel(array: Array | None, x: Value) -> Array | None:
    """A constant that broadcasts over everything but axis 1, as a vector with an element per channel."""
    if array is None or x.type.rank < 2 or not isinstance(channels := x.type.shape[1], int):
        return None
    shape = (1,) * (x.type.rank - array.ndim) + array.shape
    if len(shape) > x.type.rank or any(d != 1 for i, d in enumerate(shape) if i != 1):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).copy()
