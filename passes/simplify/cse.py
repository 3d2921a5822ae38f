"""Common subexpressions: equal ops on equal operands are computed once."""

from __future__ import annotations

from ...ir.graph import Graph, Node


def merge_common(graph: Graph) -> int:
    """Let the first of equal nodes serve all; returns how many went. Source locations are united.

    Equal means: equal ops (constants by their bits), the same operands (in any order where the op is commutative) and
    equal result types, quantization annotations included.
    """
    seen: dict[object, Node] = {}
    number = {value: i for i, value in enumerate(graph.inputs)}
    merged = 0
    for node in graph.nodes:
        for value in node.results:
            number[value] = len(number)
        operands = [number[v] for v in node.operands]
        if node.op.commutative:
            operands.sort()
        first = seen.setdefault((node.op, tuple(operands), tuple(v.type for v in node.results)), node)
        if first is node:
            continue
        for old, new in zip(node.results, first.results, strict=True):
            graph.replace(old, new)
        first.loc |= node.loc
        graph.erase(node)
        merged += 1
    return merged
