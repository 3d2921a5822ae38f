"""Constant folding, bounded in bytes."""

from __future__ import annotations

from ...ir.constant import Const
from ...ir.errors import InferenceError
from ...ir.evaluate import evaluate_node
from ...ir.graph import Graph, Node, apply
from ...ir.ops.quant import Dequantize

#: No constant is made larger than this.
LARGEST = 64 << 20
#: Unless it is small anyway, it has no more elements than the constants it comes from, else chains would double it at
#: each step; nor more than `GROWTH` times their bytes.
GROWTH, SMALL = 4, 64 << 10


def fold_constants(graph: Graph, refused: dict[tuple[str, str], str]) -> int:
    """Replace nodes whose operands are all constants by their results; returns how many. Reasons go to `refused`."""
    folded = 0
    for node in graph.nodes:
        if isinstance(node.op, Const) or not all(v.const is not None for v in node.operands):
            continue
        if reason := _why_not(node):
            refused["constant folding", node.results[0].name or str(node.loc)] = reason
            continue
        arrays = evaluate_node(node, [v.const for v in node.operands if v.const is not None])
        for old, array in zip(node.results, arrays, strict=True):
            constant = apply(Const(array.copy() if array.base is not None else array), loc=node.loc, name=old.name)
            constant.result.type = constant.result.type.with_quant(old.type.quant)
            graph.insert(constant, before=node)
            graph.replace(old, constant.result)
        graph.prune_from([node])
        folded += 1
    return folded


def _why_not(node: Node) -> str:
    if isinstance(node.op, Dequantize):
        return "dequantize of constants stays: it says how they are quantized"
    try:
        size = sum(v.type.nbytes for v in node.results)
    except InferenceError as error:
        return error.what
    operands = [v.type for v in dict.fromkeys(node.operands)]
    source = sum(t.nbytes for t in operands)
    more = sum(v.type.size for v in node.results) > sum(t.size for t in operands)
    if size > LARGEST or (size > SMALL and (more or size > GROWTH * source)):
        return f"the result has {size} bytes, the operands {source}"
    return ""
