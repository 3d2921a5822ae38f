"""Constants that a model stores as integers, and that nothing uses as such, become the floats that they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..ir.constant import Const
from ..ir.evaluate import evaluate_node
from ..ir.graph import Graph, Node, Value, apply, graph_input
from ..ir.op import Draw
from ..ir.ops.index import take
from ..ir.ops.quant import Dequantize, dequantize
from ..ir.pattern import const, one, only_use
from ..ir.rewrite import Rule, rewrite
from ..ir.types import I8, I32, Array, TensorType
from .base import Changes, Context, Pass
from .integer_types import scaled

#: Places that a note names.
NAMED = 3


class TakeIntegers(Rule):
    """Rows that are taken from a dequantized table are dequantized after that: the table stays as small as it is."""

    def pattern(self, table: Any, scale: Any, zero: Any, indices: Any) -> Any:
        return take(only_use(dequantize(const(table), one(scale), one(zero))), indices)

    def rewrite(self, m: Any, table: Array, scale: Array, zero: Array, indices: Value) -> Value:
        rows = m.take.like(table, indices)
        value: Value = m.dequantize.like(rows, scale.reshape(()), zero.reshape(()))
        return value

    def examples(self, draw: Draw) -> Value:
        """A table of a few rows, and some of them."""
        rows, indices = draw.integer(1, 4), graph_input("i", TensorType(draw.shape(0, 2, 3), I32))
        value: Value = take(dequantize(draw.array((rows, draw.integer(1, 3)), I8), *scaled(draw)), indices, axis=0)
        return value


@dataclass(frozen=True)
class DequantizeConstants(Pass):
    """Evaluate dequantize of constants: what takes them computes in floats, and kernels take no integers for it.

    Part of the lowering for devices, after integers have been made of what has an integer form. Bit-exact. The floats
    take up to 8 times the bytes; where they are weights of layers, a note says so.
    """

    rules: ClassVar[tuple[Rule, ...]] = (TakeIntegers(),)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes, grown = Changes(), dict[Node, tuple[int, int]]()
        changes.add(rewrite(graph, self.all_rules()))
        for node in graph.nodes:
            if not isinstance(node.op, Dequantize) or any(v.const is None for v in node.operands):
                continue
            layers = [user for user, i in node.result.uses if user.roles[i].is_weight]
            grown.update(dict.fromkeys(layers, (node.operands[0].type.nbytes, node.result.type.nbytes)))
            (array,) = evaluate_node(node, [v.const for v in node.operands if v.const is not None])
            floats = apply(Const(array), loc=node.loc, name=node.result.name)
            graph.insert(floats, before=node)
            graph.replace(node.result, floats.result)
            graph.prune_from([node])
            changes.count("constants dequantized", 1)
        if grown:
            context.notes.append(_note(grown))
        return changes


def _note(grown: dict[Node, tuple[int, int]]) -> str:
    """Which layers compute in floats, and what their weights take because of that: (bytes before, bytes after)."""
    before, after = (sum(sizes) for sizes in zip(*grown.values(), strict=True))
    places = list(dict.fromkeys(str(node.loc or node.op.name) for node in grown))
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    one_layer = len(grown) == 1
    return (
        f"{len(grown)} {'layer computes' if one_layer else 'layers compute'} in floats, so "
        f"{'its' if one_layer else 'their'} weights are stored as floats: {after:,} bytes instead of {before:,} "
        f"(at {', '.join(places[:NAMED])}{more})"
    )
