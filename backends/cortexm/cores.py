"""The cores that planish generates code for, and the emulated boards that run it."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Core:
    """A core, how gcc is told about it, and the board of QEMU that has it.

    `flash_bytes` and `ram_bytes` are the emulated board's, which the linker script hands out; a product has less.
    """

    name: str
    flags: tuple[str, ...]
    board: str
    linker_script: str
    flash_bytes: int
    ram_bytes: int


MB = 1 << 20

CORES = MappingProxyType(
    {
        core.name: core
        for core in (
            # QEMU has no board for M0 with enough memory. ARMv6-M is a subset of ARMv7-M, so the M3's runs its code.
            Core("cortex-m0", ("-mcpu=cortex-m0", "-mfloat-abi=soft"), "mps2-an385", "mps2.ld", 4 * MB, 4 * MB),
            Core("cortex-m3", ("-mcpu=cortex-m3", "-mfloat-abi=soft"), "mps2-an385", "mps2.ld", 4 * MB, 4 * MB),
            Core(
                "cortex-m4",
                ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
                "mps2-an386",
                "mps2.ld",
                4 * MB,
                4 * MB,
            ),
            Core(
                "cortex-m7",
                ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", "-mfloat-abi=hard"),
                "mps2-an500",
                "mps2.ld",
                4 * MB,
                4 * MB,
            ),
            Core(
                "cortex-m33",
                ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
                "mps2-an505",
                "mps2-an505.ld",
                4 * MB,
                4 * MB,
            ),
            Core(
                "cortex-m55",
                ("-mcpu=cortex-m55", "-mfloat-abi=hard"),
                "mps3-an547",
                "mps3-an547.ld",
                16 * MB,
                4 * MB,
            ),
        )
    }
)
