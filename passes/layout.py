"""Layout: images channels-last (or channels-first) throughout, with no transpose left inside.

One walk in order. Each value is held as what is computed and how to get the original from it: a permutation of axes and
a shape. Ops take their operands in another layout by `Op.permuted`; a transpose is made only where nothing takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from ..ir.graph import NOWHERE, Graph, Loc, Node, Value, apply
from ..ir.op import Perm, invert, product
from ..ir.ops.dense import Dense
from ..ir.ops.shape import Reshape, Transpose
from ..ir.types import Layout as ImageLayout
from ..ir.types import Shape, static
from ..runtime.contracts import REASSOCIATING, Contract
from .base import Changes, Context, Pass
from .moving import (
    Passage,
    composed,
    full_rank,
    is_constant_expression,
    is_identity,
    is_reshape,
    moved_constant,
    moved_quant,
    passage,
    regrouped,
    replaced_constant,
    taken_constant,
)  # fmt: skip


@dataclass(frozen=True)
class Layout(Pass):
    """Give all images one layout. Transposes pass down through ops, cancel, and go into constants.

    Public inputs and outputs keep their shapes. Integers are bit-equal; floats may be summed in another order.
    """

    contract: ClassVar[Contract] = REASSOCIATING
    to: Literal["nhwc", "nchw"] = "nhwc"

    def run(self, graph: Graph, context: Context) -> Changes:
        target, changes = ImageLayout[self.to.upper()], Changes()
        if any(getattr(node.op, "layout", target) is target.other for node in graph.nodes):
            changes.applied += _Walk(graph, target).run().applied
        # Again while it helps: of two walks as good as each other the second would only undo what the first chose.
        while (moved := _moved(graph)) and _moved(_walked(graph.clone(), target)) < moved:
            changes.applied += _Walk(graph, target).run().applied
        return changes


def _walked(graph: Graph, target: ImageLayout) -> Graph:
    _Walk(graph, target).run()
    return graph


def _moved(graph: Graph) -> int:
    """Elements that transposes move."""
    return sum(product(node.result.type.shape) for node in graph.nodes if isinstance(node.op, Transpose))


@dataclass(frozen=True)
class Held:
    """The original value is transpose(value, perm), seen in `shape`."""

    value: Value
    perm: Perm
    shape: Shape

    @property
    def transposed_shape(self) -> Shape:
        return tuple(self.value.type.shape[i] for i in self.perm)

    @property
    def is_plain(self) -> bool:
        """Whether the original is no more than a transpose."""
        return self.shape == self.transposed_shape

    @property
    def is_itself(self) -> bool:
        return self.is_plain and is_identity(self.perm)


def itself(value: Value) -> Held:
    """A value that is held as it is."""
    return Held(value, tuple(range(value.type.rank)), value.type.shape)


class _Walk:
    def __init__(self, graph: Graph, target: ImageLayout) -> None:
        self.graph, self.target, self.changes = graph, target, Changes()
        self.held: dict[Value, Held] = {v: itself(v) for v in graph.inputs}
        self.transposes: dict[tuple[Value, Perm], Value] = {}
        self.here: Node | None = None  # new nodes stand before this one

    def run(self) -> Changes:
        nodes = list(self.graph.nodes)
        for node in nodes:
            self.here = node
            self.visit(node)
        self.here = None
        outputs = [self.original(v) for v in self.graph.outputs]
        for old, new in zip(self.graph.outputs, outputs, strict=True):
            new.name = new.name or old.name
        self.graph.outputs = outputs
        self.graph.prune_from(list(self.graph.nodes))
        gone = [node for node in nodes if isinstance(node.op, Transpose) and node.graph is None]
        self.changes.count("transpose taken away", len(gone))
        return self.changes

    def visit(self, node: Node) -> None:
        """Hold the results of a node, building whatever takes its place."""
        x = self.held[node.operands[0]] if node.operands else None
        match node.op:
            case Transpose(perm=perm) if x is not None and x.is_plain:
                if x.is_itself and x.value is node.operands[0]:
                    self.transposes.setdefault((x.value, perm), node.result)
                self.held[node.result] = Held(x.value, composed(x.perm, perm), node.result.type.shape)
            case Reshape() if x is not None and not x.is_itself:
                self.held[node.result] = self.reshaped(Held(x.value, x.perm, node.result.type.shape), node.loc)
            case Dense() if x is not None and not x.is_plain and (result := self.dense(node, x)) is not None:
                self.held[node.result] = result
            case _ if (result := self.on_flattened(node)) is not None:
                self.held[node.result] = result
            case _:
                self.permuted(node)

    # ---- ops that take their operands in another layout

    def permuted(self, node: Node) -> None:
        """Rebuild a node in the cheapest layout: the target's where it has one, else one of its operands'."""
        cheapest: tuple[int, Perm, Passage] | None = None
        for perm in self.candidates(node):
            through = passage(node.op, perm, [v.type for v in node.operands])
            if through is not None:
                cost = sum(self.cost(v, p) for v, p in zip(node.operands, through[1], strict=True))
                if cheapest is None or cost < cheapest[0]:
                    cheapest = cost, perm, through
        if cheapest is None or is_identity(cheapest[1]):
            self.unpermuted(node)
        else:
            self.rebuild(node, cheapest[2])

    def candidates(self, node: Node) -> list[Perm]:
        """Permutations that operands of the node are held by; of two as cheap the first is taken.

        Those of computed values come first: the layout of public inputs is given, that of the others was chosen. Then
        transposes that are put off come before none.
        """
        if len(node.results) != 1 or not node.operands:
            return []
        layout, rank = getattr(node.op, "layout", None), node.operands[0].type.rank
        if isinstance(layout, ImageLayout) and rank == 4:
            return [] if layout is self.target else [self.target.to(layout)]
        rank = max(v.type.rank for v in node.operands) if node.op.elementwise else rank
        operands = [self.held[v] for v in node.operands if not is_constant_expression(v)]
        fitting = [h for h in operands if h.is_plain and len(h.perm) == rank]
        fitting.sort(key=lambda h: (h.value.producer is None, is_identity(h.perm)))
        return list(dict.fromkeys(h.perm for h in fitting))

    def cost(self, value: Value, perm: Perm | None) -> int:
        """Elements that must be moved to have the original value, transposed by `perm`."""
        if is_constant_expression(value):
            return 0
        held = self.held[value]
        if perm is not None and len(held.perm) < len(perm):  # it broadcasts, and is reshaped to full rank before
            return 0 if is_reshape(perm, full_rank(held.shape, len(perm))) else product(held.shape)
        whole = held.perm if perm is None else composed(held.perm, perm) if held.is_plain else perm
        if len(whole) != held.value.type.rank or is_reshape(whole, held.value.type.shape):
            return 0
        return 0 if (held.value, whole) in self.transposes else product(held.value.type.shape)

    def rebuild(self, node: Node, through: Passage) -> None:
        op, perms, result_perm = through
        operands = [self.operand(node, v, p) for v, p in zip(node.operands, perms, strict=True)]
        result = apply(op, *operands, loc=node.loc, name=node.result.name).result
        result.type = result.type.with_quant(moved_quant(node.result.type, invert(result_perm)))
        self.graph.adopt(result, before=self.here)
        self.changes.count(f"{op.name} permuted", 1)
        self.held[node.result] = Held(result, result_perm, node.result.type.shape)

    def unpermuted(self, node: Node) -> None:
        """The node as it is, on the original operands."""
        operands = [self.original(v) for v in node.operands]
        if all(new is old for new, old in zip(operands, node.operands, strict=True)):
            results: Sequence[Value] = node.results
        else:
            results = self.insert(Node(node.op, operands, [v.type for v in node.results], node.loc))
        for old, new in zip(node.results, results, strict=True):
            new.name = old.name
            self.held[old] = itself(new)

    def operand(self, node: Node, value: Value, perm: Perm | None) -> Value:
        """transpose(the original value, perm); of full rank before, where the op broadcasts."""
        if perm is None:
            return self.original(value)
        constant = moved_constant(value, perm)
        if constant is not None:
            others = [v.type.rank for v in node.operands if v is not value]
            return trimmed(constant) if node.op.elementwise and len(perm) in others else constant
        held = self.held[value]
        if not held.is_plain or len(held.perm) < len(perm):
            held = itself(self.reshape(self.original(value), full_rank(held.shape, len(perm)), node.loc))
        return self.transposed(held.value, composed(held.perm, perm), node.loc)

    # ---- what flattening leaves: reshape(transpose(x)) as a whole

    def on_flattened(self, node: Node) -> Held | None:
        """An elementwise op on values that were transposed and reshaped alike is done before both."""
        operands = [self.held[v] for v in node.operands]
        first = next((h for h in operands if not h.is_plain), None)
        if first is None or not node.op.elementwise:
            return None
        values = [h.value if (h.perm, h.shape) == (first.perm, first.shape) else None for h in operands]
        types = [old.type if new is None else new.type for old, new in zip(node.operands, values, strict=True)]
        through = passage(node.op, tuple(range(first.value.type.rank)), types)
        if through is None or any(new is None and p is not None for new, p in zip(values, through[1], strict=True)):
            return None  # an operand broadcasts over the flattened shape, and is no single element
        taken = [self.original(old) if new is None else new for new, old in zip(values, node.operands, strict=True)]
        (result,) = self.insert(apply(node.op, *taken, loc=node.loc, name=node.result.name))
        result.type = result.type.with_quant(node.result.type.quant)
        self.changes.count(f"{node.op.name} before a reshape", 1)
        return replace(first, value=result)

    def dense(self, node: Node, x: Held) -> Held | None:
        """A dense layer on a flattened image takes the pixels in another order: so do the columns of its weights."""
        lead = len(x.shape) - 1
        inner = x.perm[lead:]
        if x.shape[:-1] != x.transposed_shape[:lead] or x.perm[:lead] != tuple(range(lead)):
            return None  # the batch is mixed with the pixels
        sizes = static(x.transposed_shape[lead:])
        order = np.arange(product(sizes)).reshape(sizes).transpose(invert(tuple(i - lead for i in inner))).ravel()
        weights = taken_constant(node.operands[1], order)
        if weights is None:
            return None
        pixels = self.reshape(x.value, x.shape, node.loc)
        bias = self.original(node.operands[2])
        (result,) = self.insert(apply(node.op, pixels, weights, bias, loc=node.loc, name=node.result.name))
        result.type = result.type.with_quant(node.result.type.quant)
        self.changes.count("dense weights permuted", 1)
        return itself(result)

    def reshaped(self, held: Held, loc: Loc) -> Held:
        """The same original with the reshape done before the transpose, where axes allow."""
        if is_reshape(held.perm, held.value.type.shape):
            return itself(self.reshape(held.value, held.shape, loc))
        regrouping = regrouped(held.value.type.shape, held.perm, held.shape)
        if regrouping is None:
            return held
        shape, perm = regrouping
        return Held(self.reshape(held.value, shape, loc), perm, held.shape)

    # ---- making what nothing took

    def original(self, value: Value) -> Value:
        """The original value, transposed and reshaped as needed."""
        held = self.held[value]
        loc = self.here.loc if self.here is not None else value.producer.loc if value.producer is not None else NOWHERE
        if held.is_itself:
            return held.value
        if is_reshape(held.perm, held.value.type.shape):
            return self.reshape(held.value, held.shape, loc)
        return self.reshape(self.transposed(held.value, held.perm, loc), held.shape, loc)

    def transposed(self, value: Value, perm: Perm, loc: Loc) -> Value:
        if is_identity(perm):
            return value
        if is_reshape(perm, value.type.shape):
            return self.reshape(value, tuple(value.type.shape[i] for i in perm), loc)
        if (value, perm) not in self.transposes:
            (self.transposes[value, perm],) = self.insert(apply(Transpose(perm), value, loc=loc))
            self.changes.count("transpose made", 1)
        return self.transposes[value, perm]

    def reshape(self, value: Value, shape: Shape, loc: Loc) -> Value:
        return value if value.type.shape == shape else self.insert(apply(Reshape(shape), value, loc=loc))[0]

    def insert(self, node: Node) -> Sequence[Value]:
        self.graph.adopt(node.results[0], before=self.here)
        return node.results


def trimmed(constant: Value) -> Value:
    """A constant without its leading axes of length 1, which broadcasting restores."""
    array = constant.const
    if array is None or array.ndim < 2:
        return constant
    leading = next((i for i, d in enumerate(array.shape[:-1]) if d != 1), array.ndim - 1)
    quant = constant.type.quant
    if quant is not None and quant.axis is not None:
        if quant.axis < leading:
            return constant
        quant = replace(quant, axis=quant.axis - leading)
    return replaced_constant(constant, array.reshape(array.shape[leading:]), quant)
