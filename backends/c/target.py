"""Target `c`: portable C, run on this machine; and what all targets share that emit C."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.constant import Const
from ...ir.errors import DoesNotFitError, UnsupportedError
from ...ir.graph import Graph, Node
from ...ir.types import Array
from ...runtime.target import Artifact, Execution, Layer, Limits, Need, Target, Unsupported
from ...runtime.unchained import Cut
from ..cutting import cut_program
from ..fitting import remedies, require_flash
from ..kernel import Choices, Kernel, unfit, with_installed
from ..loops.kernels import PLAIN, SHARED
from ..lowering import DEVICE
from ..memory import Plan, plan
from . import cflags, harness, host, sizes
from .code import CTYPES
from .names import identifier
from .project import Project, generate
from .toolchain import PACKAGES

HOST = "c"
KERNELS: tuple[Kernel, ...] = (*PLAIN, *SHARED)


class CTarget(Target, adds=("alignment", "choices", "flags", "kernels", "machine")):
    """Self-contained C99 for any machine. Targets that emit C derive from it, with kernels and runners of their own.

    A class that derives from one may set another `name` afterwards: compiled and run is what `machine` says.
    """

    summary = "portable C99 for any machine, run on this one"
    lowering = DEVICE
    #: Of values in the arena, in bytes; the largest alignment of a C type that is used.
    alignment = 8
    kernels: Sequence[Kernel] = KERNELS
    #: `c`, a core, a processor: what the code is compiled for, measured and run on.
    machine: str
    #: For whom the code is made, as its header says.
    flags = " ".join((*cflags.MODEL_FLAGS, cflags.OPTIMIZATION))

    def __init__(self, name: str = HOST) -> None:
        self.name, self.machine = name, HOST

    # ---- what passes ask

    def choices(self) -> Choices:
        """Which kernels execute the nodes of a lowered graph, or why none does."""
        return Choices(with_installed(self.machine, self.kernels))

    def supports(self, node: Node) -> Unsupported | None:
        return self.choices().problem(node)

    def needs(self) -> Sequence[Need]:
        return [need("cc")]

    # ---- out

    def emit(self, graph: Graph, out: Path, name: str, limits: Limits) -> Artifact:
        choices = self.choices()
        self._require_supported(graph, choices)
        c_name = identifier(name)
        memory = self._plan(graph, choices)
        project = self._generate(graph, c_name, memory, choices)
        _require_ram(self.name, graph, memory, project, limits)
        layers = _layers(graph, memory, project)
        facts = _facts(c_name, self.flags, graph, memory, project, layers) | self._flash(project)
        artifact = Artifact(self.name, out, graph, layers, facts)
        if limits.flash is not None and project.table_bytes > limits.flash:  # code only adds to that
            require_flash(artifact, limits)
        for file, content in project.files.items():
            (out / file).write_bytes(content if isinstance(content, bytes) else content.encode("ascii"))
        return artifact

    def _flash(self, project: Project) -> dict[str, Any]:
        """What is known of the flash before anything is compiled."""
        texts = [(f.kernel.name, f.text) for f in project.functions]
        return flash_facts(sizes.estimate(self.machine, texts, project.table_bytes))

    def build(self, artifact: Artifact) -> None:
        host.build_on_host(artifact.path / f"{artifact.facts['name']}.c")

    def load(self, path: Path, graph: Graph, facts: Mapping[str, Any]) -> Artifact:
        keys = ("name", "op", "source", "shape", "macs", "kernel", "constant_bytes", "ram_bytes", "node")
        layers = [Layer(**{key: row[key] for key in keys}) for row in facts["layers"]]
        return Artifact(self.name, path, graph, layers, dict(facts))

    def run(self, artifact: Artifact, inputs: Mapping[str, Array], profile: bool = False) -> Execution:
        graph, name = artifact.graph, artifact.facts["name"]
        spec = interface(graph, name)
        arrays = [_as_stored(inputs[v.name], b) for v, b in zip(graph.inputs, spec.inputs, strict=True)]
        with tempfile.TemporaryDirectory(prefix="planish-") as folder:
            done = self._execute(artifact, Path(folder), spec, arrays, profile)
        outputs = {
            key: array.reshape(len(array), *v.type.shape).astype(v.type.dtype.numpy, copy=False)
            for key, v, array in zip(graph.output_names, graph.outputs, done.outputs, strict=True)
        }
        return Execution(
            outputs,
            samples=len(done.outputs[0]) if done.outputs else 0,
            instructions=max(done.instructions, default=0) if done.instructions is not None else None,
            stack_bytes=done.stack_bytes,
            flash_bytes=done.flash_bytes,
            layers=done.layers or {},
        )

    def unchained(self, artifact: Artifact, out: Path) -> tuple[Artifact, Cut] | None:
        return cut_program(self, artifact, out)

    def _plan(self, graph: Graph, choices: Choices) -> Plan:
        """In which order nodes are executed, and where their values lie."""
        return plan(graph, choices, self.alignment)

    def _generate(self, graph: Graph, name: str, memory: Plan, choices: Choices) -> Project:
        """All files of a model whose C name is `name`."""
        return generate(graph, name, memory, choices, self.flags)

    def _execute(
        self, artifact: Artifact, build: Path, spec: harness.Spec, arrays: Sequence[Array], profile: bool
    ) -> harness.Execution:
        """Build below `build`, and run on a batch."""
        return host.run_on_host(build, [artifact.path / f"{spec.name}.c"], spec, arrays)

    def _require_supported(self, graph: Graph, choices: Choices) -> None:
        """Raise UnsupportedError with every node, input and output that the target cannot take."""
        nodes = [(n.describe(), p) for n in graph.nodes if (p := choices.problem(n)) is not None]
        inputs = [(f"input {v.name}: {v.type}", p) for v in graph.inputs if (p := unfit(v.type)) is not None]
        problems = nodes + inputs
        if not problems:
            return
        count = sum(not isinstance(n.op, Const) for n in graph.nodes)
        parts = [f"{len(nodes)} of the {count} nodes"] * bool(nodes) + [f"{len(inputs)} of the inputs"] * bool(inputs)
        hints = dict.fromkeys(p.hint for _, p in problems if p.hint)
        raise UnsupportedError(
            f"target {self.name} cannot take {' and '.join(parts)}",
            fix="; ".join(hints) or "run the model on another target, or rewrite these nodes",
            details=tuple(f"{where}: {p.reason}" for where, p in problems),
        )


def need(tool: str) -> Need:
    """That a program is needed, and whether it is there."""
    return Need(tool, shutil.which(tool) is not None, f"apt-get install {PACKAGES[tool]}")


def interface(graph: Graph, name: str) -> harness.Spec:
    """How the harness calls the generated code of a graph."""
    buffers = [
        tuple(harness.Buffer(CTYPES[v.type.dtype], v.type.size) for v in values)
        for values in (graph.inputs, graph.outputs)
    ]
    return harness.Spec(name, *buffers)


def _as_stored(array: Array, buffer: harness.Buffer) -> Array:
    """A batch as the harness takes it; booleans are bytes in C."""
    return np.asarray(array).view(np.uint8) if array.dtype == np.bool_ else np.asarray(array)


def flash_facts(flash: sizes.Flash) -> dict[str, Any]:
    """What reports say of the flash; JSON-able."""
    return {
        "constant_bytes": flash.constants,
        "code_bytes": flash.code,
        "flash_bytes": flash.total,
        "flash_error": flash.error,
    }


def _require_ram(target: str, graph: Graph, memory: Plan, project: Project, limits: Limits) -> None:
    """Raise DoesNotFitError where the arena and the public buffers exceed the RAM."""
    public = sum(v.type.nbytes for v in (*graph.inputs, *graph.outputs))
    ram = memory.arena_bytes + public
    if limits.ram is not None and ram > limits.ram:
        raise DoesNotFitError(
            f"the model needs {ram} bytes of RAM on {target}, {limits.ram} are there",
            fix=remedies(graph),
            details=(
                f"arena {memory.arena_bytes} bytes, inputs and outputs {public} bytes; the stack comes on top",
                *_largest_at_peak(memory, project),
            ),
        )


def _largest_at_peak(memory: Plan, project: Project) -> list[str]:
    """The layer where most memory is in use, and what it holds then."""
    highest = max(memory.rows, key=lambda r: (r.offset + r.size, -r.first), default=None)
    if highest is None:
        return []
    function = project.functions[highest.first]
    rows = sorted(memory.at(highest.first), key=lambda r: -r.size)[:3]
    held = ", ".join(f"{r.size} ({r.value.type if r.value is not None else 'scratch'})" for r in rows)
    return [f"most is in use in {function.name}, from {function.node.loc}: {held}"]


def _layers(graph: Graph, memory: Plan, project: Project) -> list[Layer]:
    layers = []
    place = {node: index for index, node in enumerate(graph.nodes)}
    for f, ram in zip(project.functions, memory.in_use, strict=True):
        node = f.node
        macs = node.op.cost(*(v.type for v in node.operands)).macs
        ops = " + ".join(n.op.name for n in f.choice.group.nodes)
        layers.append(
            Layer(
                name=f.name,
                op=ops,
                source=str(node.loc),
                shape=f.choice.group.shown,
                macs=macs,
                kernel=f.kernel.name,
                constant_bytes=f.table_bytes,
                ram_bytes=ram,
                node=place[node],
            )
        )
    return layers


def _facts(
    name: str, flags: str, graph: Graph, memory: Plan, project: Project, layers: Sequence[Layer]
) -> dict[str, Any]:
    """What reports print and `load` needs; JSON-able."""
    return {
        "name": name,
        "flags": flags,
        "arena_bytes": memory.arena_bytes,
        "arena_optimal": memory.optimal,
        "input_bytes": sum(v.type.nbytes for v in graph.inputs),
        "output_bytes": sum(v.type.nbytes for v in graph.outputs),
        "constant_bytes": project.table_bytes,
        "files": sorted(project.files),
        "layers": [
            {
                **{key: value for key, value in vars(layer).items() if key != "instructions"},
                "refused": {kernel: answer.reason for kernel, answer in f.choice.refused},
            }
            for layer, f in zip(layers, project.functions, strict=True)
        ],
        "arena": [
            {"value": str(r.value.type.bare) if r.value is not None else "scratch", "offset": r.offset, "bytes": r.size,
             "first": r.first, "last": r.last}
            for r in memory.rows
        ],
    }  # fmt: skip
