"""Running generated C on the host and on every emulated core."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from planish.backends.c.harness import Array, Buffer, Execution, Spec
from planish.backends.c.host import run_on_host
from planish.backends.c.toolchain import read_symbols, run_program
from planish.backends.cortexm.cores import CORES
from planish.backends.cortexm.qemu import run_on_qemu
from tests.support.tiny_model import (
    BODY,
    EXPECTED,
    INPUTS,
    INT8_16,
    INT32_1,
    LAYERS,
    ONE_TO_ONE,
    write_model,
)


@pytest.fixture(autouse=True)
def _tools(require_tool):
    for tool in ("cc", "arm-none-eabi-gcc", "arm-none-eabi-nm", "qemu-system-arm"):
        require_tool(tool)


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
    assert execution.instructions is not None
    assert execution.layers is not None
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
    addresses = read_symbols("model.elf", directory).addresses
    # Of the harness only where it measures: the million steps in which it fills the memory are not written down.
    ranges = [f"{addresses['_harness_end']:#x}..0xffffffff"]
    ranges += [f"{addresses[name] & ~1:#x}+2" for name in ("harness_measure_begin", "harness_measure_end")]
    ranges += [f"0x0..{start - 1:#x}" for start in [addresses["_harness_start"]] if start]
    logged = ["-d", "exec,nochain", "-dfilter", ",".join(ranges), "-D", "log"]
    assert run_program([*command, *step, *logged], directory, 60.0).status == 0
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
        assert execution.size is not None
        assert execution.layers is not None
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
