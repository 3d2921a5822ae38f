"""The trained models: imported, they compute what ONNX Runtime computes without its optimizations."""

import numpy as np
import pytest

from planish.frontends.onnx import load
from planish.ir.constant import Const
from planish.ir.evaluate import evaluate_by_name
from planish.ir.types import Sym
from planish.runtime.oracle import judge

#: Models, and the documented range of random inputs for those that come without data.
RANDOM = {
    "ic_resnet8/model": (0, 255),
    "ad_autoencoder/model": (-80, 20),
    "ic_resnet20_torch/model": (-2.2, 2.7),
    "sr_espcn_x3/model": (0, 1),
}
DATA = {
    "kws_dscnn/model": "kws_dscnn/eval",
    "mnist_cnn_cntk/model": "mnist_cnn_cntk/eval",
    "keypoint_mlp/model": "keypoint_mlp/eval",
    "digits/dscnn": "digits/eval",
    "digits/dscnn_relu": "digits/eval",
    "digits/dscnn_bad1": "digits/eval",
    "digits/dscnn_bad15": "digits/eval",
    "digits/resnet": "digits/eval",
}
SAMPLES = 5


def samples(models, name, type):
    """A few inputs [1, ...] for a model with one input of this name and type."""
    shape = (1, *type.shape[1:])
    if name in DATA:
        with np.load(models / f"{DATA[name]}.npz") as data:
            (key,) = set(data.files) - {"labels"}
            return [a.reshape(shape) for a in data[key][:SAMPLES]]
    low, high = RANDOM[name]
    random = np.random.default_rng(0)
    return [random.uniform(low, high, shape).astype(np.float32) for _ in range(SAMPLES)]


def session(path):
    """ONNX Runtime without its optimizations."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", [*DATA, *RANDOM])
def test_model_agrees_with_onnx_runtime(models, name):
    path = models / f"{name}.onnx"
    graph, runtime = load(path), session(path)
    (x,) = graph.inputs
    assert graph.input_names == [i.name for i in runtime.get_inputs()]
    assert graph.output_names == [o.name for o in runtime.get_outputs()]
    names = [o.name for o in runtime.get_outputs()]
    for sample in samples(models, name, x.type):
        theirs = dict(zip(names, runtime.run(None, {x.name: sample}), strict=True))
        for output, verdict in judge(graph, {x.name: sample}, theirs).items():
            assert theirs[output].dtype == np.float32
            assert verdict.agrees, f"{output}: {verdict}"


def test_shape_arithmetic_leaves_nothing_behind(models):
    graph = load(models / "ic_resnet20_torch/model.onnx")
    assert {n.op.name for n in graph.nodes} == {
        "conv2d", "batch_norm", "clip", "add", "slice", "pad", "avg_pool2d", "reshape", "dense", "const",
    }  # fmt: skip
    assert all(value.type.dtype.is_float for node in graph.nodes for value in node.results)


def test_symbols_stay_or_are_fixed(models):
    notes = []
    path = models / "digits/dscnn.onnx"
    assert load(path, notes=notes).inputs[0].type.shape == (Sym("N"), 1, 8, 8)
    graph = load(path, dims={"N": 3})
    assert graph.inputs[0].type.shape == (3, 1, 8, 8)
    assert graph.outputs[0].type.shape == (3, 10)
    assert notes == []


def test_every_node_says_where_it_came_from(models):
    graph = load(models / "kws_dscnn/model.onnx")
    assert all(node.loc for node in graph.nodes if not isinstance(node.op, Const))
    assert [n.loc.names for n in graph.nodes if n.op.name == "dense"] == [("functional_1/dense/MatMul_Gemm__6",)]


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
def test_quantized_models(models, tmp_path, form, activations):
    """As ONNX Runtime's quantizer writes them. Floats between integers may round a tie one step aside.

    Weights beside u8 have a reduced range: with it ONNX Runtime's sums are exact on every processor.
    """
    from onnxruntime import quantization as q

    path = tmp_path / "quantized.onnx"
    with np.load(models / "kws_dscnn/calib.npz") as data:
        (key,) = set(data.files) - {"labels"}
        inputs = [{key: x[None]} for x in data[key][:10]]

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(inputs)

        def get_next(self):
            return next(self.rest, None)

    q.quantize_static(
        models / "kws_dscnn/model.onnx", path, Reader(), quant_format=q.QuantFormat[form], per_channel=True,
        activation_type=q.QuantType[activations], weight_type=q.QuantType.QInt8, reduce_range=activations == "QUInt8",
    )  # fmt: skip
    graph, theirs = load(path), session(path)
    weights = [a for a in graph.constants.values() if a.ndim == 4 and a.size > 100]
    assert len(weights) == 9
    assert {a.dtype for a in weights} == {np.dtype(np.int8)}  # they are not dequantized while importing
    for given in inputs[:3]:
        (ours,) = evaluate_by_name(graph, given).values()
        assert np.abs(ours - theirs.run(None, given)[0]).max() <= 1 / 256
