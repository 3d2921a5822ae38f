"""`verify` of target onnx says what a default session does, and what helps: on processors of all kinds, by a double."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from planish.backends.onnx import by_default, session
from tests.support import runtime_double

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A dense layer all of whose weights are large, on inputs that are."""
    random = np.random.default_rng(0)
    weights = np.abs(random.normal(1, 0.05, (16, 8))).astype(np.float32)
    x, y = (helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [1, 16]), ("y", [1, 8])))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "dense", [x], [y],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.full(8, -12, np.float32), "b")],
    )  # fmt: skip
    path = tmp_path_factory.mktemp("dense") / "dense.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def builds(planish, model):
    for bits in ("int8", "int7"):
        pipeline = f"simplify,fuse,quantize{{weights={bits}}}"
        done = planish("compile", model, "-t", "onnx", "--pipeline", pipeline, "--calib", "random:0,1", "-o",
                       model.parent / bits)  # fmt: skip
        assert done.code == 0, done.err
    return model.parent


def verdict(planish, build):
    done = planish("verify", build, "--data", "random:0.5,1", "--json")
    assert done.code == 0, done.err
    return done.json["by_default"]


def test_saturated_sums_are_told_with_the_remedy(planish, builds, monkeypatch):
    monkeypatch.setattr(session, "session", runtime_double.session(saturating=True))
    assert by_default.saturates()
    found = verdict(planish, builds / "int8")
    assert found["runs"]
    assert not found["exact"]
    (remark,) = found["remarks"]
    assert "saturate on this processor" in remark
    assert "session.x64quantprecision=1 restores" in remark
    assert "quantize{weights=int7}" in remark
    told = planish("verify", builds / "int8", "--data", "random:0.5,1")
    assert f"in a default session of ONNX Runtime {__import__('onnxruntime').__version__}: " in told.out
    assert "session.x64quantprecision=1" in told.err


def test_weights_of_seven_bits_do_not_saturate(planish, builds, monkeypatch):
    monkeypatch.setattr(session, "session", runtime_double.session(saturating=True))
    found = verdict(planish, builds / "int7")
    assert found["remarks"] == []
    assert found["sqnr_db"] is None or found["sqnr_db"] > 30


def test_where_sums_are_exact_other_processors_are_named(planish, builds, monkeypatch):
    monkeypatch.setattr(session, "session", runtime_double.session(saturating=False))
    assert not by_default.saturates()
    (remark,) = verdict(planish, builds / "int8")["remarks"]
    assert "processors with AVX2 and without VNNI saturate where this one is exact" in remark
    assert verdict(planish, builds / "int7")["remarks"] == []


def test_on_this_processor_it_is_one_or_the_other(planish, builds):
    """ONNX Runtime itself: whatever it does here, the probe foretells it."""
    found = verdict(planish, builds / "int8")
    (remark,) = found["remarks"]
    assert ("saturate on this processor" in remark) == by_default.saturates()
    assert ("this one is exact" in remark) != by_default.saturates()
    assert verdict(planish, builds / "int7")["remarks"] == []


def test_a_model_that_does_not_load_by_default_is_told(planish, builds, monkeypatch):
    whole = session.session

    def refusing(model, settings=session.PLAIN):
        if settings.by_default:
            raise session.VerificationError("ONNX Runtime 0 does not load the model", details=("because",))
        return whole(model, settings)

    monkeypatch.setattr(session, "session", refusing)
    found = verdict(planish, builds / "int8")
    assert not found["runs"]
    assert found["remarks"] == ["ONNX Runtime 0 does not load the model; because"]
    assert "DOES NOT RUN" in planish("verify", builds / "int8", "--data", "random:0.5,1").out


def test_a_float_model_has_no_remarks(planish, model):
    assert planish("compile", model, "-t", "onnx", "-o", model.parent / "float").code == 0
    assert verdict(planish, model.parent / "float")["remarks"] == []
