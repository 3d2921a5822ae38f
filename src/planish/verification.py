"""`verify`: the compiled program against the reference interpreter, and both against the float model.

What ran where is said. `samples` is how many inputs the artifact executed; `exact`, `accuracy`, `agreement` and
`sqnr_db` are about the artifact on those. Where emulation is slow and labels cover more samples than the artifact was
run on, `interpreted` has the interpreter's figures for all of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .driver import LOWERED, REFERENCE
from .folder import read_report
from .ir import arithmetic
from .ir.errors import UsageError, VerificationError
from .ir.graph import Graph, Value
from .ir.precision import GRAPH_FACTOR, float64_twin, widened
from .ir.text import load
from .ir.types import Array
from .registry import target_named
from .report import show_layers
from .runtime.data import Data, Dataset, read, uniform
from .runtime.interpreter import run_batch
from .runtime.target import Artifact, Execution
from .screen import Screen, error_as_json

Outputs = Mapping[str, Array]

#: Samples that are drawn when no data are given.
DRAWN = 20


@dataclass(frozen=True)
class Difference:
    """The first element in which the artifact is not what the interpreter says, and how many there are."""

    output: str
    sample: int
    index: tuple[int, ...]
    expected: float
    found: float
    elements: int
    tolerance: float

    def __str__(self) -> str:
        place = f"{self.output}[{','.join(map(str, self.index))}] of sample {self.sample}"
        within = f", tolerance {self.tolerance:.3g}" if self.tolerance else ""
        return f"{place}: the interpreter says {self.expected!r}, the artifact {self.found!r}{within}"


@dataclass(frozen=True)
class Verdict:
    """What `verify` found. Fractions are 0..1; None where there is nothing to measure.

    exact: every byte of every output is the interpreter's. passed: exact, or for float arithmetic within the tolerance.
    accuracy: the artifact's top-1; accuracy_float: the float model's on the same samples; agreement of the two's top-1.
    sqnr_db: signal-to-noise ratio of the outputs against the float model's (None where they are equal). instructions
    and cycles are per inference.
    """

    target: str
    data: str
    passed: bool
    exact: bool
    samples: int
    accuracy: float | None
    accuracy_float: float | None
    agreement: float | None
    sqnr_db: float | None
    instructions: int | None
    cycles: int | None
    arena_bytes: int | None
    stack_bytes: int | None
    flash_bytes: int | None
    layers: list[dict[str, Any]]
    difference: Difference | None
    interpreted: dict[str, Any] | None

    @property
    def error(self) -> VerificationError | None:
        """Why it did not pass."""
        if self.difference is None:
            return None
        return VerificationError(
            f"the artifact for {self.target} does not compute what the interpreter does",
            where=str(self.difference),
            details=(f"{self.difference.elements} elements of {self.difference.output} differ",),
            fix="compile again if the folder was changed; otherwise this is a bug in planish, please report it",
        )

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs, with `error` where it did not pass."""
        error = self.error
        return {**dataclasses.asdict(self), **({} if error is None else {"error": error_as_json(error)})}


