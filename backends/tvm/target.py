"""Targets of mobile code: this processor, and aarch64 under Linux and Android."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...ir.errors import UnsupportedError, UsageError
from ...ir.graph import Graph
from ...ir.types import Array
from ...runtime.target import Artifact, Limits, Need, Target
from ..cortexm import runner as c_runner
from ..cortexm.project import Project
from ..cortexm.target import CTarget
from ..cortexm.toolchain import PACKAGES
from ..kernel import Choices
from ..memory import Plan
from . import runner
from .kernels import KERNELS
from .machines import CROSS, HOST, machine_named, require_same
from .project import ALIGNMENT, generate

#: A minute or two of qemu-aarch64.
EMULATED_MACS = 10_000_000_000
_INSTALL = "pip install 'planish[mobile]'"
_SUMMARIES = {
    HOST: "machine code for this processor through TVM and LLVM, run here",
    "tvm:aarch64-linux": "machine code for 64-bit Arm under Linux, run under qemu-aarch64",
    "tvm:aarch64-android": "objects for 64-bit Arm under Android, to be linked by the NDK",
}


class TvmTarget(CTarget):
    """C that calls kernels in an object file; the kernels are TIR, compiled by TVM. `name` is one of `_SUMMARIES`."""

    alignment = ALIGNMENT

    def __init__(self, name: str) -> None:
        self.name = name
        self.summary = _SUMMARIES[name]
        self.kernels = KERNELS
        self.flags = name
        self.verified_macs = None if name == HOST else EMULATED_MACS

    def choices(self) -> Choices:
        # LLVM is told that pointers do not alias.
        return Choices(self.kernels, in_place=False)

    def needs(self) -> Sequence[Need]:
        tools = ["cc"] if self.name == HOST else [CROSS[self.name].compiler, CROSS[self.name].emulator]
        return [
            Need("apache-tvm", _is_here(), _INSTALL),
            *(Need(t, shutil.which(t) is not None, f"apt-get install {PACKAGES[t]}") for t in tools if t),
        ]

    def emit(self, graph: Graph, out: Path, name: str, limits: Limits) -> Artifact:
        if not _is_here():
            raise UsageError(f"target {self.name} needs apache-tvm, which is not installed", fix=_INSTALL)
        artifact = super().emit(graph, out, name, limits)
        artifact.facts["cpu"] = machine_named(self.name).cpu
        return artifact

    def _flash(self, project: Project) -> dict[str, Any]:
        """Nothing: it is loaded into memory with its program."""
        return {}

    @property
    def measures(self) -> bool:
        return False

    def build(self, artifact: Artifact) -> None:
        Target.build(self, artifact)

    def _generate(self, graph: Graph, name: str, memory: Plan, choices: Choices) -> Project:
        machine = machine_named(self.name)
        return generate(graph, name, memory, choices, machine, f"{machine.triple}, {machine.cpu}")

    def _execute(
        self, artifact: Artifact, build: Path, spec: c_runner.Spec, arrays: Sequence[Array], profile: bool
    ) -> c_runner.Execution:
        if self.name == HOST:
            require_same(artifact.facts["cpu"])
        elif not CROSS[self.name].compiler:
            raise UnsupportedError(
                f"code for {self.name} cannot be run here",
                fix="verify the same model on tvm:aarch64-linux, which has the same kernels",
            )
        return runner.run(artifact.path, build, spec, arrays, machine_named(self.name))


def _is_here() -> bool:
    return find_spec("tvm") is not None
