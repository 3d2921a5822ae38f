"""Operator sets 1 to 6: forms that newer ones write in another way. ONNX's own PyTorch tests hold the others."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.evaluate import evaluate

X = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) - 12
BIAS = np.array([10, 20], np.float32)

FORMS = {
    "Add along an axis": (1, "Add", {"broadcast": 1, "axis": 1}, [BIAS], X + BIAS.reshape(1, 2, 1, 1)),
    "Mul along the last": (6, "Mul", {"broadcast": 1}, [np.arange(4, dtype=np.float32)], X * np.arange(4)),
    "PRelu by channels": (6, "PRelu", {}, [BIAS], np.where(X < 0, X * BIAS.reshape(1, 2, 1, 1), X)),
    "Reshape": (1, "Reshape", {"shape": [0, -1]}, [], X.reshape(1, -1)),
    "Pad": (1, "Pad", {"paddings": [0, 0, 1, 0, 0, 0, 0, 2], "value": 5.0}, [],
            np.pad(X, ((0, 0), (0, 0), (1, 0), (0, 2)), constant_values=5)),
    "Cast": (1, "Cast", {"to": "INT32"}, [], X.astype(np.int32)),
    "Tile": (1, "Tile", {}, [np.array([2]), np.array([3])], np.tile(X, (1, 1, 1, 2))),
    "Upsample": (1, "Upsample", {"height_scale": 2.0, "width_scale": 1.0}, [], X.repeat(2, axis=2)),
    "Concat": (1, "Concat", {}, [X], np.concatenate([X, X], axis=1)),
    "Relu": (1, "Relu", {"consumed_inputs": [0]}, [], np.maximum(X, 0)),
    "Dropout": (6, "Dropout", {"is_test": 1, "ratio": 0.5}, [], X),
}  # fmt: skip


def saved(folder, version, op, attributes, constants):
    names = ["x", *(f"c{i}" for i in range(len(constants)))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)], "g", [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(c, n) for c, n in zip(constants, names[1:], strict=True)],
    )  # fmt: skip
    path = folder / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=3), path)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_old_forms_mean_what_they_meant(form, tmp_path):
    *given, expected = FORMS[form]
    (y,) = evaluate(load(saved(tmp_path, *given)), [X])
    np.testing.assert_array_equal(y, expected)


def test_training_and_unequal_shapes_are_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="training"):
        load(saved(tmp_path, 6, "Dropout", {}, []))
    with pytest.raises(ModelError, match="broadcast is 0"):
        load(saved(tmp_path, 6, "Add", {}, [BIAS]))
    with pytest.raises(ModelError, match="element type"):
        load(saved(tmp_path, 1, "Cast", {"to": "NONSENSE"}, []))