def verify_build(build: Path, data: str | Data | None = None, samples: int | None = None) -> Verdict:
    """Run the artifact of a compiled folder and the interpreter on the same inputs.

    data: where they come from; by default they are drawn from the calibrated ranges. samples: at most so many; by
    default all, or as many as the target emulates in reasonable time. Raises UsageError, ModelError for a broken
    folder, and VerificationError when the artifact cannot be built or run.
    """
    report = read_report(build)
    target = target_named(report["target"])
    lowered, reference = load(build / LOWERED), load(build / REFERENCE)
    dataset = _dataset(data, report, reference, samples)
    budget = None if samples else target.verified_macs
    executed = dataset if budget is None else dataset.first(max(1, budget // max(1, report["macs"])))
    artifact = target.load(build, lowered, report["facts"])
    inputs = taken(lowered, executed.arrays)
    execution = target.run(artifact, inputs, profile=True)
    expected = run_batch(lowered, inputs)
    float_outputs = run_batch(reference, executed.arrays)
    difference = first_difference(lowered, inputs, expected, execution.outputs)
    return Verdict(
        target=target.name,
        data=dataset.source,
        passed=difference is None,
        exact=all(_same_bytes(expected[name], execution.outputs[name]) for name in expected),
        samples=len(executed),
        **measured(lowered, executed.labels, execution.outputs, float_outputs),
        sqnr_db=sqnr_db(lowered, execution.outputs, float_outputs),
        instructions=execution.instructions,
        cycles=execution.cycles,
        arena_bytes=report["arena_bytes"],
        stack_bytes=execution.stack_bytes,
        flash_bytes=report["flash_bytes"] if execution.flash_bytes is None else execution.flash_bytes,
        layers=_layers(artifact, execution),
        difference=difference,
        interpreted=_interpreted(lowered, reference, dataset) if len(executed) < len(dataset) else None,
    )


def _dataset(data: str | Data | None, report: Mapping[str, Any], graph: Graph, samples: int | None) -> Dataset:
    if data is not None:
        return (read(data) if isinstance(data, str) else data).of(graph, samples)
    ranges = {name: about["range"] for name, about in report["inputs"].items()}
    if None in ranges.values():
        raise UsageError(
            "the model was compiled without calibration, so the ranges of its inputs are not known",
            fix="give --data FILE.npz or --data random:lo,hi",
        )
    return uniform(ranges).of(graph, samples or DRAWN)


def _interpreted(lowered: Graph, reference: Graph, dataset: Dataset) -> dict[str, Any] | None:
    """Figures that the interpreter gives for all samples, where the artifact ran on some; None without labels."""
    if dataset.labels is None:
        return None
    outputs = run_batch(lowered, taken(lowered, dataset.arrays))
    found = measured(lowered, dataset.labels, outputs, run_batch(reference, dataset.arrays))
    return {"samples": len(dataset), **found}


# ---- comparing


def first_difference(graph: Graph, inputs: Outputs, expected: Outputs, found: Outputs) -> Difference | None:
    """The first element of the first sample that is not what it should be; None when all are.

    Where all arithmetic is on integers, every bit counts. Where some is on floats, an output may be GRAPH_FACTOR times
    as far from the run in double precision as the interpreter is.
    """
    tolerances, centre = dict.fromkeys(expected, 0.0), expected
    if not is_integer(graph):
        centre = run_batch(float64_twin(graph), {name: widened(array) for name, array in inputs.items()})
        tolerances = {name: GRAPH_FACTOR * _largest_gap(expected[name], centre[name]) for name in expected}
    differences = [
        _difference(name, centre[name], found[name], tolerances[name])
        for name in expected
        if not _same_bytes(expected[name], found[name])
    ]
    return min((d for d in differences if d is not None), key=lambda d: d.sample, default=None)


def is_integer(graph: Graph) -> bool:
    """Whether all arithmetic is on integers: floats only enter through quantize, leave through dequantize, or move."""
    for node in graph.nodes:
        bodies = node.op.bodies()
        if bodies and all(is_integer(body) for body in bodies):
            continue
        if bodies or (any(v.type.dtype.is_float for v in node.results) and not _harmless(node.op)):
            return False
    return True


def _harmless(op: Any) -> bool:
    return op.moves_data or op.name in ("const", "dequantize")


def _same_bytes(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _largest_gap(a: Array, b: Array) -> float:
    return float(np.max(np.abs(widened(a) - widened(b)), initial=0.0)) if a.dtype.kind == "f" else 0.0


def _difference(name: str, expected: Array, found: Array, tolerance: float) -> Difference | None:
    wide, other = widened(expected), widened(found)
    if wide.dtype.kind == "f":
        wrong = ~((np.abs(wide - other) <= tolerance) | (wide == other) | (np.isnan(wide) & np.isnan(other)))
        if not tolerance:  # bit for bit: -0.0 is not 0.0
            wrong |= np.signbit(wide) != np.signbit(other)
    else:
        wrong = wide != other
    if not wrong.any():
        return None
    sample, *index = (int(i) for i in np.argwhere(wrong)[0])
    want, got = (float(array[(sample, *index)]) for array in (expected, found))
    return Difference(name, sample, tuple(index), want, got, int(wrong.sum()), tolerance)


# ---- measuring


def taken(graph: Graph, arrays: Outputs) -> dict[str, Array]:
    """Samples of the source model as the lowered graph takes them: quantized where its inputs are integers."""
    return {v.name: _quantized(v, np.asarray(arrays[v.name])) for v in graph.inputs}


def _quantized(value: Value, array: Array) -> Array:
    dtype, quant = value.type.dtype, value.type.quant
    if not dtype.is_integer or array.dtype.kind != "f" or quant is None:
        return array
    integers = arithmetic.quantize(
        array, np.array(quant.scale[0], np.float32), np.array(quant.zero[0]), dtype.min, dtype.max
    )
    return integers.astype(dtype.numpy)


def reals(graph: Graph, outputs: Outputs) -> dict[str, Array]:
    """Outputs as real numbers in double precision: integers with an annotation are dequantized."""
    result = {}
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        wide, quant = outputs[name].astype(np.float64), value.type.quant
        result[name] = (wide - quant.zero[0]) * quant.scale[0] if quant and value.type.dtype.is_integer else wide
    return result


def measured(graph: Graph, labels: Array | None, outputs: Outputs, float_outputs: Outputs) -> dict[str, float | None]:
    """Top-1 accuracy of both and their agreement, on the first output where that is a vector per sample."""
    name = graph.output_names[0]
    guesses, float_guesses = (_top1(found[name]) for found in (outputs, float_outputs))
    if guesses is None or float_guesses is None:
        return {"accuracy": None, "accuracy_float": None, "agreement": None}
    rates = (
        float(np.mean(guess == labels)) if labels is not None and guess.shape == labels.shape else None
        for guess in (guesses, float_guesses)
    )
    accuracy, accuracy_float = rates
    agreement = float(np.mean(guesses == float_guesses))
    return {"accuracy": accuracy, "accuracy_float": accuracy_float, "agreement": agreement}


def _top1(scores: Array) -> Array | None:
    """`[samples, batch]` classes for `[samples, batch, classes]` scores; None for other shapes."""
    return scores.argmax(-1) if scores.ndim == 3 and scores.shape[-1] > 1 else None


def sqnr_db(graph: Graph, outputs: Outputs, float_outputs: Outputs) -> float | None:
    """10 log10(signal / noise) over all outputs, the float model's being the signal; None where there is no noise."""
    found = reals(graph, outputs)
    signal = sum(float(np.sum(float_outputs[name].astype(np.float64) ** 2)) for name in found)
    noise = sum(float(np.sum((found[name] - float_outputs[name]) ** 2)) for name in found)
    ratio = signal / noise if noise > 0 else math.inf
    return 10 * math.log10(ratio) if 0 < ratio < math.inf else None


def _layers(artifact: Artifact, execution: Execution) -> list[dict[str, Any]]:
    """The artifact's layers with what was measured."""
    return [
        {**dataclasses.asdict(layer), "instructions": execution.layers.get(layer.name)} for layer in artifact.layers
    ]


# ---- showing


def show_verdict(screen: Screen, verdict: Verdict) -> None:
    """The verdict for people; the first difference as an error."""
    screen.result(verdict.as_json())
    if screen.json:
        return
    if any(layer["instructions"] for layer in verdict.layers):
        show_layers(screen, verdict.layers)
    word = "exact" if verdict.exact else "within the tolerance" if verdict.passed else "DIFFERENT"
    screen.say(
        f"artifact for {verdict.target} against the interpreter: {word}, {verdict.samples} samples of {verdict.data}"
    )
    for line in _figures(verdict):
        screen.say(f"  {line}")
    if verdict.interpreted is not None:
        found = verdict.interpreted
        screen.say(
            f"  by the interpreter, on all {found['samples']} samples: accuracy {_percent(found['accuracy'])}, "
            f"float model {_percent(found['accuracy_float'])}, agreement {_percent(found['agreement'])}"
        )
    if verdict.error is not None:
        screen.error(verdict.error)


def _figures(verdict: Verdict) -> list[str]:
    rates = [
        ("accuracy", _percent(verdict.accuracy)),
        ("float model", _percent(verdict.accuracy_float)),
        ("agreement of top-1", _percent(verdict.agreement)),
        ("SQNR", "" if verdict.sqnr_db is None else f"{verdict.sqnr_db:.1f} dB"),
    ]
    sizes = [
        (label, f"{value:,}{unit}")
        for label, value, unit in (
            ("instructions per inference", verdict.instructions, ""),
            ("cycles", verdict.cycles, ""),
            ("arena", verdict.arena_bytes, " bytes"),
            ("stack", verdict.stack_bytes, " bytes"),
            ("flash", verdict.flash_bytes, " bytes"),
        )
        if value is not None
    ]
    return [", ".join(f"{label} {text}" for label, text in row if text) for row in (rates, sizes) if any(row)]


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f} %"
