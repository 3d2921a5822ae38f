"""Static quantization: insert quantize/dequantize pairs so that every op that can runs on integers.

Which ops can, and how their operands are quantized, the ops say themselves (`Op.quantized`, `roles`, `keeps_scale`,
`natural_quant`): each is tried with the scales that it would get. `fold-quantization` then makes the
integer ops.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from ..ir import arithmetic
from ..ir.builder import const_value
from ..ir.errors import UsageError
from ..ir.evaluate import PART, evaluate
from ..ir.graph import Graph, Node, Value, graph_input
from ..ir.op import Op
from ..ir.ops.quant import Dequantize, dequantize, quantize
from ..ir.ops.quant import Quantize as QuantizeOp
from ..ir.types import F32, I8, Array, Quant, TensorType
from ..runtime.contracts import APPROXIMATE, Contract
from .apart import apart, served_db
from .base import Changes, Context, Pass
from .calibration import LEAST_DB, METHODS, Method, Statistics, calibrate, decibel, samples
from .decompose import decompose, has_products
from .parallel import split_layer
from .quantization_plan import Plan, Unit, activation_quants, quantized_weights, units, weight_scale
from .widen import Widen

#: The largest magnitude of a weight. With 63 the sum of two products fits into 16 bits, whatever the activations are;
#: with 127 it saturates in runtimes that add there (ONNX Runtime and others on x86 with AVX2 and without VNNI).
LARGEST = {"int8": 127, "int7": 63}
#: Calibration samples on which methods are compared.
MEASURED = 128
#: Of those, on which single layers are tried.
TRIED = 16


@dataclass(frozen=True)
class Quantize(Pass):
    """Quantize weights (per output channel, symmetric) and activations (per tensor, calibrated) to int8.

    weights: int7 keeps them within +-63, for runtimes whose sums saturate. calibration: how a range is chosen from what
    was seen: mse, percentile or minmax; auto takes the one with the best SQNR of the outputs on calibration samples.
    exclude: names of values, source nodes or ops that stay float. io: float, or int8 to make the graph's inputs and
    outputs integers. Where parts of a value are so unlike that one scale would leave less than 20 dB of one of them,
    layers are computed in parts, or stay float; of what a softmax reads, what is masked does not count. Outputs of
    which less than 20 dB are left are remarked. Where int32 could overflow, the weights' scales of those channels are
    enlarged until it cannot; a bias between the steps of its products moves to the nearest one. Layers that have no
    integer form (recurrent ones) compute in floats, of weights that are stored as int8.
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
        Widen().run(graph, context)  # scales are f32
        decompose(graph, [n for n in graph.nodes if has_products(n)])
        statistics = calibrate(graph, context, _wanted(graph))
        auto = self.calibration == "auto"
        # What made-up ranges would decide, nothing decides: no layer is tried, and no output measured.
        given = [] if context.assumed else islice(samples(context), MEASURED)
        inputs = [[_array(v, s) for v in graph.inputs] for s in given]
        unlike = apart(graph, list(units(graph)), statistics, METHODS["mse" if auto else self.calibration])
        split = sum(split_layer(graph, value) for value in unlike) if inputs else 0
        statistics = calibrate(graph, context, _wanted(graph)) if split else statistics
        expected = [evaluate(graph, x) for x in inputs]
        tried = {m: self._tried(graph, inputs, expected, statistics, m) for m in METHODS if auto and inputs}
        method = max(tried or METHODS, key=lambda m: _rank(tried.get(m, {}))) if auto else self.calibration
        changes = self._apply(graph, statistics, method, inputs)
        levels = tried[method] if tried else _measured(graph, inputs, expected)
        changes.count("layers in parts, for ranges that are unlike", split)
        context.notes.extend(f"{op} stays float: {why} (at {place})" for (op, place), why in changes.refused.items())
        context.notes.extend(_remarks(levels, len(inputs)))
        changes.facts["calibration"] = method
        changes.facts["calibration_sqnr_db"] = {m: _rounded(found) for m, found in {**tried, method: levels}.items()}
        return changes

    def _tried(
        self,
        graph: Graph,
        inputs: Sequence[Sequence[Array]],
        expected: Sequence[Sequence[Array]],
        statistics: Mapping[Value, Statistics],
        method: str,
    ) -> dict[str, float]:
        """SQNR of each output in dB on calibration samples with one of the methods."""
        twin = graph.clone()
        twins = zip(_values(graph), _values(twin), strict=True)
        self._apply(twin, {b: statistics[a] for a, b in twins if a in statistics}, method, inputs)
        return _measured(twin, inputs, expected)

    def _apply(
        self,
        graph: Graph,
        statistics: Mapping[Value, Statistics],
        method: str,
        inputs: Sequence[Sequence[Array]],
    ) -> Changes:
        candidates = list(units(graph))
        refused = {u: reason for u in candidates if (reason := self._excluded(u, statistics))}
        left = [u for u in candidates if u not in refused]
        unserved = _unserved(graph, left, statistics, METHODS[method], inputs[:TRIED]) if inputs else {}
        quants = activation_quants(graph, [u for u in left if u not in unserved], statistics, METHODS[method])
        refused |= unserved
        plan, changes = Plan(quants, largest=LARGEST[self.weights]), Changes()
        for unit in candidates:
            if reason := refused.get(unit) or plan.attempt(unit, self.per_channel):
                changes.refused[unit.place] = reason
        plan.drop_lone()
        makes, takes = {u.result for u in plan.units}, {v for u in plan.units for v in u.activations}
        for unit in unserved:  # between floats there is nothing to remark: integers would gain nothing
            if not unit.gains and unit.result not in takes and not makes & set(unit.activations):
                changes.refused.pop(unit.place, None)
        changes.applied["quantized activations"] = _insert(graph, plan)
        changes.applied["quantized nodes"] = len(plan.units)
        changes.count("weights of float layers", _store(graph, self.exclude, self.per_channel))
        changes.facts["input_ranges"] = {v.name: [s.lo, s.hi] for v, s in statistics.items() if v in graph.inputs}
        if self.io == "int8":
            _integer_borders(graph, quants)
        return changes

    def _excluded(self, unit: Unit, statistics: Mapping[Value, Statistics]) -> str | None:
        if _names(unit.node) & set(self.exclude):
            return "excluded by the option"
        if any(v.type.dtype != F32 for v in (*unit.activations, unit.result)):
            return f"only f32 is quantized, this is {unit.result.type.dtype}"
        infinite = [v.name or "?" for v in (*unit.activations, unit.result) if v not in statistics]
        return f"%{infinite[0]} is infinite in places" if infinite else None


