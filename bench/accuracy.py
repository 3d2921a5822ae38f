"""What int8 costs in accuracy: float and quantized models side by side, on all evaluation samples.

    PLANISH_MODELS=... python bench/accuracy.py [MODEL ...]

Prints top-1 of the float and the int8 model, how often the two agree, the SQNR of the outputs in dB, and the method
that calibration chose. Models without data are calibrated and measured on random inputs; their agreement means little.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from planish.frontends.onnx import load
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.passes.quantization_quality import sqnr
from planish.runtime.data import Dataset, read

DIGITS = ("dscnn", "dscnn_relu", "resnet", "dscnn_bad1", "dscnn_bad15")
#: Where a model's samples come from: a folder of .npz files, or a random range.
MODELS = {
    "kws_dscnn": "kws_dscnn", "mnist_cnn_cntk": "mnist_cnn_cntk", "keypoint_mlp": "keypoint_mlp",
    **{f"digits/{name}": "digits" for name in DIGITS},
    "ic_resnet8": "random:0,255", "ad_autoencoder": "random:-80,20", "ic_resnet20_torch": "random:-2.2,2.7",
    "sr_espcn_x3": "random:0,1",
}  # fmt: skip
RANDOM_SAMPLES = 20
PIPELINE = "quantize,fold-quantization,simplify"


def samples(graph: Graph, folder: Path, source: str) -> tuple[Dataset, Dataset]:
    """Calibration and evaluation samples."""
    if source.startswith("random:"):
        drawn = read(source).of(graph, 2 * RANDOM_SAMPLES)
        rest = Dataset({k: a[RANDOM_SAMPLES:] for k, a in drawn.arrays.items()}, None, source)
        return drawn.first(RANDOM_SAMPLES), rest
    calibration, evaluation = (read(folder / source / f"{name}.npz").of(graph) for name in ("calib", "eval"))
    return calibration, evaluation


def row(folder: Path, name: str) -> str:
    """One line of the table."""
    path = folder / (f"{name}.onnx" if name.startswith("digits/") else f"{name}/model.onnx")
    imported = load(path, dims={"N": 1} if name.startswith("digits/") else None)
    graph = run_pipeline(imported, "simplify,fuse").graph
    calibration, evaluation = samples(graph, folder, MODELS[name])
    started = time.perf_counter()
    result = run_pipeline(graph, PIPELINE, Context(calibration=lambda: iter(calibration)))
    seconds = time.perf_counter() - started
    inputs = [[s[v.name] for v in graph.inputs] for s in evaluation]
    expected, actual = ([evaluate(g, x) for x in inputs] for g in (graph, result.graph))
    tops = [np.array([y[0].argmax() for y in outputs]) for outputs in (expected, actual)]
    labels = evaluation.labels
    accuracy = ["-" if labels is None else f"{100 * np.mean(top == labels.ravel()):.2f}" for top in tops]
    floats = sum(any(v.type.dtype.is_float and v.const is None for v in n.results) for n in result.graph.nodes)
    method = result.steps[0].changes.facts["calibration"]
    agreement = 100 * np.mean(tops[0] == tops[1])
    return (
        f"| {name} | {accuracy[0]} | {accuracy[1]} | {agreement:.2f} | {sqnr(expected, actual):.1f} | "
        f"{len(inputs)} | {method} | {floats} | {seconds:.1f} |"
    )


def main() -> None:
    """Print the table."""
    folder = Path(os.environ["PLANISH_MODELS"])
    print("| model | float top-1 % | int8 top-1 % | agreement % | SQNR dB | samples | method | float nodes | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or MODELS:
        print(row(folder, name), flush=True)


if __name__ == "__main__":
    main()
