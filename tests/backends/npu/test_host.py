"""What the host computes: compiled C on the NPU's arena, bit for bit; counted on the core that the machine names."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.npu import executor, functional, host
from planish.backends.npu.compiler import compile_graph
from planish.backends.npu.host import host_segments
from planish.backends.npu.machine import load_machine
from planish.backends.npu.target import NpuTarget
from planish.ir.errors import DoesNotFitError, UnsupportedError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add
from planish.ir.ops.index import take
from planish.ir.ops.pool import avg_pool2d
from planish.ir.ops.quant import dequantize, quantize, rescale, table
from planish.ir.ops.shape import reshape
from planish.ir.ops.softmax import softmax
from planish.ir.types import F32, I8, I64, NHWC, Array, TensorType
from planish.judging import first_difference
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.interpreter import run_batch
from planish.runtime.target import Artifact, Limits
from planish.testing import graphs, quantized_graphs

SCALE, ZERO = np.float32(0.05), np.int8(3)
TARGET = NpuTarget("npu:64")


def mixed() -> Graph:
    """Host, NPU, host with floats and a reshape, NPU, host."""
    x = graph_input("x", TensorType((1, 4, 4, 3), F32))
    y = _layer(quantize(x, SCALE, ZERO), 5)
    real = reshape(dequantize(y, SCALE, ZERO), shape=(1, 2, 2, 5))
    real = avg_pool2d(add(real, real), window=(2, 2), layout=NHWC)
    again = _layer(quantize(real, SCALE, ZERO), 7, window=1)
    return grouped(Graph([x], [softmax(reshape(dequantize(again, SCALE, ZERO), shape=(1, 7))), y], ["scores", "y"]))


def _layer(x: Value, channels: int, window: int = 3) -> Value:
    weights = np.random.default_rng(channels).integers(-9, 9, (channels, window, window, x.type.shape[3]))
    acc = conv2d(x, weights.astype(np.int8), np.zeros(channels, np.int32), layout=NHWC)
    return rescale(acc, np.array([1 << 27], np.int32), np.array([0], np.int8))


def grouped(graph: Graph) -> Graph:
    return run_pipeline(graph, "group", Context()).graph


def emit(graph: Graph, out: Path, target: NpuTarget = TARGET) -> Artifact:
    out.mkdir()
    return target.emit(graph, out, "model", Limits())


def images(samples: int) -> dict[str, Array]:
    return {"x": np.random.default_rng(1).normal(0, 1, (samples, 1, 4, 4, 3)).astype(np.float32)}


def test_segments_run_as_c_between_programs(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    graph = mixed()
    artifact = emit(graph, tmp_path / "out")
    inputs = images(4)
    found, wanted = TARGET.run(artifact, inputs).outputs, run_batch(graph, inputs)
    np.testing.assert_array_equal(found["y"], wanted["y"])  # before any arithmetic on floats
    assert first_difference(graph, inputs, wanted, found) is None
    segments = artifact.facts["host"]["segments"]
    assert [s["name"] for s in segments] == ["host_0", "host_1", "host_2"]
    assert artifact.facts["segments"] == 2
    assert artifact.facts["host"]["crossings"] == 4


def test_the_c_is_what_is_executed(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    artifact = emit(mixed(), tmp_path / "out")
    source = tmp_path / "out/host_0/host_0.c"
    before = TARGET.run(artifact, images(1)).outputs["y"]
    assert "+ 3" in source.read_text()
    source.write_text(source.read_text().replace("+ 3", "+ 90"))
    assert (TARGET.run(artifact, images(1)).outputs["y"] != before).any()


def test_every_byte_and_instruction_is_counted(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        require_tool(tool)
    facts = emit(mixed(), tmp_path / "out").facts
    found = facts["host"]
    assert found["core"] == "cortex-m55"
    assert found["bytes_read"] == 4 * 48 + 20 + 7
    assert found["bytes_written"] == 48 + 5 + 4 * 7
    assert found["instructions"] == sum(s["instructions"] for s in found["segments"]) > 0
    assert found["cycles"] == found["instructions"]
    assert facts["total_microseconds"] == pytest.approx(facts["microseconds"] + found["cycles"] / 500, abs=2e-3)
    for step in facts["host_steps"]:
        assert step["reason"]
        assert step["instructions"] > 0
    rows = [row for row in facts["layers"] if row["refused"]]
    assert [row["instructions"] for row in rows] == [step["instructions"] for step in facts["host_steps"]]
    assert all(row["kernel"].startswith("host: ") for row in rows)
    again = emit(mixed(), tmp_path / "again").facts
    assert again == facts


def test_outputs_that_nobody_writes_are_copies(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    x = graph_input("x", TensorType((1, 64), I8))
    y = table(x, np.arange(-128, 128, dtype=np.int8)[::-1].copy())
    graph = Graph([x], [y, x, y, reshape(y, shape=(64,))], ["y", "input", "again", "flat"])
    artifact = emit(graph, tmp_path / "out")
    assert artifact.facts["host"]["bytes_copied"] == 3 * 64
    assert artifact.facts["host_bytes"] == 2 * 3 * 64
    inputs = {"x": np.random.default_rng(0).integers(-128, 128, (3, 1, 64)).astype(np.int8)}
    found, wanted = TARGET.run(artifact, inputs).outputs, run_batch(graph, inputs)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


def test_without_an_emulator_the_count_is_unknown_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = emit(mixed(), tmp_path / "out").facts
    found = facts["host"]
    assert found["instructions"] is found["cycles"] is found["microseconds"] is facts["total_microseconds"] is None
    assert found["unknown"] == "arm-none-eabi-gcc is not on PATH"
    assert all(step["instructions"] is None for step in facts["host_steps"])


def test_too_much_work_is_not_emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "COUNTED_MACS", 0)
    x = graph_input("x", TensorType((1, 8, 8, 3), F32))
    y = conv2d(x, np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32), layout=NHWC)
    facts = emit(Graph([x], [y], ["y"]), tmp_path / "out").facts
    assert facts["host"]["unknown"] == "1944 multiply-accumulates take minutes to emulate"


def test_too_large_for_the_emulated_board(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    x = graph_input("x", TensorType((1, 520_000), F32))
    facts = emit(Graph([x], [add(x, x)], ["y"]), tmp_path / "out").facts
    assert facts["host"]["unknown"] == "host_0 is too large for the emulated board of cortex-m55"


def test_what_neither_takes_is_refused_with_both_reasons(tmp_path: Path) -> None:
    x = graph_input("x", TensorType((4, 4), F32))
    indices = graph_input("i", TensorType((2,), I64))
    graph = Graph([x, indices], [take(x, indices, axis=0)], ["y"])
    with pytest.raises(UnsupportedError, match="neither on the NPU nor on its host") as caught:
        emit(graph, tmp_path / "out")
    assert "the NPU computes on i8" in caught.value.details[0]
    assert "there is no kernel for take" in caught.value.details[0]


def test_a_device_may_be_too_small(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFitError, match="bytes of RAM on npu:64, 10 are there"):
        TARGET.emit(mixed(), tmp_path, "model", Limits(ram=10))


def test_a_segment_lies_in_the_arena_of_the_model(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    """Executed in it, as on a device: a segment may write where it has read."""
    require_tool("cc")
    x = graph_input("x", TensorType((1, 64), I8))
    entries = np.arange(-128, 128, dtype=np.int8)[::-1].copy()
    value = dequantize(table(x, entries), SCALE, ZERO)
    for _ in range(2):  # the plan gives every second value the place of the first
        value = softmax(value)
    graph = Graph([x], [table(quantize(value, SCALE, ZERO), entries)], ["y"])
    layout = compile_graph(graph, load_machine("64")).layout
    (segment,) = host_segments(layout)
    (read,), (written,) = segment.reads, segment.writes
    first, last = layout.addresses[read][1], layout.addresses[written][1]
    assert abs(first - last) < 64, "this graph no longer tests what it is for"
    artifact = host.emit(segment, tmp_path)
    assert artifact.facts["arena_bytes"] == layout.memory.arena_bytes
    x_values = np.random.default_rng(0).integers(-128, 128, 64).astype(np.int8)
    memory = np.zeros(layout.arena_bytes, np.int8)
    memory[first : first + 64] = x_values
    after = on_one_arena(tmp_path, memory, first, last)
    (wanted,) = host.interpret(segment, [x_values.reshape(1, 1, 64)])
    np.testing.assert_array_equal(after[last : last + 64], wanted.reshape(64))


DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include "host_0.h"
static _Alignas(64) unsigned char arena[{size}];
int main(void) {{
    host_0_context context;
    if (fread(arena, 1, sizeof arena, stdin) != sizeof arena) return 1;
    if (host_0_init(&context, arena, sizeof arena)) return 2;
    if (host_0_run(&context, (const int8_t *)(arena + {first}), (int8_t *)(arena + {last}))) return 3;
    return fwrite(arena, 1, sizeof arena, stdout) == sizeof arena ? 0 : 4;
}}
"""


