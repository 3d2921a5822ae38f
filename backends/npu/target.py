"""Targets `npu:256` and its like, and `npu:path/to/machine.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import DoesNotFitError, ModelError
from ...ir.graph import Graph, Node
from ...ir.types import Array
from ...runtime.cost import node_cost
from ...runtime.target import Artifact, Execution, Layer, Limits, Target, Unsupported
from . import executor, functional, simulator
from .assembly import disassemble
from .compiler import Compiled, NpuLayer, compile_graph
from .encoding import decode, encode
from .jobs import kind
from .layout import arrange, offsets, restored
from .linter import prove
from .machine import FOLDER, Machine, load_machine, parse_machine
from .partition import Placement
from .program import Program
from .simulator import Simulation
from .trace import chrome_trace

PREFIX = "npu:"
#: A file name of the artifact: the machine that its programs are for.
MACHINE = "machine.toml"
#: A minute or so of simulation.
VERIFIED_MACS = 4_000_000_000


class NpuTarget(Target):
    """Programs for an NPU that data describe, run by its simulator. name: `npu:` and what `load_machine` takes."""

    lowering = "layout{to=nhwc},simplify,group"
    verified_macs = VERIFIED_MACS

    def __init__(self, name: str) -> None:
        self.name = name
        self.machine = load_machine(name.removeprefix(PREFIX))
        macs, mode = self.machine.array.macs, self.machine.mode
        self.summary = f"NPU with {macs} multiply-accumulates per cycle, memory mode {mode}, run in its simulator"

    def supports(self, node: Node) -> Unsupported | None:
        """Every node: what the NPU does not take, the host computes, and the report says why."""
        return None

    def emit(self, graph: Graph, out: Path, name: str, limits: Limits) -> Artifact:
        compiled = compile_graph(graph, self.machine)
        programs = [p for p in compiled.programs if p is not None]
        for program in programs:
            prove(program, self.machine)
        simulations = [simulator.time(p, self.machine) for p in programs]
        facts = _facts(compiled, simulations)
        _require_fit(self.name, facts, limits)
        for i, program in enumerate(programs):
            (out / f"segment_{i}.npu").write_bytes(encode(program))
            (out / f"segment_{i}.asm").write_text(disassemble(program), encoding="ascii", newline="\n")
        (out / MACHINE).write_bytes(self._description().read_bytes())
        return Artifact(self.name, out, graph, _layers(compiled, facts), facts)

    def _description(self) -> Path:
        text = self.name.removeprefix(PREFIX).partition("@")[0]
        return FOLDER / f"npu{text}.toml" if text.isdecimal() else Path(text)

    def load(self, path: Path, graph: Graph, facts: Mapping[str, Any]) -> Artifact:
        return Artifact(self.name, path, graph, [Layer(**row) for row in facts["layers"]], dict(facts))

    def trace(self, artifact: Artifact) -> dict[str, Any] | None:
        names = {row["tag"]: row["name"] for row in artifact.facts["profile"]}
        machine = self._machine(artifact)
        traces = [chrome_trace(simulator.time(p, machine), names) for p in self.programs(artifact)]
        for i, trace in enumerate(traces):
            for event in trace["traceEvents"]:
                event["pid"] = i  # a process per segment: the host works between them
        return traces[0] | {"traceEvents": [e for t in traces for e in t["traceEvents"]]} if traces else None

    def _machine(self, artifact: Artifact) -> Machine:
        """The machine that the artifact was compiled for, which its folder holds."""
        path = artifact.path / MACHINE
        return parse_machine(path.read_text(encoding="utf-8"), str(path)).with_mode(artifact.facts["mode"])

    def programs(self, artifact: Artifact) -> list[Program]:
        """The programs of an artifact, from its files. Raises ModelError where they are not what was written."""
        paths = [artifact.path / f"segment_{i}.npu" for i in range(artifact.facts["segments"])]
        return [decode(path.read_bytes()) for path in paths]

    def run(self, artifact: Artifact, inputs: Mapping[str, Array], profile: bool = False) -> Execution:
        layout, machine = arrange(artifact.graph), self._machine(artifact)
        layout = restored(layout, artifact.facts["offsets"], artifact.facts["arena_bytes"])
        remaining = self.programs(artifact)
        if sum(not r[0].on_host for r in layout.runs) != len(remaining):
            raise ModelError("the programs are not those of the graph", str(artifact.path), "compile the model again")
        programs = [None if run[0].on_host else remaining.pop(0) for run in layout.runs]
        for program in programs:
            if program is not None:
                prove(program, machine)
        cycles = sum(simulator.time(p, machine).cycles for p in programs if p is not None)

        def execute(program: Program, arena: Array) -> Array:
            return functional.execute(program, machine, arena)

        names = artifact.graph.input_names
        rows = [
            executor.run(layout, programs, [np.asarray(inputs[n][i]) for n in names], execute)
            for i in range(len(inputs[names[0]]))
        ]
        outputs = {n: np.stack([row[i] for row in rows]) for i, n in enumerate(artifact.graph.output_names)}
        return Execution(outputs, len(rows), cycles=cycles)


def _require_fit(target: str, facts: Mapping[str, Any], limits: Limits) -> None:
    for what, there, needed in (("RAM", limits.ram, "arena_bytes"), ("flash", limits.flash, "flash_bytes")):
        if there is not None and facts[needed] > there:
            raise DoesNotFitError(
                f"the model needs {facts[needed]} bytes of {what} on {target}, {there} are there",
                fix="prune, or use a smaller input",
            )


def _facts(compiled: Compiled, simulations: list[Simulation]) -> dict[str, Any]:
    """Figures for the report; everything that the host does is in it."""
    machine = compiled.machine
    cycles = sum(s.cycles for s in simulations)
    macs = sum(s.macs for s in simulations)
    hosted = [p for p in compiled.layout.partition.placements if p.on_host]
    profile = profile_rows(compiled, simulations)
    programs = [p for p in compiled.programs if p is not None]
    facts: dict[str, Any] = {
        "machine": machine.name,
        "mode": machine.mode,
        "segments": len(programs),
        "instructions": sum(len(p.instructions) for p in programs),
        "arena_bytes": compiled.layout.arena_bytes,
        "offsets": offsets(compiled.layout),
        "flash_bytes": len(programs[0].constants) if programs else 0,
        "cycles": cycles,
        "microseconds": round(cycles / machine.clock_mhz, 3),
        "utilisation": round(macs / (machine.array.macs * cycles), 4) if cycles else 0.0,
        "energy_nj": round(sum(s.energy for s in simulations) / 1000, 3),
        "bound_cycles": sum(row["bound"] for row in profile),
        "host_steps": [_hosted(p) for p in hosted],
        "host_bytes": sum(sum(_traffic(p.node)) for p in hosted),
        "profile": profile,
    }
    facts["layers"] = [vars(layer) for layer in _layers(compiled, facts)]
    return facts


def profile_rows(compiled: Compiled, simulations: list[Simulation]) -> list[dict[str, Any]]:
    """One row per layer on the NPU: cycles simulated and modelled, utilisation, bound, what it waits for, energy."""
    layers = {layer.tag: layer for simulation in simulations for layer in simulation.layers}
    macs = compiled.machine.array.macs
    rows = []
    for layer in compiled.layers:
        found, taken = layers[layer.tag], layers[layer.tag].cycles
        rows.append(
            {
                "tag": layer.tag,
                "name": _name(layer.node),
                "op": _ops(layer.node),
                "cycles": taken,
                "modelled": layer.analytic,
                "utilisation": round(sum(job.macs for job in layer.jobs) / (macs * taken), 4) if taken else 0.0,
                "bound": layer.bound.cycles,
                "limit": layer.bound.limit,
                "stall": found.stall,
                "classes": {name: count for name, count in sorted(found.classes.items()) if count},
                "energy_nj": round(found.energy / 1000, 3),
                "tiling": _tiling(layer),
            }
        )
    return rows


def _hosted(placement: Placement) -> dict[str, Any]:
    assert placement.refusal is not None
    read, written = _traffic(placement.node)
    return {
        "name": _name(placement.node),
        "op": _ops(placement.node),
        "reason": placement.refusal.reason,
        "hint": placement.refusal.hint,
        "bytes_read": read,
        "bytes_written": written,
    }


def _traffic(node: Node) -> tuple[int, int]:
    """Bytes of activations that a node reads and writes."""
    read = sum(v.type.nbytes for v in dict.fromkeys(node.operands) if v.const is None)
    return read, sum(v.type.nbytes for v in node.results)


def _name(node: Node) -> str:
    return str(node.loc)


def _ops(node: Node) -> str:
    bodies = node.op.bodies()
    nodes = [n for body in bodies for n in body.nodes] or [node]
    return " + ".join(n.op.name for n in nodes)


def _tiling(layer: NpuLayer) -> str:
    """How the first job of a layer is computed and cut, in words; and what of it stays in local memory."""
    job, cut = layer.jobs[0], layer.cut
    more = f" x{len(layer.jobs)}" if len(layer.jobs) > 1 else ""
    how = kind(job)
    rows, columns = layer.area
    size = f"{min(rows, job.y.height)}x{min(columns, job.y.width)}"
    if len(layer.group) > 1:
        size = f"fused {layer.group.index(layer.tag) + 1} of {len(layer.group)}"
    block = f", {min(cut.block, job.y.channels)} channels" if how in ("conv", "depthwise") else ""
    local = {
        (False, False): "",
        (True, False): ", reads",
        (False, True): ", leaves",
        (True, True): ", reads and leaves",
    }
    stays = f"{local[layer.local]} locally" if any(layer.local) else ""
    return f"{how}{more}: {size}{block}{stays}"


def _layers(compiled: Compiled, facts: Mapping[str, Any]) -> list[Layer]:
    by_node = {layer.node: layer for layer in compiled.layers}
    result = []
    for i, node in enumerate(compiled.layout.memory.order):
        layer = by_node.get(node)
        what = f"layer_{i:02d}"
        macs = node_cost(node).macs
        constants = sum(v.type.nbytes for v in node.operands if v.const is not None)
        live = compiled.layout.live.get(node, 0)
        shape = str(node.results[0].type.bare)
        kernel = _tiling(layer) if layer is not None else "host"
        result.append(Layer(what, _ops(node), str(node.loc), shape, macs, kernel, constants, live))
    return result
