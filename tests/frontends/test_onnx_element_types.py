"""Element types that ONNX's operators accept: planish takes them or does not, but never calls the model broken."""

import contextlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, UnsupportedError

OPSET = 17
#: Operand shapes and attributes of one node each; operands of the type parameter T, others are given.
NODES = {
    "Abs": ([[2, 3]], {}),
    "Add": ([[2, 3], [3]], {}),
    "AveragePool": ([[1, 2, 4, 4]], {"kernel_shape": [2, 2]}),
    "Clip": ([[2, 3]], {}),
    "Concat": ([[2, 3], [1, 3]], {"axis": 0}),
    "Conv": ([[1, 2, 4, 4], [3, 2, 2, 2]], {}),
    "ConvTranspose": ([[1, 2, 4, 4], [2, 3, 2, 2]], {}),
    "Div": ([[2, 3], [2, 1]], {}),
    "Equal": ([[2, 3], [2, 1]], {}),
    "Exp": ([[2, 3]], {}),
    "Flatten": ([[2, 3, 4]], {}),
    "Gemm": ([[2, 3], [3, 4]], {}),
    "LayerNormalization": ([[2, 3], [3], [3]], {}),
    "Less": ([[2, 3], [3]], {}),
    "LRN": ([[1, 4, 2, 2]], {"size": 3}),
    "MatMul": ([[2, 3], [3, 4]], {}),
    "Max": ([[2, 3], [2, 3]], {}),
    "MaxPool": ([[1, 2, 4, 4]], {"kernel_shape": [2, 2]}),
    "Mul": ([[2, 3], [1]], {}),
    "Neg": ([[2, 3]], {}),
    "PRelu": ([[2, 3], [3]], {}),
    "Pow": ([[2, 3], [2, 3]], {}),
    "ReduceMax": ([[2, 3]], {"axes": [1]}),
    "ReduceMean": ([[2, 3]], {"axes": [1]}),
    "ReduceMin": ([[2, 3]], {"axes": [1]}),
    "Relu": ([[2, 3]], {}),
    "Sigmoid": ([[2, 3]], {}),
    "Softmax": ([[2, 3]], {}),
    "Sqrt": ([[2, 3]], {}),
    "Sub": ([[2, 3], [2, 3]], {}),
    "Sum": ([[2, 3], [2, 3]], {}),
    "Transpose": ([[2, 3]], {}),
}  # fmt: skip


def spelled(text):
    """The number of an element type that a schema writes as tensor(name)."""
    name = text.removeprefix("tensor(").removesuffix(")").upper()
    return onnx.TensorProto.DataType.Value(name) if name in onnx.TensorProto.DataType.keys() else None  # noqa: SIM118


@pytest.mark.parametrize("op", NODES)
@pytest.mark.parametrize("stored", [False, True], ids=["computed", "constant"])
def test_no_element_type_that_onnx_accepts_is_broken(op, stored, tmp_path):
    shapes, attributes = NODES[op]
    schema = onnx.defs.get_schema(op, OPSET, "")
    parameter = schema.inputs[0].type_str
    (allowed,) = [c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == parameter]
    for number in filter(None, map(spelled, allowed)):
        dtype = helper.tensor_dtype_to_np_dtype(number)
        if dtype.kind in "OUSc":
            continue
        names = [f"x{i}" for i in range(len(shapes))]
        kept = names[1:] if stored else []
        graph = helper.make_graph(
            [helper.make_node(op, names, ["y"], **attributes)],
            "g",
            [helper.make_tensor_value_info(n, number, s) for n, s in zip(names, shapes, strict=True) if n not in kept],
            [helper.make_empty_tensor_value_info("y")],
            [
                numpy_helper.from_array(np.ones(s).astype(dtype), n)
                for n, s in zip(names, shapes, strict=True)
                if n in kept
            ],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), tmp_path / "m.onnx")
        with contextlib.suppress(UnsupportedError):
            load(tmp_path / "m.onnx")


@pytest.mark.parametrize("shapes", [([2, 3], [4, 5]), ([2, 3], [3])])
def test_what_onnx_does_not_accept_either_is_broken(shapes, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])], "g",
        [helper.make_tensor_value_info("a", 1, shapes[0]), helper.make_tensor_value_info("b", 6, shapes[1])],
        [helper.make_empty_tensor_value_info("y")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), tmp_path / "m.onnx")
    with pytest.raises(ModelError):
        load(tmp_path / "m.onnx")
