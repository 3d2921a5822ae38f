"""Running generated C on the host and on every emulated core."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from planish.backends.cortexm.harness import Array
from planish.backends.cortexm.plugin import build_plugin
from planish.backends.cortexm.runner import (
    CORES,
    Buffer,
    BuildFailed,
    DeviceFault,
    Execution,
    GuardOverwritten,
    RunFailed,
    Spec,
    TimedOut,
    ToolMissing,
    run_on_host,
    run_on_qemu,
)
from planish.backends.cortexm.toolchain import read_symbols, run_program


def require_tool(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_tool("cc", "arm-none-eabi-gcc", "arm-none-eabi-nm", "qemu-system-arm")


HEADER = """
#ifndef TINY_H
#define TINY_H
#include <stddef.h>
#include <stdint.h>
#define TINY_ARENA_BYTES {arena_bytes}u
typedef struct {{ int8_t *arena; }} tiny_context;
int tiny_init(tiny_context *context, void *arena, size_t arena_bytes);
int tiny_run(tiny_context *context{parameters});
#endif
"""

SOURCE = """
#include "tiny.h"
#define LAYER static __attribute__((noinline)) void
{layers}
int tiny_init(tiny_context *context, void *arena, size_t arena_bytes)
{{
    context->arena = arena;
    return arena_bytes == TINY_ARENA_BYTES ? 0 : 1;
}}
int tiny_run(tiny_context *context{parameters})
{{
    (void)context;
    {unused}
    {body}
    return 0;
}}
"""

INT8_16 = Buffer("int8_t", 16)
INT32_1 = Buffer("int32_t", 1)
ONE_TO_ONE = Spec("tiny", (INT8_16,), (INT32_1,))


def write_model(
    directory: Path, body: str, layers: str = "", spec: Spec = ONE_TO_ONE, arena_bytes: int = 16
) -> list[Path]:
    """A model whose tiny_run does `body` with x0, x1, ... and y0, y1, ..."""
    inputs = [f", const {buffer.ctype} *x{i}" for i, buffer in enumerate(spec.inputs)]
    outputs = [f", {buffer.ctype} *y{i}" for i, buffer in enumerate(spec.outputs)]
    parameters = "".join(inputs + outputs)
    (directory / "tiny.h").write_text(HEADER.format(arena_bytes=arena_bytes, parameters=parameters))
    source = directory / "tiny.c"
    unused = "".join(f"(void)x{i};" for i in range(len(spec.inputs)))
    source.write_text(SOURCE.format(layers=layers, parameters=parameters, unused=unused, body=body))
    return [source]


# Halves into the arena, then their sum; and a loop of which every instruction is known.
LAYERS = """
LAYER halve(int8_t *y, const int8_t *x)
{
    for (int i = 0; i < 16; i++) {
        y[i] = (int8_t)(x[i] / 2);
    }
}
LAYER sum(int32_t *y, const int8_t *x)
{
    volatile int32_t partial[64];
    for (int i = 0; i < 64; i++) {
        partial[i] = 0;
    }
    for (int i = 0; i < 16; i++) {
        partial[0] = partial[0] + x[i];
    }
    *y = partial[0];
}
#ifdef __arm__
__attribute__((naked)) LAYER spin(void)
{
    __asm__ volatile(".syntax unified\\n movs r0, #100\\n 1: subs r0, r0, #1\\n bne 1b\\n bx lr\\n");
}
#else
LAYER spin(void) {}
#endif
"""
BODY = "halve(context->arena, x0); sum(y0, context->arena); spin();"
INPUTS = np.random.default_rng(0).integers(-128, 128, (5, 4, 4), dtype=np.int8)
HALVED = np.trunc(INPUTS / 2).astype(np.int32)
EXPECTED = HALVED.sum(axis=(1, 2), keepdims=True).reshape(5, 1)
ANY_INPUT = np.zeros((1, 16), np.int8)


@pytest.mark.parametrize("sanitize", [False, True])
def test_host(tmp_path: Path, sanitize: bool) -> None:
    execution = run_on_host(tmp_path, write_model(tmp_path, BODY, LAYERS), ONE_TO_ONE, [INPUTS], sanitize=sanitize)
    assert execution.outputs[0].dtype == np.int32
    np.testing.assert_array_equal(execution.outputs[0], EXPECTED)
    assert execution.instructions is None
    assert execution.flash_bytes is None


@pytest.mark.parametrize("core", CORES)
def test_every_core(tmp_path: Path, core: str) -> None:
    sources = write_model(tmp_path, BODY, LAYERS)
    execution = run_on_qemu(core, tmp_path, sources, ONE_TO_ONE, [INPUTS])
    np.testing.assert_array_equal(execution.outputs[0], EXPECTED)
    check_counts(execution)
    assert execution.stack_bytes is not None
    assert 256 <= execution.stack_bytes <= 256 + 64  # `partial`, and saved registers
    assert execution.size is not None
    assert 100 < execution.size.text < 2000
    assert execution.size.data == execution.size.bss == execution.size.library == 0
    assert execution.flash_bytes == execution.size.text + execution.size.rodata

    profile = (tmp_path / core / "profile.txt").read_bytes()
    again = run_on_qemu(core, tmp_path, sources, ONE_TO_ONE, [INPUTS])
    assert again.instructions == execution.instructions
    assert (tmp_path / core / "profile.txt").read_bytes() == profile


def check_counts(execution: Execution) -> None:
    assert execution.instructions is not None and execution.layers is not None
    assert len(execution.instructions) == 5
    assert len(set(execution.instructions)) == 1  # no branch of this model depends on data
    assert execution.layers.keys() == {"halve", "sum", "spin", "tiny_run"}
    assert sum(execution.layers.values()) == execution.instructions[0]
    assert execution.layers["spin"] == 1 + 2 * 100 + 1


def test_data_dependent_counts_differ_per_inference(tmp_path: Path) -> None:
    layers = 'LAYER count(int n) { while (n-- > 0) { __asm__ volatile("nop"); } }'
    counts = np.zeros((3, 16), np.int8)
    counts[:, 0] = [0, 10, 20]
    execution = run_on_qemu(
        "cortex-m4", tmp_path, write_model(tmp_path, "count(x0[0]); *y0 = 0;", layers), ONE_TO_ONE, [counts]
    )
    assert execution.instructions is not None
    first, second, third = execution.instructions
    assert first < second < third


def test_clones_count_for_their_function(tmp_path: Path) -> None:
    layers = "LAYER scale(int32_t *y, const int8_t *x, int n) { for (int i = 0; i < n; i++) { *y += x[i]; } }"
    sources = write_model(tmp_path, "*y0 = 0; scale(y0, x0, 16); scale(y0, x0, 16);", layers)
    execution = run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [INPUTS])
    np.testing.assert_array_equal(execution.outputs[0], 2 * INPUTS.sum(axis=(1, 2), dtype=np.int32).reshape(5, 1))
    assert execution.layers is not None
    assert execution.layers.keys() == {"scale", "tiny_run"}


@pytest.mark.parametrize("core", CORES)
def test_counts_agree_with_single_steps(tmp_path: Path, core: str) -> None:
    """The emulator's own log of single steps is an independent way to count."""
    layers = """
        LAYER dot(int32_t *y, const int8_t *x)
        {
            for (int k = 0; k < 7; k++) {
                for (int i = 0; i < 13; i++) {
                    *y += x[i] * x[(i + k) & 15];
                }
            }
        }
        LAYER scale(int32_t *y, const int8_t *x)
        {
            float sum = 0.0f;
            for (int i = 0; i < 16; i++) {
                sum += (float)(x[i] > 100 ? 100 : x[i]) * 0.25f;
            }
            *y += (int32_t)sum;
        }
    """
    sources = write_model(tmp_path, "*y0 = 0; dot(y0, x0); scale(y0, x0);", layers)
    execution = run_on_qemu(core, tmp_path, sources, ONE_TO_ONE, [INPUTS])
    assert execution.instructions == count_single_steps(core, tmp_path / core)


