"""What the runners say of models that are broken, of missing tools and of unfit inputs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from planish.backends.c.errors import BuildFailed, DeviceFault, GuardOverwritten, RunFailed, TimedOut, ToolMissing
from planish.backends.c.harness import MAIN, Array, Buffer, Spec
from planish.backends.c.host import run_on_host
from planish.backends.c.toolchain import run_program
from planish.backends.cortexm.cores import CORES
from planish.backends.cortexm.plugin import BOARDS, build_plugin
from planish.backends.cortexm.qemu import run_on_qemu
from tests.support.tiny_model import (
    ANY_INPUT,
    BODY,
    INPUTS,
    LAYERS,
    ONE_TO_ONE,
    write_model,
)


@pytest.fixture(autouse=True)
def _tools(require_tool):
    for tool in ("cc", "arm-none-eabi-gcc", "arm-none-eabi-nm", "qemu-system-arm"):
        require_tool(tool)


# ------------------------------------------------------------------------------------------------------ broken models

# `volatile` keeps gcc from seeing, and refusing, the index.
OUT_OF_BOUNDS = {
    "arena": "volatile int i = 16; context->arena[i] = 1; *y0 = x0[0];",
    "output": "volatile int i = -1; ((int8_t *)y0)[i] = 1;",
    "input": "volatile int i = 16; *(int8_t *)(uintptr_t)(x0 + i) = 1; *y0 = 0;",
}


@pytest.mark.parametrize("buffer", OUT_OF_BOUNDS)
def test_writing_outside_of_a_buffer(tmp_path: Path, buffer: str) -> None:
    body = f"if (x0[0] == 1) {{ {OUT_OF_BOUNDS[buffer]} }}"
    sources = write_model(tmp_path, body)
    inputs = np.repeat(np.array([[0], [1]], np.int8), 16, axis=1)
    with pytest.raises(GuardOverwritten, match=f"inference 1 .* {buffer} buffer") as caught:
        run_on_host(tmp_path, sources, ONE_TO_ONE, [inputs])
    assert (caught.value.buffer, caught.value.inference) == (buffer, 1)
    with pytest.raises(GuardOverwritten, match=f"inference 1 .* {buffer} buffer"):
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [inputs])
    with pytest.raises(RunFailed, match="AddressSanitizer: use-after-poison"):
        run_on_host(tmp_path, sources, ONE_TO_ONE, [inputs], sanitize=True)


def test_reading_outside_of_a_buffer_is_seen_by_the_sanitizer(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "volatile int i = 16; *y0 = x0[i];")
    with pytest.raises(RunFailed, match="AddressSanitizer: use-after-poison"):
        run_on_host(tmp_path, sources, ONE_TO_ONE, [ANY_INPUT], sanitize=True)


def test_undefined_behaviour_is_seen_by_the_sanitizer(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "*y0 = INT32_MAX - x0[0]; *y0 += 1;")
    with pytest.raises(RunFailed, match="signed integer overflow"):
        run_on_host(tmp_path, sources, ONE_TO_ONE, [ANY_INPUT], sanitize=True)


def test_fault_names_the_function(tmp_path: Path) -> None:
    layers = "LAYER wild(int32_t *y) { *y = *(volatile int32_t *)0x60000000u; }"
    for core in ("cortex-m0", "cortex-m4", "cortex-m33"):
        with pytest.raises(DeviceFault, match=r"fault in wild \(CFSR 0x00008200: precise data bus error\)") as caught:
            run_on_qemu(core, tmp_path, write_model(tmp_path, "wild(y0);", layers), ONE_TO_ONE, [ANY_INPUT])
        assert caught.value.cfsr == 0x8200
        assert caught.value.function == "wild"


@pytest.mark.parametrize("core", CORES)
def test_stack_overflow(tmp_path: Path, core: str) -> None:
    layers = """
        LAYER deep(int32_t *y)
        {
            volatile char big[70000];
            for (int i = 69999; i >= 0; i--) {
                big[i] = 1;
            }
            *y = big[0];
        }
    """
    sources = write_model(tmp_path, "deep(y0);", layers)
    with pytest.raises(DeviceFault, match="stack overflow") as caught:
        run_on_qemu(core, tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])
    assert caught.value.stack_overflow


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7"])
def test_writing_constants(tmp_path: Path, core: str) -> None:
    layers = "static const int8_t weights[4] = {1, 2, 3, 4};"
    body = "volatile int8_t *w = (volatile int8_t *)(uintptr_t)(weights + x0[0]); *w = 1; *y0 = *w;"
    with pytest.raises(DeviceFault, match=r"fault in tiny_run .*: data access violation"):
        run_on_qemu(core, tmp_path, write_model(tmp_path, body, layers), ONE_TO_ONE, [ANY_INPUT])


def test_cortex_m0_does_not_forgive_unaligned_access(tmp_path: Path) -> None:
    layers = "LAYER load(int32_t *y, const int8_t *x) { *y = *(const volatile int32_t *)(const void *)(x + 1); }"
    sources = write_model(tmp_path, "load(y0, x0);", layers)
    assert run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT]).outputs[0][0, 0] == 0
    with pytest.raises(DeviceFault, match="unaligned access"):
        run_on_qemu("cortex-m0", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])


def test_models_that_refuse(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "*y0 = 0; if (x0[0] == 0) { return -5; }")
    with pytest.raises(RunFailed, match="tiny_run returned -5 in inference 0"):
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])
    source = sources[0]
    source.write_text(source.read_text().replace("? 0 : 1", "? 3 : 1"))
    with pytest.raises(RunFailed, match="tiny_init returned 3"):
        run_on_host(tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])


def test_compile_errors_show_the_compilers_first_lines(tmp_path: Path) -> None:
    for body, message in (("*y0 = nothing;", "'nothing' undeclared"), ("*y0 = x0[0] * 0.5f;", "-Werror=.*conversion")):
        sources = write_model(tmp_path, body)
        with pytest.raises(BuildFailed, match=message) as caught:
            run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])
        assert "tiny.c" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 2 + BuildFailed.SHOWN_LINES


def test_a_model_that_needs_the_heap_does_not_link(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "int32_t *p = malloc((size_t)x0[0]); *y0 = p == NULL;", "#include <stdlib.h>")
    with pytest.raises(BuildFailed, match="_sbrk"):
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])


def test_too_large_for_the_board(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "*y0 = 0;", arena_bytes=8 << 20)
    with pytest.raises(BuildFailed, match=r"RAM.* overflowed"):
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT])


def test_endless_models_are_stopped(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "volatile int run = 1; while (run) { } *y0 = 0;")
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"qemu-system-arm did not finish within 0\.5 s"):
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [ANY_INPUT], timeout=0.5)
    with pytest.raises(TimedOut, match="model did not finish"):
        run_on_host(tmp_path, sources, ONE_TO_ONE, [ANY_INPUT], timeout=0.5)
    assert time.monotonic() - started < 60


def test_a_stopped_program_takes_its_children_along(tmp_path: Path) -> None:
    script = "sleep 600 & echo $! > child; wait"
    with pytest.raises(TimedOut):
        run_program(["sh", "-c", script], tmp_path, timeout=0.5)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z (zombie)" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("present", "missing", "package"),
    [
        ((), "arm-none-eabi-gcc", "gcc-arm-none-eabi"),
        (("arm-none-eabi-gcc", "arm-none-eabi-nm"), "qemu-system-arm", "qemu-system-arm"),
        (("arm-none-eabi-gcc", "arm-none-eabi-nm", "qemu-system-arm"), "cc", "gcc"),
    ],
)
def test_missing_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], missing: str, package: str
) -> None:
    sources = write_model(tmp_path, BODY, LAYERS)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in present:
        found = shutil.which(tool)
        assert found is not None
        # A script, since gcc finds its parts from where its own file lies.
        (tools / tool).write_text(f'#!/bin/sh\nPATH={os.environ["PATH"]} exec {found} "$@"\n')
        (tools / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(ToolMissing, match="apt install") as caught:
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [INPUTS])
    assert caught.value.tool == missing
    assert caught.value.debian_package.split()[0] == package


def test_missing_host_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="cc is not on PATH"):
        run_on_host(tmp_path, write_model(tmp_path, BODY, LAYERS), ONE_TO_ONE, [INPUTS])


# -------------------------------------------------------------------------------------------------- inputs and plugin


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [INPUTS, INPUTS],
        [INPUTS.astype(np.int16)],
        [INPUTS.view(np.uint8)],
        [INPUTS[:, :3]],
        [np.int8(1).reshape(())],
    ],
)
def test_inputs_that_do_not_suit_the_model(tmp_path: Path, inputs: list[Array]) -> None:
    with pytest.raises(ValueError, match="tiny"):
        run_on_host(tmp_path, [], ONE_TO_ONE, inputs)


def test_interfaces_that_do_not_exist() -> None:
    for name in ("", "a-b", "1a", "a b", "a\n", "é"):
        with pytest.raises(ValueError, match="identifier"):
            Spec(name, (), ())
    with pytest.raises(ValueError, match="element type"):
        Buffer("int8_t; evil", 1)
    with pytest.raises(ValueError, match="-1 elements"):
        Buffer("int8_t", -1)


def test_plugin_is_built_by_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache, with comma"))
    with ThreadPoolExecutor(4) as pool:
        libraries = set(pool.map(build_plugin, [tmp_path] * 4))
    (library,) = libraries
    assert sorted(library.parent.iterdir()) == [library]  # nothing half-built stays behind
    execution = run_on_qemu("cortex-m4", tmp_path, write_model(tmp_path, BODY, LAYERS), ONE_TO_ONE, [INPUTS])
    assert execution.instructions is not None


def test_plugin_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build_plugin(tmp_path).parent == tmp_path


@pytest.mark.parametrize("core", CORES)
def test_harness_is_clean_with_every_warning(tmp_path: Path, core: str) -> None:
    """The board's own sources hold to more than the warnings they are built with."""
    sources = write_model(tmp_path, BODY, LAYERS)
    run_on_qemu(core, tmp_path, sources, ONE_TO_ONE, [INPUTS], profile=False)
    own = (tmp_path / core / "main.c", MAIN / "harness.c")
    for source in (*own, *(BOARDS / name for name in ("startup.c", "semihosting.c", "measure.c"))):
        command = ["arm-none-eabi-gcc", *CORES[core].flags, "-mthumb", "-std=gnu99", "-O2", "-fsyntax-only", "-Wall"]
        command += ["-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"]
        subprocess.run([*command, f"-I{MAIN}", f"-I{tmp_path}", str(source)], check=True)
