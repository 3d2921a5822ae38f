"""From a model file to a folder: load, transform, lower, emit. The Python API is made of the same steps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .backends.fitting import require_flash
from .folder import PAGE, check_replaceable, new_folder, write_report
from .ir.constant import Const
from .ir.errors import UsageError
from .ir.graph import Graph, Node
from .ir.ops.quant import Quantize
from .ir.text import load as load_text
from .ir.types import sizes_to_give, symbols_in
from .ir.verifier import verify
from .page import render
from .passes.base import Context
from .passes.listeners import PrintAfter
from .passes.pipeline import Listener, Step, parse_pipeline, run_pipeline
from .passes.validation import Validation
from .plugins import load_passes
from .registry import target_named
from .report import build_report, jsonable, show_compiled
from .runtime.data import Dataset, read
from .runtime.target import Artifact, Limits, Target, Unsupported
from .screen import Screen

#: Both graphs of a compiled folder: the one that the artifact implements, and the model as it was imported.
LOWERED, REFERENCE = "graphs/lowered.planish", "graphs/reference.planish"

#: What runs before the target's lowering, unless --pipeline says otherwise.
FLOAT = "simplify,fuse"
INT8 = "simplify,fuse,quantize{weights=int8}"


@dataclass(frozen=True)
class Plan:
    """What the user asked for."""

    model: Path
    target: str
    quantize: str | None = None
    calib: str | None = None
    plugins: Sequence[Path] = ()
    pipeline: str | None = None
    name: str | None = None
    ram: int | None = None
    flash: int | None = None
    opset: int | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    binds: Mapping[str, Any] = field(default_factory=dict)
    build: bool = False
    validate: bool = False
    print_after: bool = False

    def __post_init__(self) -> None:
        if self.quantize and self.pipeline is not None:
            raise UsageError("--quantize and --pipeline are both given", fix="write quantize{...} in the pipeline")
        if self.quantize and self.calib is None:
            raise UsageError(
                "--quantize needs calibration data",
                fix="give --calib FILE.npz with typical inputs, or --calib random:lo,hi for a first look",
            )
        if self.opset is not None and self.target != "onnx":
            raise UsageError(f"--opset is for target onnx, not {self.target}", fix="leave it out")
        if self.name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", self.name):
            raise UsageError(f"--name {self.name!r} is no C identifier", fix="letters, digits and _; no digit first")

    @property
    def passes(self) -> str:
        """The pipeline as text."""
        if self.pipeline is not None:
            return self.pipeline
        return INT8 if self.quantize else FLOAT

    @property
    def target_name(self) -> str:
        """The target, with the operator set where one is asked for."""
        return self.target if self.opset is None else f"{self.target}:{self.opset}"

    @property
    def limits(self) -> Limits:
        return Limits(ram=self.ram, flash=self.flash)


@dataclass
class Model:
    """A model on its way through: what was read, what became of it, and what is to be told.

    reference: the graph as it was imported, with static shapes; `accuracy_float` and `agreement` are measured on it.
    graph: the graph as it is now.
    """

    name: str
    reference: Graph
    graph: Graph
    source: dict[str, Any] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_model(path: Path, dims: Mapping[str, int], binds: Mapping[str, Any], static_batch: bool) -> Model:
    """Import a model file, or a graph in text form (`.planish`).

    With `static_batch` a lone symbolic batch is taken as 1, and that is noted.
    """
    if path.suffix == ".planish":
        return _read_text(path, dims, binds)
    from .frontends.onnx import load

    notes: list[str] = []
    bind = {name: np.asarray(value) for name, value in binds.items()}
    graph = load(path, dims=dims, bind=bind, notes=notes, static_batch=static_batch)
    return Model(identifier(path.stem), graph, graph, _source(path), notes=notes)


def _read_text(path: Path, dims: Mapping[str, int], binds: Mapping[str, Any]) -> Model:
    """A graph in text form, with its sidecar of constants."""
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {state}", fix="give a model: an .onnx file, or a .planish graph")
    if dims or binds:
        raise UsageError(f"{path.name}: --dim and --bind are for .onnx models", fix="edit the types in the text")
    graph = load_text(path)
    verify(graph)
    return Model(identifier(path.stem), graph, graph, _source(path))


def _source(path: Path) -> dict[str, Any]:
    with path.open("rb") as content:
        return {"file": path.name, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def identifier(text: str) -> str:
    """A C identifier made of a file's name: `my-model.v2` -> `my_model_v2`."""
    word = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:40]
    return word if word and not word[0].isdigit() else f"model_{word}".rstrip("_")


def transform(model: Model, pipeline: str, context: Context, listeners: Sequence[Listener] = ()) -> None:
    """Run a pipeline on the model; what was done is added to its steps, what the passes remark to its notes."""
    result = run_pipeline(model.graph, pipeline, context, listeners=listeners)
    model.graph = result.graph
    model.steps.extend(result.steps)
    model.notes.extend(note for note in context.notes if note not in model.notes)


def require_static(graph: Graph) -> None:
    """Raise UsageError when inputs have dimensions that are not known: a backend needs ints."""
    shapes = [v.type.shape for v in graph.inputs]
    if symbols := symbols_in(shapes):
        where = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs if symbols_in([v.type.shape]))
        plural = len(symbols) > 1
        what = f"dimension{'s' * plural} {', '.join(symbols)} {'are' if plural else 'is'} not known"
        raise UsageError(what, where=f"inputs {where}", fix=sizes_to_give(shapes))


