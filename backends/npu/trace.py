"""A simulation in Chrome's trace format, for Perfetto: one row per engine, one microsecond per cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .isa import Engine
from .simulator import Simulation


def chrome_trace(simulation: Simulation, names: Mapping[int, str]) -> dict[str, Any]:
    """A JSON-able trace. names: of source operators, by tag."""
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": int(engine), "args": {"name": engine.name}}
        for engine in Engine
        if engine is not Engine.CTRL
    ]
    for span in simulation.spans:
        i = span.command.instruction
        details = {part: value for part, value in vars(span.work).items() if value and part != "energy"}
        events.append(
            {
                "ph": "X",
                "name": names.get(i.tag) or i.mnemonic,
                "cat": i.mnemonic,
                "pid": 0,
                "tid": int(span.command.engine),
                "ts": span.busy,
                "dur": span.end - span.busy,
                "args": {"instruction": span.command.position, "issued": span.start, **details},
            }
        )
    return {
        "displayTimeUnit": "ns",
        "otherData": {"machine": simulation.machine.name, "cycles": simulation.cycles},
        "traceEvents": events,
    }
