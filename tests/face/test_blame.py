"""Blame names the layer that is at fault, and what it predicts is what one gets."""

import re
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import planish as api
from planish.backends.lowering import INTEGERS
from planish.debugging.blame import subject_of
from planish.debugging.noise import layer_noise, matched_names
from planish.debugging.sources import Request
from planish.driver import INT8
from planish.ir.builder import const_value
from planish.ir.text import save
from planish.registry import target_named

LAYERS = [
    "/stem/stem.0/Conv",
    "/down/depthwise/depthwise.0/Conv",
    "/residual/pointwise/pointwise.0/Conv",
    "/dense/Gemm",
]


@pytest.fixture(scope="module")
def reference(digits):
    return api.load(digits / "dscnn.onnx", dims={"N": 1})


@pytest.fixture(scope="module")
def quantized(reference, digits):
    return api.optimize(reference, f"{INT8},{INTEGERS}", calibration=api.data(digits / "calib.npz"))


@pytest.fixture(scope="module")
def samples(reference, digits):
    return list(api.data(digits / "eval.npz").of(reference, 3))


def corrupted(graph, source):
    """A copy in which the first two channels of one layer's weights have the wrong sign."""
    copy = graph.clone()
    node = next(n for n in copy.nodes if source in n.loc.names and n.op.name in ("conv2d", "dense"))
    weights = node.operands[1].const.copy()
    weights[:2] = -weights[:2]
    old, new = node.operands[1], const_value(weights)
    copy.adopt(new, before=node)
    copy.set_operand(node, 1, new)
    copy.prune_from([old.producer])
    return copy


def blamed(layers):
    return min(layers, key=lambda layer: layer.own_sqnr_db)


def test_dead_channels_stay_for_comparison(reference, digits, tmp_path):
    """Layers that lost channels would not find their counterparts; no bit depends on it."""
    graph = api.optimize(reference, "simplify,fuse")
    node = next(n for n in graph.nodes if n.op.name == "conv2d")
    w, b = (node.operands[i].const.copy() for i in (1, 2))
    w[0], b[0] = 0, -5
    for i, array in ((1, w), (2, b)):
        value = const_value(array)
        graph.adopt(value, before=node)
        graph.set_operand(node, i, value)
    save(graph, tmp_path / "model.planish")
    calib = str(digits / "calib.npz")
    request = Request(tmp_path / "model.planish", quantize="int8", calib=calib)
    tested = subject_of(request, None, calib, 3).tested
    whole, thin = (
        api.optimize(graph, f"{INT8},{folded}", calibration=api.data(calib))
        for folded in (INTEGERS.removesuffix(",dead-channels"), INTEGERS)
    )
    assert matched_names(graph, tested) == matched_names(graph, whole)
    assert matched_names(graph, tested)[0] > matched_names(graph, thin)[0]


def test_a_graph_is_equal_to_itself(reference, samples):
    layers = layer_noise(reference, reference.clone(), samples)
    assert len(layers) == matched_names(reference, reference)[1] == 18
    assert {(x.sqnr_db, x.own_sqnr_db, x.max_error) for x in layers} == {(float("inf"), float("inf"), 0.0)}


@pytest.mark.parametrize("source", LAYERS)
def test_the_layer_with_corrupted_weights_is_found(reference, quantized, samples, source):
    healthy = layer_noise(reference, quantized, samples)
    layers = layer_noise(reference, corrupted(quantized, source), samples)
    guilty = blamed(layers)
    at = layers.index(guilty)
    assert source in guilty.node.loc.names
    assert guilty.own_sqnr_db < healthy[at].own_sqnr_db - 10
    assert min(layers, key=lambda layer: layer.effect_db) is guilty
    others = [(a, b) for a, b in zip(layers, healthy, strict=True) if a is not guilty]
    assert [a.own_sqnr_db for a, _ in others] == [b.own_sqnr_db for _, b in others]  # given exact inputs, as ever
    assert [x.sqnr_db for x in layers[:at]] == [x.sqnr_db for x in healthy[:at]]


@pytest.mark.parametrize("source", LAYERS)
def test_the_effect_of_the_only_noise_is_all_noise_there_is(reference, samples, source):
    layers = layer_noise(reference, corrupted(reference, source), samples)
    (noisy,) = [x for x in layers if x.own_sqnr_db < np.inf]
    assert source in noisy.node.loc.names
    assert noisy.effect_db == pytest.approx(layers[-1].sqnr_db, abs=1e-3)
    assert [x.effect_db for x in layers if x is not noisy] == [np.inf] * (len(layers) - 1)


@pytest.mark.parametrize("source", LAYERS[:3])
def test_the_layout_does_not_hide_it(reference, quantized, samples, source):
    target = target_named("cortex-m4")
    lowered = api.optimize(corrupted(quantized, source), target.lowering, target="cortex-m4")
    assert source in blamed(layer_noise(reference, lowered, samples)).node.loc.names


def test_rounding_to_the_nearest_is_half_a_step(reference, quantized, samples):
    first = layer_noise(reference, quantized, samples)[0]
    assert first.op == "quantize"
    assert 0.25 < first.max_steps <= 0.5 + 1e-5


