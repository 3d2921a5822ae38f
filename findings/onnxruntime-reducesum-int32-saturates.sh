#!/usr/bin/env bash
# ONNX Runtime 1.32.0 saturates sums of int32 in ReduceSum, where its own Add of the same numbers wraps.
#
# One might expect integers to wrap as they do in Add, or as onnx.reference 1.23.2 has it. ReduceSum of [2147483647, 1] is 2147483647;
# the Add of both is -2147483648. The specification says nothing about overflow.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --disable-pip-version-check install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/env/bin/python" - <<'PYTHON'
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

warnings.simplefilter("ignore")
graph = helper.make_graph(
    [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Split", ["x"], ["a", "b"], num_outputs=2),
        helper.make_node("Add", ["a", "b"], ["added"]),
    ],
    "sums",
    [helper.make_tensor_value_info("x", TensorProto.INT32, [2])],
    [
        helper.make_tensor_value_info("total", TensorProto.INT32, []),
        helper.make_tensor_value_info("added", TensorProto.INT32, [1]),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
onnx.checker.check_model(model, full_check=True)
feed = {"x": np.array([2147483647, 1], np.int32)}
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runtime = [y.item() for y in session.run(None, feed)]
reference = [y.item() for y in ReferenceEvaluator(model).run(None, feed)]
print("ReduceSum, Add: ONNX Runtime", runtime, " onnx.reference", reference)
assert runtime == [2147483647, -2147483648], "ONNX Runtime changed"
assert reference == [-2147483648, -2147483648], "the reference changed"
PYTHON
