#!/usr/bin/env bash
# Resize with linear interpolation, align_corners and a scale that gives no whole size: onnx.reference 1.23.2 misses the last corner.
#
# The specification divides by length_resized - 1, "the length of the resized tensor": 6 - 1, so that the last output pixel lies on the
# last input pixel. The reference divides by the unrounded 4 * 1.6 - 1, so that its last pixel is 2.78 and not 3. ONNX Runtime 1.32.0
# gives 3. The two agree wherever the scale gives a whole size, which hides it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --disable-pip-version-check install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

node = helper.make_node(
    "Resize", ["x", "", "scales"], ["y"], mode="linear", coordinate_transformation_mode="align_corners"
)
graph = helper.make_graph(
    [node], "resize",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 1, 6])],
    [numpy_helper.from_array(np.array([1, 1, 1, 1.6], np.float32), "scales")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.checker.check_model(model, full_check=True)
feed = {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)}
reference = ReferenceEvaluator(model).run(None, feed)[0].ravel()
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
runtime = session.run(None, feed)[0].ravel()
print("onnx.reference:", reference, " ONNX Runtime:", runtime)
np.testing.assert_allclose(reference, np.arange(6) * 3 / 5.4, rtol=1e-5)
np.testing.assert_allclose(runtime, np.arange(6) * 3 / 5, rtol=1e-5)
PYTHON
