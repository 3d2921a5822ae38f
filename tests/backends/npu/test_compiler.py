"""Random quantized graphs on the NPU: compiled, proven by the linter, simulated, and bit for bit the interpreter's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.npu import executor, functional, simulator
from planish.backends.npu.compiler import Compiled, compile_graph
from planish.backends.npu.linter import prove
from planish.backends.npu.machine import Machine, Memories, load_machine
from planish.backends.npu.partition import partition
from planish.backends.npu.program import Program
from planish.ir.arithmetic import fixed_point
from planish.ir.errors import DoesNotFitError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, apply, graph_input
from planish.ir.op import Instance, Op
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.pool import avg_pool2d, max_pool2d
from planish.ir.ops.quant import dequantize, quantize, rescale, rescale_add, sum_factors, table
from planish.ir.ops.reduce import reduce_sum
from planish.ir.ops.resize import UNIT, ResizeLinear, resize_linear, resize_nearest
from planish.ir.ops.shape import concat, depth_to_space, pad, reshape, slice_, transpose
from planish.ir.ops.softmax import exp_table, integer_softmax
from planish.ir.types import F32, I8, NHWC, Array, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.testing import instances
from tests.support.emitted import together
from tests.support.kernels import EXECUTED
from tests.support.quantized_layers import convolutions, denses, networks

CASES = hypothesis.settings(
    max_examples=max(6, hypothesis.settings().max_examples // 3),
    suppress_health_check=list(hypothesis.HealthCheck),
)
MACHINES = [load_machine("256"), load_machine("64")]
#: So little memory that images are cut by rows and columns, weights streamed, and blocks narrow.
TIGHT = replace(MACHINES[1], name="tight", memories=Memories(act=384, wgt=1024, acc=256, tab=1284))
machines = st.sampled_from([*MACHINES, MACHINES[0].with_mode("shared-sram"), TIGHT])


def run(compiled: Compiled, inputs: Sequence[Array]) -> list[Array]:
    """Prove and execute."""
    for program in compiled.programs:
        if program is not None:
            prove(program, compiled.machine)
    batch = [x[np.newaxis] for x in inputs]

    def engine(program: Program, arena: Array) -> Array:
        return functional.execute(program, compiled.machine, arena)

    return [y[0] for y in executor.run(compiled.layout, compiled.programs, batch, engine)]


def require_exact(graph: Graph, machine: Machine, seed: int = 0, inputs: Sequence[Array] | None = None) -> Compiled:
    """Compile, run on random inputs or those given, and compare every byte."""
    rng = np.random.default_rng(seed)
    if inputs is None:
        inputs = [
            rng.normal(0, 1, v.type.shape).astype(np.float32)
            if v.type.dtype == F32
            else rng.integers(-128, 128, v.type.shape).astype(v.type.dtype.numpy)
            for v in graph.inputs
        ]
    compiled = compile_graph(graph, machine)
    for got, wanted in zip(run(compiled, inputs), evaluate(graph, inputs), strict=True):
        np.testing.assert_array_equal(got, wanted)
    return compiled


def ops_on_host(graph: Graph) -> dict[str, str]:
    """Names of ops that stay on the host, with the reasons; of groups, of their first."""
    hosted = [(p.node.op, p.refusal.reason) for p in partition(graph).placements if p.refusal is not None]
    return {next((n.op.name for b in op.bodies() for n in b.nodes), op.name): reason for op, reason in hosted}


def grouped(graph: Graph) -> Graph:
    """As the lowering of a target groups."""
    return run_pipeline(graph, "group", Context()).graph


def image(*shape: int) -> TensorType:
    return TensorType(shape, I8)


@CASES
@given(st.one_of(convolutions(), convolutions(depthwise=True), denses()), machines)
def test_layers_are_exact(graph: Graph, machine: Machine) -> None:
    require_exact(graph, machine)


@CASES
@given(networks(), machines)
def test_networks_are_exact_and_the_model_of_time_is_right(graph: Graph, machine: Machine) -> None:
    compiled = require_exact(graph, machine)
    assert len(compiled.layers) > 0
    for program in compiled.programs:
        if program is not None:
            cycles = {layer.tag: layer.cycles for layer in simulator.time(program, machine).layers}
            for layer in compiled.layers:
                if layer.tag in cycles:
                    assert abs(cycles[layer.tag] - layer.analytic) <= 0.05 * cycles[layer.tag]


@pytest.mark.parametrize("op", EXECUTED, ids=lambda op: op.name)
def test_every_op_runs_somewhere(op: type[Op]) -> None:
    @hypothesis.settings(CASES, max_examples=3)
    @given(st.lists(instances(op), min_size=5, max_size=5), machines)
    def check(drawn: list[Instance], machine: Machine) -> None:
        graph, inputs = together(drawn)
        require_exact(graph, machine, inputs=inputs)

    check()


def test_movements_pools_and_sums_run_on_the_npu() -> None:
    x = graph_input("x", image(1, 8, 6, 8))
    values = [
        max_pool2d(x, window=(3, 2), strides=(2, 2), pads=(1, 0, 1, 1), layout=NHWC),
        concat(x, x, axis=3),
        slice_(x, starts=(0, 1, 0, 2), stops=(1, 8, 6, 7), steps=(1, 2, 3, 1)),
        pad(x, before=(0, 1, 0, 3), after=(0, 0, 2, 1), value=-7),
        transpose(x, perm=(0, 3, 1, 2)),
        depth_to_space(x, block=2, column_first=True, layout=NHWC),
        depth_to_space(x, block=2, layout=NHWC),
        table(x, np.arange(-128, 128, dtype=np.int8)[::-1].copy()),
        rescale(x, np.array([1 << 28], np.int32), np.array([1], np.int8), input_zero=5, zero=-3, lo=-100, hi=90),
        rescale_add(x, x, **(sum_factors((0.4, -0.7), (3, -2), 1) or {})),
        integer_softmax(x, exp_table(0.07)),
        resize_nearest(x, size=(16, 18), scales=(2.0, 3.0), layout=NHWC),
        rescale(resize_linear(x, size=(16, 12), scales=(2.0, 2.0), layout=NHWC), *fixed_point(0.8 / UNIT), zero=-4),
        rescale(
            reduce_sum(x, axes=(1, 2), input_zero=4), np.array([1 << 26], np.int32), np.array([0], np.int8), zero=9
        ),
    ]
    graph = grouped(Graph([x], values, [f"y{i}" for i in range(len(values))]))
    assert ops_on_host(graph) == {}
    for machine in MACHINES:
        compiled = require_exact(graph, machine)
        assert len([p for p in compiled.programs if p is not None]) == 1


@CASES
@given(instances(ResizeLinear), st.integers(0, 2**31), machines)
def test_resized_images_are_exact(drawn: Instance, seed: int, machine: Machine) -> None:
    """With a rescale and a residual behind it; on the host where the weights need more than 8 bits, and so it says."""
    x = graph_input("x", TensorType((2, *drawn.operands[0].shape[1:]), I8))
    y = rescale(apply(drawn.op.like(input_zero=5), x).result, *fixed_point(0.7 / UNIT), zero=3)
    residual = graph_input("r", y.type)
    y = rescale_add(residual, y, **(sum_factors((0.4, -0.7), (3, -2), 1) or {}))
    graph = run_pipeline(Graph([x, residual], [y], ["y"]), "layout{to=nhwc},simplify,group", Context()).graph
    assert set(ops_on_host(graph).values()) <= {"its weights need more than 8 bits"}
    require_exact(graph, machine, seed)


def test_what_the_npu_does_not_take_runs_on_the_host_with_a_reason() -> None:
    x = graph_input("x", TensorType((1, 4, 4, 3), F32))
    scale, zero = np.float32(0.05), np.int8(0)
    q = quantize(x, scale, zero)
    y = rescale(
        conv2d(q, np.ones((5, 3, 3, 3), np.int8), np.zeros(5, np.int32), layout=NHWC),
        np.array([1 << 26], np.int32), np.array([0], np.int8),
    )  # fmt: skip
    real = avg_pool2d(relu(add(dequantize(y, scale, zero), np.float32(1))), window=(2, 2), layout=NHWC)
    again = rescale(
        conv2d(quantize(real, scale, zero), np.ones((2, 1, 1, 5), np.int8), np.zeros(2, np.int32), layout=NHWC),
        np.array([1 << 28], np.int32), np.array([0], np.int8),
    )  # fmt: skip
    graph = grouped(Graph([x], [again], ["y"]))
    reasons = ops_on_host(graph)
    assert reasons["quantize"] == reasons["avg_pool2d"] == "the NPU computes on i8"
    assert set(reasons) <= {"quantize", "dequantize", "add", "relu", "maximum", "clip", "avg_pool2d"}
    compiled = require_exact(graph, MACHINES[0])
    assert [layer.node.op.name for layer in compiled.layers] == ["fused", "fused"]
    assert len([p for p in compiled.programs if p is not None]) == 2


def test_sums_that_nobody_rescales_stay_on_the_host() -> None:
    x = graph_input("x", image(1, 4, 4, 3))
    y = conv2d(x, np.ones((5, 3, 3, 3), np.int8), np.zeros(5, np.int32), layout=NHWC)
    assert ops_on_host(Graph([x], [y], ["y"])) == {"conv2d": "the result is i32[1,2,2,5], the NPU stores i8"}


def test_reshapes_cost_nothing() -> None:
    x = graph_input("x", image(1, 4, 4, 2))
    graph = Graph([x], [reshape(x, shape=(1, 32))], ["y"])
    assert not any(require_exact(graph, MACHINES[0]).programs)


def test_layers_whose_weights_fit_for_few_channels_only() -> None:
    rng = np.random.default_rng(0)
    x = graph_input("x", image(1, 3136))
    y = dense(x, rng.integers(-127, 128, (10, 3136)).astype(np.int8), np.zeros(10, np.int32), input_zero=-128)
    y = rescale(y, np.array([1 << 22], np.int32), np.array([0], np.int8), zero=-128)
    graph = grouped(Graph([x], [y], ["y"]))
    for machine in MACHINES:
        assert require_exact(graph, machine).layers


def test_a_layer_that_fits_no_tiling_is_an_error() -> None:
    x = graph_input("x", image(1, 1, 1, 6000))
    y = integer_softmax(x, exp_table(0.07))
    with pytest.raises(
        DoesNotFitError, match=r"no tiling of integer_softmax fits the local memories of npu:64"
    ) as caught:
        compile_graph(Graph([x], [y], ["y"]), load_machine("64"))
    assert "6000 bytes in act, which has 5120" in caught.value.details[0]


def test_an_arena_that_does_not_fit_is_an_error() -> None:
    x = graph_input("x", image(1, 1200, 1200, 3))
    y = max_pool2d(x, window=(1, 1), layout=NHWC)
    with pytest.raises(DoesNotFitError, match="bytes of arena and constants on npu:256"):
        compile_graph(Graph([x], [y], ["y"]), load_machine("256"))
