"""`profile`: where the instructions go, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..driver import LOWERED, REFERENCE
from ..folder import read_report
from ..ir.graph import NOWHERE
from ..ir.text import load
from ..measuring import taken
from ..registry import target_named
from ..runtime.data import read, uniform
from ..screen import Column, Screen

#: Width of the longest bar, in characters.
BAR = 24


def profile_build(build: Path, data: str | None, screen: Screen) -> int:
    """Run one sample of a compiled folder and show each layer's share; of its MACs where the target counts nothing."""
    with screen.working(f"profiling {build}"):
        found = profiled(build, data)
    screen.result(found)
    if screen.json:
        return 0
    unit, total = found["unit"], found["total"]
    largest = max((layer["share"] for layer in found["layers"]), default=0.0) or 1.0
    rows = []
    for layer in found["layers"]:
        ratio = f"{layer['instructions'] / layer['macs']:.2f}" if layer["macs"] and layer["instructions"] else None
        share = layer["share"]
        bar = "#" * round(BAR * share / largest)
        row = [layer["source"], layer["op"], layer["kernel"], layer["macs"] or None, layer["instructions"], ratio]
        rows.append([*row, f"{100 * share:.1f} %", bar])
    columns = [Column("layer"), Column("op"), Column("kernel"), Column("MACs", number=True)]
    columns += [Column("instructions", number=True), Column("instr/MAC", number=True), Column("share", number=True)]
    screen.table([*columns, Column("")], rows)
    if unit == "MACs":
        screen.note(f"{found['target']} counts no instructions: these are shares of the MACs")
    between = found["outside"]
    outside = f", {between:,} of them outside of the layers" if between else ""
    screen.say(f"{total:,} {unit} per inference on {found['target']}{outside}")
    return 0


def profiled(build: Path, data: str | None) -> dict[str, Any]:
    """Instructions, or else MACs, of each layer and in total."""
    report = read_report(build)
    target = target_named(report["target"])
    lowered, reference = load(build / LOWERED), load(build / REFERENCE)
    ranges = {name: about["range"] or (-1.0, 1.0) for name, about in report["inputs"].items()}
    dataset = (uniform(ranges) if data is None else read(data)).of(reference, 1)
    artifact = target.load(build, lowered, report["facts"])
    execution = target.run(artifact, taken(lowered, dataset.arrays), profile=True)
    counts = execution.layers
    weights = {layer.name: counts.get(layer.name, 0) if counts else layer.macs for layer in artifact.layers}
    total = (execution.instructions or sum(weights.values())) if counts else sum(weights.values())
    layers = [
        {
            "name": layer.name,
            "source": layer.name if layer.source == str(NOWHERE) else layer.source,
            "op": layer.op,
            "kernel": layer.kernel,
            "macs": layer.macs,
            "instructions": counts.get(layer.name),
            "share": weights[layer.name] / total if total else 0.0,
        }
        for layer in artifact.layers
    ]
    return {
        "target": target.name,
        "unit": "instructions" if counts else "MACs",
        "total": total,
        "outside": total - sum(weights.values()),
        "cycles": execution.cycles,
        "layers": layers,
    }
