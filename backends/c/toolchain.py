"""Compile and link C, and read back what the linker made of it."""

from __future__ import annotations

import bisect
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildFailed, TimedOut, ToolMissing

PACKAGES = {
    "cc": "gcc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-nm": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64": "qemu-user",
}

BUILD_SECONDS = 300.0


def find_tool(tool: str) -> str:
    """The path of a program, or `ToolMissing`."""
    path = shutil.which(tool)
    if path is None:
        raise ToolMissing(tool, PACKAGES[tool])
    return path


@dataclass(frozen=True)
class Finished:
    """A program that has ended: its status (negative: killed by that signal), and stdout and stderr together."""

    status: int
    output: str


def run_program(
    command: Sequence[str], directory: Path, timeout: float, environment: Mapping[str, str] | None = None
) -> Finished:
    """Run a program to its end, without a shell and without input.

    After `timeout` seconds, or when interrupted, the program is killed along with whatever it started.
    """
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, "LC_ALL": "C", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        _kill_group(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise TimedOut(Path(command[0]).name, timeout) from None
        raise
    return Finished(process.returncode, output.decode(errors="replace"))


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()  # collects the process, so that no zombie stays


def build_step(command: Sequence[str], directory: Path) -> str:
    """Run a compiler or linker; its output, or `BuildFailed` with it."""
    finished = run_program(command, directory, BUILD_SECONDS)
    if finished.status != 0:
        raise BuildFailed([Path(command[0]).name, *command[1:]], finished.output)
    return finished.output


def compile_objects(
    compiler: str, flags: Sequence[str], sources: Sequence[Path], directory: Path, prefix: str
) -> list[str]:
    """Compile each source on its own; the names of the objects, `<prefix>-<n>-<stem>.o` in `directory`."""
    objects = []
    for number, source in enumerate(sources):
        name = f"{prefix}-{number}-{source.stem}.o"
        build_step([compiler, *flags, "-c", "-o", name, str(source.resolve())], directory)
        objects.append(name)
    return objects


# -------------------------------------------------------------------------------------------------------------- symbols


@dataclass(frozen=True)
class Symbols:
    """The symbols of a linked program."""

    addresses: Mapping[str, int]
    functions: Sequence[tuple[int, str]]  # by address

    def function_at(self, address: int) -> str | None:
        """The function that an address belongs to, under its name in the source.

        gcc splits and clones functions as `foo.part.0` or `foo.constprop.0`; their instructions are foo's.
        """
        index = bisect.bisect_right(self.functions, address, key=lambda function: function[0]) - 1
        return self.functions[index][1].partition(".")[0] if index >= 0 else None


def read_symbols(elf: str, directory: Path) -> Symbols:
    """The symbols of a linked program for Cortex-M."""
    nm = [find_tool("arm-none-eabi-nm"), "--defined-only", "--format=sysv", elf]
    addresses: dict[str, int] = {}
    functions: dict[int, str] = {}
    for line in sorted(build_step(nm, directory).splitlines()):
        columns = [column.strip() for column in line.split("|")]  # name, value, class, type, size, line, section
        if len(columns) != 7 or columns[0] == "Name":
            continue
        address = int(columns[1], 16) & ~1  # the low bit says Thumb
        addresses[columns[0]] = address
        if columns[3] == "FUNC":
            # Of several names for one address (__aeabi_idiv, __divsi3) the first by name stands for all.
            functions.setdefault(address, columns[0])
    return Symbols(addresses, sorted(functions.items()))


# ---------------------------------------------------------------------------------------------------------------- sizes


@dataclass(frozen=True)
class Size:
    """Bytes of the model in the linked program, without what the linker dropped and without padding between sections.

    `library` is what its code takes from libgcc, libc and libm (divisions, soft floats, memcpy).
    """

    text: int
    rodata: int
    data: int
    bss: int
    library: int

    @property
    def flash(self) -> int:
        """Bytes that must be stored: all but .bss."""
        return self.text + self.rodata + self.data + self.library


# Where a section has a long name, a line break follows it.
_MAP_ROW = re.compile(r"^ (\.[\w.$-]+|COMMON)\s+0x([0-9a-f]+)\s+0x([0-9a-f]+) (\S.*)$", re.MULTILINE)


def read_size(link_map: str, model_objects: Sequence[str]) -> Size:
    """The model's size, from the text of a linker map."""
    linked = link_map.partition("Linker script and memory map")[2].partition("OUTPUT(")[0]
    totals = {"text": 0, "rodata": 0, "data": 0, "bss": 0, "library": 0}
    for section, _, length, origin in _MAP_ROW.findall(linked):
        kind = {"COMMON": "bss"}.get(section, section.split(".")[1] if section.startswith(".") else "")
        if kind not in totals:
            continue
        if origin in model_objects:
            totals[kind] += int(length, 16)
        elif ".a(" in origin and kind != "bss":
            totals["library"] += int(length, 16)
    return Size(**totals)
