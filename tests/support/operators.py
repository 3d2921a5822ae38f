"""One-node models, held against ONNX Runtime."""

import numpy as np
import onnx
import pytest
from hypothesis import strategies as st
from onnx import helper

from planish.frontends.onnx import load
from planish.ir.evaluate import evaluate

ort = pytest.importorskip("onnxruntime")
ort.set_default_logger_severity(4)

F32_UNIT = 2.0**-24
small = st.integers(1, 4)


def real(draw, shape):
    """Reals in [-1, 1] from a drawn seed."""
    return np.random.default_rng(draw(st.integers(0, 2**20))).uniform(-1, 1, shape).astype(np.float32)


def one_node(op, inputs, constants=(), version=17, outputs=1, domain="", **attributes):
    """A model of one node. inputs and constants: arrays by name, in the node's order; a None leaves an operand out."""
    operands = {**inputs, **dict(constants)}
    names = ["" if a is None else n for n, a in operands.items()]
    results = [f"y{i}" for i in range(outputs)]
    attributes = {k: v for k, v in attributes.items() if v is not None}
    graph = helper.make_graph(
        [helper.make_node(op, names, results, name="node", domain=domain, **attributes)],
        "g",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(n) for n in results],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in dict(constants).items() if a is not None],
    )
    domains = [helper.make_opsetid("", version)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


def runtime(model, inputs):
    """ONNX Runtime's outputs; a model that it refuses is no valid example."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, inputs)
    except Exception:  # noqa: BLE001 - it has no base class of its own
        return None


def check(path, model, inputs, terms=1, steps=0, theirs=None):
    """Our outputs against ONNX Runtime's, or against `theirs`.

    Data movements and integers are equal (or `steps` apart where floats are rounded to integers); floats may differ by
    gamma_n * n * max|x|^2 for n = terms products of the largest operands: both sums round at most that much.
    """
    theirs = runtime(model, inputs) if theirs is None else theirs
    path.write_bytes(model.SerializeToString())
    if theirs is None:
        return False
    graph = load(path)
    ours = evaluate(graph, [inputs[v.name] for v in graph.inputs])
    for a, b in zip(ours, theirs, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind == "f":
            largest = max([1.0, *(float(np.abs(x).max()) for x in inputs.values() if x.size)])
            slack = 2 * (terms + 1) * F32_UNIT * max(terms, 1) * largest**2
            assert np.abs(a - b).max(initial=0) <= (slack if terms else 0)
        else:
            assert np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0) <= steps
    return True


def leaves_undefined(instance):
    """Whether ONNX says nothing about an instance: a cast of floats that the integers cannot hold."""
    op = instance.op
    if op.name != "cast" or not op.dtype.is_integer or instance.operands[0].dtype.kind != "f":
        return False
    with np.errstate(all="ignore"):
        whole = np.trunc(instance.operands[0].astype(np.float64))
    return not np.all((whole >= op.dtype.min) & (whole <= op.dtype.max))


def running_sums(op, x):
    """How far ONNX Runtime's lrn may be off, beyond the rounding of one sum, for each element of x [N,C,...].

    On its way through the channels it adds the next square to a sum and subtracts the last: each of these rounds as the
    largest sum does.
    """
    sums = (x.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
    off = 2 * x.shape[1] * float(np.finfo(np.float32).eps) * sums * op.alpha / op.size
    return np.abs(x) * op.beta * off * op.bias ** (-op.beta - 1)
