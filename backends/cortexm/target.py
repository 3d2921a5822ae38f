"""Targets: C for each Cortex-M core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...ir.types import Array
from ...runtime.target import Artifact, Need
from ..c.harness import Execution, Spec
from ..c.target import CTarget, flash_facts, need
from . import flash
from .cores import CORES
from .kernels import KERNELS
from .qemu import run_on_qemu

#: A minute or two of emulation.
VERIFIED_MACS = 2_500_000_000


class CortexMTarget(CTarget):
    """C99 for one core, a key of `cores.CORES`; run under QEMU, which counts instructions."""

    verified_macs = VERIFIED_MACS

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.machine = name
        self.summary = f"C99 for {CORES[name].name}, run under QEMU"
        self.kernels = KERNELS[name]
        self.flags = " ".join((*CORES[name].flags, self.flags))

    def needs(self) -> Sequence[Need]:
        return [need(tool) for tool in ("arm-none-eabi-gcc", "arm-none-eabi-nm", "qemu-system-arm")]

    @property
    def measures(self) -> bool:
        return flash.can_measure(self.machine)

    def build(self, artifact: Artifact) -> None:
        name = artifact.facts["name"]
        artifact.facts.update(flash_facts(flash.measure(self.machine, artifact.path / f"{name}.c", name)))

    def _execute(
        self, artifact: Artifact, build: Path, spec: Spec, arrays: Sequence[Array], profile: bool
    ) -> Execution:
        return run_on_qemu(self.machine, build, [artifact.path / f"{spec.name}.c"], spec, arrays, profile=profile)
