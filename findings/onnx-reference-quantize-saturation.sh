#!/usr/bin/env bash
# onnx.reference 1.23.2 quantizes +infinity, and finite values of more than 2^31 steps, to the lowest integer instead of the highest.
#
# QuantizeLinear saturates: the specification says y = saturate((x / y_scale) + y_zero_point). The reference casts to int32 before it
# saturates, which NumPy answers with the lowest int32 on x86-64.
# ONNX Runtime 1.32.0 gives 127.
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
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.simplefilter("ignore")
node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
graph = helper.make_graph(
    [node], "quantize",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
    [helper.make_tensor_value_info("y", TensorProto.INT8, [4])],
    [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.int8(0), "zero")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
feed = {"x": np.array([300, 2e9, 3e9, np.inf], np.float32)}
reference = ReferenceEvaluator(model).run(None, feed)[0].tolist()
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runtime = session.run(None, feed)[0].tolist()
print("x:", feed["x"].tolist(), " onnx.reference:", reference, " ONNX Runtime:", runtime)
assert reference == [127, 127, -128, -128], "the reference saturates otherwise now"
assert runtime == [127, 127, 127, 127], "ONNX Runtime saturates otherwise now"
PYTHON
