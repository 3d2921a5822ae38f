"""report.json: what a compiled folder holds and how it came to be; and the same as tables.

It has no time stamps and no paths of this machine: same input, same bytes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from . import __version__
from .folder import FORMAT
from .ir.graph import Graph
from .names import short_source
from .outline import outline
from .runtime.target import Artifact
from .screen import Column, Screen, counted

Ranges = Mapping[str, tuple[float, float]]


def build_report(
    artifact: Artifact,
    name: str,
    model: Mapping[str, Any],
    ranges: Ranges,
    calibration: Mapping[str, Any] | None,
    passes: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The report of an artifact, JSON-able.

    model: file name and SHA-256. ranges: least and greatest value of each input, as calibrated. calibration: where the
    data came from, and how many samples it had. passes: what each did, in order. "facts" are the target's own.
    """
    graph = artifact.graph
    return {
        "planish": __version__,
        "format": FORMAT,
        "name": name,
        "target": artifact.target,
        "model": dict(model),
        "inputs": {
            v.name: {"type": str(v.type), "range": list(ranges[v.name]) if v.name in ranges else None}
            for v in graph.inputs
        },
        "outputs": {n: {"type": str(v.type)} for n, v in zip(graph.output_names, graph.outputs, strict=True)},
        "calibration": None if calibration is None else dict(calibration),
        "passes": [dict(step) for step in passes],
        "macs": sum(layer.macs for layer in artifact.layers),
        "arena_bytes": artifact.facts.get("arena_bytes"),
        **{key: artifact.facts.get(key) for key in ("flash_bytes", "constant_bytes", "code_bytes", "flash_error")},
        "flags": artifact.facts.get("flags"),
        "facts": jsonable(artifact.facts),
        "layers": [dataclasses.asdict(layer) for layer in artifact.layers],
        "graph": outline(graph, artifact.layers),
        "notes": list(notes),
    }


def signature(graph: Graph) -> str:
    """Inputs and outputs on one line."""
    inputs = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
    outputs = ", ".join(f"{n}: {v.type}" for n, v in zip(graph.output_names, graph.outputs, strict=True))
    return f"({inputs}) -> ({outputs})"


def jsonable(value: Any) -> Any:
    """The value in JSON's terms: tuples are lists, NaN and infinities null, NumPy scalars Python's."""
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return jsonable(value.item()) if hasattr(value, "item") else str(value)


# ---- tables

LAYERS = (
    Column("layer"),
    Column("op"),
    Column("result"),
    Column("kernel"),
    Column("MACs", number=True),
    Column("RAM", number=True),
    Column("constants", number=True),
    Column("instructions", number=True),
    Column("instr/MAC", number=True),
)


def layer_row(layer: Mapping[str, Any]) -> list[object]:
    """A layer of a report as the columns LAYERS want it."""
    macs, instructions = layer["macs"], layer["instructions"]
    ratio = f"{instructions / macs:.2f}" if instructions and macs else None
    source = short_source(layer["source"], layer["name"])
    row = [source, layer["op"], layer["shape"], layer["kernel"]]
    return [*row, *(layer[key] or None for key in ("macs", "ram_bytes", "constant_bytes", "instructions")), ratio]


def show_layers(screen: Screen, layers: Sequence[Mapping[str, Any]], title: str = "layers") -> None:
    """The table of layers."""
    screen.table(LAYERS, [layer_row(layer) for layer in layers], title)


def size_line(report: Mapping[str, Any]) -> str:
    """The sizes of a report in one line."""
    arena = None if report.get("arena_bytes") is None else f"arena {report['arena_bytes']:,} bytes"
    return ", ".join([*filter(None, [arena, flash_text(report)]), f"{report['macs']:,} MACs"])


def flash_text(report: Mapping[str, Any]) -> str:
    """Constants and code, where the target has flash; else the constants."""
    flash, error, constants = (report.get(key) for key in ("flash_bytes", "flash_error", "constant_bytes"))
    if flash is None:
        return "" if constants is None else f"constants {constants:,} bytes"
    if error:
        return f"flash about {flash:,} bytes (constants {constants:,}; code is estimated, within {error:.0%})"
    return f"flash {flash:,} bytes (constants {constants:,})"


def pass_line(step: Mapping[str, Any]) -> str:
    """What one pass did."""
    return f"{step['pass']} ({step['contract']}): {_applied(step) or 'nothing to do'}"


def _applied(step: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}x" for name, count in step["applied"].items())


def show_compiled(screen: Screen, report: Mapping[str, Any], out: object) -> None:
    """The end of a compilation: sizes, and remarks."""
    for step in report["passes"]:
        screen.detail(pass_line(step))
    for note in report["notes"]:
        screen.note(note)
    screen.say(f"{report['model'].get('file', report['name'])} -> {out} for {report['target']}: {size_line(report)}")


def show_report(screen: Screen, report: Mapping[str, Any]) -> None:
    """The whole report as text and tables."""
    screen.say(f"{report['name']} for {report['target']}, by planish {report['planish']}")
    for kind in ("inputs", "outputs"):
        for name, about in report[kind].items():
            calibrated = about.get("range")
            screen.say(f"  {kind[:-1]} {name}: {about['type']}" + (f" in {calibrated}" if calibrated else ""))
    screen.say(f"  {size_line(report)}")
    if report["calibration"]:
        calibration = report["calibration"]
        screen.say(f"  calibrated on {counted(calibration['samples'], 'sample')} of {calibration['source']}")
    show_layers(screen, report["layers"])
    rows = [
        [s["pass"], s["contract"], ", ".join(f"{n} {c}x" for n, c in s["applied"].items())] for s in report["passes"]
    ]
    screen.table((Column("pass"), Column("contract"), Column("did")), rows, "passes")
    refusals = [[r["node"], r["pattern"], r["reason"]] for step in report["passes"] for r in step["refused"]]
    if screen.verbosity > 0:
        screen.table((Column("node"), Column("pattern"), Column("why not")), refusals, "patterns that did not match")
    for note in report["notes"]:
        screen.say(f"  note: {note}")
    screen.table((Column("file"), Column("bytes", number=True)), list(report["files"].items()), "files")
