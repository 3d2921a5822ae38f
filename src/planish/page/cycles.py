"""Where the cycles go, of targets that simulate time: each layer's share, what it is spent on, and the host's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..names import short_source

#: Colour of a part of the cycles, what it is, and the classes of the simulator that it sums up.
PARTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("linear", "multiplying", ("compute",)),
    ("reduce", "multipliers that wait or are not all used", ("padding", "weights", "fill")),
    ("elementwise", "post-processing", ("post",)),
    ("quantize", "loads and stores", ("load", "store", "latency")),
    ("move", "control", ("control",)),
)


def cycle_figures(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Legend, a row per layer, and the host's steps; None where the target says nothing of cycles."""
    profile: Sequence[Mapping[str, Any]] = report["facts"].get("profile") or ()
    if not profile:
        return None
    greatest = max(row["cycles"] for row in profile) or 1
    total = sum(row["cycles"] for row in profile) or 1
    return {
        "legend": [(kind, text) for kind, text, _ in PARTS],
        "rows": [_row(row, greatest, total) for row in profile],
        "host": [_step(step) for step in report["facts"].get("host_steps") or ()],
        "core": (report["facts"].get("host") or {}).get("core") or "",
    }


def _row(row: Mapping[str, Any], greatest: int, total: int) -> dict[str, Any]:
    return {
        "name": short_source(row["name"], row["op"]),
        "source": row["name"],
        "tiling": row["tiling"],
        "cycles": row["cycles"],
        "share": f"{100 * row['cycles'] / total:.1f} %",
        "bars": _bars(row, greatest),
        "about": ", ".join(f"{name} {cycles:,}" for name, cycles in row["classes"].items()),
        "bound": row["bound"],
        "of_bound": f"{row['cycles'] / row['bound']:.2f}" if row["bound"] else "",
        "limit": row["limit"],
        "utilisation": f"{100 * row['utilisation']:.0f} %",
        "energy": round(row["energy_nj"]),
    }


def _bars(row: Mapping[str, Any], greatest: int) -> list[tuple[str, float, float]]:
    """Colour, begin and width of each part, of 100 for the layer that takes longest."""
    bars, at = [], 0.0
    for kind, _, classes in PARTS:
        width = 100 * sum(row["classes"].get(name, 0) for name in classes) / greatest
        bars.append((kind, round(at, 2), round(width, 2)))
        at += width
    return [bar for bar in bars if bar[2]]


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        key: "" if step[key] is None else step[key] for key in ("op", "kernel", "instructions", "cycles", "reason")
    }
    return {"name": short_source(step["name"], step["op"]), "source": step["name"], **shown}
