"""Kernels with SMLAD, run under QEMU, against the reference, byte for byte, on every shape that they accept."""

from __future__ import annotations

from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.cortexm.kernels.tile import LIMIT
from planish.backends.cortexm.target import CortexMTarget
from planish.backends.memory import check, plan
from planish.ir.arithmetic import fixed_point
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.dense import dense
from planish.ir.ops.quant import rescale
from planish.ir.types import I8, TensorType
from tests.support.quantized_layers import convolutions, denses, fused, networks, require_exact, side_by_side

# One program holds many layers, as compiling takes long.
IN_ONE_PROGRAM = 15
PROGRAMS = max(4, hypothesis.settings().max_examples // 25)
M4 = CortexMTarget("cortex-m4")

LAYERS = {"conv2d": convolutions(), "depthwise": convolutions(depthwise=True), "dense": denses()}


@pytest.mark.parametrize("kind", LAYERS)
def test_fast_kernels_are_exact(kind: str, require_tool: Any) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")

    @hypothesis.settings(max_examples=PROGRAMS, phases=[hypothesis.Phase.generate])
    @given(st.lists(LAYERS[kind], min_size=IN_ONE_PROGRAM, max_size=IN_ONE_PROGRAM, unique_by=id))
    def check(drawn: list[Any]) -> None:
        chosen.extend(require_exact(side_by_side(drawn), M4)[0])

    chosen: list[str] = []
    check()
    assert sum("_smlad" in kernel for kernel in chosen) > len(chosen) // 5


def test_results_that_take_over_operands_are_exact(require_tool: Any) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")

    @hypothesis.settings(max_examples=PROGRAMS, phases=[hypothesis.Phase.generate])
    @given(st.lists(networks(), min_size=5, max_size=5))
    def run(drawn: list[Graph]) -> None:
        graph = side_by_side(drawn)
        memory = plan(graph, M4.choices(), M4.alignment)
        check(graph, memory, M4.choices())
        taken.extend(memory.places[v] == memory.places[n.result] for n in memory.order for v in n.operands)
        require_exact(graph, M4)

    taken: list[bool] = []
    run()
    assert any(taken)


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m33", "cortex-m55"])
def test_other_cores_run_the_same_code(core: str, require_tool: Any) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")

    @hypothesis.settings(max_examples=2, phases=[hypothesis.Phase.generate])
    @given(st.tuples(*LAYERS.values(), *LAYERS.values(), *LAYERS.values(), networks()))
    def run(drawn: tuple[Graph, ...]) -> None:
        require_exact(side_by_side(drawn), CortexMTarget(core))

    run()


@pytest.mark.parametrize(("excess", "kernel"), [(0, "dense_smlad"), (1, "dense")])
def test_sums_up_to_the_limit_are_taken_and_exact(excess: int, kernel: str, require_tool: Any) -> None:
    """259 products of 127 * 255 and the bias are the largest sum that may be held 256 times."""
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")
    depth = 259
    w = np.array([[127] * depth, [-127] * depth], np.int8)
    bias = LIMIT - 1 - depth * 127 * 255
    b = np.array([bias + excess, -bias - 1 - excess], np.int32)
    x = graph_input("x", TensorType((1, depth), I8))

    def build(v: Any, c: Any) -> Any:
        return rescale(dense(v[0], c[0], c[1], input_zero=-128), c[2], c[3])

    graph = Graph([x], [fused([x], [w, b, *fixed_point(100 / LIMIT)], build)], ["y"])
    inputs = {"x": np.stack([np.full((1, depth), 127, np.int8), np.full((1, depth), -128, np.int8)])}
    assert require_exact(graph, M4, inputs=inputs)[0] == [kernel]
