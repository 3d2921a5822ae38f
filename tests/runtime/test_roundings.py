"""The oracle's bounds hold for executors that round in other ways than the interpreter, and for nothing worse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planish.ir.constant import Const
from planish.ir.evaluate import evaluate_node
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.conv import Conv2d
from planish.ir.ops.dense import Dense, Matmul, dense
from planish.ir.ops.elementwise import mul
from planish.ir.ops.reduce import ReduceMean, ReduceSum, reduce_mean
from planish.ir.ops.softmax import Softmax
from planish.ir.ops.unary import cast, exp, log, sqrt
from planish.ir.ops.windows import windows
from planish.ir.types import F32, I32, NCHW, TensorType
from planish.runtime.interpreter import run
from planish.runtime.oracle import batch_tolerance, compare, graph_tolerance, judge
from planish.testing import graphs
from tests.support.emitted import run_for
from tests.support.float_nets import FLOAT, NETWORKS, normal, sample_of, transformer


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


@pytest.mark.parametrize("kind", NETWORKS)
def test_other_orders_and_libraries_are_within_the_tolerance(kind):
    for seed in range(4):
        random = np.random.default_rng(seed)
        graph = NETWORKS[kind](random)
        sample = sample_of(graph, random, 10.0 ** (seed - 1))
        for other in range(2 if kind == "bytes" else 4):
            for name, verdict in judge(graph, sample, executed(graph, sample, other)).items():
                assert verdict.agrees, f"{name}, seed {seed}, run {other}: {verdict}"


@given(graphs(), st.integers(0, 1000))
def test_other_executors_of_drawn_graphs_are_within_the_tolerance(graph, seed):
    sample = sample_of(graph, np.random.default_rng(seed))
    for name, verdict in judge(graph, sample, executed(graph, sample, seed)).items():
        assert verdict.agrees, f"{name}: {verdict}"


@pytest.mark.parametrize(
    ("kind", "target"), [(k, t) for k in NETWORKS for t in ("c", "tvm") if (k, t) != ("bytes", "tvm")]
)
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
        exact, room = graph_tolerance(graph, sample)["logits"]
        count = sum(isinstance(n.op, Const) and n.op.data.ndim == 2 for n in graph.nodes)
        for index in range(count):
            wrong = executed(planted(graph, index, 1e-3), sample, 0)["logits"]
            if np.abs(wrong - exact).max() > 1e-4 * np.abs(exact).max():
                assert not compare(exact, wrong, room).agrees, f"weights {index} of seed {seed}"
                caught += 1
    assert caught >= 15


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_what_overflows_must_be_infinite_and_leaves_the_others_alone(seed):
    random = np.random.default_rng(seed)
    x = graph_input("x", TensorType((6,), F32))
    graph = Graph([x], [mul(mul(x, x), FLOAT(1e30))], ["y"])
    sample = {"x": random.choice([1e3, -1e3, 1e10, -1e10, 700], 6).astype(FLOAT)}
    right, (reference, room) = executed(graph, sample, 0)["y"], graph_tolerance(graph, sample)["y"]
    assert compare(reference, right, room).agrees
    for i in range(6):
        for wrong in (np.nan, 12345.0, -np.inf, 1e36 if np.isinf(right[i]) else np.inf):
            changed = right.copy()
            changed[i] = wrong
            assert not compare(reference, changed, room).agrees, (right, changed)


@pytest.mark.parametrize("size", [28, 150, 224])
@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_the_mean_of_a_blank_image_may_be_added_up_one_by_one(size, value):
    """All roundings go the same way, and are as large as sqrt(n) of those of other images."""
    x = graph_input("x", TensorType((1, 2, size, size), F32))
    graph = Graph([x], [reduce_mean(x, axes=(2, 3), keepdims=False)], ["y"])
    sample = {"x": np.full(x.type.shape, value, FLOAT)}
    for order in range(2):
        assert judge(graph, sample, executed(graph, sample, order))["y"].agrees
    assert not judge(graph, sample, {"y": np.full((1, 2), value * 1.01, FLOAT)})["y"].agrees


def test_an_infinite_or_absent_number_that_rounding_decides_is_not_wrong():
    x = graph_input("x", TensorType((2, 2), F32))
    zero = dense(x, np.array([[1, 1]], FLOAT), np.array([-1], FLOAT))
    graph = Graph([x], [sqrt(zero), log(zero)], ["root", "log"])
    sample = {"x": np.array([[0.1, 0.9], [2, 2]], FLOAT)}
    for _, room in graph_tolerance(graph, sample).values():
        assert np.isnan(room[0])
        assert room[1] < 1e-5


def test_an_integer_that_rounding_decides_is_not_wrong_and_others_are():
    x = graph_input("x", TensorType((4, 3), F32))
    sums = dense(x, np.ones((1, 3), FLOAT), np.zeros(1, FLOAT))
    graph = Graph([x], [cast(sums, dtype=I32)], ["y"])
    sample = {"x": np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.6], [3, 4, 5.5], [-0.1, -0.2, -0.7]], FLOAT)}
    right, room = graph_tolerance(graph, sample)["y"]
    assert room[1] == room[2] == 0
    assert all(abs(room[i]) in (0, 1) for i in (0, 3)), "near 1 and -1 the last bit decides"
    changed = right + np.array([[0], [1], [0], [0]], np.int32)
    assert not judge(graph, sample, {"y": changed})["y"].agrees


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_small_elements_are_judged_beside_large_ones(seed):
    """Rows of a layer whose sizes lie far apart: a weight of the smallest is off by one per cent, or gone."""
    random = np.random.default_rng(seed)
    x = graph_input("x", TensorType((1, 32), F32))
    w = normal(random, 6, 32) * FLOAT(10.0) ** np.arange(-6, 6, 2, dtype=FLOAT)[:, None]
    bias = normal(random, 6) * np.abs(w).max(1)
    sample, k = sample_of(Graph([x], [x], ["x"]), random), int(random.integers(32))
    sample["x"][0, k] = 1.5
    graphs_ = [Graph([x], [dense(x, w * _at((0, k), by), bias)], ["y"]) for by in (1, 1.01, 0)]
    reference, room = graph_tolerance(graphs_[0], sample)["y"]
    moved = np.abs(w[0, k] * 1.5) * 0.01
    for i, other in enumerate(graphs_):
        verdict = compare(reference, run(other, sample)["y"], room)
        assert verdict.agrees == (i == 0) or moved < 1e-4 * np.abs(w[0]).max()
        assert i == 0 or verdict.first in (None, (0, 0))


def _at(index, by):
    factor = np.ones((6, 32), FLOAT)
    factor[index] = by
    return factor


@pytest.mark.parametrize("kind", ["convolutions", "bytes"])
def test_faults_of_single_weights_and_channels_are_found(kind):
    """A tap that is dropped, two channels that change places, a weight that is off by a tenth."""
    random = np.random.default_rng(5)
    graph = NETWORKS[kind](random)
    sample = sample_of(graph, random)
    allowed, found = graph_tolerance(graph, sample), 0
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.op, Const) or node.op.data.ndim < 2:
            continue
        data, largest = node.op.data, np.unravel_index(np.argmax(np.abs(node.op.data)), node.op.data.shape)
        faults = [data.copy() for _ in range(3)]
        faults[0][largest] = 0
        faults[1][[0, 1]] = faults[1][[1, 0]]
        faults[2][largest] *= FLOAT(1.1)
        for number, fault in enumerate(faults):
            wrong = graph.clone()
            list(wrong.nodes)[index].op = Const(fault)
            outputs = run(wrong, sample)
            right = allowed["logits"][0]
            if np.abs(outputs["logits"] - right).max() > 1e-4 * np.abs(right).max():  # else it hardly gets there
                verdicts = [compare(exact, outputs[name], room) for name, (exact, room) in allowed.items()]
                assert not all(v.agrees for v in verdicts), (node.describe(), number)
                found += 1
    assert found >= 8


def test_tolerances_are_the_same_every_time():
    random = np.random.default_rng(3)
    graph = transformer(random)
    sample = sample_of(graph, random)
    np.testing.assert_array_equal(graph_tolerance(graph, sample)["y"][1], graph_tolerance(graph, sample)["y"][1])


def test_a_sample_that_overflows_says_nothing_of_others():
    x = graph_input("x", TensorType((2,), F32))
    graph = Graph([x], [exp(x)], ["y"])
    first, second = batch_tolerance(graph, [{"x": np.array(v, np.float32)} for v in ([0, 1], [100, 0])])
    assert 0 < first["y"][1].max() < 1e-4
    assert np.isfinite(second["y"][1][1])
