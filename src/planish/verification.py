"""`verify`: the compiled program against the reference interpreter, and both against the float model.

What ran where is said. `samples` is how many inputs the artifact executed; `exact`, `accuracy`, `agreement` and
`sqnr_db` are about the artifact on those. Where emulation is slow and labels cover more samples than the artifact was
run on, `interpreted` has the interpreter's figures for all of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .driver import LOWERED, REFERENCE
from .folder import PAGE, VERDICT, new_file, read_report
from .ir.errors import UsageError, VerificationError
from .ir.graph import Graph
from .ir.text import load
from .ir.types import Array
from .judging import Difference, first_difference, judge_layers, same_bytes
from .measuring import by_output, finite, is_float, levels, measured, reals, taken, worst
from .page import render
from .registry import target_named
from .report import jsonable, show_layers
from .runtime.data import Data, Dataset, read, uniform
from .runtime.interpreter import run_batch
from .runtime.target import Artifact, Customary, Execution
from .screen import Column, Screen, counted, error_as_json

Outputs = Mapping[str, Array]

#: Samples that are drawn when no data are given.
DRAWN = 20
#: Where layers are judged one by one, the least agreement of an artifact's top-1 with the interpreter's.
AGREEMENT = 0.995


@dataclass(frozen=True)
class Verdict:
    """What `verify` found. Fractions are 0..1; None where there is nothing to measure.

    exact: every byte of every output is the interpreter's. passed: exact, or for float arithmetic within the tolerance.
    accuracy: the artifact's top-1; accuracy_float: the float model's on the same samples; agreement of the two's top-1;
    sqnr_db: signal-to-noise ratio against the float model (None where they are equal). agreement and sqnr_db are those
    of the worst output; `outputs` has them of each. reference: what they are measured against, the "float model" or,
    where that is quantized itself, the "source model"; then accuracy_float is None. instructions and cycles are per
    inference. Where layers are floats between integers (QDQ) they are judged one by one:
    layer_steps: the largest difference of one, given the same inputs, in quantization steps (1 passes);
    agreement_interpreter: of the artifact's top-1 with the interpreter's. by_default: figures of the artifact as its
    users run it, where that is another way (`Target.customary`), with remarks; they do not decide whether it passed.
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
    reference: str
    outputs: dict[str, dict[str, Any]]
    instructions: int | None
    cycles: int | None
    arena_bytes: int | None
    stack_bytes: int | None
    flash_bytes: int | None
    layers: list[dict[str, Any]]
    difference: Difference | None
    agreement_interpreter: float | None
    layer_steps: int | None
    interpreted: dict[str, Any] | None
    by_default: dict[str, Any] | None

    @property
    def error(self) -> VerificationError | None:
        """Why it did not pass."""
        if self.passed:
            return None
        if self.difference is None:
            return VerificationError(
                f"the artifact for {self.target} agrees with the interpreter on too few samples",
                where=f"top-1 of {self.agreement_interpreter:.2%}, {AGREEMENT:.1%} is asked for",
                details=("each layer is right, given the same inputs: differences of single steps add up",),
                fix="calibrate on more data, or keep the first layers in float (quantize{exclude=...})",
            )
        return VerificationError(
            f"the artifact for {self.target} does not compute what the interpreter does",
            where=str(self.difference),
            details=(f"{counted(self.difference.elements, 'element')} of {self.difference.output} not as expected",),
            fix="compile again if the folder was changed; otherwise this is a bug in planish, please report it",
        )

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs, with `error` where it did not pass."""
        error = self.error
        found: dict[str, Any] = jsonable(dataclasses.asdict(self))
        return found if error is None else {**found, "error": error_as_json(error)}


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
    float_outputs = reals(reference, run_batch(reference, executed.arrays))
    floats = is_float(reference)
    by_layer = judge_layers(target, artifact, inputs)
    agreement = None if by_layer is None else measured(lowered, None, execution.outputs, expected)["agreement"]
    if by_layer is not None:
        difference = by_layer.difference
    else:
        difference = first_difference(lowered, inputs, expected, execution.outputs)
    return Verdict(
        target=target.name,
        data=dataset.source,
        passed=difference is None and (agreement is None or agreement >= AGREEMENT),
        exact=all(same_bytes(expected[name], execution.outputs[name]) for name in expected),
        samples=len(executed),
        **measured(lowered, executed.labels, execution.outputs, float_outputs, floats),
        reference="float model" if floats else "source model",
        sqnr_db=finite(worst(levels(lowered, execution.outputs, float_outputs))),
        outputs=by_output(lowered, execution.outputs, float_outputs),
        instructions=execution.instructions,
        cycles=execution.cycles,
        arena_bytes=report["arena_bytes"],
        stack_bytes=execution.stack_bytes,
        flash_bytes=report["flash_bytes"] if execution.flash_bytes is None else execution.flash_bytes,
        layers=_layers(artifact, execution),
        difference=difference,
        agreement_interpreter=agreement,
        layer_steps=None if by_layer is None else by_layer.steps,
        interpreted=_interpreted(lowered, reference, dataset) if len(executed) < len(dataset) else None,
        by_default=_by_default(target.customary(artifact, inputs, expected), lowered, executed.labels, expected),
    )


def record(build: Path, verdict: Verdict) -> str | None:
    """Keep a verdict in the folder, as `verify.json` and on its page; why that cannot be, or None."""
    found = verdict.as_json()
    texts = {VERDICT: json.dumps(found, indent=1, allow_nan=False) + "\n", PAGE: render(read_report(build), found)}
    try:
        for name, text in texts.items():
            with new_file(build / name) as path:
                path.write_text(text, encoding="utf-8", newline="\n")
    except UsageError as error:
        return f"the verdict is not kept: {error.what}"
    return None


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
    found = measured(lowered, dataset.labels, outputs, run_batch(reference, dataset.arrays), is_float(reference))
    return {"samples": len(dataset), **found}


def _by_default(
    found: Customary | None, lowered: Graph, labels: Array | None, expected: Outputs
) -> dict[str, Any] | None:
    """Figures of outputs that the artifact gave as its users run it, beside the interpreter's."""
    if found is None:
        return None
    told = {"how": found.how, "runs": found.outputs is not None, "remarks": list(found.remarks)}
    if found.outputs is None:
        return told
    figures = measured(lowered, labels, found.outputs, expected)
    return told | {
        "exact": all(same_bytes(expected[name], found.outputs[name]) for name in expected),
        "accuracy": figures["accuracy"],
        "agreement_interpreter": figures["agreement"],
        "sqnr_db": finite(worst(levels(lowered, found.outputs, reals(lowered, expected)))),
    }


