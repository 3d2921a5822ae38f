"""Translation validation: after each pass, the interpreter on the graph before against that on the graph after.

Each pass is held to its own contract, on calibration samples and on generated ones:

- EXACT: every output is equal bit by bit (any NaN equals any NaN).
- REASSOCIATING: outputs differ by at most the bound below. The pass also runs on the graph in double precision, where a
  reordered sum differs by next to nothing, and a wrong formula by as much as ever.
- WITHIN and APPROXIMATE: measured, and reported as a signal to noise ratio; on calibration samples, if there are any.

The bound for reordered sums adds up what all nodes of both graphs may err themselves (`Op.error`), and u * n * m for
what later nodes make of it: unit roundoff u, the number n of roundings (terms of all sums, plus nodes), the largest
magnitude m of any value or constant; after Higham, *Accuracy and Stability of Numerical Algorithms*, 3.1, with all
nodes taken as one long sum. Where floats become integers inside, one rounding may tip a whole step: such graphs are
judged in double precision alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.constant import Const
from ..ir.errors import PlanishError, VerificationError
from ..ir.evaluate import evaluate_by_name
from ..ir.graph import Graph, Node, Value
from ..ir.precision import float64_twin, widened
from ..ir.types import Array, DType, TensorType, type_of
from ..runtime.contracts import Contract, Promise
from ..runtime.data import uniform
from .base import Context
from .pipeline import Step

#: Generated inputs are drawn from this interval, as far as their dtype holds it.
LOW, HIGH = -4.0, 4.0

Sample = Mapping[str, Array]


@dataclass(frozen=True)
class Finding:
    """One output after one pass: the largest difference, what the contract allows, and the signal to noise ratio.

    allowed: None where the contract leaves it to the data. sqnr_db: infinite for equal outputs.
    """

    applied: str
    contract: Contract
    output: str
    difference: float
    allowed: float | None
    sqnr_db: float


@dataclass
class Validation:
    """A listener that raises VerificationError, naming pass and output, where a contract is broken.

    generated, calibration: how many samples of each kind. findings: one per output of each pass that changed something.
    """

    generated: int = 3
    calibration: int = 3
    findings: list[Finding] = field(default_factory=list)

    def after(self, step: Step, before: Graph, after: Graph, context: Context) -> None:
        """Compare before and after, as the contract of the pass wants it."""
        if not step.changes:
            return
        if _interface(before) != _interface(after):
            context.notes.append(f"{step.applied} changes the types of inputs or outputs: not validated")
            return
        samples = self._samples(step.applied.contract, before, context)
        self.findings += compare(step, before, after, samples)
        if step.applied.contract.promise is Promise.REASSOCIATING:
            _compare_doubles(step, before, samples, context)

    def _samples(self, contract: Contract, graph: Graph, context: Context) -> list[Sample]:
        """Generated and calibration samples; where noise is measured, real ones alone, if there are any."""
        real = itertools.islice(context.calibration(), self.calibration) if context.calibration is not None else ()
        samples: list[Sample] = list(real)
        if contract.promise <= Promise.REASSOCIATING or not samples:
            samples += uniform(dict.fromkeys(graph.input_names, (LOW, HIGH))).of(graph, self.generated)
        return samples


def compare(step: Step, before: Graph, after: Graph, samples: Sequence[Sample]) -> list[Finding]:
    """Run both graphs and hold every output to the contract of the pass. Raises VerificationError."""
    contract = step.applied.contract
    worst = dict.fromkeys(before.output_names, 0.0)
    noise, signal = dict(worst), dict(worst)
    allowed: float | None = None
    for sample in samples:
        traces = [_Trace(graph, sample) for graph in (before, after)]
        old, new = (evaluate_by_name(trace.graph, sample, trace) for trace in traces)
        allowed = _allowed(contract, traces)
        for name in worst:
            difference = _difference(old[name], new[name])
            if allowed is not None and not np.all(difference <= allowed):
                raise _broken(step, name, old[name], new[name], difference, allowed)
            worst[name] = max(worst[name], float(np.max(difference, initial=0)))
            with np.errstate(all="ignore"):
                noise[name] += float(np.sum(difference**2))
                signal[name] += float(np.nansum(_wide(old[name]) ** 2))
    return [
        Finding(str(step.applied), contract, name, worst[name], allowed, _decibel(signal[name], noise[name]))
        for name in worst
    ]


def _compare_doubles(step: Step, before: Graph, samples: Sequence[Sample], context: Context) -> None:
    """Run the pass once more, on the graph in double precision, and compare there."""
    double = float64_twin(before)
    after = double.clone()
    try:
        step.applied.run(after, context)
    except PlanishError as error:
        error.details = (*error.details, f"in pass {step.applied}, run on the graph in double precision")
        raise
    compare(step, double, after, [{name: widened(array) for name, array in s.items()} for s in samples])


def _interface(graph: Graph) -> tuple[list[str], list[TensorType], list[str], list[TensorType]]:
    inputs, outputs = ([v.type.bare for v in values] for values in (graph.inputs, graph.outputs))
    return graph.input_names, inputs, graph.output_names, outputs


class _Trace:
    """Listens to the interpreter: the largest finite magnitude of any value, and what the nodes may err."""

    def __init__(self, graph: Graph, sample: Sample) -> None:
        self.graph = graph
        self.values: dict[Value, Array] = {v: sample[v.name] for v in graph.inputs}

    def __call__(self, node: Node, results: tuple[Array, ...]) -> None:
        self.values.update(zip(node.results, results, strict=True))
        self.values.update({v: v.const for v in node.operands if v.const is not None})

    @property
    def magnitude(self) -> float:
        finite = (np.abs(wide[np.isfinite(wide)]) for wide in map(_wide, self.values.values()))
        return max((float(np.max(array, initial=1)) for array in finite), default=1.0)

    @property
    def own_errors(self) -> float:
        """The sum of the nodes' own largest rounding errors."""
        total = 0.0
        for node in self.graph.nodes:
            if not isinstance(node.op, Const) and all(v.type.dtype.is_float for v in node.results):
                with np.errstate(all="ignore"):
                    errors = node.op.error(*(self.values[v] for v in node.operands))
                parts = errors if isinstance(errors, tuple) else (errors,)
                total += max(float(np.max(e[np.isfinite(e)], initial=0)) for e in map(np.asarray, parts))
        return total


