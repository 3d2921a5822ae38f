"""The oracle's bounds hold for executors that round in other ways than the interpreter, and for nothing worse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planish.ir.constant import Const
from planish.ir.evaluate import evaluate_node
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.attention import attention
from planish.ir.ops.conv import Conv2d
from planish.ir.ops.dense import Dense, Matmul, dense
from planish.ir.ops.elementwise import add, mul, relu
from planish.ir.ops.norm import layer_norm
from planish.ir.ops.reduce import ReduceMean, ReduceSum, reduce_mean
from planish.ir.ops.softmax import Softmax, softmax
from planish.ir.ops.unary import gelu, log, silu
from planish.ir.ops.windows import windows
from planish.ir.types import F32, NCHW, TensorType
from planish.runtime.oracle import graph_tolerance, judge
from planish.testing import graphs
from tests.support.emitted import run_for

FLOAT = np.float32


def sequential(x, axis, backwards):
    """A float32 sum, one term after the other."""
    terms = np.flip(x, axis) if backwards else x
    return np.add.accumulate(terms, axis=axis, dtype=FLOAT).take(-1, axis)


def otherwise(node, operands, seed):
    """A node's results as another executor may have them: sums in another order, library functions a few ulps off."""
    op, random, backwards = node.op, np.random.default_rng(seed), bool(seed % 2)
    if isinstance(op, Dense):
        x, w, b = operands
        return [(sequential(x[..., None, :] * w, -1, backwards) + b).astype(FLOAT)]
    if isinstance(op, Matmul):
        a, b = operands
        return [sequential(a[..., :, :, None] * b[..., None, :, :], -2, backwards)]
    if isinstance(op, ReduceSum | ReduceMean):
        (x,) = operands
        moved = np.moveaxis(x, op.axes, range(-len(op.axes), 0)).reshape(
            *[d for i, d in enumerate(x.shape) if i not in op.axes], -1
        )
        total = sequential(moved, -1, backwards).reshape(node.results[0].type.shape)
        return [total * FLOAT(1 / moved.shape[-1]) if isinstance(op, ReduceMean) else total]
    if isinstance(op, Softmax):
        (x,) = operands
        e = np.exp(x - x.max(-1, keepdims=True), dtype=FLOAT)
        e *= FLOAT(1) + random.choice([-2, 0, 2], e.shape).astype(FLOAT) * FLOAT(2**-23)
        return [e / sequential(e, -1, backwards)[..., None]]
    if isinstance(op, Conv2d) and op.groups == 1 and op.layout is NCHW:
        x, w, b = operands
        tiles = windows(x.transpose(0, 2, 3, 1), w.shape[2:], op, FLOAT(0))
        flat = tiles.reshape(*tiles.shape[:3], -1)[..., None, :] * w.reshape(w.shape[0], -1)
        return [(sequential(flat, -1, backwards) + b).transpose(0, 3, 1, 2)]
    results = list(evaluate_node(node, operands))
    if op.elementwise and op.ulps >= 3:
        far = int(op.ulps) - 1
        wrong = random.integers(-far, far, results[0].shape, endpoint=True) if seed % 3 else far
        results[0] = (results[0] * (1 + wrong * FLOAT(2**-23))).astype(FLOAT)
    return results


def executed(graph, sample, seed):
    """The graph's outputs by another executor."""
    live = {v: sample[v.name] for v in graph.inputs}
    for i, node in enumerate(graph.nodes):
        constant = isinstance(node.op, Const)
        made = [node.op.data] if constant else otherwise(node, [live[v] for v in node.operands], seed + i)
        live.update(zip(node.results, made, strict=True))
    return {name: live[v] for name, v in zip(graph.output_names, graph.outputs, strict=True)}


def normal(random, *shape):
    return random.normal(size=shape).astype(FLOAT)


def perceptron(random):
    x = graph_input("x", TensorType((4, 64), F32))
    h = x
    for _ in range(6):
        h = relu(dense(h, normal(random, 64, 64) / FLOAT(6), normal(random, 64)))
    logits = dense(h, normal(random, 10, 64) / FLOAT(6), normal(random, 10))
    return Graph([x], [softmax(mul(logits, FLOAT(0.1))), logits], ["y", "logits"])


def transformer(random):
    """Normalization, attention and gelu: what amplifies rounding."""
    x = graph_input("x", TensorType((8, 32), F32))
    h, ones, zeros = x, np.ones(32, FLOAT), np.zeros(32, FLOAT)
    for _ in range(2):
        n = layer_norm(h, ones, zeros, epsilon=1e-5)
        q, k, v = (dense(n, normal(random, 32, 32), zeros) for _ in "qkv")
        h = add(h, attention(q, k, v, scale=0.2))
        n = layer_norm(h, ones, zeros, epsilon=1e-5)
        h = add(h, dense(gelu(dense(n, normal(random, 64, 32), normal(random, 64))), normal(random, 32, 64), zeros))
    logits = dense(reduce_mean(h, axes=(0,), keepdims=True), normal(random, 20, 32), normal(random, 20))
    return Graph([x], [softmax(mul(logits, FLOAT(0.01))), logits], ["y", "logits"])


