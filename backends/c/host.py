"""Run a generated model on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import cflags
from .harness import MAIN, Array, Execution, Spec, check_status, include_flags, read_outputs, write_inputs, write_main
from .toolchain import build_step, compile_objects, find_tool, run_program

_SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_HARNESS = ("harness.c", "host.c")


def run_on_host(
    build_dir: Path,
    sources: Sequence[Path],
    spec: Spec,
    inputs: Sequence[Array],
    *,
    sanitize: bool = False,
    optimization: str = cflags.OPTIMIZATION,
    timeout: float = 300.0,
) -> Execution:
    """Compile the generated C sources with this machine's compiler and run them on a batch.

    `inputs` has one array [inferences, ...] per input of the model. `sanitize` adds AddressSanitizer and
    UndefinedBehaviorSanitizer, whose findings raise `RunFailed`. `timeout` is in seconds, for the run. Everything is
    written below `build_dir`, which one call at a time may use.
    """
    directory = build_dir.resolve() / ("host-sanitized" if sanitize else "host")
    directory.mkdir(parents=True, exist_ok=True)
    inferences = write_inputs(spec, inputs, directory)
    _build(directory, sources, spec, optimization, _SANITIZERS if sanitize else ())
    started = time.perf_counter()
    # LeakSanitizer needs ptrace, which containers forbid; generated code allocates nothing anyway.
    finished = run_program([str(directory / "model")], directory, timeout, {"ASAN_OPTIONS": "detect_leaks=0"})
    seconds = time.perf_counter() - started
    check_status(spec, finished)
    outputs = read_outputs(spec, inferences, directory)
    return Execution(outputs, instructions=None, layers=None, stack_bytes=None, size=None, seconds=seconds)


def build_on_host(source: Path) -> None:
    """Compile one generated C source with this machine's compiler, warnings being errors; raises BuildFailed."""
    flags = [*cflags.MODEL_FLAGS, cflags.OPTIMIZATION, *cflags.WARNINGS, *include_flags([source])]
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        compile_objects(find_tool("cc"), flags, [source], Path(folder), "model")


def _build(directory: Path, sources: Sequence[Path], spec: Spec, optimization: str, extra: Sequence[str]) -> None:
    compiler = find_tool("cc")
    include = include_flags(sources)
    model_flags = [*cflags.MODEL_FLAGS, optimization, *cflags.WARNINGS, *extra, *include]
    harness_flags = [*cflags.HARNESS_FLAGS, *cflags.HARNESS_WARNINGS, *extra, *include]
    harness_sources = [write_main(spec, directory), *(MAIN / name for name in _HARNESS)]
    objects = compile_objects(compiler, model_flags, sources, directory, "model")
    objects += compile_objects(compiler, harness_flags, harness_sources, directory, "harness")
    build_step([compiler, *extra, *objects, "-lm", "-o", "model"], directory)
