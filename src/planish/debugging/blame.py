"""`debug blame`: which layer loses the accuracy, and what leaving it in floats would bring."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..driver import LOWERED, REFERENCE
from ..folder import read_report
from ..ir.errors import UsageError
from ..ir.graph import Graph
from ..ir.text import load
from ..measuring import levels, reals, taken, worst
from ..passes.base import Pass, option_text
from ..passes.dead_channels import DeadChannels
from ..passes.pipeline import Pipeline, parse_pipeline, run_pipeline
from ..passes.quantize import Quantize
from ..registry import target_named
from ..report import jsonable
from ..runtime.data import Dataset, read
from ..runtime.interpreter import run_batch
from ..screen import Column, Screen, counted, error_as_json
from ..verification import Verdict, verify_build
from .noise import Layer, layer_noise, matched_names
from .sources import Request, open_graph

#: Samples on which layers are compared, unless the user says how many.
SAMPLES = 32
#: A layer below so many dB is called bad, unless the user says otherwise.
BAD_DB = 20.0
#: How many layers are left out together, at most, to see what that brings.
TRIES = 3
#: Gains below this, in dB, are not worth a layer in floats.
WORTH_DB = 0.5
#: A list of fewer layers that brings this part of the gain is enough.
MOST = 0.75


@dataclass(frozen=True)
class Subject:
    """Two graphs to compare. rebuild: the transformed one again, with some layers left in floats; None: cannot be."""

    reference: Graph
    tested: Graph
    dataset: Dataset
    rebuild: Callable[[Sequence[str]], Graph] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exclusion:
    """What leaving layers in floats brings: each output's SQNR in dB; and how much more that of the worst is then."""

    names: tuple[str, ...]
    outputs_db: dict[str, float]
    gain_db: float

    @property
    def sqnr_db(self) -> float:
        """Of the worst output."""
        return worst(self.outputs_db)


@dataclass(frozen=True)
class Blame:
    """Every layer's noise; the first bad one; lists of layers to exclude, tried out, from one to `TRIES` names."""

    layers: list[Layer]
    matched: tuple[int, int]
    outputs_db: dict[str, float]
    bad_below_db: float
    exclusions: list[Exclusion]

    @property
    def sqnr_db(self) -> float:
        """Of the worst output."""
        return worst(self.outputs_db)

    @property
    def first_bad(self) -> Layer | None:
        return next((layer for layer in self.layers if layer.sqnr_db < self.bad_below_db), None)

    def worst_for(self, output: str) -> list[Layer]:
        """Layers that add noise of their own, those first that harm an output most; and none that does not reach it."""
        reach = [x for x in self.layers if math.isfinite(x.own_sqnr_db) and math.isfinite(x.effect_on(output))]
        return sorted(reach, key=lambda x: (x.effect_on(output), x.own_sqnr_db))

    @property
    def worst(self) -> list[Layer]:
        """Layers that add noise of their own, those first that harm any output most."""
        noisy = [x for x in self.layers if math.isfinite(x.own_sqnr_db)]
        return sorted(noisy, key=lambda x: (x.effect_db, x.own_sqnr_db))

    @property
    def suggestion(self) -> Exclusion | None:
        """The shortest list that brings most of what any brings, where that is worth it."""
        enough = max(WORTH_DB, MOST * max((e.gain_db for e in self.exclusions), default=0.0))
        return next((e for e in self.exclusions if e.gain_db >= enough), None)


# ---- what to compare


def subject_of(request: Request, against: Path | None, data: str, samples: int | None) -> Subject:
    """The model against what the pipeline makes of it, against another file, or a compiled folder's two graphs.

    Raises UsageError where nothing says what to compare with.
    """
    if request.model.is_dir():
        if against or request.pipeline is not None or request.quantize or request.dims or request.binds:
            raise UsageError(
                f"{request.model} is compiled: what it is compared with, passes and shapes are fixed",
                fix="leave out --against, --pipeline, --quantize, --dim and --bind",
            )
        return _of_build(request, data, samples)
    passes = request.passes()
    if (passes is None) == (against is None):
        raise UsageError(
            "blame compares two executions: what is the second?",
            fix="give either --pipeline or --quantize, or --against FILE, or a compiled folder instead of the model",
        )
    reference = request.graph()
    dataset = read(data).of(reference, samples or SAMPLES)
    if against is not None:
        return Subject(reference, open_graph(against, request.dims, request.binds), dataset, None)
    assert passes is not None
    if request.pipeline is None:  # layers find their counterparts by shape too; no bit depends on it
        passes = Pipeline(tuple(p for p in passes if not isinstance(p, DeadChannels)))
    everything = None if request.calib else read(data).of(reference)
    notes = () if request.calib or not _quantizes(passes) else ("calibrated on --data, as there is no --calib",)
    context = request.context(reference, everything)

    def rebuild(names: Sequence[str]) -> Graph:
        return run_pipeline(reference, excluding(passes, names), context).graph

    return Subject(reference, rebuild(()), dataset, rebuild if _quantizes(passes) else None, notes)


