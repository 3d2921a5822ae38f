"""Static quantization: insert quantize/dequantize pairs so that every op that can runs on integers.

Which ops can, and how their operands are quantized, the ops say themselves (`Op.quantized`, `weights`, `keeps_scale`,
`symmetric`, `natural_quant`): each is tried with the scales that it would get. `fold-quantization` then makes the
integer ops.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from ..ir.builder import const_value
from ..ir.errors import UsageError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, Value, graph_input
from ..ir.ops.quant import Dequantize, dequantize, quantize
from ..ir.ops.quant import Quantize as QuantizeOp
from ..ir.types import F32, I8, Array, Quant, TensorType
from ..runtime.contracts import APPROXIMATE, Contract
from .base import Changes, Context, Pass
from .calibration import METHODS, Statistics, calibrate, samples
from .decompose import decompose, has_products
from .quantization_plan import Plan, Unit, activation_quants, units

#: The largest magnitude of a weight. With 63 the sum of two products fits into 16 bits, whatever the activations are;
#: with 127 it saturates in runtimes that add there (ONNX Runtime and others on x86 with AVX2 and without VNNI).
LARGEST = {"int8": 127, "int7": 63}
#: Calibration samples on which methods are compared.
MEASURED = 128


@dataclass(frozen=True)
class Quantize(Pass):
    """Quantize weights (per output channel, symmetric) and activations (per tensor, calibrated) to int8.

    weights: int7 keeps them within +-63, for runtimes whose sums saturate. calibration: how a range is chosen from what
    was seen: mse, percentile or minmax; auto takes the one with the best SQNR of the outputs on calibration samples.
    exclude: names of values, source nodes or ops that stay float. io: float, or int8 to make the graph's inputs and
    outputs integers. Where int32 could overflow, the weights' scales of those channels are enlarged until it cannot; a
    bias between the steps of its products moves to the nearest one.
    Raises UsageError without calibration data, for data that is not finite, and for models that are quantized already.
    """

    contract: ClassVar[Contract] = APPROXIMATE
    weights: Literal["int8", "int7"] = "int8"
    activations: Literal["int8"] = "int8"
    io: Literal["float", "int8"] = "float"
    per_channel: bool = True
    calibration: Literal["auto", "mse", "percentile", "minmax"] = "auto"
    exclude: tuple[str, ...] = ()

    def run(self, graph: Graph, context: Context) -> Changes:
        if any(isinstance(n.op, QuantizeOp | Dequantize) for n in graph.nodes):
            raise UsageError("the model is quantized already", fix="leave quantize out of the pipeline")
        _check_names(self.exclude, graph)
        decompose(graph, [n for n in graph.nodes if has_products(n)])
        wanted = dict.fromkeys(v for v in graph.inputs if v.type.dtype.is_float)
        wanted.update(dict.fromkeys(v for u in units(graph) for v in (*u.activations, u.result)))
        statistics = calibrate(graph, context, wanted)
        tried = self._tried(graph, context, statistics) if self.calibration == "auto" else {}
        method = max(tried, key=lambda m: tried[m]) if tried else self.calibration
        changes = self._apply(graph, statistics, method)
        context.notes.extend(f"{op} stays float: {why} (at {place})" for (op, place), why in changes.refused.items())
        changes.facts["calibration"] = method
        changes.facts["calibration_sqnr_db"] = {m: round(db, 2) for m, db in tried.items()}
        return changes

    def _tried(self, graph: Graph, context: Context, statistics: Mapping[Value, Statistics]) -> dict[str, float]:
        """Output SQNR in dB on calibration samples, by method."""
        inputs = [[s[v.name] for v in graph.inputs] for s in islice(samples(context), MEASURED)]
        expected = [evaluate(graph, x) for x in inputs]
        measured = {}
        for method in METHODS:
            twin = graph.clone()
            twins = zip(_values(graph), _values(twin), strict=True)
            replace(self, io="float")._apply(twin, {b: statistics[a] for a, b in twins if a in statistics}, method)
            measured[method] = sqnr(expected, [evaluate(twin, x) for x in inputs])
        return measured

    def _apply(self, graph: Graph, statistics: Mapping[Value, Statistics], method: str) -> Changes:
        candidates = list(units(graph))
        quants = activation_quants(graph, candidates, statistics, METHODS[method])
        plan, changes = Plan(quants, largest=LARGEST[self.weights]), Changes()
        for unit in candidates:
            if reason := self._excluded(unit) or plan.attempt(unit, self.per_channel):
                changes.refused[unit.place] = reason
        plan.drop_lone()
        changes.applied["quantized activations"] = _insert(graph, plan)
        changes.applied["quantized nodes"] = len(plan.units)
        changes.facts["input_ranges"] = {v.name: [s.lo, s.hi] for v, s in statistics.items() if v in graph.inputs}
        if self.io == "int8":
            _integer_borders(graph, quants)
        return changes

    def _excluded(self, unit: Unit) -> str | None:
        if {unit.node.op.name, unit.node.result.name, *unit.node.loc.names} & set(self.exclude):
            return "excluded by the option"
        if any(v.type.dtype != F32 for v in (*unit.activations, unit.result)):
            return f"only f32 is quantized, this is {unit.result.type.dtype}"
        return None


def sqnr(expected: Sequence[Sequence[Array]], actual: Sequence[Sequence[Array]]) -> float:
    """Mean over the outputs of 10 log10(signal / noise), in dB, at most 200; samples first, then outputs."""
    ratios = []
    for reference, quantized in zip(zip(*expected, strict=True), zip(*actual, strict=True), strict=True):
        signal = sum(float(np.square(x, dtype=np.float64).sum()) for x in reference)
        noise = sum(float(np.square(x - y, dtype=np.float64).sum()) for x, y in zip(reference, quantized, strict=True))
        ratios.append(min(200.0, 10 * np.log10(signal / noise)) if signal and noise else 200.0)
    return float(np.mean(ratios))


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.results


def _check_names(names: tuple[str, ...], graph: Graph) -> None:
    known = {name for n in graph.nodes for name in (n.op.name, *n.loc.names, *(v.name for v in n.results)) if name}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known)
            raise UsageError(
                f"quantize: nothing is called {name}", fix=f"did you mean {' or '.join(close)}?" if close else ""
            )


def _insert(graph: Graph, plan: Plan) -> int:
    """Put quantize -> dequantize behind every activation that integer units make or take; returns how many."""
    nodes = {u.node for u in plan.units}
    produced = {u.result for u in plan.units}
    touched = dict.fromkeys(v for u in plan.units for v in (*u.activations, u.result))
    for (node, i), (weights, scale) in plan.weights.items():
        if node in nodes:
            graph.adopt(reals := dequantize(weights, scale, np.int8(0)), before=node)
            graph.set_operand(node, i, reals)
    for (node, i), array in plan.rounded.items():
        if node in nodes:
            graph.adopt(nearest := const_value(array, node.operands[i].name), before=node)
            graph.set_operand(node, i, nearest)
    for value in touched:
        uses = list(value.uses)
        integers = _quantized(value, plan.quants[value])
        reals = _dequantized(integers, plan.quants[value])
        graph.adopt(reals, before=value.producer.next if value.producer is not None else next(graph.nodes))
        for user, i in uses:
            if value in produced or user in nodes:
                graph.set_operand(user, i, reals)
        if value in produced:
            graph.outputs = [reals if v is value else v for v in graph.outputs]
    return len(touched)


def _quantized(value: Value, quant: Quant) -> Value:
    integers: Value = quantize(value, np.float32(quant.scale[0]), np.int8(quant.zero[0]), named=value.name)
    integers.type = integers.type.with_quant(quant)
    return integers


def _dequantized(integers: Value, quant: Quant) -> Value:
    reals: Value = dequantize(integers, np.float32(quant.scale[0]), np.int8(quant.zero[0]))
    return reals


def _integer_borders(graph: Graph, quants: Mapping[Value, Quant]) -> None:
    """Make float inputs and outputs integers that carry their quantization as an annotation."""
    for k, value in enumerate(graph.inputs):
        if not value.type.dtype.is_float:
            continue
        quant = quants[value]
        integers = graph_input(value.name, TensorType(value.type.shape, I8, quant))
        graph.inputs[k] = integers
        for node in [n for n in value.users if isinstance(n.op, QuantizeOp)]:
            graph.replace(node.result, integers)
            graph.prune_from([node])
        if value.uses or graph.is_output(value):
            graph.adopt(reals := _dequantized(integers, quant), before=next(graph.nodes, None))
            graph.replace(value, reals)
    for k, value in enumerate(graph.outputs):
        if (maker := value.producer) is not None and isinstance(maker.op, Dequantize):
            graph.outputs[k] = maker.operands[0]
            graph.prune_from([maker])
        elif value in quants:
            graph.adopt(integers := _quantized(value, quants[value]))
            graph.outputs[k] = integers