def count_single_steps(core: str, directory: Path) -> list[int]:
    version = run_program(["qemu-system-arm", "--version"], directory, 30.0).output.split()[3]
    since_8_1 = tuple(int(number) for number in version.split(".")[:2]) >= (8, 1)
    step = ["-accel", "tcg,one-insn-per-tb=on"] if since_8_1 else ["-singlestep"]
    command = ["qemu-system-arm", "-M", CORES[core].board, "-kernel", "model.elf"]
    command += ["-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native"]
    assert run_program([*command, *step, "-d", "exec,nochain", "-D", "log"], directory, 60.0).status == 0
    addresses = read_symbols("model.elf", directory).addresses
    counts: list[int] = []
    inside = False
    for line in (directory / "log").read_text().splitlines():
        trace = re.match(r"Trace \d+: \S+ \[\w+/(\w+)/", line)
        if trace is None:
            continue
        address = int(trace[1], 16)
        if address == addresses["harness_measure_begin"]:
            counts.append(0)
            inside = True
        elif address == addresses["harness_measure_end"]:
            inside = False
        elif inside and not addresses["_harness_start"] <= address < addresses["_harness_end"]:
            counts[-1] += 1
    return counts


@pytest.mark.parametrize("name", ["model", "main", "print", "data", "buffer", "arena"])
def test_names_do_not_meet_those_of_the_harness(tmp_path: Path, name: str) -> None:
    (source,) = write_model(tmp_path, BODY, LAYERS)
    header = (tmp_path / "tiny.h").read_text()
    (tmp_path / f"{name}.h").write_text(header.replace("tiny", name).replace("TINY", name.upper()))
    source.write_text(source.read_text().replace("tiny", name).replace("TINY", name.upper()))
    spec = Spec(name, (INT8_16,), (INT32_1,))
    for execution in (
        run_on_host(tmp_path, [source], spec, [INPUTS]),
        run_on_qemu("cortex-m4", tmp_path, [source], spec, [INPUTS]),
    ):
        np.testing.assert_array_equal(execution.outputs[0], EXPECTED)


