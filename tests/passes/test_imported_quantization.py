"""Models that ONNX Runtime quantized, in both of its formats, become integers again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from planish.frontends.onnx import load
from planish.ir.evaluate import evaluate
from planish.ir.types import I8, I32, Array
from planish.passes.pipeline import run_pipeline
from planish.runtime.data import read
from tests.support.clusters import float_ops, steps_by_cluster

SAMPLES = 10


def samples(folder: Path, count: int) -> Iterator[dict[str, Array]]:
    return islice(iter(read(folder / "calib.npz").of(load(folder / "model.onnx"))), count)


def quantized_by_onnxruntime(folder: Path, out: Path, form: str, per_channel: bool, activations: str) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.samples = samples(folder, SAMPLES)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.samples, None)

    logging.getLogger().setLevel(logging.ERROR)
    quantization.quantize_static(
        str(folder / "model.onnx"), str(out), Reader(),
        quant_format=quantization.QuantFormat[form], per_channel=per_channel,
        activation_type=quantization.QuantType[activations], weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
def test_imported_models_fold_within_one_step(
    models: Path, tmp_path: Path, form: str, per_channel: bool, activations: str
) -> None:
    folder = models / "kws_dscnn"
    quantized_by_onnxruntime(folder, tmp_path / "q.onnx", form, per_channel, activations)
    graph = run_pipeline(load(tmp_path / "q.onnx"), "simplify,fuse").graph
    inputs = [list(sample.values()) for sample in samples(folder, SAMPLES)]
    steps = steps_by_cluster(graph, inputs)
    assert len(steps) >= 13  # 9 convolutions, a pooling, a reshape or two, a dense layer
    assert max(steps.values()) <= 1, steps

    result = run_pipeline(graph, "fold-quantization,simplify")
    assert not float_ops(after := result.graph)
    assert {v.type.dtype for n in after.nodes for v in n.results if v.type.dtype.is_integer} == {I8, I32}
    first = [evaluate(graph, x)[0].argmax() for x in inputs]
    assert np.mean([evaluate(after, x)[0].argmax() == y for x, y in zip(inputs, first, strict=True)]) >= 0.9