def cancelling(random):
    """Small differences of large sums, under a logarithm."""
    x = graph_input("x", TensorType((2, 100), F32))
    w = normal(random, 4, 100)
    left, right = (dense(x, w + FLOAT(d), np.zeros(4, FLOAT)) for d in (0.01, 0.0))
    gap = add(left, mul(right, FLOAT(-1)))
    return Graph([x], [log(add(mul(gap, gap), FLOAT(1e-3))), silu(gap)], ["y", "z"])


NETWORKS = {"perceptron": perceptron, "transformer": transformer, "cancelling": cancelling}


def sample_of(graph, random, scale=1.0):
    return {v.name: scale * normal(random, *v.type.shape) for v in graph.inputs}


@pytest.mark.parametrize("kind", NETWORKS)
def test_other_orders_and_libraries_are_within_the_tolerance(kind):
    for seed in range(4):
        random = np.random.default_rng(seed)
        graph = NETWORKS[kind](random)
        sample = sample_of(graph, random, 10.0 ** (seed - 1))
        for run in range(4):
            for name, verdict in judge(graph, sample, executed(graph, sample, run)).items():
                assert verdict.agrees, f"{name}, seed {seed}, run {run}: {verdict}"


@given(graphs(), st.integers(0, 1000))
def test_other_executors_of_drawn_graphs_are_within_the_tolerance(graph, seed):
    sample = sample_of(graph, np.random.default_rng(seed))
    for name, verdict in judge(graph, sample, executed(graph, sample, seed)).items():
        assert verdict.agrees, f"{name}: {verdict}"


@pytest.mark.parametrize("target", ["c", "tvm"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_programs_are_within_the_tolerance(kind, target, require_tool, request):
    require_tool("cc")
    if target == "tvm":
        request.getfixturevalue("tvm")
    random = np.random.default_rng(7)
    graph = NETWORKS[kind](random)
    sample = sample_of(graph, random)
    for name, verdict in judge(graph, sample, run_for(target, graph, sample)).items():
        assert verdict.agrees, f"{name}: {verdict}"


def planted(graph, index, by):
    """The graph with one weight matrix, the so manyth, off by a factor."""
    twin = graph.clone()
    weights = [n for n in twin.nodes if isinstance(n.op, Const) and n.op.data.ndim == 2]
    weights[index].op = Const((weights[index].op.data * FLOAT(1 + by)).astype(FLOAT))
    return twin


@pytest.mark.parametrize("kind", ["perceptron", "transformer"])
def test_a_thousandth_on_one_layer_is_no_rounding(kind):
    """Unless it hardly reaches the output: queries and keys, where one score is far above the others."""
    caught = 0
    for seed in range(3):
        random = np.random.default_rng(seed)
        graph = NETWORKS[kind](random)
        sample = sample_of(graph, random)
        exact = graph_tolerance(graph, sample, early=True)["logits"][0]
        count = sum(isinstance(n.op, Const) and n.op.data.ndim == 2 for n in graph.nodes)
        for index in range(count):
            wrong = executed(planted(graph, index, 1e-3), sample, 0)
            if np.abs(wrong["logits"] - exact).max() > 1e-4 * np.abs(exact).max():
                assert not judge(graph, sample, wrong)["logits"].agrees, f"weights {index} of seed {seed}"
                caught += 1
    assert caught >= 15


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_what_overflows_must_be_infinite_and_leaves_the_others_alone(seed):
    random = np.random.default_rng(seed)
    x = graph_input("x", TensorType((6,), F32))
    graph = Graph([x], [mul(mul(x, x), FLOAT(1e30))], ["y"])
    sample = {"x": random.choice([1e3, -1e3, 1e10, -1e10, 700], 6).astype(FLOAT)}
    right = executed(graph, sample, 0)["y"]
    assert judge(graph, sample, {"y": right})["y"].agrees
    for i in range(6):
        for wrong in (np.nan, 12345.0, -np.inf, 1e36 if np.isinf(right[i]) else np.inf):
            changed = right.copy()
            changed[i] = wrong
            assert not judge(graph, sample, {"y": changed})["y"].agrees, (right, changed)


def test_tolerances_are_the_same_every_time():
    random = np.random.default_rng(3)
    graph = transformer(random)
    sample = sample_of(graph, random)
    np.testing.assert_array_equal(graph_tolerance(graph, sample)["y"][1], graph_tolerance(graph, sample)["y"][1])