def step_as_json(step: Step) -> dict[str, Any]:
    """What one pass did, for the report: no seconds, which differ from run to run."""
    refused = [{"pattern": p, "node": n, "reason": r} for (p, n), r in step.changes.refused.items()]
    return {
        "pass": str(step.applied),
        "contract": str(step.contract),
        "applied": dict(step.changes.applied),
        "refused": refused,
        "facts": jsonable(step.changes.facts),
    }


# ---- the verb compile


def prepare(plan: Plan, screen: Screen, assumed: bool = False) -> tuple[Model, Target, Dataset | None]:
    """Everything before the target writes: cheap checks first, then import, passes and lowering.

    assumed: whether the calibration data are made up.
    """
    target = target_named(plan.target_name)
    for file in plan.plugins:
        load_passes(file)
    parse_pipeline(plan.passes)
    with screen.working(f"reading {plan.model.name}"):
        model = read_model(plan.model, plan.dims, plan.binds, static_batch=True)
        require_static(model.graph)
        model.name = plan.name or model.name
        calibration = read(plan.calib).of(model.graph) if plan.calib else None
    listeners = _listeners(plan, screen)
    context = Context(None if calibration is None else lambda: iter(calibration), target, assumed)
    with screen.working(f"transforming {plan.model.name}"):
        transform(model, plan.passes, context, listeners)
        lower(model, context, listeners)
    return model, target, calibration


def lower(model: Model, context: Context, listeners: Sequence[Listener] = ()) -> None:
    """Bring the model into the form that the context's target takes."""
    assert context.target is not None
    transform(model, context.target.lowering, context, listeners)


def _listeners(plan: Plan, screen: Screen) -> list[Listener]:
    listeners: list[Listener] = [Validation()] if plan.validate else []
    return [*listeners, PrintAfter(screen.block)] if plan.print_after else listeners


def emit(
    model: Model, target: Target, folder: Path, limits: Limits, calibration: Dataset | None, build: bool = False
) -> tuple[Artifact, dict[str, Any]]:
    """Write the artifact, both graphs and the report into an empty folder; the artifact and the report.

    build: compile what was emitted. Where that measures its flash it is done anyway. Raises UnsupportedError naming
    every node that the target does not take, DoesNotFitError beyond the limits, VerificationError for what does not
    compile, UsageError for limits that the target does not have.
    """
    from .ir.text import save

    artifact = target.emit(model.graph, folder, model.name, limits)
    _require_limits(artifact, limits)
    if build or target.measures:
        target.build(artifact)
    close = require_flash(artifact, limits)
    model.notes.extend(n for n in (close, *artifact.facts.get("remarks", ())) if n and n not in model.notes)
    (folder / LOWERED).parent.mkdir()
    save(model.graph, folder / LOWERED)
    save(model.reference, folder / REFERENCE)
    report = build_report(
        artifact,
        name=model.name,
        model=model.source,
        ranges=input_ranges(model.graph) if calibration is None else calibration.ranges(),
        calibration=None if calibration is None else {"source": calibration.source, "samples": len(calibration)},
        passes=[step_as_json(step) for step in model.steps],
        notes=model.notes,
    )
    (folder / PAGE).write_text(render(report), encoding="utf-8", newline="\n")
    write_report(folder, report)
    return artifact, report


def _require_limits(artifact: Artifact, limits: Limits) -> None:
    """Raise UsageError for a limit on what the target has none of."""
    for option, limit, fact in (("--ram", limits.ram, "arena_bytes"), ("--flash", limits.flash, "flash_bytes")):
        if limit is not None and fact not in artifact.facts:
            raise UsageError(f"{option} is for devices, not for target {artifact.target}", fix="leave it out")


def input_ranges(graph: Graph) -> dict[str, tuple[float, float]]:
    """What a graph itself tells about the values of its inputs: of integers all, of floats what `quantize` keeps."""
    ranges: dict[str, tuple[float, float]] = {}
    for value in graph.inputs:
        dtype = value.type.dtype
        if dtype.is_integer or dtype.kind == "bool":
            ranges[value.name] = (dtype.min, dtype.max)
        for user in value.users:
            if isinstance(user.op, Quantize) and all(v.const is not None for v in user.operands[1:]):
                scale, zero = (float(np.max(v.const)) for v in user.operands[1:] if v.const is not None)
                ranges[value.name] = ((user.op.lo - zero) * scale, (user.op.hi - zero) * scale)
    return ranges


def unsupported_nodes(graph: Graph, target: Target) -> list[tuple[Node, Unsupported]]:
    """Every node that the target does not take, with the reason."""
    answers = ((node, target.supports(node)) for node in graph.nodes if not isinstance(node.op, Const))
    return [(node, answer) for node, answer in answers if answer is not None]


def compile_model(plan: Plan, out: Path, screen: Screen) -> None:
    """Compile a model file into the folder `out`, which appears when it is complete."""
    check_replaceable(out)
    model, target, calibration = prepare(plan, screen)
    with screen.working(f"compiling for {target.name}"), new_folder(out) as folder:
        _, report = emit(model, target, folder, plan.limits, calibration, plan.build)
    screen.result(report)
    show_compiled(screen, report, out)
