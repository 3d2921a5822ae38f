"""How much flash a generated model takes, measured by compiling and linking it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ..c import cflags
from ..c.sizes import Flash
from ..c.toolchain import Size, build_step, compile_objects, find_tool, read_size
from . import cores

COMPILER = "arm-none-eabi-gcc"


def can_measure(core: str) -> bool:
    """Whether this machine has the compiler for a target."""
    return core in cores.CORES and shutil.which(COMPILER) is not None


def measure(core: str, source: Path, name: str) -> Flash:
    """Compile a model's source as its README.txt says, warnings being errors, and link it; raises BuildFailed.

    What is linked is all that `<name>_init` and `<name>_run` need: no more than a product would.
    """
    compiler, machine = find_tool(COMPILER), [*cores.CORES[core].flags, "-mthumb"]
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        directory = Path(folder)
        flags = [*machine, *cflags.MODEL_FLAGS, cflags.OPTIMIZATION, *cflags.WARNINGS, f"-I{source.parent.resolve()}"]
        objects = compile_objects(compiler, flags, [source], directory, "model")
        roots = [f"-Wl,-u,{name}_init", f"-Wl,-e,{name}_run"]
        link = ["-nostartfiles", "-specs=nano.specs", "-Wl,--gc-sections", "-Wl,-Map=model.map", *roots]
        build_step([compiler, *machine, *link, *objects, "-lm", "-o", "model.elf"], directory)
        size: Size = read_size((directory / "model.map").read_text(encoding="utf-8", errors="replace"), objects)
    return Flash(size.rodata + size.data, size.text + size.library)
