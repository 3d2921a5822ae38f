"""Groups: anchors with random epilogues, and random quantized networks, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.c.target import CTarget
from planish.ir.arithmetic import fixed_point
from planish.ir.builder import const_value
from planish.ir.graph import Graph, Value, apply, graph_input
from planish.ir.op import Op
from planish.ir.ops.conv import Conv2d
from planish.ir.ops.dense import Dense, Matmul
from planish.ir.ops.elementwise import add, clip, maximum, mul, sub
from planish.ir.ops.fused import Fused
from planish.ir.ops.pool import MaxPool2d, SumPool2d
from planish.ir.ops.quant import dequantize, quantize, rescale, rescale_add, sum_factors, table
from planish.ir.ops.reduce import ReduceMax, ReduceSum
from planish.ir.ops.shape import Transpose
from planish.ir.types import F32, I8, I16, I32, U8, Array, TensorType, type_of
from planish.passes.base import Context
from planish.passes.group import Group, fuse
from planish.passes.pipeline import run_pipeline
from planish.testing import HypothesisDraw, graphs
from planish.testing.draw import composite
from tests.support.emitted import require_equal

# Each case is a program; compiling takes long, so nothing is shrunk.
CASES = hypothesis.settings(
    max_examples=max(4, hypothesis.settings().max_examples // 3),
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
ANCHORS: tuple[type[Op], ...] = (Conv2d, Dense, Matmul, SumPool2d, ReduceSum, MaxPool2d, ReduceMax, Transpose)


class Chain:
    """An epilogue being drawn: elementwise ops on a value, exact in every executor; residuals become inputs."""

    def __init__(self, draw: HypothesisDraw) -> None:
        self.draw = draw
        self.inputs: list[Value] = []
        self.arrays: list[Array] = []

    def input(self, array: Array) -> Value:
        self.inputs.append(graph_input(f"x{len(self.inputs)}", type_of(array)))
        self.arrays.append(array)
        return self.inputs[-1]

    def broadcast(self, shape: tuple[Any, ...], make: Callable[[tuple[int, ...]], Array]) -> Array:
        """A constant that broadcasts to the shape: one number, along some axes, or whole."""
        return make(tuple(d if self.draw.boolean() else 1 for d in shape[self.draw.integer(0, len(shape)) :]))

    def rescaled(self, x: Value) -> Value:
        dtype = self.draw.choice([I8, I8, I16, U8])
        largest = self.draw.choice([2**-12, 0.2, 3.0, 2000.0])
        factors = self.broadcast(x.type.shape, lambda s: self.draw.array(s, F32, largest / 50, largest))
        multiplier, shift = fixed_point(factors)
        zero = self.draw.integer(0, 100)
        lo = self.draw.choice([dtype.min, zero])
        kept = factors.shape
        return rescale(
            x, multiplier.reshape(kept), shift.reshape(kept),
            input_zero=self.draw.choice([0, 0, 7]), zero=zero, lo=lo, hi=dtype.max, dtype=dtype,
        )  # fmt: skip

    def with_residual(self, x: Value) -> Value:
        if x.type.dtype.bits > 16:
            return self.rescaled(x)
        attributes = sum_factors([self.draw.real(0.01, 2), self.draw.real(-2, 2)], (3, -5), 9)
        assert attributes is not None
        other = self.input(self.draw.array(x.type.shape, x.type.dtype))  # type: ignore[arg-type]
        return rescale_add(*((x, other) if self.draw.boolean() else (other, x)), **attributes)

    def looked_up(self, x: Value) -> Value:
        if x.type.dtype.bits != 8:
            return self.rescaled(x)
        return table(x, self.draw.array((256,), self.draw.choice([I8, U8, I16])))

    def through_floats(self, x: Value) -> Value:
        """Dequantize, a few float operations with one rounding each, quantize."""
        zero = np.zeros((), x.type.dtype.numpy)
        y = dequantize(x, self.broadcast(x.type.shape, lambda s: self.draw.array(s, F32, 0.01, 2)), zero)
        for _ in range(self.draw.integer(0, 3)):
            other = self.broadcast(x.type.shape, lambda s: self.draw.array(s, F32, -3, 3))
            if self.draw.boolean():
                y = clip(y, lo=-1.0, hi=self.draw.choice([1.0, float("inf")]))
            else:
                y = self.draw.choice([add, sub, mul, maximum])(y, other)
        if self.draw.boolean():
            return y
        return quantize(y, np.float32(self.draw.real(0.01, 2)), np.int8(self.draw.integer(-128, 127)))

    def grown(self, x: Value) -> Value:
        for _ in range(self.draw.integer(1, 3)):
            if x.type.dtype == F32:
                break
            step = self.draw.choice([self.rescaled, self.with_residual, self.looked_up, self.through_floats])
            x = step(x)
        return x


@composite
def grouped(draw: st.DrawFn) -> tuple[Graph, list[Array]]:
    """One `fused` node with an exact anchor and a random epilogue, and its inputs."""
    d = HypothesisDraw(draw)
    anchor = d.choice(ANCHORS)
    instance = anchor.examples(d)
    hypothesis.assume(not any(x.dtype == np.float32 for x in instance.operands))
    chain = Chain(d)
    operands = [const_value(x) if i in instance.constants else chain.input(x) for i, x in enumerate(instance.operands)]
    node = apply(instance.op, *operands)
    graph = Graph(chain.inputs, [chain.grown(node.result)], ["y"])
    graph.inputs = chain.inputs
    fuse(graph, [n for n in graph.nodes if not (n.result.const is not None)])
    return graph, chain.arrays


@CASES
@given(grouped())
def test_epilogues_are_exact(case: tuple[Graph, list[Array]]) -> None:
    graph, arrays = case
    assert any(isinstance(n.op, Fused) for n in graph.nodes)
    require_equal(graph, [arrays])


@CASES
@given(graphs(), st.integers(0, 2**16))
def test_quantized_networks_are_exact(graph: Graph, seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [{v.name: random.uniform(-2, 2, v.type.shape).astype(np.float32) for v in graph.inputs} for _ in range(3)]
    context = Context(lambda: iter(samples), CTarget("c"))
    lowered = run_pipeline(graph, f"simplify,fuse,quantize,fold-quantization,{CTarget.lowering}", context).graph
    hypothesis.assume(not any(v.type.dtype == F32 for n in lowered.nodes for v in n.results if n.op.name == "softmax"))
    require_equal(lowered, [[s[v.name] for v in graph.inputs] for s in samples])


def test_a_group_with_two_anchors_is_refused_with_a_reason() -> None:
    x = graph_input("x", TensorType((1, 4), I8))
    w, b = np.ones((4, 4), np.int8), np.zeros(4, np.int32)
    first = apply(Dense(), x, const_value(w), const_value(b))
    multiplier, shift = fixed_point(0.5)
    second = apply(Dense(), rescale(first.result, multiplier, shift), const_value(w), const_value(b))
    graph = Graph([x], [second.result], ["y"])
    node = fuse(graph, [n for n in graph.nodes if n.result.const is None])
    problem = CTarget("c").supports(node)
    assert problem is not None
    assert "dense and dense are in one group" in problem.reason


def test_grouping_leaves_one_function_per_group() -> None:
    x = graph_input("x", TensorType((1, 4), I32))
    multiplier, shift = fixed_point(0.5)
    graph = Graph([x], [clip(dequantize(rescale(x, multiplier, shift), np.float32(1), np.int8(0)), lo=0.0)], ["y"])
    Group().run(graph, Context())
    (node,) = [n for n in graph.nodes if n.result.const is None]
    assert CTarget("c").choices()[node].kernel is not None


@pytest.fixture(autouse=True)
def _compiler(require_tool: Any) -> None:
    require_tool("cc")
