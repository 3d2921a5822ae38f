"""`profile` of targets that simulate time: where the cycles of one inference go, layer by layer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..driver import LOWERED, Plan, emit, prepare
from ..folder import new_file, read_report
from ..ir.errors import UsageError
from ..ir.text import load
from ..registry import target_named
from ..screen import Column, Screen, counted
from .profiling import profile_build

COLUMNS = (
    Column("layer"),
    Column("computed as"),
    Column("cycles", number=True),
    Column("modelled", number=True),
    Column("bound", number=True),
    Column("of bound", number=True),
    Column("limit"),
    Column("MACs used", number=True),
    Column("waits for"),
    Column("nJ", number=True),
)

HOST_COLUMNS = (
    Column("on the host"),
    Column("op"),
    Column("computed as"),
    Column("bytes", number=True),
    Column("instructions", number=True),
    Column("cycles", number=True),
    Column("why"),
)


def profile_model(options: dict[str, Any], data: str | None, trace: Path | None, screen: Screen) -> int:
    """Profile a folder, or a model file that is compiled first; `trace` is written where it is given."""
    model: Path = options["model"]
    if model.is_dir():
        return _profile(model, data, trace, screen)
    if options["target"] is None:
        raise UsageError("--target is missing", fix="say what to compile for: --target npu:256")
    plan = Plan(**options)
    prepared, target, calibration = prepare(plan, screen)
    with tempfile.TemporaryDirectory() as folder:
        emit(prepared, target, Path(folder), plan.limits, calibration)
        return _profile(Path(folder), data, trace, screen)


def _profile(build: Path, data: str | None, trace: Path | None, screen: Screen) -> int:
    report = read_report(build)
    target, facts = target_named(report["target"]), report["facts"]
    if trace is not None:
        events = target.trace(target.load(build, load(build / LOWERED), facts))
        if events is None:
            raise UsageError(f"target {target.name} does not simulate time", fix="leave out --trace")
        with new_file(trace) as path:
            path.write_text(json.dumps(events), encoding="utf-8")
    if "profile" not in facts:
        return profile_build(build, data, screen)
    figures = ("cycles", "bound_cycles", "microseconds", "total_microseconds", "utilisation", "energy_nj")
    kept = (*figures, "host", "host_bytes", "host_steps", "profile")
    screen.result({"target": target.name, **{key: facts[key] for key in kept}})
    screen.table(COLUMNS, [_row(row) for row in facts["profile"]], f"{target.name}, {facts['mode']}")
    screen.say(
        f"{facts['cycles']:,} cycles ({facts['microseconds']:,.1f} us), {facts['utilisation']:.1%} of the multipliers, "
        f"bound {facts['bound_cycles']:,} cycles, {facts['energy_nj']:,.0f} nJ"
    )
    if facts["host_steps"]:
        host = facts["host"]
        screen.table(HOST_COLUMNS, [_host_row(step) for step in facts["host_steps"]], f"host, {host['core']}")
        for line in _host_lines(host, facts["total_microseconds"]):
            screen.say(line)
    return 0


def _host_row(step: Mapping[str, Any]) -> list[object]:
    moved = f"{step['bytes_read']} + {step['bytes_written']}"
    return [step["name"], step["op"], step["kernel"], moved, step["instructions"], step["cycles"], step["reason"]]


def _host_lines(host: Mapping[str, Any], total: float | None) -> list[str]:
    """What the host does in sum, and what both take together."""
    copied = f", {host['bytes_copied']:,} bytes of outputs copied" if host["bytes_copied"] else ""
    moved = (
        f"the host is called {counted(len(host['segments']), 'time')}, reads {host['bytes_read']:,} and writes "
        f"{host['bytes_written']:,} bytes of the arena{copied}"
    )
    if total is None:
        return [moved, f"what the host takes is not known: {host['unknown']}"]
    return [
        moved,
        f"{host['instructions']:,} instructions, {host['cycles_per_instruction']:g} cycles per instruction, "
        f"{host['clock_mhz']:g} MHz: {host['microseconds']:,.1f} us; both together {total:,.1f} us",
    ]


def _row(row: Mapping[str, Any]) -> list[object]:
    ratio = f"{row['cycles'] / row['bound']:.2f}" if row["bound"] else None
    head = [row["name"], row["tiling"], row["cycles"], row["modelled"], row["bound"], ratio]
    return [*head, row["limit"], f"{row['utilisation']:.1%}", row["stall"], f"{row['energy_nj']:.0f}"]
