"""Files that are broken or mean harm: the right error, naming the place and a fix, and never another exception."""

import contextlib
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, UnsupportedError, UsageError
from tests.support.hostile import array, model, node, refused, saved

RELU = helper.make_node("Relu", ["x"], ["y"], name="act")


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("m.onnx", b"", "empty"),
        ("m.onnx", b"<!DOCTYPE html><html></html>", "HTML"),
        ("m.onnx", b"\n  <html></html>", "HTML"),
        ("m.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("m.onnx", b"PK\x03\x04....", "zip"),
        ("m.pt", b"\x80\x02}q.", "pickle"),
        ("m.onnx", b"\x1c\0\0\0TFL3....", "TensorFlow Lite"),
        ("m.txt", b"hello", ".onnx"),
        ("m.onnx", b"hello", "protobuf"),
        ("m.onnx", b"\x08\x07", "no graph"),
    ],
)
def test_strange_files(tmp_path, name, content, word):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, ModelError, word, name)


def test_wrong_extension_of_a_good_model(tmp_path):
    path = saved(tmp_path, model([RELU])).rename(tmp_path / "model.tflite")
    refused(path, ModelError, "model.tflite", "rename")


def test_no_file_or_a_folder(tmp_path):
    refused(tmp_path / "none.onnx", UsageError, "none.onnx")
    refused(tmp_path, UsageError, "folder")


def test_every_truncation_is_noticed(tmp_path):
    weights = array("w", np.arange(6).reshape(3, 2))
    content = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")], initializers=[weights]
    ).SerializeToString()
    path = tmp_path / "model.onnx"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        refused(path, ModelError)


@given(st.binary(min_size=1, max_size=200))
def test_random_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        load(path)


@pytest.mark.parametrize("word", [b"Relu", b"act", b"x"])
def test_names_that_are_no_text(tmp_path, word):
    path = tmp_path / "model.onnx"
    path.write_bytes(model([RELU]).SerializeToString().replace(word, b"\xff" * len(word)))
    refused(path, ModelError, "UTF-8")


@given(st.data())
def test_flipped_bytes_never_give_another_exception(tmp_path_factory, data):
    content = bytearray(
        model(
            [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), helper.make_node("Relu", ["c"], ["y"])],
            {"x": [1, 2, 5, 5]},
            initializers=[array("w", np.ones((2, 2, 3, 3)))],
        ).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("flipped") / "model.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelError, UnsupportedError):  # it may also have stayed a good model
        load(path)


# ---- wiring


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"], "two"), node("Neg", ["b"], ["y"], "three")],
         ["cycle", "one", "two"]),
        ([node("Relu", ["nowhere"], ["y"], "act")], ["nowhere", "act"]),
        ([node("Relu", ["x"], ["y"], "one"), node("Neg", ["x"], ["y"], "two")], ["produced twice", "one", "two"]),
        ([node("Relu", ["x"], ["x"], "one")], ["produced twice", "'x'"]),
        ([node("Relu", ["x"], ["z"], "one")], ["output 'y'"]),
        ([node("Add", ["x"], ["y"], "plus")], ["plus", "operand 1 is missing"]),
        ([node("Split", ["x"], ["y", "y"], "parts")], ["parts"]),
        ([node("Transpose", ["x"], ["y"], "turn")], None),
    ],
)  # fmt: skip
def test_wiring(tmp_path, nodes, words):
    path = saved(tmp_path, model(nodes))
    if words is None:
        load(path)
    else:
        refused(path, ModelError, *words)


def test_nodes_in_any_order(tmp_path):
    graph = load(saved(tmp_path, model([node("Neg", ["a"], ["y"]), node("Relu", ["x"], ["a"])])))
    assert [n.op.name for n in graph.nodes if n.op.name != "const"] == ["clip", "mul"]


def test_ten_thousand_nodes_in_a_chain(tmp_path):
    names = ["x", *(f"v{i}" for i in range(9999)), "y"]
    chain = [node("Relu", [a], [b]) for a, b in pairwise(names)]
    assert len(load(saved(tmp_path, model(chain)))) == 10_000


def test_every_unsupported_node_at_once(tmp_path):
    nodes = [
        node("Det", ["x"], ["a"], "first"),
        node("Relu", ["a"], ["b"], "fine"),
        helper.make_node("Frobnicate", ["b"], ["c"], name="second", domain="acme"),
        helper.make_node("LeakyRelu", ["x"], ["d"], name="third", surprise=1),
        node("Scan", ["x"], ["e"], "fourth"),
        helper.make_node("Sum", ["c", "d", "e"], ["y"], name="sum"),
    ]
    path = saved(tmp_path, model(nodes))
    refused(
        path,
        UnsupportedError,
        "4 unsupported",
        "first",
        "second",
        "'acme'",
        "third",
        "surprise",
        "fourth",
        "loops",
    )


