"""What is too large to be evaluated is refused in words; what is large is evaluated in parts."""

import numpy as np
import pytest

from planish.ir import evaluate as evaluation
from planish.ir.errors import UnsupportedError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, graph_input
from planish.ir.ops import conv
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, maximum, mul, sub
from planish.ir.ops.logic import less
from planish.ir.ops.pool import avg_pool2d, max_pool2d
from planish.ir.ops.shape import pad
from planish.ir.types import F16, F32, I8, TensorType
from planish.passes.base import Context
from planish.passes.decompose import Decompose
from planish.passes.pipeline import run_pipeline

FAR, WIDE = 1 << 24, 1 << 14
HERE = Loc(("the layer",))


def image(*shape, dtype=F32):
    return graph_input("x", TensorType(shape or (1, 1, 8, 8), dtype))


def run(x, result):
    zeros = np.zeros(x.type.shape, x.type.dtype.numpy)
    return evaluate(Graph([x], [result], ["y"]), [zeros])


@pytest.mark.parametrize(
    "layer",
    [
        lambda x: conv2d(x, np.ones((1, 1, 3, 3), np.float32), np.zeros(1, np.float32), dilations=(FAR, FAR),
                         pads=(FAR,) * 4, loc=HERE),
        lambda x: conv2d(x, np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32), pads=(WIDE * 2,) * 4, loc=HERE),
        lambda x: max_pool2d(x, window=(5793, 5793), pads=(5792,) * 4, loc=HERE),
        lambda x: avg_pool2d(x, window=(1 << 20, 1), pads=((1 << 20) - 1, 0) * 2, count_pads=True, loc=HERE),
    ],
)  # fmt: skip
def test_windows_beyond_reach_are_refused_at_once(layer):
    x = image()
    with pytest.raises(UnsupportedError, match="is too much to be evaluated") as caught:
        run(x, layer(x))
    assert "the layer" in caught.value.where


def test_memory_that_is_not_there_is_told_with_the_node():
    x = image(1, 8)
    with pytest.raises(UnsupportedError, match="not enough memory") as caught:
        run(x, pad(x, before=(0, 0), after=(0, 1 << 60), value=0.0, loc=HERE))
    assert "the layer" in caught.value.where


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [F32, I8])
def test_convolutions_in_parts_are_the_same(groups, dtype, monkeypatch):
    random, x = np.random.default_rng(0), image(2, 4, 9, 7, dtype=dtype)
    draw = lambda *shape: random.integers(-9, 9, shape).astype(dtype.numpy)  # noqa: E731
    bias = np.arange(6, dtype=np.float32 if dtype == F32 else np.int32)
    layer = conv2d(x, draw(6, 4 // groups, 3, 2), bias, pads=(1, 0, 2, 1), strides=(2, 1), groups=groups)
    graph, value = Graph([x], [layer], ["y"]), draw(2, 4, 9, 7)
    whole = evaluate(graph, [value])
    for elements in (1, 24 * 5, 24 * 40):
        monkeypatch.setattr(conv, "COLUMNS", elements)
        assert np.array_equal(evaluate(graph, [value])[0], whole[0])


@pytest.mark.parametrize("dtype", [F32, F16, I8])
def test_elementwise_ops_in_parts_are_the_same(dtype, monkeypatch):
    random, x = np.random.default_rng(0), image(3, 5, 7, dtype=dtype)
    draw = lambda *shape: random.integers(-9, 9, shape).astype(dtype.numpy)  # noqa: E731
    value = mul(add(x, draw(3, 5, 7)), draw(5, 7))
    results = [less(value, draw(1)), sub(draw(1, 1, 1), value), add(maximum(value, draw()), x)]
    graph, given = Graph([x], results, ["a", "b", "c"]), draw(3, 5, 7)
    whole = evaluate(graph, [given])
    for elements in (1, 10, 104):
        monkeypatch.setattr(evaluation, "PART", elements)
        for expected, y in zip(whole, evaluate(graph, [given]), strict=True):
            assert expected.shape == y.shape
            assert expected.dtype == y.dtype
            assert expected.tobytes() == y.tobytes()


def test_a_pass_without_memory_is_no_bug_of_the_pass(monkeypatch):
    def run(self, graph, context):
        raise MemoryError

    monkeypatch.setattr(Decompose, "run", run)
    x = image()
    with pytest.raises(UnsupportedError, match="not enough memory for pass decompose"):
        run_pipeline(Graph([x], [x], ["y"]), "decompose", Context())
