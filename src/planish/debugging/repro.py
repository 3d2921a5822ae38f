"""What `debug reduce` leaves: the graph as text, samples, and a test to paste."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..backends.lowering import INTEGERS
from ..driver import FLOAT
from ..folder import FORMAT, check_replaceable, new_folder, write_report
from ..ir.text import print_graph, save
from ..passes.pipeline import parse_pipeline
from ..report import jsonable
from ..runtime.data import read
from ..screen import Screen, counted
from .checks import Check, Command, Contract, Crash, Trial, parse_check
from .reduce import Budget, Reduction, reduce
from .sources import Request

GRAPH, TEST, DATA = "repro.planish", "test_repro.py", "data.npz"


def reduce_model(request: Request, data: str, check: str, budget: Budget, out: Path, screen: Screen) -> None:
    """Reduce a failing model and write what is left into the folder `out`. Raises UsageError where it does not fail."""
    chosen = parse_check(check)
    check_replaceable(out)
    passes = request.passes()
    if passes is None:
        passes = parse_pipeline("" if isinstance(chosen, Command) else f"{FLOAT},{INTEGERS}")
    graph = request.graph()
    dataset = read(request.calib or data).of(graph)
    with screen.working(f"reducing {request.model.name}"):
        found = reduce(Trial(graph, passes.passes, dataset), chosen, budget)
    with new_folder(out) as folder:
        write(found, chosen, request.plugins, folder)
    result = as_json(found, chosen, len(graph), str(passes))
    screen.result(result)
    screen.say(f"{found.failure}")
    screen.say(
        f"{counted(len(graph), 'node')} -> {counted(len(found.trial.graph), 'node')} "
        f"({found.nodes} without constants), pipeline {str(passes) or 'none'} -> {str(found.pipeline) or 'none'}, "
        f"by {counted(found.checks, 'check')}"
    )
    for line in print_graph(found.trial.graph)[0].splitlines():
        screen.say(f"  {line}")
    if found.original_weights:
        screen.note(f"the failure needs these weights as they are: {', '.join(found.original_weights)}")
    if not found.complete:
        screen.note("the checks or the time ran out: it may get smaller with more (--checks, --seconds)")
    screen.say(f"{out}: {GRAPH}, {DATA}, {TEST}")


def as_json(found: Reduction, check: Check, nodes: int, pipeline: str) -> dict[str, Any]:
    """The reduction for programs."""
    text, tensors = print_graph(found.trial.graph)
    plain: dict[str, Any] = jsonable(
        {
            "check": check.text,
            "failure": {"kind": found.failure.kind, "pass": found.failure.where, "message": found.failure.message},
            "nodes_before": nodes,
            "nodes": len(found.trial.graph),
            "computing_nodes": found.nodes,
            "pipeline_before": pipeline,
            "pipeline": str(found.pipeline),
            "checks": found.checks,
            "complete": found.complete,
            "original_weights": found.original_weights,
            "graph": text,
            "constants_beside": sorted(tensors),
        }
    )
    return plain


def write(found: Reduction, check: Check, plugins: Sequence[Path], folder: Path) -> None:
    """Graph, samples, test and report into an empty folder; and the user's own passes, which the test loads."""
    save(found.trial.graph, folder / GRAPH)
    with (folder / DATA).open("wb") as file:
        np.savez(file, **found.trial.dataset.arrays)  # type: ignore[arg-type]  # the stubs take the names for options
    for plugin in plugins:
        shutil.copyfile(plugin, folder / plugin.name)
    (folder / TEST).write_text(test_text(found, check, plugins), encoding="utf-8")
    about = {"planish": __version__, "format": FORMAT, "name": "repro", "reduced": as_json(found, check, 0, "")}
    write_report(folder, about)


def test_text(found: Reduction, check: Check, plugins: Sequence[Path]) -> str:
    """A test that fails as long as the fault is there. Names of the model stand in it as Python writes strings."""
    text, tensors = print_graph(found.trial.graph)
    imports = ["from planish.runtime.data import read"]
    body: list[str] = []
    if plugins:
        imports.append("from planish.plugins import load_passes")
        body += [f"load_passes(HERE / {path.name!r})" for path in plugins]
    imports.append(f"from planish.ir.text import {'load' if tensors else 'parse_graph'}")
    body.append(f"graph = load(HERE / {GRAPH!r})" if tensors else "graph = parse_graph(GRAPH)")
    body.append(f"samples = read(HERE / {DATA!r}).of(graph)")
    more, lines = _statement(found, check)
    quoted = "" if tensors else "\nGRAPH = (\n" + "".join(f"    {line!r}\n" for line in text.splitlines(True)) + ")\n"
    return (
        f"# The check {check.text!r} fails: {str(found.failure)!r}\nfrom pathlib import Path\n\n"
        + "".join(f"{line}\n" for line in sorted([*imports, *more]))
        + f"\nHERE = Path(__file__).parent\n{quoted}\n\ndef test_repro():\n"
        + "".join(f"    {line}\n" for line in (*body, *lines))
    )


def _statement(found: Reduction, check: Check) -> tuple[list[str], list[str]]:
    """The lines that fail, and what they import."""
    pipeline = str(found.pipeline)
    run = "from planish.passes.pipeline import run_pipeline"
    context = "from planish.passes.base import Context"
    made = "Context(lambda: iter(samples))"
    match check:
        case Crash():
            return [run, context], [f"run_pipeline(graph, {pipeline!r}, {made})"]
        case Contract():
            return [run, context, "from planish.passes.validation import Validation"], [
                f"run_pipeline(graph, {pipeline!r}, {made}, listeners=[Validation()])"
            ]
        case _:
            own = "from planish.debugging.checks import Trial, parse_check"
            return [own, "from planish.passes.pipeline import parse_pipeline"], [
                f"trial = Trial(graph, parse_pipeline({pipeline!r}).passes, samples)",
                f"assert parse_check({check.text!r}).failure(trial, seconds=300.0) is None",
            ]