@pytest.mark.parametrize(
    ("op", "shapes", "kind"),
    [
        ("MatMul", ([2, 3], [4, 5]), ModelError),  # no product by anybody's rules
        ("Conv", ([1, 2, 5, 5], [4, 3, 3, 3]), ModelError),
        ("MaxPool", ([1, 1, 4, 4],), UnsupportedError),  # ONNX allows pads as large as the window
    ],
)
def test_who_is_to_blame(tmp_path, op, shapes, kind):
    names = ["x", "z"][: len(shapes)]
    attributes = {"kernel_shape": [2, 2], "pads": [2, 2, 2, 2]} if op == "MaxPool" else {}
    proto = model(
        [helper.make_node(op, names, ["y"], name="culprit", **attributes)], dict(zip(names, shapes, strict=True))
    )
    refused(saved(tmp_path, proto), kind, "culprit", op)


def test_what_no_output_needs_is_not_looked_at(tmp_path):
    assert len(load(saved(tmp_path, model([RELU, node("Det", ["x"], ["unused"])])))) == 1


# ---- tensors


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path, value):
    weights = array("layer.weight", [[1, 2, value], [0, 0, 0]])
    path = saved(tmp_path, model([node("Add", ["x", "layer.weight"], ["y"])], initializers=[weights]))
    refused(path, ModelError, "layer.weight", "[0, 2]", "finite")


def test_a_lone_infinity_is_a_bound(tmp_path):
    bounds = [array("lo", 0), array("hi", np.inf)]
    assert len(load(saved(tmp_path, model([node("Clip", ["x", "lo", "hi"], ["y"])], initializers=bounds)))) == 1


def test_a_mask_may_be_infinite(tmp_path):
    def added(mask):
        return saved(tmp_path, model([node("Add", ["x", "m"], ["y"])], initializers=[array("m", mask)]))

    assert len(load(added([[0, -np.inf, -np.inf], [0, 0, -np.inf]]))) == 2
    for mask in ([[0, -np.inf, np.inf], [0, 0, 0]], [[0, -np.inf, 1], [0, 0, 0]], [[0, -np.inf, np.nan], [0, 0, 0]]):
        refused(added(mask), ModelError, "'m'", "finite")


def test_raw_data_shorter_than_dims(tmp_path):
    weights = array("w", np.ones((2, 3)))
    weights.raw_data = weights.raw_data[:-1]
    refused(saved(tmp_path, model([node("Add", ["x", "w"], ["y"])], initializers=[weights])), ModelError, "'w'", "24")


def test_float_data_shorter_than_dims(tmp_path):
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], float_data=[1, 2])
    refused(saved(tmp_path, model([node("Add", ["x", "w"], ["y"])], initializers=[weights])), ModelError, "'w'")


@pytest.mark.parametrize("dims", [[2**31, 2**31], [2**40], [-1, 3], [2**62, 2**62, 2**62], [1] * 40])
def test_dims_of_weights(tmp_path, dims):
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")
    refused(saved(tmp_path, model([node("Add", ["x", "w"], ["y"])], initializers=[weights])), ModelError, "'w'")


@pytest.mark.parametrize("dims", [[2**31, 2**31], [-2, 3]])
def test_dims_of_inputs(tmp_path, dims):
    refused(saved(tmp_path, model([RELU], {"x": dims})), ModelError, "'x'")


def test_small_files_that_ask_for_much_memory(tmp_path):
    shape = array("shape", [2**20, 2**20], np.int64)
    bomb = [node("ConstantOfShape", ["shape"], ["big"], "bomb"), node("ReduceSum", ["big"], ["y"])]
    refused(saved(tmp_path, model(bomb, initializers=[shape])), ModelError, "'big'", "too large")
    pads = array("pads", [0, 0, 2**30, 2**30], np.int64)
    refused(saved(tmp_path, model([node("Pad", ["x", "pads"], ["y"])], initializers=[pads])), ModelError, "too large")


