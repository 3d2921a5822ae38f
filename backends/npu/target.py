"""Targets `npu:256` and its like, and `npu:path/to/machine.toml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import DoesNotFitError, ModelError
from ...ir.graph import Graph, Node
from ...ir.types import Array
from ...runtime.target import Artifact, Execution, Limits, Need, Target, Unsupported
from ...runtime.unchained import Cut
from ..c.target import CTarget
from ..cortexm.target import CortexMTarget
from ..cutting import cut_program
from ..fitting import remedies
from ..lowering import DEVICE
from . import executor, figures, functional, host, simulator
from .assembly import disassemble
from .compiler import compile_graph
from .encoding import decode, encode
from .figures import Hosted
from .host import HostSegment
from .layout import arrange, restored
from .linter import prove
from .machine import FOLDER, Machine, load_machine, parse_machine
from .partition import jobs_of
from .program import Program
from .trace import whole_trace

PREFIX = "npu:"
#: A file name of the artifact: the machine that its programs are for.
MACHINE = "machine.toml"
#: A minute or so of simulation.
VERIFIED_MACS = 4_000_000_000


class NpuTarget(Target, adds=("programs",)):
    """Programs for an NPU that data describe, run by its simulator. name: `npu:` and what `load_machine` takes."""

    lowering = DEVICE
    verified_macs = VERIFIED_MACS

    def __init__(self, name: str) -> None:
        self.name = name
        self.machine = load_machine(name.removeprefix(PREFIX))
        macs, mode = self.machine.array.macs, self.machine.mode
        self.summary = f"NPU with {macs} multiply-accumulates per cycle, memory mode {mode}, run in its simulator"

    def supports(self, node: Node) -> Unsupported | None:
        """What the NPU does not take, the host computes; this is about nodes that it cannot compute either."""
        return None if not isinstance(jobs_of(node), Unsupported) else host.supports(node)

    def needs(self) -> Sequence[Need]:
        """For the host's part: a compiler to run it here, the core's own and the emulator to count instructions."""
        return [*CTarget().needs(), *CortexMTarget(self.machine.host.core).needs()]

    def emit(self, graph: Graph, out: Path, name: str, limits: Limits) -> Artifact:
        compiled = compile_graph(graph, self.machine)
        segments = host.host_segments(compiled.layout)
        host.require_supported(self.name, segments)
        programs = [p for p in compiled.programs if p is not None]
        for program in programs:
            prove(program, self.machine)
        simulations = [simulator.time(p, self.machine) for p in programs]
        hosted = [self._hosted(segment, out) for segment in segments]
        facts = figures.facts(compiled, simulations, hosted)
        _require_ram(graph, self.name, facts, limits)
        for i, program in enumerate(programs):
            _segment(out, i).write_bytes(encode(program))
            _segment(out, i).with_suffix(".asm").write_text(disassemble(program), encoding="ascii", newline="\n")
        (out / MACHINE).write_bytes(self._description().read_bytes())
        return Artifact(self.name, out, graph, figures.layers(facts["layers"]), facts)

    def _hosted(self, segment: HostSegment, out: Path) -> Hosted:
        code, core = host.emit(segment, out), self.machine.host
        return Hosted(segment, code, host.count(segment, out, core), host.flash(segment, code, core))

    def _description(self) -> Path:
        text = self.name.removeprefix(PREFIX).partition("@")[0]
        return FOLDER / f"npu{text}.toml" if text.isdecimal() else Path(text)

    def unchained(self, artifact: Artifact, out: Path) -> tuple[Artifact, Cut] | None:
        return cut_program(self, artifact, out)

    def load(self, path: Path, graph: Graph, facts: Mapping[str, Any]) -> Artifact:
        return Artifact(self.name, path, graph, figures.layers(facts["layers"]), dict(facts))

    def trace(self, artifact: Artifact) -> dict[str, Any] | None:
        names = {row["tag"]: row["name"] for row in artifact.facts["profile"]}
        machine, programs = self._machine(artifact), iter(self.programs(artifact))
        steps = [s for s in artifact.facts["host_steps"] if s["cycles"] is not None]
        return whole_trace(
            [
                (name, [s for s in steps if s["segment"] == name])
                if name.startswith("host")
                else (name, simulator.time(next(programs), machine))
                for name in artifact.facts["order"]
            ],
            machine,
            names,
        )

    def _machine(self, artifact: Artifact) -> Machine:
        """The machine that the artifact was compiled for, which its folder holds."""
        path = artifact.path / MACHINE
        return parse_machine(path.read_text(encoding="utf-8"), str(path)).with_mode(artifact.facts["mode"])

    def programs(self, artifact: Artifact) -> list[Program]:
        """The programs of an artifact, from its files. Raises ModelError where they are not what was written."""
        return [_program(_segment(artifact.path, i)) for i in range(artifact.facts["segments"])]

    def run(self, artifact: Artifact, inputs: Mapping[str, Array], profile: bool = False) -> Execution:
        layout, machine = arrange(artifact.graph), self._machine(artifact)
        layout = restored(layout, artifact.facts["offsets"], artifact.facts["arena_bytes"])
        remaining = self.programs(artifact)
        if sum(not r[0].on_host for r in layout.runs) != len(remaining):
            raise ModelError("the programs are not those of the graph", str(artifact.path), "compile the model again")
        programs = [None if run[0].on_host else remaining.pop(0) for run in layout.runs]
        for i, program in enumerate(p for p in programs if p is not None):
            prove(program, machine, str(_segment(artifact.path, i)))
        cycles = sum(simulator.time(p, machine).cycles for p in programs if p is not None)

        def execute(program: Program, arena: Array) -> Array:
            return functional.execute(program, machine, arena)

        def compute(segment: HostSegment, given: Sequence[Array]) -> list[Array]:
            return host.run(segment, artifact.path, given)

        stacked = [np.asarray(inputs[n]) for n in artifact.graph.input_names]
        results = executor.run(layout, programs, stacked, execute, compute)
        outputs = dict(zip(artifact.graph.output_names, results, strict=True))
        counts = {layer.name: layer.instructions for layer in artifact.layers if layer.instructions is not None}
        return Execution(outputs, len(results[0]), cycles=cycles, layers=counts)


def _segment(folder: Path, index: int) -> Path:
    return folder / f"segment_{index}.npu"


def _program(path: Path) -> Program:
    try:
        return decode(path.read_bytes())
    except ModelError as error:
        error.where = f"{path}, {error.where}" if error.where else str(path)
        raise


def _require_ram(graph: Graph, target: str, facts: Mapping[str, Any], limits: Limits) -> None:
    if limits.ram is not None and facts["arena_bytes"] > limits.ram:
        raise DoesNotFitError(
            f"the model needs {facts['arena_bytes']} bytes of RAM on {target}, {limits.ram} are there",
            fix=remedies(graph),
        )
