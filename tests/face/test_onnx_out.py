"""Target onnx from the command line: compile, check, verify, run, and what is said when something is wrong."""

import numpy as np
import onnx
import pytest
from onnx import helper

from planish.backends.onnx import session


@pytest.fixture(scope="session")
def builds(planish, digits, tmp_path_factory):
    """The example model as float and as QDQ. Tests leave them as they are."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    calib = ["--quantize", "int8", "--calib", digits / "calib.npz"]
    for name, options in (("float", []), ("qdq", calib)):
        done = planish("compile", digits / "dscnn.onnx", "-t", "onnx", *options, "-o", folder / name, "--json")
        assert done.code == 0, done.err
    return folder


def test_a_float_model_verifies(planish, builds, digits):
    done = planish("verify", builds / "float", "--data", digits / "eval.npz", "--samples", "40", "--json")
    assert done.code == 0, done.err
    assert done.json["passed"]
    assert done.json["layer_steps"] is None
    assert done.json["agreement"] == 1


def test_a_quantized_model_is_standard_and_verifies_layer_by_layer(planish, builds, digits):
    model = onnx.load(builds / "qdq" / "model.onnx")
    kinds = {node.op_type for node in model.graph.node}
    assert {"Conv", "Gemm", "QuantizeLinear", "DequantizeLinear"} <= kinds
    assert {node.domain for node in model.graph.node} == {""}
    done = planish("verify", builds / "qdq", "--data", digits / "eval.npz", "--samples", "40", "--json")
    assert done.code == 0, done.err
    assert done.json["layer_steps"] <= 1
    assert done.json["agreement_interpreter"] == 1
    text = planish("verify", builds / "qdq", "--samples", "5")
    assert "given the same inputs" in text.out or "exact" in text.out


@pytest.mark.parametrize("kind", ["float", "qdq"])
def test_a_changed_weight_is_found(planish, builds, digits, tmp_path, kind):
    build = tmp_path / "build"
    import shutil

    shutil.copytree(builds / kind, build)
    model = onnx.load(build / "model.onnx")
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    bias = next(t for t in model.graph.initializer if t.name == conv.input[2])
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 0.5 * np.abs(values).max()
    bias.raw_data = values.tobytes()
    onnx.save(model, build / "model.onnx")
    done = planish("verify", build, "--data", digits / "eval.npz", "--samples", "10", "--json")
    assert done.code == 6
    assert not done.json["passed"]
    assert done.json["difference"]["elements"] >= 1


def test_run_gives_what_the_interpreter_gives(planish, builds, digits, tmp_path):
    eval_ = digits / "eval.npz"
    for source, out in ((builds / "float", "a.npz"), (digits / "dscnn.onnx", "b.npz")):
        dims = ["--dim", "N=1"] if out == "b.npz" else []
        done = planish("run", source, "--data", eval_, "--samples", "5", *dims, "-o", tmp_path / out)
        assert done.code == 0, done.err
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_check_says_that_it_can(planish, digits):
    done = planish("check", digits / "dscnn.onnx", "-t", "onnx", "--quantize", "int8", "--json")
    assert done.code == 0
    assert done.json["supported"]
    assert any(layer["kernel"] == "Conv" for layer in done.json["layers"])


@pytest.fixture
def old(tmp_path):
    """A model of operator set 8."""
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 4]) for n in "xy")
    w = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], name="product"), helper.make_node("Relu", ["m"], ["y"])]
    graph = helper.make_graph(nodes, "old", [x], [y], [w])
    path = tmp_path / "old.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=4), path)
    return path


def opset(path):
    return onnx.load(path / "model.onnx").opset_import[0].version


def test_the_operator_set_is_the_sources_or_the_next_that_will_do(planish, old, tmp_path):
    assert planish("compile", old, "-t", "onnx", "-o", tmp_path / "a").code == 0
    assert opset(tmp_path / "a") == 8
    quantized = ["--quantize", "int8", "--calib", "random:-1,1"]
    assert planish("compile", old, "-t", "onnx", *quantized, "-o", tmp_path / "b").code == 0
    assert opset(tmp_path / "b") == 13
    assert planish("compile", old, "-t", "onnx", "--opset", "17", "-o", tmp_path / "c").code == 0
    assert opset(tmp_path / "c") == 17
    assert planish("verify", tmp_path / "c", "--data", "random:-1,1").code == 0


def test_an_operator_set_that_is_too_old_is_refused_with_one_that_is_not(planish, old, tmp_path):
    quantized = ["--quantize", "int8", "--calib", "random:-1,1"]
    done = planish("compile", old, "-t", "onnx", "--opset", "9", *quantized, "-o", tmp_path / "out")
    assert done.code == 4
    assert "opset 9 has no QuantizeLinear" in done.err
    assert "--opset 13, or no --opset" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("opset", ["7", "99"])
def test_operator_sets_that_there_are_not(planish, old, tmp_path, opset):
    done = planish("compile", old, "-t", "onnx", "--opset", opset, "-o", tmp_path / "out")
    assert done.code == 2
    assert "operator sets are 8 to" in done.err


def test_opset_is_for_onnx(planish, old, tmp_path):
    done = planish("compile", old, "-t", "c", "--opset", "13", "-o", tmp_path / "out")
    assert done.code == 2
    assert "--opset is for target onnx" in done.err


def test_integer_graphs_are_refused_with_the_reason_and_the_fix(planish, old, tmp_path):
    pipeline = "simplify,fuse,quantize,fold-quantization,simplify"
    done = planish(
        "compile", old, "-t", "onnx", "--pipeline", pipeline, "--calib", "random:-1,1", "-o", tmp_path / "out"
    )
    assert done.code == 4
    assert "integer arithmetic" in done.err
    assert "leave fold-quantization out" in done.err
    assert not (tmp_path / "out").exists()


def test_without_onnx_runtime_the_extra_is_named(planish, builds, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    done = planish("verify", builds / "float", "--data", "random:0,1")
    assert done.code == 2
    assert "pip install planish[verify]" in done.err
    monkeypatch.setattr(session, "is_installed", lambda: False)
    assert "onnxruntime is missing: pip install planish[verify]" in planish("targets").out.replace("\n", "")


def test_a_damaged_artifact_is_an_error_and_no_traceback(planish, builds, tmp_path):
    import shutil

    shutil.copytree(builds / "float", tmp_path / "build")
    (tmp_path / "build" / "model.onnx").write_bytes(b"no model")
    done = planish("verify", tmp_path / "build", "--data", "random:0,1", "--samples", "1")
    assert done.code == 6
    assert "does not load the model" in done.err