def test_duplicate_initializers_and_inputs(tmp_path):
    twice = [array("w", [1.0]), array("w", [2.0])]
    refused(saved(tmp_path, model([RELU], initializers=twice)), ModelError, "2 initializers", "'w'")
    proto = model([RELU])
    proto.graph.input.append(proto.graph.input[0])
    refused(saved(tmp_path, proto), ModelError, "2 inputs", "'x'")


@pytest.mark.parametrize(
    "name", ["*/ system(1); /*", "int", "a\nb", "\u202egnp", "../../etc/passwd", "x" * 5000, "\x1b[31m", "a.b", "a/b"]
)
def test_hostile_names_are_data(tmp_path, name):
    graph = load(saved(tmp_path, model([node("Relu", [name], ["y"], name)], {name: [2]})))
    assert graph.input_names == [name]
    assert next(iter(graph.nodes)).loc.names == (name,)
    refused(saved(tmp_path, model([node("Det", [name], ["y"], name)], {name: [2]})), UnsupportedError, "Det")


# ---- operator sets, dims, bind


def test_operator_sets(tmp_path):
    refused(saved(tmp_path, model([RELU], opset=0)), UnsupportedError, "operator set 0")
    refused(saved(tmp_path, model([RELU], opset=9999)), UnsupportedError, "operator set 9999")
    proto = model([RELU])
    proto.opset_import[0].domain = "acme"
    refused(saved(tmp_path, proto), ModelError, "version")


def test_dims_and_binds_are_checked(tmp_path):
    path = saved(tmp_path, model([RELU], {"x": ["N", None]}))
    notes = []
    assert str(load(path, notes=notes).inputs[0].type) == "f32[N,x_1]"
    assert ["x_1" in n for n in notes] == [True]
    assert str(load(path, dims={"N": 2, "x_1": 3}).outputs[0].type) == "f32[2,3]"
    refused(path, UsageError, "'M'", "N, x_1", dims={"M": 1})
    refused(path, UsageError, "0", dims={"N": 0})
    refused(path, UsageError, "'z'", bind={"z": np.zeros(1)})
    refused(path, UsageError, "f64[3]", bind={"x": np.zeros(3)})
    bound = load(path, bind={"x": np.array([[-1.0, 2.0]])})
    assert bound.inputs == []
    assert bound.outputs[0].const.tolist() == [[0.0, 2.0]]


# ---- what adapters must not fail on


def constant(name, value):
    return onnx.numpy_helper.from_array(np.asarray(value), name)


F = np.float32


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "words"),
    [
        ("Range", [F(0), F(np.inf), F(1)], {}, ["no numbers"]),
        ("Range", [F(0), F(1), F(-np.inf)], {}, ["no numbers"]),
        ("Range", [F(0), F(1), np.int64(1)], {}, ["int64"]),
        ("Range", [F(0), F(3e38), F(1e-38)], {}, ["too large"]),
        ("Range", [np.int64(-(2**63)), np.int64(2**63 - 1), np.int64(1)], {}, ["too large"]),
        ("ConstantOfShape", [np.array([2])], {"value": [1.0, 2.0]}, ["single number", "f32[2]"]),
        ("ConstantOfShape", [np.array([2])], {"value": []}, ["single number"]),
        ("Clip", ["x", np.zeros(2, F), F(1)], {}, ["single number", "f32[2]"]),
        ("Clip", ["x", F(0), np.zeros(0, F)], {}, ["single number"]),
        ("Pad", ["x", np.array([0, 0, 1, 1]), np.zeros(2, F)], {}, ["single number"]),
        ("GatherElements", [F(1), np.int64(0)], {}, ["rank 0"]),
        ("Gather", ["x", np.array([1.0])], {}, ["integers"]),
        ("GatherElements", [np.ones(3, F), np.array([1.0])], {}, ["integers"]),
        ("Gather", [F(1), np.int64(0)], {}, ["rank 0"]),
        ("Slice", ["x", np.zeros(1), np.zeros(1)], {}, ["integers"]),
        ("LayerNormalization", ["x", np.ones(4, F)], {}, ["broadcast"]),
        ("ConvTranspose", [np.ones((1, 2, 3, 3), F), np.ones((2, 1, 2, 2), F)], {"group": -1}, ["group"]),
        ("ConvTranspose", [np.ones((1, 2, 3, 3), F), np.ones((2, 1, 2, 2), F)], {"group": 2**62}, ["too large"]),
        ("Split", ["x"], {"num_outputs": 2**62}, ["num_outputs"]),
    ],
)
def test_operands_that_the_specification_forbids(tmp_path, op, operands, attributes, words):
    """A mistake in the model is an error about this node, and no mistake of an adapter."""
    if "value" in attributes:
        attributes = {"value": array("v", attributes["value"])}
    names = [o if isinstance(o, str) else f"c{i}" for i, o in enumerate(operands)]
    constants = [constant(n, o) for n, o in zip(names, operands, strict=True) if not isinstance(o, str)]
    culprit = helper.make_node(op, names, ["y"], name="culprit", **attributes)
    refused(saved(tmp_path, model([culprit], initializers=constants, opset=18)), ModelError, "culprit", *words)


