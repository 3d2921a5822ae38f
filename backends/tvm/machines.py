"""The processors that mobile code is made for."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cache

from ...ir.errors import UsageError

#: Target name of this machine's own processor.
HOST = "tvm"


@dataclass(frozen=True)
class Machine:
    """What the compiler is told, and what kernels want to know.

    triple, cpu, features: as LLVM names them. vector_bytes, registers: of vectors. compiler, emulator: programs that
    link for it, with the options `link`, and run it; no compiler where it cannot be run here. vnni: whether four 8-bit
    products are summed into 32 bits by one instruction, vpdpbusd; pairs: two 16-bit ones, pmaddwd.
    """

    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bytes: int
    registers: int
    compiler: str = "cc"
    emulator: str = ""
    link: tuple[str, ...] = ()
    vnni: bool = False
    pairs: bool = False

    @property
    def lanes(self) -> int:
        """32-bit elements of a vector register."""
        return self.vector_bytes // 4


_AARCH64_LINUX = Machine(
    triple="aarch64-linux-gnu", cpu="generic", features=("+neon",), vector_bytes=16, registers=32,
    compiler="aarch64-linux-gnu-gcc", emulator="qemu-aarch64", link=("-static",),
)  # fmt: skip

CROSS: dict[str, Machine] = {
    "tvm:aarch64-linux": _AARCH64_LINUX,
    "tvm:aarch64-android": replace(_AARCH64_LINUX, triple="aarch64-linux-android21", compiler="", emulator="", link=()),
}


@cache
def machine_named(target: str) -> Machine:
    """The machine of a target. Of `tvm`, this processor as LLVM sees it."""
    return CROSS[target] if target in CROSS else _this_machine()


def _this_machine() -> Machine:
    from tvm.target import Target, codegen

    cpu, triple = codegen.llvm_get_system_cpu(), codegen.llvm_get_system_triple()
    if platform.machine() in ("aarch64", "arm64"):
        return Machine(triple, cpu, (), vector_bytes=16, registers=32)
    features = set(codegen.llvm_get_cpu_features(Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})))
    if "avx512f" in features:
        return Machine(triple, cpu, (), vector_bytes=64, registers=32, vnni="avx512vnni" in features, pairs=True)
    return Machine(triple, cpu, (), vector_bytes=32 if "avx2" in features else 16, registers=16, pairs=True)


def require_same(made_for: str) -> None:
    """Raise UsageError where code made for one processor (`tvm`) would run on another."""
    cpu = _this_machine().cpu
    if cpu != made_for:
        raise UsageError(
            f"this code was made for the processor {made_for}, this one is {cpu}",
            fix="compile it again on this machine: planish compile ... --target tvm",
        )
