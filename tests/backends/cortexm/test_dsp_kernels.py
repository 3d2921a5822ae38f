"""Kernels with SMLAD, run under QEMU, against the reference, byte for byte, on every shape that they accept."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.cortexm.target import ALIGNMENT, CTarget
from planish.backends.memory import check, plan
from planish.ir.graph import Graph
from tests.support.quantized_layers import convolutions, denses, networks, require_exact, side_by_side

# One program holds many layers, as compiling takes long.
IN_ONE_PROGRAM = 15
PROGRAMS = max(4, hypothesis.settings().max_examples // 25)
M4 = CTarget("cortex-m4")

LAYERS = {"conv2d": convolutions(), "depthwise": convolutions(depthwise=True), "dense": denses()}


@pytest.mark.parametrize("kind", LAYERS)
def test_fast_kernels_are_exact(kind: str, require_tool: Any) -> None:
    require_tool("arm-none-eabi-gcc")
    require_tool("qemu-system-arm")

    @hypothesis.settings(max_examples=PROGRAMS, phases=[hypothesis.Phase.generate])
    @given(st.lists(LAYERS[kind], min_size=IN_ONE_PROGRAM, max_size=IN_ONE_PROGRAM))
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
        memory = plan(graph, M4, ALIGNMENT)
        check(graph, memory, M4)
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
        require_exact(side_by_side(drawn), CTarget(core))

    run()
