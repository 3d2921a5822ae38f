"""What is written loads in a session as ONNX Runtime opens it by default, and computes the same."""

import itertools

import numpy as np
import onnx
import pytest

from planish.backends.onnx.target import DEFAULT, OnnxTarget
from planish.backends.onnx.writer import OPSET, write
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import clip
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.ops.shape import reshape, slice_, transpose
from planish.ir.ops.unary import gelu, sigmoid, silu
from planish.ir.types import F32, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.target import Limits

ort = pytest.importorskip("onnxruntime")

SHAPE = (1, 4, 4, 4)
MOVEMENTS = {
    "transpose": lambda x: transpose(x, perm=(0, 3, 1, 2)),
    "reshape": lambda x: reshape(x, shape=(1, 4, 2, 8)),
    "squeeze": lambda x: reshape(x, shape=(4, 4, 4)),
    "unsqueeze": lambda x: reshape(x, shape=(1, 1, 4, 4, 4)),
    "slice": lambda x: slice_(x, starts=(0, 1, 0, 0), stops=(1, 3, 4, 4), steps=(1, 1, 1, 1)),
    "max_pool": lambda x: max_pool2d(x, window=(1, 2)),
    "chain": lambda x: reshape(transpose(x, perm=(0, 3, 1, 2)), shape=(16, 4)),
}
USERS = {
    "a layer": lambda x, y: [sigmoid(y)],
    "nobody": lambda x, y: [y],
    "quantize": lambda x, y: [quantize(y, np.float32(0.1), np.int8(3))],
    "several": lambda x, y: [sigmoid(y), sigmoid(x), y],
}


def pair(x):
    return dequantize(quantize(x, np.float32(0.1), np.int8(3)), np.float32(0.1), np.int8(3))


def by_default(model, feeds, entries=()):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for entry in entries:
        options.add_session_config_entry(*entry)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("opset", [20, 21, 24])
@pytest.mark.parametrize(("movement", "user"), list(itertools.product(MOVEMENTS, USERS)))
def test_quantized_values_that_are_moved_load(movement, user, opset):
    x = graph_input("x", TensorType(SHAPE, F32))
    real = pair(x)
    results = USERS[user](real, MOVEMENTS[movement](real))
    graph = Graph([x], results, [f"y{i}" for i in range(len(results))])
    model = write(graph, opset).model
    onnx.checker.check_model(model, full_check=True)
    assert [y.name for y in model.graph.output] == graph.output_names
    feed = np.random.default_rng(0).uniform(-14, 14, SHAPE).astype(np.float32)
    for ours, theirs in zip(evaluate(graph, [feed]), by_default(model, {"x": feed}), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)


def test_pairs_are_only_put_where_there_are_none():
    x = graph_input("x", TensorType(SHAPE, F32))
    moved = transpose(pair(x), perm=(0, 3, 1, 2))
    graph = Graph([x], [sigmoid(pair(moved))], ["y"])
    assert len(write(graph, 21).model.graph.node) == len(write(graph, 20).model.graph.node) == 6


@pytest.mark.parametrize("per_channel", [True, False])
def test_equal_constants_are_shared_and_the_remedy_for_saturation_still_loads(per_channel):
    """Of quantized weights nothing is shared: rewriting them for each use, ONNX Runtime trips over the second."""
    x = graph_input("x", TensorType((1, 4), F32))
    scale = np.full((4, 1) if per_channel else (), 0.01, np.float32)
    zero = np.zeros(scale.shape, np.int8)
    y = pair(x)
    for k in (1, 2, 1):
        weights = dequantize(np.full((4, 4), k, np.int8), scale, zero)
        y = pair(dense(y, weights, np.full(4, 7, np.float32)))
    graph = Graph([x], [y], ["y"])
    model = write(graph, 20).model
    ends = [node.input[1:3] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert all(end == ends[0] for end in ends)
    assert len({node.input[2] for node in model.graph.node if node.op_type == "Gemm"}) == 1
    feed = np.array([[1, 2, 3, 4]], np.float32)
    (found,) = by_default(model, {"x": feed}, [("session.x64quantprecision", "1")])
    np.testing.assert_allclose(found, evaluate(graph, [feed])[0], rtol=1e-6)


def emitted(graph, folder, said):
    graph.metadata.update({} if said is None else {OPSET: str(said)})
    target = OnnxTarget("onnx")
    lowered = run_pipeline(graph, OnnxTarget.lowering, Context(target=target)).graph
    folder.mkdir()
    target.emit(lowered, folder, "m", Limits())
    model = onnx.load(folder / "model.onnx")
    return model.opset_import[0].version, [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("said", [None, 8, 13, 17, 20, 21, 23, 26])
def test_the_operator_set_is_at_most_twenty_unless_an_op_needs_more(tmp_path, said):
    """Nor is it ever raised for a composite: gelu came with 20, swish (silu) with 24."""
    kept = DEFAULT if said is None else min(said, DEFAULT)
    graphs = []
    for function in (lambda x: clip(x, lo=0, hi=6), gelu, silu):
        x = graph_input("x", TensorType((2, 3), F32))
        graphs.append(emitted(Graph([x], [function(x)], ["y"]), tmp_path / str(len(graphs)), said))
    assert graphs[0] == (kept, ["Clip"])
    assert graphs[1][0] == (9 if said == 8 else kept)  # 8 has no Erf
    assert (graphs[1][1] == ["Gelu"]) == (kept == 20)
    assert graphs[2] == ((24, ["Swish"]) if said == 26 else (kept, ["Sigmoid", "Mul"]))
