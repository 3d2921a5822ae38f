"""kws_dscnn as ONNX Runtime quantizes it, through the compiler: imported, folded into integers, run on an emulated M4.

    PLANISH_MODELS=... python bench/imported.py

Both formats (QDQ, QOperator), both activation types, per channel and not. Prints top-1 of ONNX Runtime on the quantized
file and of C on this host, over all evaluation samples, and whether C on the M4 is exact. That every rewritten node is
within one step of its cluster, given the same inputs, tests/passes/test_imported_quantization.py measures.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from exactness import planish
from models import BENCHMARKS
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

BENCHMARK = next(b for b in BENCHMARKS if b.name == "kws_dscnn")


class Samples(CalibrationDataReader):
    """Calibration samples, one at a time."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        count = len(next(iter(arrays.values())))
        self.samples: Iterator[dict[str, Any]] = iter(
            {k: a[i : i + 1] for k, a in arrays.items()} for i in range(count)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next sample, or None."""
        return next(self.samples, None)


def peer_accuracy(path: Path, arrays: Mapping[str, Any]) -> float:
    """Top-1 of ONNX Runtime without graph optimizations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    guesses = [int(np.argmax(session.run(None, {name: arrays[name][i : i + 1]})[0])) for i in range(len(arrays[name]))]
    return float(np.mean(np.array(guesses) == arrays["labels"]))


def main() -> None:
    """Measure and print; status 1 when anything is not exact."""
    calibration = dict(np.load(BENCHMARK.data(BENCHMARK.calibration)))
    evaluation = dict(np.load(BENCHMARK.data(BENCHMARK.evaluation)))
    print("| format | activations | per channel | ONNX Runtime | planish | M4, 20 samples | instructions | arena |")
    print("|---|---|---|---|---|---|---|---|")
    exact = True
    formats, types = (QuantFormat.QDQ, QuantFormat.QOperator), (QuantType.QInt8, QuantType.QUInt8)
    for form, activations, per_channel in itertools.product(formats, types, (True, False)):
        with tempfile.TemporaryDirectory() as folder:
            path, build = Path(folder) / "quantized.onnx", Path(folder) / "build"
            quantize_static(
                str(BENCHMARK.path()), str(path), Samples(calibration), quant_format=form, per_channel=per_channel,
                activation_type=activations, weight_type=QuantType.QInt8,
            )  # fmt: skip
            theirs = peer_accuracy(path, evaluation)
            host, device = (
                _verified(path, build.with_name(target), target, samples)
                for target, samples in (("c", len(evaluation["labels"])), ("cortex-m4", 20))
            )
        exact = exact and host["exact"] and device["exact"]
        print(
            f"| {form.name} | {activations.name} | {'yes' if per_channel else 'no'} | {100 * theirs:.2f} % | "
            f"{100 * host['accuracy']:.2f} % | {'exact' if device['exact'] else 'DIFFERENT'} | "
            f"{device['instructions']:,} | {device['arena_bytes']:,} |",
            flush=True,
        )
    sys.exit(0 if exact else 1)


def _verified(path: Path, build: Path, target: str, samples: int) -> Any:
    compiled = planish("compile", str(path), "--target", target, "-o", str(build))
    if "error" in compiled:
        sys.exit(f"{path.name}: {compiled['error']}")
    data = BENCHMARK.data(BENCHMARK.evaluation)
    return planish("verify", str(build), "--data", data, "--samples", str(samples))


if __name__ == "__main__":
    main()