def _allowed(contract: Contract, traces: Sequence[_Trace]) -> float | None:
    """The largest difference that the contract allows; None where the data decides."""
    if contract.promise is Promise.EXACT:
        return 0.0
    if contract.promise is not Promise.REASSOCIATING:
        return None
    dtypes = {v.type.dtype for trace in traces for v in trace.values}
    floats = [dtype for dtype in dtypes if dtype.is_float]
    if not floats:
        return 0.0
    unit = max(map(_unit_roundoff, floats))
    if unit > 2.0**-50 and any(map(_is_rounding, traces[0].graph.nodes)):
        return None
    roundings = max(_roundings(trace.graph) for trace in traces)
    return sum(t.own_errors for t in traces) + unit * roundings * max(t.magnitude for t in traces)


def _unit_roundoff(dtype: DType) -> float:
    return {"f64": 2.0**-53, "f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}[dtype.name]


def _is_rounding(node: Node) -> bool:
    """Whether the node makes integers of floats."""
    operands = any(v.type.dtype.is_float for v in node.operands)
    return operands and any(v.type.dtype.is_integer for v in node.results)


def _roundings(graph: Graph) -> int:
    """Terms of all sums that one element of the outputs goes through at most, and the nodes."""
    total = 0
    for node in graph.nodes:
        if not isinstance(node.op, Const):
            sizes = [_size(v.type) for v in node.operands]
            result = max(1, min(_size(v.type) for v in node.results))
            macs = node.op.cost(*(_static(v.type) for v in node.operands)).macs
            total += 2 + max(macs, *sizes, 1) // result
    return total


def _static(type: TensorType) -> TensorType:
    """The type with unknown dimensions taken as 1."""
    return type.with_shape(tuple(d if isinstance(d, int) else d.factor for d in type.shape))


def _size(type: TensorType) -> int:
    return _static(type).size


def _wide(array: Array) -> Array:
    return array.astype(np.float64)


def _difference(old: Array, new: Array) -> Array:
    """|old - new|: 0 for equal bits and for two NaNs, infinite where only one is NaN or the other infinity."""
    if old.shape != new.shape:
        return np.array(np.inf)
    a, b = _wide(old), _wide(new)
    with np.errstate(all="ignore"):
        gap = np.abs(a - b)
    tiny = np.where((gap == 0) & (np.signbit(a) != np.signbit(b)), np.finfo(np.float64).tiny, gap)  # 0.0 is not -0.0
    same = (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)
    return np.where(same, 0.0, np.where(np.isnan(tiny), np.inf, tiny))


def _decibel(signal: float, noise: float) -> float:
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and math.isfinite(noise) else -math.inf


def _broken(
    step: Step, name: str, old: Array, new: Array, difference: Array, allowed: float
) -> VerificationError:  # fmt: skip
    where = f"output {name}"
    if old.shape == new.shape:
        index = tuple(int(i) for i in np.argwhere(~(difference <= allowed))[0])
        where += f"{list(index)}: before {old[index]!r}, after {new[index]!r}"
    else:
        where += f": shape {list(old.shape)} before, {list(new.shape)} after"
    return VerificationError(
        f"{step.applied} breaks its contract {step.applied.contract}: a difference of {np.max(difference):.3g}, "
        f"{allowed:.3g} is allowed",
        where,
        "leave the pass out of the pipeline; this is a bug of the pass",
        (f"the pass did: {', '.join(f'{k} x{n}' for k, n in step.changes.applied.items())}", f"{type_of(old)}"),
    )