def test_an_attribute_that_is_given_twice(tmp_path):
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"], name="culprit", alpha=0.1)
    leaky.attribute.append(helper.make_attribute("alpha", 0.2))
    refused(saved(tmp_path, model([leaky])), ModelError, "culprit", "alpha", "2 times")


def test_a_mistake_in_an_adapter_is_an_error_about_the_node(tmp_path, monkeypatch):
    from planish.frontends.onnx import adapters

    def broken(node):
        raise ZeroDivisionError("\x1b[2J")

    monkeypatch.setitem(adapters.ADAPTERS, ("", "Relu"), broken)
    path = saved(tmp_path, model([RELU, node("Det", ["x"], ["z"], "other")], outputs=("y", "z")))
    with pytest.raises(UnsupportedError, match="2 unsupported") as caught:
        load(path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    ours, other = caught.value.details
    assert "Relu 'act' (f32[2,3])" in ours
    assert "please report it" in ours
    assert "Det 'other'" in other


# ---- small files that ask for much


def ints(*values):
    return np.array(values, np.int64)


BOMBS = {
    "range": [("Range", [np.int64(0), np.int64(2**28), np.int64(1)], {})],
    "range of floats": [("Range", [F(0), F(2**25), F(1)], {})],
    "reversed": [
        ("Expand", [F(1), ints(2**25)], {}),
        ("Slice", [..., ints(-1), ints(-(2**62)), ints(0), ints(-1)], {}),
    ],
    "mirrored": [("Expand", [F(1), ints(2**25)], {}), ("Pad", [..., ints(1, 1)], {"mode": "reflect"})],
    "parts": [
        ("Expand", [F(1), ints(2**25)], {}),
        ("SplitToSequence", [...], {}),
        ("SequenceAt", [..., np.int64(0)], {}),
    ],
    "doubled": [("ConstantOfShape", [ints(2**11)], {}), *[("Concat", [..., ...], {"axis": 0})] * 17],
    "tiled": [("ConstantOfShape", [ints(2**11)], {}), *[("Tile", [..., ints(2)], {})] * 17],
    "one hot": [("OneHot", [ints(0, 1), np.int64(2**25), np.array([0, 1], F)], {})],
    "unit matrix": [("ConstantOfShape", [ints(2**13, 2**13)], {}), ("EyeLike", [...], {})],
    "window": [("HannWindow", [np.int64(2**28)], {})],
    "normalized": [("Expand", [F(1), ints(2, 2**27)], {}), ("LayerNormalization", [..., F(1)], {})],
    "resized": [("Resize", [np.ones((1, 1, 4, 4), F), None, None, ints(1, 1, 2**12, 2**13)], {"mode": "linear"})],
    "filled": [("ConstantOfShape", [ints(2**13, 2**12)], {}), ("Relu", [...], {}), ("Transpose", [...], {})],
    "many": [("ConstantOfShape", [ints(2**17)], {}), *[("Sqrt", [...], {})] * 400],
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_constants_that_a_small_file_asks_for(tmp_path, bomb):
    """They are refused, or stay what computes them: not a hundred megabytes are held."""
    import tracemalloc

    nodes, constants = [], []
    for k, (op, operands, attributes) in enumerate(BOMBS[bomb]):
        names = []
        for i, operand in enumerate(operands):
            names.append("" if operand is None else f"t{k}" if operand is ... else f"c{k}_{i}")
            if operand is not None and operand is not ...:
                constants.append(constant(names[-1], operand))
        nodes.append(helper.make_node(op, names, [f"t{k + 1}"], **attributes))
    last = helper.make_node("ReduceMax", [nodes[-1].output[0]], ["m"], keepdims=0)
    path = saved(tmp_path, model([*nodes, last, node("Add", ["x", "m"], ["y"])], initializers=constants))
    with contextlib.suppress(UnsupportedError):
        load(path)  # imports what it needs
    tracemalloc.start()
    try:
        with contextlib.suppress(UnsupportedError):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
