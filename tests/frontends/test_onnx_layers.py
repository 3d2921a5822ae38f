"""Adapters of layers, comparisons and sequences against ONNX Runtime, and arithmetic on constants."""

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper

from planish.frontends.onnx import load
from planish.ir.errors import UnsupportedError
from planish.ir.evaluate import evaluate
from tests.support.operators import check, one_node, real, small


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("operators") / "model.onnx"


@given(st.data())
def test_layer_normalization(path, data):
    draw = data.draw
    x = real(draw, tuple(draw(small) for _ in range(draw(st.integers(1, 4)))))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    columns = x.shape[axis:]
    scale, shift = real(draw, columns), draw(st.sampled_from([None, real(draw, columns)]))
    constants = {"s": scale} if shift is None else {"s": scale, "b": shift}
    model = one_node("LayerNormalization", {"x": x}, constants, axis=axis, epsilon=draw(st.sampled_from([None, 0.1])))
    assume(check(path, model, {"x": x}, terms=40))


@pytest.mark.parametrize("kind", ["instance", "group of 18", "group of 21"])
@given(data=st.data())
def test_normalization_of_images(path, kind, data):
    draw = data.draw
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 2)) if kind != "instance" else 1
    x = real(draw, (draw(small), groups * each, *(draw(st.integers(2, 4)) for _ in range(draw(st.integers(1, 2))))))
    # ONNX Runtime subtracts the squared mean from the mean of squares: of nearly equal pixels little is left.
    assume(x.reshape(len(x), groups, -1).var(-1).min(initial=1) > 0.01)
    vectors = {name: real(draw, (groups if kind == "group of 18" else groups * each,)) for name in ("s", "b")}
    if draw(st.booleans()):
        vectors = {"s": np.ones_like(vectors["s"]), "b": np.zeros_like(vectors["b"])}
    op = "InstanceNormalization" if kind == "instance" else "GroupNormalization"
    model = one_node(
        op, {"x": x}, vectors, 21 if kind == "group of 21" else 18, epsilon=draw(st.sampled_from([None, 0.1])),
        num_groups=None if kind == "instance" else groups,
    )  # fmt: skip
    assume(check(path, model, {"x": x}, terms=60))


@given(st.data())
def test_local_response_normalization(path, data):
    draw = data.draw
    x = real(draw, (draw(small), draw(st.integers(1, 6)), draw(small), draw(small)))
    model = one_node(
        "LRN", {"x": x}, size=draw(st.sampled_from([1, 3, 5])), alpha=draw(st.sampled_from([None, 0.5])),
        beta=draw(st.sampled_from([None, 0.5])), bias=draw(st.sampled_from([None, 2.0])),
    )  # fmt: skip
    assume(check(path, model, {"x": x}, terms=20))


@pytest.mark.parametrize(("operator", "gates", "states"), [("LSTM", 4, "hc"), ("GRU", 3, "h"), ("RNN", 1, "h")])
@given(st.data())
def test_recurrent(path, operator, gates, states, data):
    draw = data.draw
    steps, batch, inputs, hidden = (draw(small) for _ in range(4))
    mode = draw(st.sampled_from([None, "forward", "reverse", "bidirectional"]))
    d, rows = 2 if mode == "bidirectional" else 1, gates * hidden
    x, w, r = (real(draw, s) for s in ((steps, batch, inputs), (d, rows, inputs), (d, rows, hidden)))
    constants = {
        "w": w, "r": r, "b": draw(st.sampled_from([None, real(draw, (d, 2 * rows))])),
        "lengths": draw(st.sampled_from([None, np.full(batch, steps, np.int32)])),
        **{state: draw(st.sampled_from([None, real(draw, (d, batch, hidden))])) for state in states},
    }  # fmt: skip
    attributes = {"linear_before_reset": draw(st.sampled_from([None, 0, 1]))} if operator == "GRU" else {}
    if operator == "RNN":
        attributes["activations"] = draw(st.sampled_from([None, ["Tanh"] * d, ["Relu"] * d]))
    attributes |= {"outputs": 1 + len(states), "hidden_size": hidden, "direction": mode}
    model = one_node(operator, {"x": x}, constants, **attributes)
    # Errors of a step pass into the next ones, times the recurrent weights.
    assume(check(path, model, {"x": x}, terms=50 * (inputs + hidden) * steps))