def test_without_profile(tmp_path: Path) -> None:
    sources = write_model(tmp_path, BODY, LAYERS)
    execution = run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [INPUTS], profile=False)
    np.testing.assert_array_equal(execution.outputs[0], EXPECTED)
    assert execution.instructions is None
    assert execution.layers is None


MIXED = Spec(
    "tiny",
    (Buffer("float", 7), Buffer("int16_t", 3), Buffer("uint8_t", 1)),
    (Buffer("float", 7), Buffer("uint8_t", 5), Buffer("int64_t", 1), Buffer("float", 1)),
)
MIXED_BODY = """
    float sum = 0.0f;
    for (int i = 0; i < 7; i++) { y0[i] = x0[i] * 0.1f + 0.3f; sum += y0[i]; }
    for (int i = 0; i < 5; i++) { y1[i] = (uint8_t)(x2[0] + i); }
    y2[0] = (int64_t)x1[0] * x1[1] * x1[2];
    y3[0] = sum / 3.0f;
"""


@pytest.mark.parametrize("core", ["host", *CORES])
def test_many_types_and_buffers(tmp_path: Path, core: str) -> None:
    """Also: floats agree bit for bit, those of software (M0, M3) included."""
    rng = np.random.default_rng(1)
    x0 = rng.normal(size=(4, 7)).astype(np.float32)
    x1 = rng.integers(-(1 << 15), 1 << 15, (4, 3), dtype=np.int16)
    x2 = rng.integers(0, 256, (4, 1), dtype=np.uint8)
    sources = write_model(tmp_path, MIXED_BODY, spec=MIXED)
    inputs: list[Array] = [x0, x1, x2]
    execution = (
        run_on_host(tmp_path, sources, MIXED, inputs)
        if core == "host"
        else run_on_qemu(core, tmp_path, sources, MIXED, inputs)
    )
    y0, y1, y2, y3 = execution.outputs
    expected = x0 * np.float32(0.1) + np.float32(0.3)
    total = np.zeros(4, np.float32)
    for column in expected.T:
        total += column
    np.testing.assert_array_equal(y0, expected)
    np.testing.assert_array_equal(y1, x2 + np.arange(5, dtype=np.uint8))
    np.testing.assert_array_equal(y2[:, 0], x1.astype(np.int64).prod(axis=1))
    np.testing.assert_array_equal(y3[:, 0], total / np.float32(3))
    if core == "cortex-m0":
        assert execution.size is not None and execution.layers is not None
        assert execution.size.library > 0
        assert any("mul" in function for function in execution.layers)


