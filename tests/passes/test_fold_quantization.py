"""Folding dequantize -> op -> quantize: what is exact, what is within a step, what is refused and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, clip, relu
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.ops.shape import concat, pad, reshape, transpose
from planish.ir.ops.unary import sigmoid
from planish.ir.types import F32, I8, I32, U8, Array, DType, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Changes, Context
from planish.passes.fold_quantization import FoldQuantization
from tests.support.clusters import float_ops, steps_by_cluster

RANDOM = np.random.Generator(np.random.PCG64(2))


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def q(x: Value, scale: float = 0.05, zero: int = 0, dtype: DType = I8) -> Value:
    value: Value = quantize(x, np.float32(scale), np.array(zero, dtype.numpy), dtype=dtype, lo=dtype.min, hi=dtype.max)
    return value


def dq(x: Any, scale: Any = 0.05, zero: int = 0) -> Value:
    dtype = x.type.dtype.numpy if isinstance(x, Value) else x.dtype
    value: Value = dequantize(x, np.asarray(scale, np.float32), np.array(zero, dtype))
    return value


def pair(x: Value, scale: float = 0.05, zero: int = 0, dtype: DType = I8) -> Value:
    return dq(q(x, scale, zero, dtype), scale, zero)


def image(dtype: DType = F32) -> Value:
    return graph_input("x", TensorType((1, 2, 4, 4), dtype))


def weights(*shape: int) -> Value:
    return dq(
        RANDOM.integers(-127, 128, shape).astype(np.int8),
        RANDOM.uniform(0.001, 0.01, (shape[0], *(1,) * (len(shape) - 1))),
    )


def folded(graph: Graph) -> tuple[Graph, Changes]:
    twin = graph.clone()
    changes = FoldQuantization().run(twin, Context())
    verify(twin)
    return twin, changes


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "const"]


finite = st.floats(-100, 100, width=32)


@given(
    st.lists(finite | st.just(np.inf) | st.just(-np.inf), min_size=8, max_size=8),
    finite,
    finite,
    st.floats(2**-10, 4, width=32),
    st.integers(-128, 127),
    st.sampled_from([I8, U8]),
)
def test_clips_fold_exactly(x: list[float], lo: float, hi: float, scale: float, zero: int, dtype: DType) -> None:
    value = graph_input("x", TensorType((8,), F32))
    graph = Graph([value], [q(clip(value, lo=lo, hi=hi), scale, zero + dtype.min + 128, dtype)], ["y"])
    after, changes = folded(graph)
    assert changes.applied["NarrowClip"] == 1
    assert "clip" not in names(after)
    sample = [np.array(x, np.float32)]
    assert np.array_equal(evaluate(graph, sample)[0], evaluate(after, sample)[0])


def residual_network(dtype: DType, zero: int) -> Graph:
    x = image()
    c = pair(relu(conv2d(pair(x, 0.02, zero + 128, dtype), weights(4, 2, 3, 3), normal(4))), 0.05, zero, dtype)
    c = pair(relu(add(c, pair(conv2d(c, weights(4, 4, 1, 1), normal(4)), 0.03, zero + 100, dtype))), 0.04, zero, dtype)
    c = pair(max_pool2d(c, window=(2, 2)), 0.04, zero, dtype)
    y = pair(dense(reshape(c, shape=(1, 4)), weights(3, 4), normal(3)), 0.1, zero + 128, dtype)
    return Graph([x], [y], ["y"])


@pytest.mark.parametrize(("dtype", "zero"), [(I8, -128), (U8, 0)])
def test_pairs_become_integers_and_unsigned_ones_signed(dtype: DType, zero: int) -> None:
    graph = residual_network(dtype, zero)
    after, _ = folded(graph)
    assert names(after) == [
        "quantize", "conv2d", "rescale", "conv2d", "rescale", "rescale_add", "max_pool2d", "reshape", "dense",
        "rescale", "dequantize",
    ]  # fmt: skip
    assert all(v.type.dtype in (F32, I8, I32) for n in after.nodes for v in n.results)
    assert max(steps_by_cluster(graph, [[normal(1, 2, 4, 4)] for _ in range(20)]).values()) <= 1


def test_the_two_signs_compute_the_same() -> None:
    state = RANDOM.bit_generator.state
    signed = folded(residual_network(I8, -128))[0]
    RANDOM.bit_generator.state = state
    unsigned = folded(residual_network(U8, 0))[0]
    sample = [normal(1, 2, 4, 4)]
    assert np.array_equal(evaluate(signed, sample)[0], evaluate(unsigned, sample)[0])


def test_public_unsigned_integers_keep_their_dtype() -> None:
    x = image(U8)
    graph = Graph([x], [q(conv2d(dq(x, 0.02, 128), weights(2, 2, 3, 3), normal(2)), 0.03, 100, U8)], ["y"])
    after, _ = folded(graph)
    assert names(after) == ["rescale", "conv2d", "rescale"]
    assert (after.inputs[0].type.dtype, after.outputs[0].type.dtype) == (U8, U8)
    sample = [RANDOM.integers(0, 256, (1, 2, 4, 4)).astype(np.uint8)]
    assert np.abs(evaluate(graph, sample)[0].astype(int) - evaluate(after, sample)[0]).max() <= 1


@pytest.mark.parametrize(
    "move",
    [
        lambda x: reshape(x, shape=(1, 32)),
        lambda x: transpose(x, perm=(0, 2, 3, 1)),
        lambda x: max_pool2d(x, window=(3, 3), pads=(1, 1, 1, 1)),
        lambda x: concat(x, x, axis=1),
        lambda x: pad(x, before=(0, 0, 1, 1), after=(0, 0, 0, 2), value=0.7),
    ],
)
@pytest.mark.parametrize("where", ["before", "after", "between"])
def test_movements_are_moved_into_the_integers_exactly(move: Any, where: str) -> None:
    x = image()
    build = {
        "before": lambda: pair(move(x), zero=5),
        "after": lambda: q(move(pair(x, zero=5)), zero=5),
        "between": lambda: pair(move(pair(x, zero=5)), zero=5),
    }[where]
    graph = Graph([x], [build()], ["y"])
    after, _ = folded(graph)
    assert not float_ops(after)
    assert "rescale" not in names(after)
    sample = [normal(1, 2, 4, 4)]
    assert np.array_equal(evaluate(graph, sample)[0], evaluate(after, sample)[0])


def test_a_clip_between_two_pairs_is_part_of_the_op_before() -> None:
    x = image()
    c = pair(conv2d(pair(x), weights(2, 2, 1, 1), normal(2)), zero=-20)
    graph = Graph([x], [pair(relu(c), zero=-20)], ["y"])
    after, _ = folded(graph)
    assert names(after) == ["quantize", "conv2d", "rescale", "dequantize"]
    for _ in range(20):
        sample = [normal(1, 2, 4, 4)]
        gap = np.abs(evaluate(graph, sample)[0] - evaluate(after, sample)[0]).max()
        assert gap <= 0.05 * 1.001
    assert evaluate(after, sample)[0].min() == 0


def test_scales_per_channel_follow_a_transposed_weight() -> None:
    x = graph_input("x", TensorType((1, 6), F32))
    stored = RANDOM.integers(-127, 128, (6, 3)).astype(np.int8)  # [inputs, outputs], as MatMul stores it
    w = transpose(dq(stored, RANDOM.uniform(0.001, 0.01, (1, 3))), perm=(1, 0))
    bias = dq(RANDOM.integers(-500, 500, 3).astype(np.int32), RANDOM.uniform(0.001, 0.01, 3))
    graph = Graph([x], [pair(dense(pair(x), w, bias), 0.02)], ["y"])
    after, _ = folded(graph)
    assert names(after) == ["quantize", "dense", "rescale", "dequantize"]
    assert max(steps_by_cluster(graph, [[normal(1, 6)] for _ in range(20)]).values()) <= 1


def test_weights_that_are_quantized_in_the_graph_become_constants() -> None:
    x = graph_input("x", TensorType((1, 6), F32))
    w = dq(quantize(normal(3, 6), np.float32(0.02), np.int8(0)), 0.02)
    after, _ = folded(Graph([x], [pair(dense(pair(x), w, normal(3)), 0.02)], ["y"]))
    assert names(after) == ["quantize", "dense", "rescale", "dequantize"]


def refusal(y: Value, *more: Value) -> str:
    x = y
    while x.producer is not None:
        x = x.producer.operands[0]
    graph = Graph([x], [y, *more], [f"y{i}" for i in range(1 + len(more))])
    after, changes = folded(graph)
    sample = [normal(*v.type.shape) for v in graph.inputs]  # type: ignore[arg-type]
    for a, b in zip(evaluate(graph, sample), evaluate(after, sample), strict=True):
        assert np.array_equal(a, b)
    (reason,) = changes.refused.values()
    return reason


def test_what_is_refused_stays_float_and_says_why() -> None:
    x = image()
    c = sigmoid(pair(x))
    assert "other uses" in refusal(pair(c), c)
    x = image()
    w = dq(RANDOM.integers(-127, 127, (2, 2, 1, 1)).astype(np.int8), [[[[0.01]], [[0.02]]]])
    assert "another axis" in refusal(pair(conv2d(pair(x), w, normal(2))))
    x = image()
    assert "not quantized" in refusal(pair(conv2d(x, weights(2, 2, 1, 1), normal(2))))
    x = image()
    assert "symmetric" in refusal(pair(matmul(pair(x, zero=1), pair(x, zero=1))))
    x = graph_input("x", TensorType((1, 4), F32))
    big = np.array([1e9, 0], np.float32)
    assert "32 bits" in refusal(pair(dense(pair(x), weights(2, 4), big), 1e8))


def test_sources_of_a_cluster_pass_on() -> None:
    from planish.ir.graph import Loc

    x = image()
    c = relu(conv2d(pair(x), weights(2, 2, 1, 1), normal(2), loc=Loc(("conv_1",))), loc=Loc(("relu_1",)))
    after, _ = folded(Graph([x], [pair(c)], ["y"]))
    (rescale,) = (n for n in after.nodes if n.op.name == "rescale")
    assert set(rescale.loc.names) == {"conv_1", "relu_1"}
