"""Accuracy of int8 on the real models, on part of their samples; `bench/accuracy.py` has all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from planish.frontends.onnx import load
from planish.ir.evaluate import evaluate
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.data import read
from tests.support.clusters import float_ops

SAMPLES = 200


@pytest.mark.parametrize(
    ("name", "agreement"), [("kws_dscnn", 0.97), ("mnist_cnn_cntk", 0.99), ("keypoint_mlp", 0.985)]
)
def test_int8_agrees_with_float(models: Path, name: str, agreement: float) -> None:
    graph = run_pipeline(load(models / name / "model.onnx"), "simplify,fuse").graph
    calibration, evaluation = (read(models / name / f"{part}.npz").of(graph) for part in ("calib", "eval"))
    context = Context(calibration=lambda: iter(calibration))
    quantized = run_pipeline(graph, "quantize,fold-quantization,simplify", context).graph
    assert not float_ops(quantized)
    assert [n.op.name for n in quantized.nodes].count("quantize") == 1
    assert [n.op.name for n in quantized.nodes].count("dequantize") == 1
    chosen = [
        [evaluate(g, list(sample.values()))[0].argmax() for g in (graph, quantized)]
        for sample in evaluation.first(SAMPLES)
    ]
    assert np.mean([a == b for a, b in chosen]) >= agreement