def test_constants_count_as_flash_and_statics_as_ram(tmp_path: Path) -> None:
    layers = """
        static const int16_t weights[100] = {1, 2, 3};
        static int32_t state[5];
        static int32_t start = 7;
        const int8_t dropped[1000] = {1};
    """
    body = "start += 1; state[x0[0] & 3] += weights[x0[1] & 63] + start; *y0 = state[x0[2] & 3];"
    execution = run_on_qemu("cortex-m55", tmp_path, write_model(tmp_path, body, layers), ONE_TO_ONE, [INPUTS])
    assert execution.size is not None
    assert (execution.size.rodata, execution.size.data, execution.size.bss) == (200, 4, 20)
    assert execution.flash_bytes == execution.size.text + 204


def test_models_without_inputs_arena_or_inferences(tmp_path: Path) -> None:
    constant = Spec("tiny", (), (INT32_1, Buffer("float", 0)))
    sources = write_model(tmp_path, "*y0 = 42; (void)y1;", spec=constant, arena_bytes=0)
    for execution in (
        run_on_host(tmp_path, sources, constant, [], sanitize=True),
        run_on_qemu("cortex-m4", tmp_path, sources, constant, []),
    ):
        assert [output.tolist() for output in execution.outputs] == [[[42]], [[]]]
    sources = write_model(tmp_path, BODY, LAYERS)
    execution = run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [np.zeros((0, 16), np.int8)])
    assert execution.outputs[0].shape == (0, 1)
    assert execution.instructions == []


def test_an_output_left_unwritten_does_not_repeat_the_last_one(tmp_path: Path) -> None:
    sources = write_model(tmp_path, "if (x0[0] == 0) { *y0 = 1; }")
    inputs = np.repeat(np.array([[0], [1]], np.int8), 16, axis=1)
    for execution in (
        run_on_host(tmp_path, sources, ONE_TO_ONE, [inputs]),
        run_on_qemu("cortex-m4", tmp_path, sources, ONE_TO_ONE, [inputs]),
    ):
        assert execution.outputs[0][0, 0] == 1
        assert execution.outputs[0][1, 0] not in (0, 1)


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
    check_counts(execution)


def test_plugin_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert build_plugin(tmp_path).parent == tmp_path


@pytest.mark.parametrize("core", CORES)
def test_harness_is_clean_with_every_warning(tmp_path: Path, core: str) -> None:
    """The board's own sources hold to more than the warnings they are built with."""
    sources = write_model(tmp_path, BODY, LAYERS)
    run_on_qemu(core, tmp_path, sources, ONE_TO_ONE, [INPUTS], profile=False)
    boards = Path(run_on_qemu.__code__.co_filename).parent / "boards"
    for source in (tmp_path / core / "main.c", boards / "harness.c", boards / "startup.c", boards / "semihosting.c"):
        command = ["arm-none-eabi-gcc", *CORES[core].flags, "-mthumb", "-std=gnu99", "-O2", "-fsyntax-only", "-Wall"]
        command += ["-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror"]
        subprocess.run([*command, f"-I{boards}", f"-I{tmp_path}", str(source)], check=True)
