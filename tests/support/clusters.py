"""Quantized clusters one by one: what WITHIN(1) is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Node, Value, graph_input
from planish.ir.ops.quant import Dequantize, Quantize
from planish.ir.types import Array
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.fold_quantization import FoldQuantization


def cluster(root: Value) -> tuple[Graph, list[Value]]:
    """What computes `root` from integers (or inputs of the graph), cut out; and the values at the cut, in order."""
    copies: dict[Value, Value] = {}
    cut: list[Value] = []

    def copied(value: Value) -> Value:
        if value not in copies:
            node = value.producer
            computed = value.type.dtype.is_integer and value is not root and value.const is None
            if node is None or computed:
                copies[value] = graph_input(f"x{len(cut)}", value.type)
                cut.append(value)
            else:
                twin = Node(node.op, [copied(v) for v in node.operands], [v.type for v in node.results], node.loc)
                copies.update(zip(node.results, twin.results, strict=True))
        return copies[value]

    result = copied(root)
    return Graph([copies[v] for v in cut], [result], ["y"], "cluster"), cut


def steps_by_cluster(graph: Graph, samples: Sequence[Sequence[Array]]) -> dict[str, int]:
    """Fold each cluster of a quantized graph alone; the largest difference in steps, given the same inputs.

    Keys name the op and the quantized value.
    """
    seen: dict[Value, list[Array]] = {}
    for sample in samples:
        for value, x in zip(graph.inputs, sample, strict=True):
            seen.setdefault(value, []).append(x)

        def listener(node: Node, results: tuple[Array, ...]) -> None:
            for value, x in zip(node.results, results, strict=True):
                seen.setdefault(value, []).append(x)

        evaluate(graph, sample, listener)
    steps = {}
    for number, node in enumerate(graph.nodes):
        if not isinstance(node.op, Quantize) or node.result.const is not None:
            continue
        before, cut = cluster(node.result)
        after = before.clone()
        FoldQuantization().run(after, Context())
        verify(after)
        worst = 0
        for i, expected in enumerate(seen[node.result]):
            (actual,) = evaluate(after, [seen[v][i] for v in cut])
            worst = max(worst, int(np.abs(actual.astype(np.int64) - expected).max(initial=0)))
        source = node.operands[0].producer
        steps[f"{source.op.name if source else 'input'} {number}"] = worst
    return steps


def float_ops(graph: Graph) -> list[str]:
    """Ops with a float result, other than dequantize."""
    return [
        n.op.name for n in graph.nodes
        if not isinstance(n.op, Dequantize)
        and any(v.type.dtype.is_float and v.const is None for v in n.results)
    ]  # fmt: skip
