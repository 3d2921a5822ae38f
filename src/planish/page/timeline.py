"""What the arena holds while the layers run: a rectangle for each value, over the steps and the bytes that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..names import short_source

#: Width and height in pixels of the plot, and of the room for labels at its left and below it.
_SIZES = {"wide": (1000, 300), "narrow": (320, 260)}
LEFT, BELOW, ABOVE = 64, 34, 18
#: Beyond so many rectangles a picture says less than report.json.
MOST = 2000


def timelines(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The picture for wide and narrow screens, with the peak in words; None where the target has no arena."""
    rows = report["facts"].get("arena") or []
    arena = report.get("arena_bytes")
    if not rows or not arena or len(rows) > MOST:
        return None
    steps = 1 + max(row["last"] for row in rows)
    highest = max(rows, key=lambda row: (row["offset"] + row["bytes"], -row["first"]))
    peak = highest["first"]
    kinds = {node["layer"]: node["kind"] for node in report.get("graph") or [] if node["layer"] is not None}
    values = [_value(row, report, kinds) for row in rows]
    return {
        "sizes": {name: _drawn(values, steps, arena, peak, *size) for name, size in _SIZES.items()},
        "peak": peak,
        "peak_bytes": highest["offset"] + highest["bytes"],
        "peak_name": _name(peak, report),
        "values": [v for v in values if v["first"] <= peak <= v["last"]],
    }


def _name(step: int, report: Mapping[str, Any]) -> str:
    layers = report["layers"]
    return short_source(layers[step]["source"], layers[step]["name"]) if step < len(layers) else f"step {step}"


def _value(row: Mapping[str, Any], report: Mapping[str, Any], kinds: Mapping[int, str]) -> dict[str, Any]:
    scratch = row["value"] == "scratch"
    what = (
        f"scratch of {_name(row['first'], report)}" if scratch else f"{row['value']} from {_name(row['first'], report)}"
    )
    span = f"step {row['first']}" if row["first"] == row["last"] else f"steps {row['first']} to {row['last']}"
    return {
        **{key: row[key] for key in ("first", "last", "offset", "bytes")},
        "kind": "scratch" if scratch else kinds.get(row["first"], "move"),
        "what": what,
        "about": f"{what}\n{row['bytes']:,} bytes at offset {row['offset']:,}\n{span}",
    }


def _drawn(
    values: Sequence[Mapping[str, Any]], steps: int, arena: int, peak: int, width: int, height: int
) -> dict[str, Any]:
    across, up = width / steps, height / arena
    rectangles = [
        {
            "x": round(LEFT + v["first"] * across, 1),
            "y": round(ABOVE + height - (v["offset"] + v["bytes"]) * up, 1),
            "width": round((v["last"] + 1 - v["first"]) * across, 1),
            "height": round(max(v["bytes"] * up, 0.5), 1),
            # In the step that writes it: a value that takes over its operand's place hides the rest.
            "label": round(LEFT + (v["first"] + 0.5) * across, 1) if across > 44 else None,
            **{key: v[key] for key in ("kind", "about", "bytes")},
        }
        for v in values
    ]
    every = max(1, -(-steps * 28 // width))
    return {
        "width": LEFT + width + 12,
        "height": ABOVE + height + BELOW,
        "plot": (LEFT, ABOVE, width, height),
        "rectangles": rectangles,
        "peak": (round(LEFT + peak * across, 1), round(across, 1)),
        "steps": [(t, round(LEFT + (t + 0.5) * across, 1)) for t in range(0, steps, every)],
        "levels": [(arena * i // 4, round(ABOVE + height * (1 - i / 4), 1)) for i in range(5)],
    }