def test_two_files_are_compared(planish, digits, quantized, tmp_path):
    save(corrupted(quantized, LAYERS[2]), tmp_path / "bad.planish")
    data = digits / "eval.npz"
    command = ("debug", "blame", digits / "dscnn.onnx", "--against", tmp_path / "bad.planish", "--data", data)
    done = planish(*command, "--samples", 4, "--json")
    assert done.code == 0
    assert done.json["samples"] == 4
    name = done.json["worst"][0]
    assert "/residual/pointwise" in name
    assert done.json["first_bad"] == name
    assert done.json["exclusions"] == []
    said = planish(*command)
    assert re.search(r"/residual/pointwise/pointwise.0/Conv.*first bad, loses most: 1", said.out)


def test_the_predicted_gain_is_what_one_gets(planish, digits, reference):
    data, calib = digits / "eval.npz", digits / "calib.npz"
    pipeline = "simplify,fuse,quantize{calibration=minmax},fold-quantization"
    done = planish(
        "debug", "blame", digits / "dscnn.onnx", "--pipeline", pipeline, "--calib", calib, "--data", data,
        "--samples", 8, "--tries", 2, "--json",
    )  # fmt: skip
    assert [len(e["names"]) for e in done.json["exclusions"]] == [1, 2]
    names = done.json["exclusions"][1]["names"]
    option = done.json["exclusions"][1]["option"]
    assert option == f"quantize{{exclude=[{','.join(names)}]}}"
    pasted = pipeline.replace("calibration=minmax", f"calibration=minmax,{option[len('quantize{') : -1]}")
    graph = api.optimize(reference, pasted, calibration=api.data(calib))
    inputs = list(api.data(data).of(reference, 8))
    outputs = [[api.run(g, x)["logits"] for x in inputs] for g in (reference, graph)]
    wanted, found = map(np.concatenate, outputs)
    sqnr = 10 * np.log10(np.sum(np.square(wanted, dtype=float)) / np.sum(np.square(wanted - found, dtype=float)))
    assert sqnr == pytest.approx(done.json["exclusions"][1]["sqnr_db"], abs=1e-4)
    assert done.json["exclusions"][1]["gain_db"] == pytest.approx(sqnr - done.json["sqnr_db"], abs=1e-4)
    floats = [n for n in graph.nodes if n.op.name == "conv2d" and n.result.type.dtype.is_float]
    assert {n.loc.names[0] for n in floats} == set(names)


def test_a_compiled_folder_is_compared_with_what_it_came_from(planish, int8_build, digits, tmp_path):
    done = planish("debug", "blame", int8_build, "--data", digits / "eval.npz", "--samples", 3, "--json")
    assert done.code == 0
    assert done.json["artifact"] == {"samples": 3, "exact": True, "passed": True, "difference": None}
    assert done.json["matched"]["layers"] >= 10
    copy = shutil.copytree(int8_build, tmp_path / "copy")
    tables = copy / "dscnn_tables.h"
    text = tables.read_text()
    number = re.search(r"\{\s*(-?\d+)", text)
    tables.write_text(text[: number.start(1)] + str(-int(number[1]) - 1) + text[number.end(1) :])
    done = planish("debug", "blame", copy, "--data", digits / "eval.npz", "--samples", 3, "--json")
    assert done.code == done.json["error"]["code"] == 6
    assert done.json["artifact"]["difference"]["output"] == "logits"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "what is the second?"),
        (["--quantize", "int8", "--against", "x.planish"], "what is the second?"),
        (["--quantize", "int8", "--pipeline", "simplify"], "--quantize and --pipeline"),
        (["--against", "nowhere.planish"], "nowhere.planish does not exist"),
        (["--pipeline", "simplfy"], "there is no pass simplfy"),
    ],
)
def test_what_cannot_be_compared(planish, digits, options, said):
    done = planish("debug", "blame", digits / "dscnn.onnx", "--data", "random:0,1", *options)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_of_a_compiled_folder_everything_is_fixed(planish, int8_build):
    done = planish("debug", "blame", int8_build, "--data", "random:0,1", "--pipeline", "simplify")
    assert (done.code, done.out) == (2, "")
    assert "passes and shapes are fixed" in done.err


@pytest.mark.filterwarnings("error")
def test_what_is_infinite_blames_nobody(tmp_path):
    """A mask of -inf becomes the lowest integer, which is what a softmax behind it wants."""
    random = np.random.default_rng(0)
    hidden = np.where(np.triu(np.ones((1, 4, 4)), 1) > 0, -np.inf, 0.0).astype(np.float32)
    constants = {"keys": random.normal(size=(8, 4)).astype(np.float32), "mask": hidden}
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "keys"], ["scores"]),
                helper.make_node("Add", ["scores", "mask"], ["masked"]),
                helper.make_node("Softmax", ["masked"], ["y"], axis=-1),
            ],
            "attention",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "attention.onnx")
    graph = api.load(tmp_path / "attention.onnx")
    samples = [{"x": random.normal(size=(1, 4, 8)).astype(np.float32)} for _ in range(4)]
    quantized = api.optimize(graph, f"{INT8},{INTEGERS}", calibration=samples)
    layers = layer_noise(graph, quantized, samples)
    assert len(layers) > 2
    assert all(layer.sqnr_db > 20 and np.isfinite(layer.max_error) for layer in layers)
