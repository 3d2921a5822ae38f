"""Operators that the importer composes of several ops are one operator again; nothing is stored twice."""

import hypothesis
import numpy as np
import onnx
import pytest
from onnx import helper

from planish.ir.errors import UnsupportedError
from planish.testing.models import drawn_model
from tests.support.sizes import kinds, model, require_no_growth, require_same, smaller

RANDOM = np.random.default_rng(1)
#: What a shape takes, or axes, that the source does not say: the name of a tensor, its dimensions, a number.
UNSAID = 48
SEEDS = range(2 * hypothesis.settings().max_examples)


def test_an_operator_that_is_drawn_stays_one(tmp_path):
    """Whatever its attributes, ranks, types and operator set."""
    written = 0
    for seed in SEEDS:
        source = drawn_model(seed, most=1).proto
        try:
            made = smaller(source, tmp_path)
        except UnsupportedError:
            continue
        written += 1
        assert len(kinds(made)) <= len(kinds(source)) == 1, (seed, kinds(source), kinds(made))
        assert made.ByteSize() <= 1.05 * source.ByteSize() + UNSAID, (seed, source, made)
    assert written > len(SEEDS) / 2


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def several(count, kind, *operands, **attributes):
    """An operator with so many results, y0 and on."""
    return helper.make_node(kind, operands, [f"y{i}" for i in range(count)], **attributes)


def node(kind, operands, result, **attributes):
    return helper.make_node(kind, operands.split(), [result], **attributes)


STATISTICS = [(name, RANDOM.uniform(0.5, 2, 8).astype(np.float32)) for name in "stmv"]
PIXELS, GROUPS = [1, 8, 5, 5], [("groups", np.array([0, 2, -1])), ("image", np.array([1, 8, 5, 5]))]
CONV = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
#: Networks: how many nodes are left, nodes, shapes of inputs x and z, of outputs y, constants, operator set.
NETWORKS = {
    "instance, old": (
        1, [node("InstanceNormalization", "x k t", "y")], [PIXELS], [PIXELS], [("k", normal(8)), ("t", normal(8))], 9,
    ),
    "instance": (
        1, [node("InstanceNormalization", "x k t", "y")], [PIXELS], [PIXELS], [("k", normal(8)), ("t", normal(8))], 18,
    ),
    "instances of a signal": (
        1, [node("InstanceNormalization", "x k t", "y", epsilon=0.25)], [[2, 3, 7]], [[2, 3, 7]],
        [("k", normal(3)), ("t", normal(3))], 18,
    ),
    "groups": (
        5,
        [node("Conv", "x w", "c", **CONV), node("Reshape", "c groups", "g"),
         node("InstanceNormalization", "g k t", "n"), node("Reshape", "n image", "i"),
         node("Mul", "i f", "p"), node("Add", "p h", "y")],
        [PIXELS], [PIXELS],
        [*GROUPS, ("w", normal(8, 8, 3, 3)), ("k", np.ones(2, np.float32)), ("t", np.zeros(2, np.float32)),
         ("f", normal(8, 1, 1)), ("h", normal(8, 1, 1))], 13,
    ),
    "tiles": (1, [node("Tile", "x r", "y")], [[2, 1, 3]], [[2, 4, 9]], [("r", np.array([1, 4, 3]))], 13),
    "a token": (1, [node("Gather", "x i", "y", axis=1)], [[2, 5, 7]], [[2, 7]], [("i", np.array(3))], 13),
    "tokens": (
        1, [node("Gather", "x i", "y", axis=1)], [[2, 5, 7]], [[2, 2, 3, 7]],
        [("i", np.array([[0, 4, 1], [2, 2, 3]]))], 13,
    ),
    "scaled product": (1, [node("Gemm", "x z", "y", alpha=0.5)], [[3, 5], [5, 4]], [[3, 4]], [], 13),
    "least of three": (1, [node("Min", "x z c", "y")], [[3, 5], [5]], [[3, 5]], [("c", np.float32(0.5))], 13),
    "two ways to split": (
        3,
        [node("Relu", "x", "r"), several(2, "Split", "r", "a", axis=1),
         helper.make_node("Split", ["r", "b"], ["y2", "y3"], axis=1)],
        [[2, 9]], [[2, 4], [2, 5], [2, 6], [2, 3]], [("a", np.array([4, 5])), ("b", np.array([6, 3]))], 13,
    ),
    "weights of two layers": (
        5,
        [node("Conv", "x w", "a", **CONV), node("Mul", "a k1", "p"), node("Conv", "z w", "b", **CONV),
         node("Mul", "b k2", "q"), node("Add", "p q", "y")],
        [PIXELS, PIXELS], [PIXELS], [("w", normal(8, 8, 3, 3)), ("k1", np.float32(0.3)), ("k2", np.float32(1.7))], 13,
    ),
    "layers of twins": (
        3,
        [node("Conv", "x w", "a", **CONV), node("BatchNormalization", "a s t m v", "p"),
         node("Conv", "z w", "b", **CONV), node("BatchNormalization", "b s t m v", "q"), node("Sub", "p q", "y")],
        [PIXELS, PIXELS], [PIXELS], [("w", normal(8, 8, 3, 3)), *STATISTICS], 15,
    ),
    "mean of a signal": (1, [node("AveragePool", "x", "y", kernel_shape=[6])], [[1, 4, 6]], [[1, 4, 1]], [], 13),
    "a table of sums": (
        2, [node("Add", "x r", "a"), node("Add", "a c", "y")], [[64, 64]], [[64, 64]],
        [("r", normal(1, 64)), ("c", normal(64, 1))], 13,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_one_operator_is_one_and_no_constant_is_stored_twice(name, tmp_path):
    count, nodes, inputs, outputs, constants, opset = NETWORKS[name]
    names = ["y"] if len(outputs) == 1 else [f"y{i}" for i in range(len(outputs))]
    source = model(
        nodes, list(zip("xz", inputs, strict=False)), list(zip(names, outputs, strict=True)), constants, opset
    )
    made = smaller(source, tmp_path)
    assert len(kinds(made)) == count, kinds(made)
    require_no_growth(source, made, UNSAID)
    require_same(source, made, tmp_path)


def test_booleans_that_differ_are_one_xor(tmp_path):
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.BOOL, [3]) for n in "xzy"]
    graph = helper.make_graph([node("Xor", "x z", "y")], "g", ends[:2], ends[2:])
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert kinds(smaller(source, tmp_path)) == ["Xor"]