def _layers(artifact: Artifact, execution: Execution) -> list[dict[str, Any]]:
    """The artifact's layers with what was measured."""
    return [
        {**dataclasses.asdict(layer), "instructions": execution.layers.get(layer.name)} for layer in artifact.layers
    ]


# ---- showing

OUTPUTS = (Column("output"), Column("agreement of top-1", number=True), Column("SQNR dB", number=True))


def show_verdict(screen: Screen, verdict: Verdict) -> None:
    """The verdict for people; the first difference as an error."""
    screen.result(verdict.as_json())
    if screen.json:
        return
    if any(layer["instructions"] for layer in verdict.layers):
        show_layers(screen, verdict.layers)
    word = "exact" if verdict.exact else _closeness(verdict) if verdict.passed else "DIFFERENT"
    ran = f"{counted(verdict.samples, 'sample')} of {verdict.data}"
    screen.say(f"artifact for {verdict.target} against the interpreter: {word}, {ran}")
    for line in _figures(verdict):
        screen.say(f"  {line}")
    if len(verdict.outputs) > 1:
        rows = [[name, _percent(f["agreement"]), _decibel(f["sqnr_db"])] for name, f in verdict.outputs.items()]
        screen.table(OUTPUTS, rows)
    if verdict.interpreted is not None:
        found = verdict.interpreted
        rates = (("accuracy", "accuracy"), ("float model", "accuracy_float"), ("agreement", "agreement"))
        texts = [f"{label} {_percent(found[key])}" for label, key in rates if found[key] is not None]
        screen.say(f"  by the interpreter, on all {found['samples']} samples: {', '.join(texts)}")
    if verdict.by_default is not None:
        screen.say(f"  {verdict.by_default['how']}: {_as_run(verdict.by_default)}")
        for remark in verdict.by_default["remarks"]:
            screen.note(f"{verdict.by_default['how']}, {remark}")
    if verdict.error is not None:
        screen.error(verdict.error)


def _as_run(found: Mapping[str, Any]) -> str:
    """Figures of `Verdict.by_default`, in one line."""
    if not found["runs"]:
        return "DOES NOT RUN"
    if found["exact"]:
        return "exact"
    figures = [
        ("accuracy", _percent(found["accuracy"])),
        ("agreement of top-1 with the interpreter", _percent(found["agreement_interpreter"])),
        ("SQNR against it", "" if found["sqnr_db"] is None else f"{found['sqnr_db']:.1f} dB"),
    ]
    return ", ".join(f"{label} {text}" for label, text in figures if text)


def _closeness(verdict: Verdict) -> str:
    if verdict.layer_steps is None:
        return "within the tolerance"
    apart = f"within {counted(verdict.layer_steps, 'step')}" if verdict.layer_steps else "exact"
    return f"every layer {apart}, given the same inputs"


def _figures(verdict: Verdict) -> list[str]:
    source = "" if verdict.reference == "float model" else f" with the {verdict.reference}"
    worst_of = " (the worst output)" if len(verdict.outputs) > 1 else ""
    rates = [
        ("accuracy", _percent(verdict.accuracy)),
        ("float model", _percent(verdict.accuracy_float)),
        (f"agreement of top-1{source}", _percent(verdict.agreement)),
        ("with the interpreter", _percent(verdict.agreement_interpreter)),
        ("SQNR", "" if verdict.sqnr_db is None else f"{verdict.sqnr_db:.1f} dB{worst_of}"),
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
    return [
        ", ".join(f"{label} {text}" for label, text in row if text)
        for row in (rates, sizes)
        if any(text for _, text in row)
    ]


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def _decibel(value: float | None) -> str:
    """A level of an output; None is no noise at all."""
    return "equal" if value is None else f"{value:.1f}"
