"""Static quantization: insert quantize/dequantize pairs so that every op that can runs on integers.

Which ops can, and what their operands are to them, the ops say themselves (`Op.quantized`, `roles`, `keeps_scale`,
`natural_range`); a recipe says how each role is quantized. Each op is tried with the scales that it would get.
`fold-quantization` then makes the integer ops.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

import numpy as np

from ..ir.errors import UsageError
from ..ir.evaluate import evaluate
from ..ir.graph import Graph, Value
from ..ir.op import Op
from ..ir.ops.quant import Dequantize
from ..ir.ops.quant import Quantize as QuantizeOp
from ..ir.scheme import Recipe, Scheme
from ..ir.types import F32, I8, Array
from ..runtime.contracts import APPROXIMATE, Contract
from .apart import apart, served_db
from .base import Changes, Context, Pass
from .calibration import LEAST_DB, METHODS, Calibrator, Statistics, calibrate, samples
from .decompose import decompose, has_products
from .parallel import split_layer
from .quantization_pairs import insert, integer_borders, names, store
from .quantization_plan import Plan, Unit, activation_encodings, units
from .quantization_quality import measured, rank, remarks, rounded
from .widen import Widen

#: Bits of a weight. With 7, within +-63, the sum of two products fits into 16 bits, whatever the activations are; with
#: 8 it saturates in runtimes that add there (ONNX Runtime and others on x86 with AVX2 and without VNNI).
BITS = {"int8": 8, "int7": 7}
#: Calibration samples on which methods are compared.
MEASURED = 128
#: Of those, on which single layers are tried.
TRIED = 16


@dataclass(frozen=True)
class Quantize(Pass, adds=("recipe",)):
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

    @property
    def recipe(self) -> Recipe:
        """What the options say, as schemes. Layers that compute in floats saturate nowhere: they take whole bytes."""
        stored = Scheme(I8, symmetric=True, per="axis" if self.per_channel else "tensor")
        return Recipe(Scheme(I8), stored.like(bits=BITS[self.weights]), stored)

    def _calibrator(self, method: str) -> Calibrator:
        return Calibrator(METHODS[method], self.recipe.activation)

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
        unlike = apart(graph, list(units(graph)), statistics, self._calibrator("mse" if auto else self.calibration))
        split = sum(split_layer(graph, value) for value in unlike) if inputs else 0
        statistics = calibrate(graph, context, _wanted(graph)) if split else statistics
        expected = [evaluate(graph, x) for x in inputs]
        tried = {m: self._tried(graph, inputs, expected, statistics, m) for m in METHODS if auto and inputs}
        method = max(tried or METHODS, key=lambda m: rank(tried.get(m, {}))) if auto else self.calibration
        changes = self._apply(graph, statistics, method, inputs)
        levels = tried[method] if tried else measured(graph, inputs, expected)
        changes.count("layers in parts, for ranges that are unlike", split)
        context.notes.extend(f"{op} stays float: {why} (at {place})" for (op, place), why in changes.refused.items())
        context.notes.extend(remarks(levels, len(inputs)))
        changes.facts["calibration"] = method
        changes.facts["calibration_sqnr_db"] = {m: rounded(found) for m, found in {**tried, method: levels}.items()}
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
        return measured(twin, inputs, expected)

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
        calibrator = self._calibrator(method)
        unserved = _unserved(graph, left, statistics, calibrator, inputs[:TRIED]) if inputs else {}
        encodings = activation_encodings(graph, [u for u in left if u not in unserved], statistics, calibrator)
        refused |= unserved
        plan, changes = Plan(self.recipe, encodings), Changes()
        for unit in candidates:
            if reason := refused.get(unit) or plan.attempt(unit):
                changes.refused[unit.place] = reason
        plan.drop_lone()
        makes, takes = {u.result for u in plan.units}, {v for u in plan.units for v in u.activations}
        for unit in unserved:  # between floats there is nothing to remark: integers would gain nothing
            if not unit.gains and unit.result not in takes and not makes & set(unit.activations):
                changes.refused.pop(unit.place, None)
        changes.applied["quantized activations"] = insert(graph, plan)
        changes.applied["quantized nodes"] = len(plan.units)
        changes.count("weights of float layers", store(graph, self.exclude, self.recipe.stored))
        changes.facts["input_ranges"] = {v.name: [s.lo, s.hi] for v, s in statistics.items() if v in graph.inputs}
        if self.io == "int8":
            integer_borders(graph, encodings)
        return changes

    def _excluded(self, unit: Unit, statistics: Mapping[Value, Statistics]) -> str | None:
        if names(unit.node) & set(self.exclude):
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
    calibrator: Calibrator,
    inputs: Sequence[Sequence[Array]],
) -> dict[Unit, str]:
    """Units that stay float because one scale for an operand or for the result would lose too much, with the reason."""
    held = apart(graph, candidates, statistics, calibrator)
    trials = {}
    for unit in candidates:
        doubtful = [v for v in unit.activations if v in held or type(unit.node.op).noticed is not Op.noticed]
        if doubtful and unit.gains:
            trials[unit.node] = {v: calibrator.encoding(statistics[v], unit.wants_symmetric(v)) for v in doubtful}
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


def _array(value: Value, sample: Mapping[str, Array]) -> Array:
    return np.asarray(sample[value.name], value.type.dtype.numpy)


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
