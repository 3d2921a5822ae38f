"""A simulation in Chrome's trace format, for Perfetto: one row per engine, one microsecond per cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .isa import Engine
from .machine import Machine
from .simulator import Simulation

#: The process of host segments; the NPU's is 0.
HOST = 1


def whole_trace(
    runs: Sequence[tuple[str, Simulation | Sequence[Mapping[str, Any]]]], machine: Machine, names: Mapping[int, str]
) -> dict[str, Any]:
    """One inference: programs and, in cycles of the NPU, the steps of host segments, one after the other.

    runs: name and what was timed; of a host segment its steps, as reports have them, with `name`, `op`, `cycles`.
    """
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
        for pid, name in ((0, machine.name), (HOST, machine.host.core))
    ]
    now = 0.0
    for name, run in runs:
        if isinstance(run, Simulation):
            shifted = chrome_trace(run, names)["traceEvents"]
            events += [event | {"ts": event["ts"] + now} if "ts" in event else event for event in shifted]
            now += run.cycles
            continue
        for step in run:
            taken = step["cycles"] * machine.clock_mhz / machine.host.clock_mhz
            head = {"ph": "X", "name": step["name"], "cat": step["op"], "pid": HOST, "tid": 0}
            events.append(head | {"ts": now, "dur": taken, "args": {"segment": name, "reason": step["reason"]}})
            now += taken
    other = {"machine": machine.name, "cycles": now}
    return {"displayTimeUnit": "ns", "otherData": other, "traceEvents": events}


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
