"""Random networks and real models, from the graph to machine code: every output byte is the interpreter's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import planish
from planish.ir.graph import Graph
from planish.ir.types import F32
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from planish.runtime.interpreter import run_batch
from planish.runtime.oracle import judge
from planish.runtime.target import Limits
from planish.testing import graphs

SAMPLES = 10
TOOLS = {"tvm": ("cc",), "tvm:aarch64-linux": ("aarch64-linux-gnu-gcc", "qemu-aarch64")}
INTEGER = "simplify,fuse,quantize,fold-quantization,simplify"

pytestmark = pytest.mark.usefixtures("tvm")


@hypothesis.settings(
    max_examples=max(4, hypothesis.settings().max_examples // 5),
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
@given(graphs(), st.integers(0, 2**16))
def test_quantized_networks_are_exact_everywhere(graph: Graph, seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [{v.name: random.uniform(-2, 2, v.type.shape).astype(np.float32) for v in graph.inputs} for _ in range(3)]
    batch = {v.name: np.stack([s[v.name] for s in samples]) for v in graph.inputs}
    quantized = run_pipeline(graph, INTEGER, Context(lambda: iter(samples))).graph
    between = [v for n in quantized.nodes for v in n.results if n.op.name not in ("const", "dequantize")]
    hypothesis.assume(not any(v.type.dtype == F32 for v in between))
    wanted = run_batch(quantized, batch)
    for name in ("c", "tvm"):
        target = target_named(name)
        lowered = run_pipeline(quantized.clone(), target.lowering, Context(target=target)).graph
        with tempfile.TemporaryDirectory() as folder:
            done = target.run(target.emit(lowered, Path(folder), "model", Limits()), batch)
        for output, array in wanted.items():
            np.testing.assert_array_equal(done.outputs[output], array, f"{name}: {output}")


@pytest.mark.parametrize("target", TOOLS)
@pytest.mark.parametrize("model", ["keypoint_mlp", "kws_dscnn"])
@pytest.mark.parametrize("quantized", [True, False], ids=["int8", "float"])
def test_models(
    model: str, target: str, quantized: bool, models: Path, tmp_path: Path, require_tool: Callable[[str], Path]
) -> None:
    for tool in TOOLS[target]:
        require_tool(tool)
    graph = planish.load(models / model / "model.onnx")
    if quantized:
        calibration = planish.data(models / model / "calib.npz")
        graph = planish.optimize(graph, INTEGER, calibration=calibration)
    else:
        graph = planish.optimize(graph, "simplify,fuse")
    artifact = planish.compile(graph, target=target, out=tmp_path / "out")
    with np.load(models / model / "eval.npz") as data:
        inputs = {v.name: data[v.name][:SAMPLES].reshape(SAMPLES, *v.type.shape) for v in graph.inputs}
    outputs = target_named(target).run(artifact, inputs).outputs
    if quantized:
        for name, wanted in run_batch(graph, inputs).items():
            assert outputs[name].tobytes() == wanted.tobytes()
        return
    for i in range(SAMPLES):
        sample = {name: x[i] for name, x in inputs.items()}
        for comparison in judge(graph, sample, {name: y[i] for name, y in outputs.items()}).values():
            assert comparison.agrees, comparison