@given(st.data(), st.sampled_from(["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]))
def test_comparisons_and_where(path, data, op):
    x, y = (np.rint(real(data.draw, (3, 4))) for _ in range(2))
    assume(check(path, one_node(op, {"x": x, "y": y}), {"x": x, "y": y}, terms=0))
    chosen = {"c": x > 0, "x": x, "y": y[:1]}
    assert check(path, one_node("Where", chosen), chosen, terms=0)
    truth = {"a": x > 0, "b": y > 0}
    for name in ("And", "Or"):
        assert check(path, one_node(name, truth), truth, terms=0)
    assert check(path, one_node("Not", {"a": x > 0}), {"a": x > 0}, terms=0)


@given(st.data(), st.sampled_from([np.int64, np.int32]))
def test_gather_with_computed_indices(path, data, dtype):
    x = real(data.draw, (3, 4, 2))
    axis = data.draw(st.integers(-3, 2))
    size = x.shape[axis]
    shape = data.draw(st.sampled_from([(), (3,), (2, 2)]))
    indices = np.array(data.draw(st.lists(st.integers(-size, size - 1), min_size=4, max_size=4)))
    given_ = {"x": x, "i": np.resize(indices, shape).astype(dtype)}
    assert check(path, one_node("Gather", given_, axis=axis), given_, terms=0)


@pytest.mark.parametrize("approximate", [None, "none", "tanh"])
def test_gelu(path, approximate):
    x = np.linspace(-6, 6, 97, dtype=np.float32)
    assert check(path, one_node("Gelu", {"x": x}, version=20, approximate=approximate), {"x": x}, terms=4)


def sequence_model(shape, sizes, position, **attributes):
    """SplitToSequence, then SequenceAt."""
    constants = [onnx.numpy_helper.from_array(np.array(position, np.int64), "at")]
    constants += [] if sizes is None else [onnx.numpy_helper.from_array(np.array(sizes, np.int64), "sizes")]
    graph = helper.make_graph(
        [
            helper.make_node("SplitToSequence", ["x"] + ["sizes"] * (sizes is not None), ["parts"], **attributes),
            helper.make_node("SequenceAt", ["parts", "at"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("sizes", [None, 2, 5, [1, 3], [4]])
@pytest.mark.parametrize("position", [0, -1])
def test_part_of_a_sequence(path, sizes, position):
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    model = sequence_model(x.shape, sizes, position, axis=1, keepdims=1)
    assert check(path, model, {"x": x}, terms=0)


def test_a_sequence_is_no_tensor(path):
    model = sequence_model((2, 4), 2, 0, axis=1)
    model.graph.node[1].op_type = "Relu"
    del model.graph.node[1].input[1:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UnsupportedError, match="sequence"):
        load(path)


def folded(path, op, *operands, **attributes):
    """What becomes of an operator on constants alone."""
    constants = {f"c{i}": np.asarray(a) for i, a in enumerate(operands)}
    path.write_bytes(one_node(op, {}, constants, **attributes).SerializeToString())
    (result,) = evaluate(load(path), [])
    return result


def test_arithmetic_on_constants(path):
    a, b = np.array([7, -7, 7, -7]), np.array([3, 3, -3, -3])
    assert folded(path, "Mod", a, b).tolist() == [1, 2, -2, -1]
    assert folded(path, "Mod", a, b, fmod=1).tolist() == [1, -1, 1, -1]
    assert folded(path, "Range", 2, 9, 3).tolist() == [2, 5, 8]
    assert folded(path, "Range", np.float32(1), np.float32(0), np.float32(-0.4)).tolist() == pytest.approx(
        [1, 0.6, 0.2]
    )
    assert folded(path, "ReduceProd", a.reshape(2, 2), axes=[1], keepdims=0).tolist() == [-49, -49]
    assert folded(path, "ReduceProd", a, keepdims=0) == 7**4
    assert folded(path, "CastLike", a, np.float32(0)).dtype == np.float32