def _of_build(request: Request, data: str, samples: int | None) -> Subject:
    report = read_report(request.model)
    reference, lowered = load(request.model / REFERENCE), load(request.model / LOWERED)
    dataset = read(data).of(reference, samples or SAMPLES)
    if request.calib is None:
        return Subject(reference, lowered, dataset, None, ("with --calib, exclude lists are tried out",))
    request.passes()  # the user's own ones become known
    passes = parse_pipeline(",".join(step["pass"] for step in report["passes"]))
    context = request.context(reference)
    context.target = target_named(report["target"])

    def rebuild(names: Sequence[str]) -> Graph:
        return run_pipeline(reference, excluding(passes, names), context).graph

    return Subject(reference, lowered, dataset, rebuild if _quantizes(passes) else None)


def _quantizes(passes: Pipeline) -> bool:
    return any(isinstance(p, Quantize) for p in passes)


def excluding(passes: Pipeline, names: Sequence[str]) -> list[Pass]:
    """The passes, with these layers left in floats."""
    return [
        dataclasses.replace(p, exclude=(*p.exclude, *names)) if isinstance(p, Quantize) else p for p in passes.passes
    ]


# ---- the answer


def blame(subject: Subject, bad_below_db: float = BAD_DB, tries: int = TRIES) -> Blame:
    """Compare layer by layer; then leave out the layers that lose most, one more each time, and measure."""
    layers = layer_noise(subject.reference, subject.tested, subject.dataset)
    before = output_levels(subject, subject.tested)
    found = Blame(layers, matched_names(subject.reference, subject.tested), before, bad_below_db, [])
    if subject.rebuild is None:
        return found
    names = candidates(found)[:tries]
    for count in range(1, len(names) + 1):
        after = output_levels(subject, subject.rebuild(names[:count]))
        gain = worst(after) - worst(before) if math.isfinite(worst(before)) else 0.0
        found.exclusions.append(Exclusion(tuple(names[:count]), after, gain))
    return found


def candidates(found: Blame) -> list[str]:
    """Source names of quantized layers that compute something: of each output that which harms it most, and so on.

    Of the outputs that are bad, where some are.
    """
    bad = [name for name, db in found.outputs_db.items() if db < found.bad_below_db]
    outputs = sorted(bad or found.outputs_db, key=lambda name: found.outputs_db[name])
    turns = zip_longest(*(found.worst_for(output) for output in outputs))
    layers = [x for turn in turns for x in turn if x is not None and x.max_steps is not None and x.node is not None]
    nodes = [x.node for x in layers if x.node is not None]
    return list(dict.fromkeys(n.loc.names[0] for n in nodes if n.loc and not n.op.moves_data))


def output_levels(subject: Subject, graph: Graph) -> dict[str, float]:
    """SQNR of each output in dB, infinite where it is equal."""
    arrays = subject.dataset.arrays
    expected = reals(subject.reference, run_batch(subject.reference, arrays))
    return levels(graph, run_batch(graph, taken(graph, arrays)), expected)


# ---- the command


def blame_model(
    request: Request,
    against: Path | None,
    data: str,
    samples: int | None,
    below: float,
    tries: int,
    screen: Screen,
) -> int:
    """Compare, show the layers and what to exclude; the exit code: 6 where a compiled program is wrong."""
    with screen.working(f"comparing layers of {request.model.name}"):
        subject = subject_of(request, against, data, samples)
        found = blame(subject, below, tries)
        verdict = verify_build(request.model, data, samples) if request.model.is_dir() else None
    error = None if verdict is None else verdict.error
    screen.result(_as_json(found, subject, verdict))
    if not screen.json:
        _show(screen, found, subject)
        if verdict is not None and error is None:
            ran = counted(verdict.samples, "sample")
            screen.say(f"the compiled program agrees with the interpreter on {ran}")
        if error is not None:
            screen.error(error)
    return 0 if error is None else error.code


def excluded(names: Sequence[str]) -> str:
    """The option as a pipeline takes it."""
    return f"quantize{{exclude={option_text(tuple(names))}}}"


