"""The QEMU plugin that counts instructions: built once per machine, and its profile read."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..c.errors import RunFailed
from ..c.toolchain import build_step, find_tool, run_program

#: C and linker scripts of the emulated boards.
BOARDS = Path(__file__).parent / "boards"
_FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden")


def build_plugin(fallback: Path) -> Path:
    """The compiled plugin, from the user's cache or built into it (into `fallback` where that cannot be written).

    The file is named by its content and put in place whole, so that any number of processes may do this at once.
    """
    compiler = find_tool("cc")
    api = _api_version()
    sources = [BOARDS / "insncount.c", BOARDS / "qplug.h"]
    key = hashlib.sha256("\0".join([str(api), *_FLAGS, *(s.read_text(encoding="utf-8") for s in sources)]).encode())
    directory = _writable(_cache_directory()) or fallback
    library = directory / f"insncount-{key.hexdigest()[:24]}.so"
    if not library.exists():
        shared = ["-dynamiclib", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
        with tempfile.TemporaryDirectory(dir=directory, prefix="building-") as scratch:
            command = [compiler, *_FLAGS, *shared, f"-DPLUGIN_API_VERSION={api}", "-o", "insncount.so", str(sources[0])]
            build_step(command, Path(scratch))
            (Path(scratch) / "insncount.so").replace(library)
    return library


def _api_version() -> int:
    """QEMU 9.0 stopped accepting plugins that declare version 1; what is used here is the same in both."""
    qemu = find_tool("qemu-system-arm")
    said = run_program([qemu, "--version"], Path.cwd(), timeout=30.0).output
    version = re.search(r"version (\d+)\.", said)
    if version is None:
        raise RunFailed(f"{qemu} does not say its version: {said.strip()[:200]!r}")
    return 1 if int(version[1]) < 9 else 2


def _cache_directory() -> Path:
    if "XDG_CACHE_HOME" in os.environ:
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "planish"


def _writable(directory: Path) -> Path | None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return directory if os.access(directory, os.W_OK | os.X_OK) else None


@dataclass(frozen=True)
class Profile:
    """Executed instructions: of every region, and by address of the first."""

    regions: list[int]
    addresses: Mapping[int, int]


def read_profile(path: Path) -> Profile:
    """The profile that a finished run left."""
    regions: list[int] = []
    addresses: dict[int, int] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        kind, first, second = line.split()
        if kind == "R":
            regions.append(int(second))
        else:
            addresses[int(first, 16)] = int(second)
    return Profile(regions, addresses)
