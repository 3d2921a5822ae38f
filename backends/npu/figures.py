"""What a report says of a compiled model: cycles, energy and stalls of each layer, and all that the host does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ...ir.graph import Node
from ...runtime.cost import node_cost
from ...runtime.target import Artifact, Layer
from ..c.sizes import Flash
from .compiler import Compiled, NpuLayer
from .encoding import encode
from .host import Counted, HostSegment
from .jobs import kind
from .layout import offsets
from .partition import Placement
from .program import Program
from .simulator import Simulation


@dataclass(frozen=True, eq=False)
class Hosted:
    """A host segment, the C that was emitted for it, what was counted, and the flash that it takes."""

    segment: HostSegment
    code: Artifact
    counted: Counted
    flash: Flash

    def layer(self, node: Node) -> Layer:
        """The C function of a node of the partitioned graph."""
        place = list(self.segment.graph.nodes).index(self.segment.twins[node])
        return next(layer for layer in self.code.layers if layer.node == place)


def facts(compiled: Compiled, simulations: Sequence[Simulation], hosted: Sequence[Hosted]) -> dict[str, Any]:
    """Figures for the report; everything that the host does is in it."""
    machine = compiled.machine
    cycles = sum(s.cycles for s in simulations)
    macs = sum(s.macs for s in simulations)
    profile = profile_rows(compiled, simulations)
    programs = [p for p in compiled.programs if p is not None]
    steps = [_step(h, p, compiled) for h in hosted for p in h.segment.placements]
    host, microseconds = _host(compiled, hosted), round(cycles / machine.clock_mhz, 3)
    total = None if host["microseconds"] is None else round(microseconds + host["microseconds"], 3)
    found: dict[str, Any] = {
        "machine": machine.name,
        "mode": machine.mode,
        "segments": len(programs),
        "order": _order(compiled),
        "instructions": sum(len(p.instructions) for p in programs),
        "arena_bytes": compiled.layout.arena_bytes,
        "offsets": offsets(compiled.layout),
        **_flash(programs, hosted),
        "cycles": cycles,
        "microseconds": microseconds,
        "total_microseconds": total,
        "utilisation": round(macs / (machine.array.macs * cycles), 4) if cycles else 0.0,
        "energy_nj": round(sum(s.energy for s in simulations) / 1000, 3),
        "bound_cycles": sum(row["bound"] for row in profile),
        "host": host,
        "host_steps": steps,
        "remarks": _remarks(steps, bool(programs)),
        "host_bytes": host["bytes_read"] + host["bytes_written"] + 2 * host["bytes_copied"],
        "profile": profile,
    }
    found["layers"] = [vars(layer) | {"refused": refused} for layer, refused in _layers(compiled, hosted)]
    return found


def _remarks(steps: Sequence[Mapping[str, Any]], has_programs: bool) -> list[str]:
    """What the user should know before anything else."""
    if has_programs or not steps:
        return []
    hints = dict.fromkeys(step["hint"] for step in steps if step["hint"])
    what = f"nothing runs on the NPU: its host computes all {len(steps)} layers"
    return [f"{what}; {' or '.join(hints)}" if hints else what]


def _flash(programs: Sequence[Program], hosted: Sequence[Hosted]) -> dict[str, Any]:
    """Constants and code: the instructions of the programs, and what the host executes."""
    constants = (len(programs[0].constants) if programs else 0) + sum(h.flash.constants for h in hosted)
    code = sum(len(encode(p)) - len(p.constants) for p in programs) + sum(h.flash.code for h in hosted)
    own = sum(h.flash.code * h.flash.error for h in hosted)
    return {
        "constant_bytes": constants,
        "code_bytes": code,
        "flash_bytes": constants + code,
        "flash_error": round(own / (constants + code), 3) if code else 0.0,
    }


def _order(compiled: Compiled) -> list[str]:
    """Programs and host segments by the names of their files, as they follow one another."""
    counts = {"host": 0, "segment": 0}
    names = []
    for run in compiled.layout.runs:
        kind = "host" if run[0].on_host else "segment"
        names.append(f"{kind}_{counts[kind]}")
        counts[kind] += 1
    return names


def layers(rows: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """The layers that `facts` put down."""
    return [Layer(**{key: value for key, value in row.items() if key != "refused"}) for row in rows]


# ---- the NPU


def profile_rows(compiled: Compiled, simulations: Sequence[Simulation]) -> list[dict[str, Any]]:
    """One row per layer on the NPU: cycles simulated and modelled, utilisation, bound, what it waits for, energy."""
    found = {layer.tag: layer for simulation in simulations for layer in simulation.layers}
    macs = compiled.machine.array.macs
    rows = []
    for layer in compiled.layers:
        simulated, taken = found[layer.tag], found[layer.tag].cycles
        rows.append(
            {
                "tag": layer.tag,
                "name": str(layer.node.loc),
                "op": _ops(layer.node),
                "cycles": taken,
                "modelled": layer.analytic,
                "utilisation": round(sum(job.macs for job in layer.jobs) / (macs * taken), 4) if taken else 0.0,
                "bound": layer.bound.cycles,
                "limit": layer.bound.limit,
                "stall": simulated.stall,
                "classes": {name: count for name, count in sorted(simulated.classes.items()) if count},
                "energy_nj": round(simulated.energy / 1000, 3),
                "tiling": _tiling(layer),
            }
        )
    return rows


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


# ---- the host


def _host(compiled: Compiled, hosted: Sequence[Hosted]) -> dict[str, Any]:
    """Totals of the host, and its segments. Instructions, cycles and time are None where `unknown` says why."""
    host, layout = compiled.machine.host, compiled.layout
    unknown = next((h.counted.unknown for h in hosted if h.counted.unknown), "")
    instructions = None if unknown else sum(h.counted.instructions or 0 for h in hosted)
    sides = [run[0].on_host for run in layout.runs]
    return {
        "core": host.core,
        "clock_mhz": host.clock_mhz,
        "cycles_per_instruction": host.cycles_per_instruction,
        "instructions": instructions,
        "cycles": None if instructions is None else host.cycles(instructions),
        "microseconds": None if instructions is None else host.microseconds(instructions),
        "unknown": unknown,
        "bytes_read": sum(h.segment.bytes_read for h in hosted),
        "bytes_written": sum(h.segment.bytes_written for h in hosted),
        "bytes_copied": sum(layout.partition.graph.outputs[i].type.nbytes for i in layout.memory.copies),
        "crossings": sum(a != b for a, b in pairwise(sides)),
        "segments": [_segment(h, compiled) for h in hosted],
    }


def _segment(hosted: Hosted, compiled: Compiled) -> dict[str, Any]:
    """One call of generated C: `<name>_run` with these addresses of the arena."""
    segment, addresses = hosted.segment, compiled.layout.addresses
    return {
        "name": segment.name,
        "steps": len(segment.placements),
        "inputs": [addresses[v][1] for v in segment.reads],
        "outputs": [addresses[v][1] for v in segment.writes],
        "bytes_read": segment.bytes_read,
        "bytes_written": segment.bytes_written,
        "instructions": hosted.counted.instructions,
    }


def _step(hosted: Hosted, placement: Placement, compiled: Compiled) -> dict[str, Any]:
    """A node on the host: why, what it moves, and the instructions of its own function."""
    assert placement.refusal is not None
    node, layer = placement.node, hosted.layer(placement.node)
    read = sum(v.type.nbytes for v in dict.fromkeys(node.operands) if v not in compiled.layout.memory.constants)
    instructions = _own(hosted, layer)
    return {
        "segment": hosted.segment.name,
        "name": str(node.loc),
        "op": _ops(node),
        "kernel": layer.kernel,
        "reason": placement.refusal.reason,
        "hint": placement.refusal.hint,
        "bytes_read": read,
        "bytes_written": sum(v.type.nbytes for v in node.live_results),
        "instructions": instructions,
        "cycles": None if instructions is None else compiled.machine.host.cycles(instructions),
    }


def _own(hosted: Hosted, layer: Layer) -> int | None:
    """Instructions of a node; of a segment's only node, those around its function too."""
    if len(hosted.segment.placements) == 1 or hosted.counted.instructions is None:
        return hosted.counted.instructions
    return hosted.counted.by_function.get(layer.name, 0)


# ---- both, as layers of a report


def _layers(compiled: Compiled, hosted: Sequence[Hosted]) -> list[tuple[Layer, dict[str, str]]]:
    """Rows in order of execution, each with what refused it."""
    on_npu = {layer.node: layer for layer in compiled.layers}
    on_host = {p.node: (h, p) for h in hosted for p in h.segment.placements}
    memory = compiled.layout.memory
    result = []
    for i, node in enumerate(memory.order):
        row = Layer(
            f"layer_{i:02d}",
            _ops(node),
            str(node.loc),
            ", ".join(str(v.type.bare) for v in node.live_results),
            macs=node_cost(node).macs,
            constant_bytes=sum(v.type.nbytes for v in node.operands if v.const is not None),
            ram_bytes=compiled.layout.live.get(node, 0),
        )
        refused = {}
        if node in on_host:
            found, placement = on_host[node]
            assert placement.refusal is not None
            own = found.layer(node)
            row.kernel, row.instructions, refused = (
                f"host: {own.kernel}",
                _own(found, own),
                {"npu": placement.refusal.reason},
            )
        else:
            row.kernel = _tiling(on_npu[node])
        result.append((row, refused))
    return result
