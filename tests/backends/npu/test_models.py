"""Real trained models, int8, on the NPU: every output byte, and no more cycles than were reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import planish
from planish.registry import target_named
from planish.runtime.interpreter import run_batch

SAMPLES = 10
#: Softmax included: of keypoint_mlp it is a third, for its table is as large as the weights.
MOST_CYCLES = {
    ("keypoint_mlp", "npu:256"): 600,
    ("keypoint_mlp", "npu:64"): 600,
    ("kws_dscnn", "npu:256"): 16_000,
    ("kws_dscnn", "npu:64"): 52_000,
}


@pytest.mark.parametrize(("model", "target"), MOST_CYCLES)
def test_quantized_models_are_exact(model: str, target: str, models: Path, tmp_path: Path) -> None:
    graph = planish.load(models / model / "model.onnx")
    calibration = planish.data(models / model / "calib.npz")
    pipeline = "simplify,fuse,quantize{calibration=minmax},fold-quantization,simplify"
    graph = planish.optimize(graph, pipeline, calibration=calibration)
    artifact = planish.compile(graph, target=target, out=tmp_path / "out")
    with np.load(models / model / "eval.npz") as data:
        inputs = {v.name: data[v.name][:SAMPLES].reshape(SAMPLES, *v.type.shape) for v in graph.inputs}
    done = target_named(target).run(artifact, inputs)
    for name, wanted in run_batch(graph, inputs).items():
        assert done.outputs[name].tobytes() == wanted.tobytes()
    assert done.cycles == artifact.facts["cycles"]
    assert done.cycles <= MOST_CYCLES[model, target]
    for row in artifact.facts["profile"]:
        assert abs(row["cycles"] - row["modelled"]) <= 0.05 * row["cycles"]
