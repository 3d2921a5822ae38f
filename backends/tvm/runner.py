"""Link a generated project with the harness, and run it: on this machine, or under qemu-user."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ..c import cflags
from ..c.harness import (
    MAIN,
    Array,
    Execution,
    Spec,
    check_status,
    include_flags,
    read_outputs,
    write_inputs,
    write_main,
)
from ..c.toolchain import build_step, compile_objects, find_tool, run_program
from .machines import Machine


def run(
    folder: Path, build_dir: Path, spec: Spec, inputs: Sequence[Array], machine: Machine, timeout: float = 600.0
) -> Execution:
    """Run the project in `folder` on a batch: one array [inferences, ...] per input. Builds below `build_dir`."""
    compiler = find_tool(machine.compiler)
    emulator = [find_tool(machine.emulator)] if machine.emulator else []
    directory = build_dir.resolve()
    inferences = write_inputs(spec, inputs, directory)
    sources = [folder.resolve() / f"{spec.name}.c", folder.resolve() / f"{spec.name}_weights.S"]
    include = include_flags(sources)
    objects = compile_objects(
        compiler, [*cflags.MODEL_FLAGS, "-O2", *cflags.WARNINGS, *include], sources, directory, "model"
    )
    harness = [write_main(spec, directory), *(MAIN / name for name in ("harness.c", "host.c"))]
    flags = [*cflags.HARNESS_FLAGS, *cflags.HARNESS_WARNINGS, *include]
    objects += compile_objects(compiler, flags, harness, directory, "harness")
    kernels = str(folder.resolve() / f"{spec.name}_kernels.o")
    build_step([compiler, *machine.link, *objects, kernels, "-lm", "-o", "model"], directory)
    started = time.perf_counter()
    finished = run_program([*emulator, str(directory / "model")], directory, timeout)
    seconds = time.perf_counter() - started
    check_status(spec, finished)
    outputs = read_outputs(spec, inferences, directory)
    return Execution(outputs, instructions=None, layers=None, stack_bytes=None, size=None, seconds=seconds)