def _wanted(graph: Graph) -> dict[Value, None]:
    """Values whose ranges are asked for, in order: of inputs, and of what units take and make."""
    wanted = dict.fromkeys(v for v in graph.inputs if v.type.dtype.is_float)
    return wanted | dict.fromkeys(v for u in units(graph) for v in (*u.activations, u.result))


def _unserved(
    graph: Graph,
    candidates: Sequence[Unit],
    statistics: Mapping[Value, Statistics],
    method: Method,
    inputs: Sequence[Sequence[Array]],
) -> dict[Unit, str]:
    """Units that stay float because one scale for an operand or for the result would lose too much, with the reason."""
    held = apart(graph, candidates, statistics, method)
    trials = {}
    for unit in candidates:
        doubtful = [v for v in unit.activations if v in held or type(unit.node.op).noticed is not Op.noticed]
        if doubtful and unit.gains:
            trials[unit.node] = {v: method(statistics[v], unit.wants_symmetric(v)) for v in doubtful}
    served = served_db(graph, inputs, trials) if trials else {}
    for node, db in served.items():
        if db < LEAST_DB:
            seen = {v: f"{statistics[v]} and one scale for it leaves {node.op.name} {db:.1f} dB" for v in trials[node]}
            held |= {v: f"%{v.name or '?'} is within {text}" for v, text in seen.items() if v not in held}
    refused = {}
    for unit in candidates:
        well = served.get(unit.node, -np.inf) >= LEAST_DB
        values = [unit.result, *(v for v in unit.activations if not well)]
        reason = next((held[v] for v in values if v in held), None)
        if reason is not None:
            refused[unit] = reason
    return refused


def _measured(graph: Graph, inputs: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]) -> dict[str, float]:
    """SQNR of each output in dB, by name; nothing without samples."""
    if not inputs:
        return {}
    return dict(zip(graph.output_names, sqnr(expected, [_evaluated(graph, x) for x in inputs]), strict=True))


