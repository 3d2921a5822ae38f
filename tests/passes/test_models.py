"""The structural passes on trained networks: nothing that the kernels would not like is left."""

from collections import Counter

import pytest

from planish.frontends.onnx import load
from planish.passes.pipeline import run_pipeline
from tests.support.passes import validated

PIPELINE = "simplify,fuse,layout,simplify,group"

#: Folder or file, and the transposes that remain: at the public input, where it is an image of several channels.
MODELS = {
    "kws_dscnn": 0, "mnist_cnn_cntk": 0, "keypoint_mlp": 0, "ic_resnet8": 0, "ad_autoencoder": 0, "sr_espcn_x3": 0,
    "ic_resnet20_torch": 1, "digits/dscnn.onnx": 0, "digits/dscnn_relu.onnx": 0, "digits/dscnn_bad1.onnx": 0,
    "digits/dscnn_bad15.onnx": 0, "digits/resnet.onnx": 0,
}  # fmt: skip
#: Those that the interpreter runs in no time.
SMALL = ["kws_dscnn", "mnist_cnn_cntk", "keypoint_mlp", "ad_autoencoder", "digits/dscnn.onnx", "digits/resnet.onnx"]


def loaded(models, name):
    digits = name.endswith(".onnx")
    return load(models / name if digits else models / name / "model.onnx", dims={"N": 1} if digits else {})


@pytest.mark.parametrize("name", MODELS)
def test_no_transpose_is_left_inside(models, name):
    graph = run_pipeline(loaded(models, name), PIPELINE).graph
    transposes = [node for node in graph.nodes if node.op.name == "transpose"]
    assert len(transposes) == MODELS[name]
    assert all(node.operands[0] in graph.inputs for node in transposes)


@pytest.mark.parametrize("name", SMALL)
def test_every_pass_keeps_its_contract(models, name):
    validated(loaded(models, name), PIPELINE)


def test_normalizations_pads_and_biases_are_gone(models):
    left = Counter(n.op.name for n in run_pipeline(loaded(models, "ic_resnet20_torch"), "simplify,fuse").graph.nodes)
    assert left["batch_norm"] == 0
    assert left["conv2d"] == 19
    left = Counter(n.op.name for n in run_pipeline(loaded(models, "mnist_cnn_cntk"), "simplify,fuse").graph.nodes)
    assert (left["add"], left["matmul"], left["dense"]) == (0, 0, 1)
    left = Counter(n.op.name for n in run_pipeline(loaded(models, "ad_autoencoder"), "simplify,fuse").graph.nodes)
    assert (left["add"], left["dense"]) == (0, 10)
