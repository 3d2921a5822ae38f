"""Run a generated model on an emulated Cortex-M board."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..c import cflags
from ..c.errors import DeviceFault, ExecutionError, RunFailed
from ..c.harness import (
    FAULT,
    MAIN,
    Array,
    Execution,
    Spec,
    check_status,
    include_flags,
    read_outputs,
    reports,
    write_inputs,
    write_main,
)
from ..c.toolchain import (
    Finished,
    Size,
    Symbols,
    build_step,
    compile_objects,
    find_tool,
    read_size,
    read_symbols,
    run_program,
)
from . import cores
from .plugin import BOARDS, Profile, build_plugin, read_profile

_HARNESS = ("startup.c", "semihosting.c", "measure.c")
_PLUGIN_ARGUMENTS = {
    "begin": "harness_measure_begin",
    "end": "harness_measure_end",
    "skip_from": "_harness_start",
    "skip_to": "_harness_end",
}
_ELF, _MAP, _PROFILE = "model.elf", "model.map", "profile.txt"


def run_on_qemu(
    core: str,
    build_dir: Path,
    sources: Sequence[Path],
    spec: Spec,
    inputs: Sequence[Array],
    *,
    profile: bool = True,
    optimization: str = cflags.OPTIMIZATION,
    timeout: float = 600.0,
) -> Execution:
    """Compile the generated C sources for a core (a key of `CORES`) and run them on a batch.

    The emulator is started once for the whole batch. `inputs` has one array [inferences, ...] per input of the model.
    Without `profile` no instructions are counted. `timeout` is in seconds, for the run. Everything is written below
    `build_dir`, which one call at a time may use.
    """
    target = cores.CORES[core]
    directory = build_dir.resolve() / core
    directory.mkdir(parents=True, exist_ok=True)
    inferences = write_inputs(spec, inputs, directory)
    size = _build(target, directory, sources, spec, optimization)
    symbols = read_symbols(_ELF, directory)
    command = _emulator(target, symbols, directory if profile else None)
    started = time.perf_counter()
    finished = run_program(command, directory, timeout)
    seconds = time.perf_counter() - started
    _check_fault(finished, symbols)
    check_status(spec, finished)
    counts = read_profile(directory / _PROFILE) if profile else None
    return Execution(
        outputs=read_outputs(spec, inferences, directory),
        instructions=counts.regions if counts else None,
        layers=_by_function(counts, symbols, spec.name) if counts else None,
        stack_bytes=reports(finished.output)["stack"] if inferences else None,
        size=size,
        seconds=seconds,
    )


def _build(core: cores.Core, directory: Path, sources: Sequence[Path], spec: Spec, optimization: str) -> Size:
    compiler = find_tool("arm-none-eabi-gcc")
    machine = [*core.flags, "-mthumb"]
    include = include_flags(sources)
    model_flags = [*machine, *cflags.MODEL_FLAGS, optimization, *cflags.WARNINGS, *include]
    harness_flags = [*machine, *cflags.HARNESS_FLAGS, *cflags.HARNESS_WARNINGS, *include]
    harness_sources = [write_main(spec, directory), *(BOARDS / name for name in _HARNESS), MAIN / "harness.c"]
    model = compile_objects(compiler, model_flags, sources, directory, "model")
    harness = compile_objects(compiler, harness_flags, harness_sources, directory, "harness")
    link = ["-nostartfiles", "-specs=nano.specs", f"-L{BOARDS}", "-T", core.linker_script]
    options = ["-Wl,--gc-sections", f"-Wl,-Map={_MAP}"]
    build_step([compiler, *machine, *link, *options, *model, *harness, "-lm", "-o", _ELF], directory)
    return read_size((directory / _MAP).read_text(encoding="utf-8", errors="replace"), model)


def _emulator(core: cores.Core, symbols: Symbols, plugin_fallback: Path | None) -> list[str]:
    """The command that runs the program; with the counting plugin where there is a place to build it."""
    command = [find_tool("qemu-system-arm"), "-M", core.board, "-kernel", _ELF]
    command += ["-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native"]
    if plugin_fallback is not None:
        library = str(build_plugin(plugin_fallback)).replace(",", ",,")  # how QEMU's options write a comma
        arguments = [f"{key}={symbols.addresses[symbol]:x}" for key, symbol in _PLUGIN_ARGUMENTS.items()]
        command += ["-plugin", ",".join([f"file={library}", *arguments, f"out={_PROFILE}"])]
    return command


def _check_fault(finished: Finished, symbols: Symbols) -> None:
    said = reports(finished.output)
    if finished.status == FAULT:
        function = symbols.function_at(said["pc"]) if "pc" in said else None
        raise DeviceFault(said["cfsr"], function, stack_overflow="overflow" in said)
    if "Lockup" in finished.output:
        raise RunFailed("the core locked up: it faulted while it handled a fault")


def _by_function(profile: Profile, symbols: Symbols, model: str) -> dict[str, int]:
    """Instructions of the first inference by function, in the order of addresses; layers without the model's name."""
    counts: Counter[str] = Counter()
    for address, count in sorted(profile.addresses.items()):
        function = symbols.function_at(address) or "?"
        counts[function.removeprefix(f"{model}_") if function.startswith(f"{model}_layer_") else function] += count
    if profile.regions and counts.total() != profile.regions[0]:
        raise ExecutionError(f"the layers' {counts.total()} instructions are not the total of {profile.regions[0]}")
    return dict(counts)
