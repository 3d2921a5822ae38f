"""Small models that are broken on purpose, and the errors that they must meet."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from planish.frontends.onnx import load
from planish.ir.errors import PlanishError


def model(nodes, inputs=None, outputs=("y",), initializers=(), opset=17):
    inputs = {"x": [2, 3]} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def array(name, value, dtype=np.float32):
    return onnx.numpy_helper.from_array(np.asarray(value, dtype), name)


def saved(folder, proto):
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def refused(path, kind, *words, **options):
    """The error is of this kind, says how to go on, and its text holds the words."""
    with pytest.raises(PlanishError) as caught:
        load(path, **options)
    text = str(caught.value)
    assert type(caught.value) is kind, text
    assert "fix:" in text
    for word in words:
        assert word in text
    assert text.isprintable() or set(text) <= {"\n"} | {c for c in text if c.isprintable()}


def node(op, inputs, outputs, name=""):
    return helper.make_node(op, inputs, outputs, name=name)
