"""Quantization is written into the graph: pairs of quantize and dequantize, stored weights, integer borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..ir.builder import const_value
from ..ir.graph import Graph, Node, Value, graph_input
from ..ir.op import Op
from ..ir.ops.quant import Dequantize, Quantize, dequantize, quantize
from ..ir.roles import Role
from ..ir.scheme import Encoding, Scheme
from ..ir.types import F32, TensorType
from .quantization_plan import Plan, Weights


def insert(graph: Graph, plan: Plan) -> int:
    """Put quantize -> dequantize behind every activation that integer units make or take; returns how many."""
    nodes = {u.node for u in plan.units}
    produced = {u.result for u in plan.units}
    touched = dict.fromkeys(v for u in plan.units for v in (*u.activations, u.result))
    for (node, i), weights in plan.weights.items():
        if node in nodes:
            graph.adopt(reals := weights.reals(), before=node)
            graph.set_operand(node, i, reals)
    for (node, i), array in plan.rounded.items():
        if node in nodes:
            graph.adopt(nearest := const_value(array, node.operands[i].name), before=node)
            graph.set_operand(node, i, nearest)
    for value in touched:
        uses = list(value.uses)
        integers = _quantized(value, plan.encodings[value])
        reals = _dequantized(integers, plan.encodings[value])
        graph.adopt(reals, before=value.producer.next if value.producer is not None else next(graph.nodes))
        for user, i in uses:
            if value in produced or user in nodes:
                graph.set_operand(user, i, reals)
        if value in produced:
            graph.outputs = [reals if v is value else v for v in graph.outputs]
    return len(touched)


def store(graph: Graph, exclude: Sequence[str], scheme: Scheme) -> int:
    """Store weights of layers without an integer form as codes, where that is smaller; returns how many there were."""
    stored: dict[tuple[Value, Role], Value] = {}
    for node in list(graph.nodes):
        if not (weights := node.weights) or type(node.op).quantized is not Op.quantized or names(node) & set(exclude):
            continue
        for i, role in weights.items():
            value = node.operands[i]
            w = value.const
            if w is None or w.dtype != F32.numpy or not w.size or not np.isfinite(w).all():
                continue
            found = Weights.of(w, role, scheme)
            if not found.is_smaller:
                continue
            if (value, role) not in stored:
                graph.adopt(reals := found.reals(value.name), before=value.producer)
                stored[value, role] = reals
            graph.set_operand(node, i, stored[value, role])
    return len(stored)


def names(node: Node) -> set[str]:
    """What a layer may be called by: its op, its results, its places in the source."""
    return {node.op.name, *(v.name for v in node.results), *node.loc.names}


def _quantized(value: Value, encoding: Encoding) -> Value:
    scale, zero = np.float32(encoding.scale), np.array(encoding.zero, encoding.dtype.numpy)
    integers: Value = quantize(
        value, scale, zero, dtype=encoding.dtype, lo=encoding.lo, hi=encoding.hi, named=value.name
    )
    integers.type = integers.type.with_quant(encoding.quant)
    return integers


def _dequantized(integers: Value, encoding: Encoding) -> Value:
    scale, zero = np.float32(encoding.scale), np.array(encoding.zero, encoding.dtype.numpy)
    reals: Value = dequantize(integers, scale, zero)
    return reals


def integer_borders(graph: Graph, encodings: Mapping[Value, Encoding]) -> None:
    """Make float inputs and outputs integers that carry their quantization as an annotation."""
    for k, value in enumerate(graph.inputs):
        if not value.type.dtype.is_float:
            continue
        encoding = encodings[value]
        integers = graph_input(value.name, TensorType(value.type.shape, encoding.dtype, encoding.quant))
        graph.inputs[k] = integers
        for node in [n for n in value.users if isinstance(n.op, Quantize)]:
            graph.replace(node.result, integers)
            graph.prune_from([node])
        if value.uses or graph.is_output(value):
            graph.adopt(reals := _dequantized(integers, encoding), before=next(graph.nodes, None))
            graph.replace(value, reals)
    for k, value in enumerate(graph.outputs):
        if (maker := value.producer) is not None and isinstance(maker.op, Dequantize):
            graph.set_output(k, maker.operands[0])
            graph.prune_from([maker])
        elif value in encodings:
            graph.adopt(integers := _quantized(value, encodings[value]))
            graph.set_output(k, integers)