def on_one_arena(folder: Path, memory: Array, first: int, last: int) -> Array:
    """The arena after a call of `host_0` with an input and an output in it."""
    (folder / "driver.c").write_text(DRIVER.format(size=memory.size, first=first, last=last))
    sources = [str(folder / "driver.c"), str(folder / "host_0/host_0.c")]
    command = ["cc", "-O2", "-ffp-contract=off", f"-I{folder / 'host_0'}", *sources, "-lm", "-o", str(folder / "run")]
    subprocess.run(command, check=True)
    done = subprocess.run([str(folder / "run")], input=memory.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.int8)


@hypothesis.settings(suppress_health_check=list(hypothesis.HealthCheck))
@given(st.one_of(graphs(), quantized_graphs()))
def test_segments_mean_what_their_nodes_mean(graph: Graph) -> None:
    """Of any graph, all on the host or not: the executor with interpreted segments is the interpreter."""
    machine = load_machine("64")
    compiled = compile_graph(graph, machine)
    rng = np.random.default_rng(0)
    inputs = [(rng.normal(0, 1, (2, *v.type.shape)) * 3).astype(v.type.dtype.numpy) for v in graph.inputs]
    found = executor.run(
        compiled.layout, compiled.programs, inputs, lambda p, arena: functional.execute(p, machine, arena)
    )
    for sample in range(2):
        for got, wanted in zip(found, evaluate(graph, [x[sample] for x in inputs]), strict=True):
            np.testing.assert_array_equal(got[sample], wanted)
