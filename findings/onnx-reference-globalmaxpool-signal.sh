#!/usr/bin/env bash
# GlobalMaxPool of a signal [N,C,W]: onnx.reference 1.23.2 gives [N,1] where the specification has [N,C,1].
#
# It gives one maximum for all channels. Of images [N,C,H,W] it is right; ONNX Runtime 1.32.0 is right for both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --disable-pip-version-check install --quiet numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator


def both(shape):
    """Results of the reference and of ONNX Runtime for 0, 1, 2, ... in this shape."""
    graph = helper.make_graph(
        [helper.make_node("GlobalMaxPool", ["x"], ["y"])], "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:2], *[1] * (len(shape) - 2)])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, {"x": x})[0], session.run(None, {"x": x})[0]


reference, runtime = both([1, 2, 4])
print("signal [1,2,4]: onnx.reference", reference.shape, reference.ravel(), " ONNX Runtime", runtime.shape, runtime.ravel())
assert runtime.shape == (1, 2, 1) and runtime.ravel().tolist() == [3, 7]
assert reference.shape == (1, 1) and reference.ravel().tolist() == [7], "the reference changed"
reference, runtime = both([1, 2, 2, 2])
assert np.array_equal(reference, runtime), "of images they agree"
PYTHON
