#!/usr/bin/env bash
# onnx.reference 1.23.2 executes LSTM as if clip, input_forget and sequence_lens were not there, and says nothing.
#
# One might expect the reference evaluator to execute the whole operator, or to refuse what it does not know. It computes the plain
# LSTM instead, so that a comparison with it accuses an implementation that is right. ONNX Runtime 1.32.0 honours all three.
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

rng = np.random.default_rng(0)
HIDDEN, STEPS = 2, 3
constants = {
    "W": 3 * rng.normal(size=(1, 4 * HIDDEN, 2)).astype(np.float32),
    "R": rng.normal(size=(1, 4 * HIDDEN, HIDDEN)).astype(np.float32),
    "lengths": np.array([1], np.int32),
}
feed = {"x": np.ones((STEPS, 1, 2), np.float32)}


def last_state(lengths="", **attributes):
    """The state behind the last step, of the reference and of ONNX Runtime."""
    operands = ["x", "W", "R", "", lengths] if lengths else ["x", "W", "R"]
    node = helper.make_node("LSTM", operands, ["", "h"], hidden_size=HIDDEN, **attributes)
    graph = helper.make_graph(
        [node], "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, 1, 2])],
        [helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 1, HIDDEN])],
        [numpy_helper.from_array(v, k) for k, v in constants.items() if k in operands],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, feed)[0], session.run(None, feed)[0]


plain = last_state()
np.testing.assert_allclose(*plain, rtol=1e-5)
for name, options in {"clip": {"clip": 0.1}, "input_forget": {"input_forget": 1}, "sequence_lens": {"lengths": "lengths"}}.items():
    reference, runtime = last_state(**options)
    print(f"{name}: onnx.reference {reference.ravel()}, ONNX Runtime {runtime.ravel()}, without it {plain[0].ravel()}")
    assert np.array_equal(reference, plain[0]), f"the reference honours {name} now"
    assert np.abs(runtime - plain[1]).max() > 1e-3, f"ONNX Runtime ignores {name} now"
PYTHON