def _as_json(found: Blame, subject: Subject, verdict: Verdict | None) -> dict[str, Any]:
    first, suggestion = found.first_bad, found.suggestion
    result = {
        "data": subject.dataset.source,
        "samples": len(subject.dataset),
        "sqnr_db": found.sqnr_db,
        "outputs": {name: {"sqnr_db": db} for name, db in found.outputs_db.items()},
        "layers": [_layer_as_json(layer) for layer in found.layers],
        "matched": {"layers": found.matched[0], "of": found.matched[1]},
        "bad_below_db": found.bad_below_db,
        "first_bad": None if first is None else first.name,
        "worst": [layer.name for layer in found.worst],
        "worst_by_output": {name: [x.name for x in found.worst_for(name)] for name in found.outputs_db},
        "exclusions": [
            {**dataclasses.asdict(e), "sqnr_db": e.sqnr_db, "option": excluded(e.names)} for e in found.exclusions
        ],
        "suggestion": None if suggestion is None else excluded(suggestion.names),
        "artifact": None if verdict is None else _artifact_as_json(verdict),
        "notes": list(subject.notes),
    }
    plain: dict[str, Any] = jsonable(result)
    error = None if verdict is None else verdict.error
    return plain if error is None else {**plain, "error": error_as_json(error)}


def _artifact_as_json(verdict: Verdict) -> dict[str, Any]:
    difference = None if verdict.difference is None else dataclasses.asdict(verdict.difference)
    return {"samples": verdict.samples, "exact": verdict.exact, "passed": verdict.passed, "difference": difference}


def _layer_as_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "source": layer.source,
        "op": layer.op,
        "type": str(layer.type),
        "sqnr_db": layer.sqnr_db,
        "own_sqnr_db": layer.own_sqnr_db,
        "effect_db": layer.effect_db,
        "effects_db": layer.effects_db,
        "max_error": layer.max_error,
        "max_steps": layer.max_steps,
        "own_max_steps": layer.own_max_steps,
    }


COLUMNS = (
    Column("layer"),
    Column("op"),
    Column("type"),
    Column("SQNR dB", number=True),
    Column("own dB", number=True),
    Column("effect dB", number=True),
    Column("max error", number=True),
    Column("steps", number=True),
    Column("own steps", number=True),
    Column(""),
)


def _show(screen: Screen, found: Blame, subject: Subject) -> None:
    for note in subject.notes:
        screen.note(note)
    ranks = _ranks(found)
    rows = []
    for layer in found.layers:
        mark = "first bad" if layer is found.first_bad else ""
        marks = ", ".join(filter(None, [mark, *ranks.get(id(layer), ())]))
        steps = [None if x is None else f"{x:.1f}" for x in (layer.max_steps, layer.own_max_steps)]
        levels = [decibel(x) for x in (layer.sqnr_db, layer.own_sqnr_db, layer.effect_db)]
        rows.append([layer.source, layer.op, str(layer.type.bare), *levels, f"{layer.max_error:.3g}", *steps, marks])
    screen.table(COLUMNS, rows)
    samples = counted(len(subject.dataset), "sample")
    for name, db in found.outputs_db.items():
        screen.say(f"output {name}: {sqnr(db)} on {samples} of {subject.dataset.source}")
    screen.say(f"matched by name: {found.matched[0]} of the reference's {counted(found.matched[1], 'value')}")
    first = found.first_bad
    screen.say(
        f"no layer is below {found.bad_below_db:g} dB"
        if first is None
        else f"first below {found.bad_below_db:g} dB: {first.source}"
    )
    for e in found.exclusions:
        several = len(e.outputs_db) > 1
        each = [f"{name} {sqnr(db)}" if several else sqnr(db) for name, db in e.outputs_db.items()]
        screen.say(f"  {excluded(e.names)}: {', '.join(each)}, {'the worst ' * several}{e.gain_db:+.1f} dB")
    if found.suggestion is not None:
        screen.say(f"suggestion: {excluded(found.suggestion.names)}")
    elif found.exclusions:
        screen.say(f"leaving these in floats gains less than {WORTH_DB:g} dB: not worth it")


def _ranks(found: Blame) -> dict[int, list[str]]:
    """By the id of a layer for which outputs, and in which place, it is among those that lose most."""
    ranks: dict[int, list[str]] = {}
    for name in found.outputs_db:
        of = f" of {name}" if len(found.outputs_db) > 1 else ""
        for rank, layer in enumerate(found.worst_for(name)[:TRIES], 1):
            ranks.setdefault(id(layer), []).append(f"loses most{of}: {rank}")
    return ranks


def decibel(value: float) -> str:
    """`34.2`, or a word where there is no noise at all."""
    return "equal" if value == math.inf else f"{value:.1f}"


def sqnr(value: float) -> str:
    """`SQNR 34.2 dB`, or `equal`."""
    return "equal" if value == math.inf else f"SQNR {value:.1f} dB"
