"""Every kernel against the reference of the op that it implements; groups and layers of integers bit for bit."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.tvm import target as tvm_target
from planish.backends.tvm.kernels import KERNELS
from planish.backends.tvm.machines import Machine
from planish.backends.tvm.target import TvmTarget
from planish.ir.arithmetic import fixed_point
from planish.ir.graph import Graph, graph_input
from planish.ir.op import Op
from planish.ir.ops.dense import dense
from planish.ir.ops.quant import rescale, table
from planish.ir.types import I8, Array, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.target import Limits
from planish.testing.ops import seeded_instances
from tests.support.emitted import require_near, together
from tests.support.kernels import TESTED, WITHOUT, missing
from tests.support.quantized_layers import convolutions, denses, fused, networks, require_exact, side_by_side

# One object holds many examples of several ops, as linking takes long; for the same reason nothing is shrunk.
IN_ONE_PROGRAM = 10
PROGRAMS = max(1, hypothesis.settings().max_examples // 20)
IN_PROGRAMS = hypothesis.settings(max_examples=max(2, PROGRAMS), phases=[hypothesis.Phase.generate])
CHUNKS = [TESTED[i : i + 5] for i in range(0, len(TESTED), 5)]
HOST = TvmTarget("tvm")


@pytest.fixture(autouse=True)
def _tools(require_tool: Callable[[str], Path], tvm: None) -> None:
    require_tool("cc")


def test_every_op_has_a_kernel() -> None:
    assert missing(KERNELS) == WITHOUT


@pytest.mark.parametrize("ops", CHUNKS, ids=lambda ops: "-".join(op.name for op in ops))
@pytest.mark.parametrize("program", range(PROGRAMS))
def test_kernels_compute_what_the_op_means(ops: list[type[Op]], program: int) -> None:
    seeds = range(program * IN_ONE_PROGRAM, (program + 1) * IN_ONE_PROGRAM)
    drawn = [instance for op in ops for instance in seeded_instances(op, seeds)]
    graph, inputs = together(drawn)
    graph = run_pipeline(graph, "decompose,layout{to=nhwc}", Context(target=HOST)).graph
    require_near(drawn, run(graph, inputs))


def run(graph: Graph, inputs: list[Array]) -> list[Array]:
    with tempfile.TemporaryDirectory() as folder:
        artifact = HOST.emit(graph, Path(folder), "model", Limits())
        batch = {v.name: x[None] for v, x in zip(graph.inputs, inputs, strict=True)}
        return [y[0] for y in HOST.run(artifact, batch).outputs.values()]


LAYERS: dict[str, Any] = {
    "conv2d": convolutions(most_outputs=70),
    "depthwise": convolutions(depthwise=True),
    "dense": denses(),
    "network": networks(),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_integer_layers_are_exact(kind: str) -> None:
    @IN_PROGRAMS
    @given(st.lists(LAYERS[kind], min_size=IN_ONE_PROGRAM, max_size=IN_ONE_PROGRAM, unique_by=id))
    def check(drawn: list[Graph]) -> None:
        require_exact(side_by_side(drawn), HOST)

    check()


def test_factors_per_channel_are_no_table_whatever_their_number() -> None:
    random = np.random.default_rng(0)
    x = graph_input("x", TensorType((1, 8), I8))
    w, b = random.integers(-127, 128, (256, 8)).astype(np.int8), np.zeros(256, np.int32)
    factors = fixed_point(random.uniform(0.001, 0.01, 256))

    def build(v: Any, c: Any) -> Any:
        y = rescale(dense(v[0], c[0], c[1]), c[2], c[3])
        return table(rescale(y, c[2], c[3]), c[4])

    entries = random.integers(-128, 128, 256).astype(np.int8)
    require_exact(Graph([x], [fused([x], [w, b, *factors, entries], build)], ["y"]), HOST)


OLDER = {
    "x86-64": Machine("x86_64-linux-gnu", "x86-64", (), vector_bytes=16, registers=16),
    "x86-64-v3": Machine("x86_64-linux-gnu", "x86-64-v3", (), vector_bytes=32, registers=16, pairs=True),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these processors are x86")
@pytest.mark.parametrize("cpu", OLDER)
def test_older_processors_compute_the_same(cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tvm_target, "machine_named", lambda name: OLDER[cpu])
    monkeypatch.setattr(tvm_target, "require_same", lambda cpu: None)

    @IN_PROGRAMS
    @given(st.tuples(*LAYERS.values()))
    def check(drawn: tuple[Graph, ...]) -> None:
        require_exact(side_by_side(drawn), HOST)

    check()


@pytest.mark.parametrize("target", ["tvm:aarch64-linux"])
def test_aarch64_computes_the_same(target: str, require_tool: Callable[[str], Path]) -> None:
    require_tool("aarch64-linux-gnu-gcc")
    require_tool("qemu-aarch64")

    @IN_PROGRAMS
    @given(st.tuples(*LAYERS.values(), *LAYERS.values()))
    def check(drawn: tuple[Graph, ...]) -> None:
        require_exact(side_by_side(drawn), TvmTarget(target))

    check()