def _rounded(levels: Mapping[str, float]) -> dict[str, float]:
    return {name: round(db, 2) for name, db in levels.items()}


def _remarks(levels: Mapping[str, float], count: int) -> Iterator[str]:
    """About outputs of which too little is left."""
    for name, db in levels.items():
        if db < LEAST_DB:
            yield (
                f"output {name}: SQNR {db:.1f} dB against the float model, on {count} calibration samples; "
                "`planish debug blame` says which layers to leave in floats (quantize{exclude=...})"
            )


def _rank(levels: Mapping[str, float]) -> tuple[int, float]:
    """What makes a quantization better: fewer outputs that are lost, then their mean SQNR."""
    return -sum(db < LEAST_DB for db in levels.values()), float(np.mean(list(levels.values()) or [0.0]))


def _array(value: Value, sample: Mapping[str, Array]) -> Array:
    return np.asarray(sample[value.name], value.type.dtype.numpy)


def _evaluated(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Outputs as reals for inputs as reals, where those of the graph may be integers."""
    taken = [_encoded(x, v.type) for v, x in zip(graph.inputs, inputs, strict=True)]
    return [_decoded(y, v.type) for v, y in zip(graph.outputs, evaluate(graph, taken), strict=True)]


def _encoded(x: Array, type: TensorType) -> Array:
    if type.quant is None or not type.dtype.is_integer or x.dtype.kind != "f":
        return x
    scale, zero = np.array(type.quant.scale[0], np.float32), np.array(type.quant.zero[0])
    return arithmetic.quantize(x, scale, zero, type.dtype.min, type.dtype.max).astype(type.dtype.numpy)


def _decoded(x: Array, type: TensorType) -> Array:
    if type.quant is None or not type.dtype.is_integer:
        return x
    return (x.astype(np.float64) - type.quant.zero[0]) * type.quant.scale[0]


def sqnr(expected: Sequence[Sequence[Array]], actual: Sequence[Sequence[Array]]) -> list[float]:
    """For each output 10 log10(signal / noise), in dB, within 200 either way; samples first, then outputs."""
    levels = []
    for reference, quantized in zip(zip(*expected, strict=True), zip(*actual, strict=True), strict=True):
        signal = noise = 0.0
        for x, y in zip(reference, quantized, strict=True):
            for start in range(0, x.size, PART):
                wide, part = (a.reshape(-1)[start : start + PART].astype(np.float64) for a in (x, y))
                known = np.isfinite(wide)
                with np.errstate(invalid="ignore"):
                    difference = (wide - part)[known]
                signal += float(np.square(wide[known]).sum())
                noise += float(np.square(difference).sum())
        levels.append(decibel(signal, noise))
    return levels


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
                f"quantize: nothing is called {name}",
                fix=f"did you mean {' or '.join(close)}?" if close else "`planish check` lists the layers by name",
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


def _store(graph: Graph, exclude: Sequence[str], per_channel: bool) -> int:
    """Store weights of layers that have no integer form as int8, where that is smaller; returns how many there were.

    The layer computes in floats, so nothing saturates: weights take all of int8.
    """
    stored: dict[tuple[Value, int], Value] = {}
    for node in list(graph.nodes):
        if not (weights := node.weights) or type(node.op).quantized is not Op.quantized or _names(node) & set(exclude):
            continue
        for i, role in weights.items():
            value, axis = node.operands[i], role.output
            w = value.const
            if w is None or w.dtype != F32.numpy or not w.size or not np.isfinite(w).all():
                continue
            scale = weight_scale(w, axis if per_channel else None, I8.max)
            if w.size + scale.nbytes >= w.nbytes:
                continue
            if (value, axis) not in stored:
                reals: Value = dequantize(quantized_weights(w, scale, I8.max), scale, np.int8(0), named=value.name)
                graph.adopt(reals, before=value.producer)
                stored[value, axis] = reals
            graph.set_operand(node, i, stored[value, axis])
    return len(stored)


def _names(node: Node) -> set[str]:
    """What a layer may be called by: its op, its results, its places in the source."""
    return {node.op.name, *(v.name for v in node.results), *node.loc.names}


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
            graph.set_output(k, maker.operands[0])
            graph.prune_from([maker])
        elif value in quants:
            graph.adopt(integers := _quantized(value, quants[value]))
            graph.set_output(k, integers)
