"""`check`: will it run, will it fit. Everything is done that `compile` does, and nothing is kept."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .driver import Model, Plan, emit, prepare, unsupported_nodes
from .ir.constant import Const
from .ir.errors import DoesNotFitError, PlanishError, UnsupportedError
from .ir.graph import Node
from .report import show_layers, size_line
from .runtime.data import Dataset
from .runtime.target import Limits, Target, Unsupported
from .screen import Column, Screen, error_as_json

#: Of a report.
SIZES = ("macs", "arena_bytes", "flash_bytes", "constant_bytes", "code_bytes", "flash_error", "layers")
#: Sizes hardly depend on ranges, so `check --quantize` needs no data; what depends on them is not done then.
ANY_RANGE = "random:-1,1"
ASSUMED = (
    "without --calib ranges decide nothing: channels that calibrated ones show to be dead are counted, and no layer "
    "stays float because of its ranges"
)


def check_model(options: dict[str, Any], screen: Screen) -> int:
    """Say what stands in the way of a plan; the exit code: 0, or that of the first obstacle.

    Raises UnsupportedError for a model that cannot even be imported, with every node that is to blame.
    """
    assumed = bool(options.get("quantize")) and not options.get("calib")
    if assumed:
        options["calib"] = ANY_RANGE
    plan = Plan(**options)
    model, target, calibration = prepare(plan, screen, assumed)
    model.notes.extend([ASSUMED] * assumed)
    found: dict[str, Any] = {"model": plan.model.name, "target": target.name, "supported": True, "fits": None}
    found |= {"unsupported": [], "ram": plan.ram, "flash": plan.flash, "notes": model.notes}
    refused = unsupported_nodes(model.graph, target)
    error: PlanishError | None = None
    if refused:
        nodes = sum(not isinstance(n.op, Const) for n in model.graph.nodes)
        error = UnsupportedError(f"{target.name} does not take {len(refused)} of the {nodes} nodes")
        found |= {"supported": False, "unsupported": [_refusal(node, answer) for node, answer in refused]}
    else:
        report = _emitted(model, target, Limits(), calibration)
        found |= {"fits": True, **{key: report[key] for key in SIZES}}
        try:
            if plan.limits != Limits():
                _emitted(model, target, plan.limits, calibration)
        except DoesNotFitError as too_big:
            error = too_big
            found["fits"] = False
    screen.result(found if error is None else {**found, "error": error_as_json(error)})
    _show(screen, found, refused, error)
    return 0 if error is None else error.code


def _emitted(model: Model, target: Target, limits: Limits, calibration: Dataset | None) -> dict[str, Any]:
    """The report of an artifact that is thrown away at once."""
    with tempfile.TemporaryDirectory() as folder:
        return emit(model, target, Path(folder), limits, calibration)[1]


def _refusal(node: Node, answer: Unsupported) -> dict[str, Any]:
    types = [str(v.type) for v in node.operands]
    return {"node": str(node.loc), "op": node.op.name, "operands": types, **dataclasses.asdict(answer)}


def _show(
    screen: Screen, found: dict[str, Any], refused: Sequence[tuple[Node, Unsupported]], error: PlanishError | None
) -> None:
    if screen.json:
        return
    for note in found["notes"]:
        screen.note(note)
    if "layers" in found:
        show_layers(screen, found["layers"])
        screen.say(f"{found['model']} for {found['target']}: {size_line(found)}")
    rows = [[str(node.loc), node.op.name, answer.reason, answer.hint] for node, answer in refused]
    if rows:
        screen.table((Column("node"), Column("op"), Column("why not"), Column("what helps")), rows)
    if error is not None:
        screen.error(error)
