"""Scales of DequantizeLinear that are negative or zero: valid, and integers with positive ones wherever these exist."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.evaluate import evaluate
from planish.ir.ops.quant import Dequantize
from planish.passes.pipeline import run_pipeline

ort = pytest.importorskip("onnxruntime")


def model(weights, scales, zeros, axis):
    given = {"w": weights, "s": scales} | ({} if zeros is None else {"z": zeros})
    nodes = [
        helper.make_node("DequantizeLinear", list(given), ["real"], axis=axis),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [2, weights.shape[0]])],
        [helper.make_tensor_value_info("y", 1, [2, weights.shape[1]])],
        [numpy_helper.from_array(a, n) for n, a in given.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@given(st.integers(0, 2**20), st.sampled_from([np.int8, np.uint8]), st.booleans(), st.booleans(), st.booleans())
def test_any_scale_means_what_onnx_says(tmp_path_factory, seed, dtype, per_axis, shifted, ends):
    random = np.random.default_rng(seed)
    info, shape = np.iinfo(dtype), (3, 4)
    weights = random.choice([info.min, info.max, 1] if ends else [info.min + 1, info.max, 2], shape).astype(dtype)
    scales = random.choice([-0.5, 0.25, 0.0, -2.0], 4 if per_axis else ()).astype(np.float32)
    zeros = random.integers(info.min, info.max, scales.shape, endpoint=True).astype(dtype) if shifted else None
    proto, x = model(weights, scales, zeros, 1), random.integers(-3, 4, (2, 3)).astype(np.float32)
    path = tmp_path_factory.getbasetemp() / "scales.onnx"
    onnx.save(proto, path)
    graph = load(path)
    (ours,) = evaluate(graph, [x])
    session = ort.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"], disabled_optimizers=None,
        sess_options=plain(),
    )  # fmt: skip
    np.testing.assert_array_equal(ours, session.run(None, {"x": x})[0])
    (folded,) = evaluate(run_pipeline(graph, "simplify,fuse,fold-quantization").graph, [x])
    np.testing.assert_allclose(folded, ours, rtol=1e-5, atol=1e-4)


def plain():
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def test_integers_have_positive_scales_where_their_negatives_fit(tmp_path):
    weights = np.array([[-127, 127, -128], [5, -3, 1]], np.int8)
    onnx.save(model(weights, np.array([-0.5, 0.5, -0.25], np.float32), None, 1), tmp_path / "m.onnx")
    (node,) = [n for n in load(tmp_path / "m.onnx").nodes if isinstance(n.op, Dequantize)]
    x, scale, _ = (np.asarray(v.const) for v in node.operands)
    assert scale.reshape(-1).tolist() == [0.5, 0.5, -0.25]
    assert sorted(map(tuple, x.reshape(3, -1).tolist() if x.shape == (3, 2) else x.T.tolist())) == sorted(
        [(127, -5), (127, -3), (-128, 1)]
    )


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_broken(scale, tmp_path):
    onnx.save(model(np.ones((3, 4), np.int8), np.array(scale, np.float32), None, 1), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no number"):
        load(tmp_path / "m.onnx")


def test_quantization_needs_positive_scales(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s"], ["y"])], "g", [helper.make_tensor_value_info("x", 1, [2])],
        [helper.make_empty_tensor_value_info("y")], [numpy_helper.from_array(np.array(-1, np.float32), "s")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="not positive"):
        load(tmp_path / "m.onnx")
