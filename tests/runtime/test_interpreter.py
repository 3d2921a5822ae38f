"""Running graphs by name, and what is said about inputs that do not fit."""

import numpy as np
import pytest

from planish.ir.errors import UsageError
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.shape import reshape
from planish.ir.types import F32, Sym, TensorType
from planish.runtime.interpreter import run, run_batch


def two_inputs():
    n = Sym("N")
    x, y = graph_input("x", TensorType((n, 3), F32)), graph_input("y", TensorType((n * 2, 3), F32))
    return Graph([x, y], [relu(x), reshape(y, shape=(n, 6))], ["a", "b"])


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def test_a_symbol_takes_any_size():
    for n in (1, 4):
        out = run(two_inputs(), {"x": -ones(n, 3), "y": ones(2 * n, 3)})
        assert out["a"].tolist() == np.zeros((n, 3)).tolist()
        assert out["b"].shape == (n, 6)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": ones(1, 3)}, ["input 'y' is missing", "x: f32[N,3], y: f32[2*N,3]"]),
        ({"x": ones(1, 3), "y": ones(2, 3), "z": ones(1)}, ["no input 'z'"]),
        ({"x": ones(1, 3, dtype=np.float64), "y": ones(2, 3)}, ["float64, expected float32", "astype('float32')"]),
        ({"x": ones(1, 4), "y": ones(2, 3)}, ["shape [1, 4], expected f32[N,3]", "input 'x'"]),
        ({"x": ones(3), "y": ones(2, 3)}, ["shape [3]"]),
        ({"x": ones(2, 3), "y": ones(2, 3)}, ["expected f32[2*N,3], with N = 2", "input 'y'"]),
        ({"x": ones(1, 3), "y": ones(3, 3)}, ["expected f32[2*N,3]"]),
    ],
)
def test_inputs_that_do_not_fit(inputs, words):
    with pytest.raises(UsageError) as error:
        run(two_inputs(), inputs)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_batch_is_its_samples():
    x = graph_input("x", TensorType((1, 2), F32))
    graph = Graph([x], [add(x, np.float32(1)), relu(x)], ["a", "b"])
    samples = np.random.default_rng(0).normal(size=(5, 1, 2)).astype(np.float32)
    stacked = run_batch(graph, {"x": samples})
    for i in range(5):
        one = run(graph, {"x": samples[i]})
        assert {k: v[i].tobytes() for k, v in stacked.items()} == {k: v.tobytes() for k, v in one.items()}


@pytest.mark.parametrize(
    "samples", [{"x": ones(2, 1, 3), "y": ones(3, 2, 3)}, {"x": ones(0, 1, 3), "y": ones(0, 2, 3)}]
)
def test_batches_have_samples_and_as_many_of_each_input(samples):
    with pytest.raises(UsageError, match="sample"):
        run_batch(two_inputs(), samples)


def test_the_listener_sees_each_node_once():
    seen = []
    run(two_inputs(), {"x": ones(1, 3), "y": ones(2, 3)}, lambda node, results: seen.append(node.op.name))
    assert seen == ["clip", "reshape"]
