"""Real models back to ONNX: accepted by the checker, the same under ONNX Runtime, never more nodes than before."""

import onnx
import pytest

from planish.api import compile, data, load, optimize, verify

#: Model, nodes of the float form at most (the source's minus what is fused), random range or calibration file.
MODELS = {
    "keypoint_mlp": (6, "calib.npz"),
    "kws_dscnn": (23, "calib.npz"),
    "mnist_cnn_cntk": (8, "calib.npz"),
    "ad_autoencoder": (19, "random:-80,20"),
    "sr_espcn_x3": (8, "random:0,1"),
    "ic_resnet20_torch": (54, "random:-2.2,2.7"),
}
SAMPLES = 5


@pytest.mark.parametrize("arithmetic", ["float", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_real_models_are_the_same_elsewhere(models, tmp_path, name, arithmetic):
    pytest.importorskip("onnxruntime")
    most, source = MODELS[name]
    inputs = data(source if source.startswith("random") else models / name / source)
    reference = load(models / name / "model.onnx")
    pipeline = "simplify,fuse" if arithmetic == "float" else "simplify,fuse,quantize{calibration=minmax}"
    graph = optimize(reference, pipeline, calibration=inputs.of(reference, SAMPLES))
    artifact = compile(graph, target="onnx", out=tmp_path / "out", reference=reference)
    onnx.checker.check_model(tmp_path / "out" / "model.onnx", full_check=True)
    verdict = verify(tmp_path / "out", inputs, samples=SAMPLES)
    assert verdict.passed, verdict.difference
    if arithmetic == "float":
        assert artifact.facts["nodes"] <= most
    else:
        assert verdict.layer_steps is not None
        assert verdict.layer_steps <= 1
