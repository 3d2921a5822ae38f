"""Models as a person writes them, what target onnx makes of them, and how both compare."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish.backends.onnx.session import session
from planish.backends.onnx.target import FILE, OnnxTarget
from planish.frontends.onnx import load
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.target import Limits


def model(nodes, inputs, outputs, constants=(), opset=13):
    """A model as a person writes it. inputs, outputs: (name, shape); constants: (name, array)."""
    values = ([helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends] for ends in (inputs, outputs))
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants]
    graph = helper.make_graph(nodes, "g", *values, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=True)
    return made


def smaller(source, folder):
    """What target onnx makes of a model."""
    path = folder / "source.onnx"
    onnx.save(source, path)
    target = OnnxTarget("onnx")
    graph = run_pipeline(load(path), "simplify,fuse").graph
    lowered = run_pipeline(graph, target.lowering, Context(target=target)).graph
    target.emit(lowered, folder, "m", Limits())
    return onnx.load(folder / FILE)


def kinds(made):
    return [node.op_type for node in made.graph.node if node.op_type != "Constant"]


def require_no_growth(source, made, unsaid=0):
    """unsaid: bytes that a twentieth of a very small model does not hold."""
    assert len(kinds(made)) <= len(kinds(source)), kinds(made)
    assert made.ByteSize() <= 1.05 * source.ByteSize() + unsaid, (made.ByteSize(), source.ByteSize(), made)


def require_same(source, made, folder):
    """ONNX Runtime gives the same for both."""
    pytest.importorskip("onnxruntime")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in source.graph.input}
    feeds = {name: np.random.default_rng(1).uniform(-2, 2, s).astype(np.float32) for name, s in shapes.items()}
    paths = [folder / "a.onnx", folder / "b.onnx"]
    for one, path in zip((source, made), paths, strict=True):
        onnx.save(one, path)
    for a, b in zip(*(session(path).run(None, feeds) for path in paths), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
