"""Real models from file to emulated core: every output byte is the interpreter's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import planish
from planish.registry import target_named
from planish.runtime.interpreter import run_batch

SAMPLES = 20
TOOLS = {"c": "cc", "cortex-m4": "qemu-system-arm", "cortex-m55": "qemu-system-arm"}
#: What was reached, and a little: a change that costs more must say why.
MOST_INSTRUCTIONS = {"keypoint_mlp": 3_000, "kws_dscnn": 2_850_000}
MOST_ARENA = {"keypoint_mlp": 256, "kws_dscnn": 9_000}
MOST_STACK = 1024


@pytest.mark.parametrize("target", TOOLS)
@pytest.mark.parametrize("model", MOST_INSTRUCTIONS)
def test_quantized_models_are_exact(
    model: str, target: str, models: Path, tmp_path: Path, require_tool: Callable[[str], Path]
) -> None:
    require_tool(TOOLS[target])
    graph = planish.load(models / model / "model.onnx")
    calibration = planish.data(models / model / "calib.npz")
    graph = planish.optimize(graph, "simplify,fuse,quantize,fold-quantization,simplify", calibration=calibration)
    artifact = planish.compile(graph, target=target, out=tmp_path / "out")
    with np.load(models / model / "eval.npz") as data:
        inputs = {v.name: data[v.name][:SAMPLES].reshape(SAMPLES, *v.type.shape) for v in graph.inputs}
    done = target_named(target).run(artifact, inputs, profile=True)
    for name, wanted in run_batch(graph, inputs).items():
        assert done.outputs[name].tobytes() == wanted.tobytes()
    if target == "cortex-m4":
        assert artifact.facts["arena_bytes"] <= MOST_ARENA[model]
        assert done.instructions is not None
        assert done.stack_bytes is not None
        assert done.instructions <= MOST_INSTRUCTIONS[model]
        assert done.stack_bytes <= MOST_STACK


def test_a_transformer_is_exact(models: Path, tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    """Its GELUs are tables, its heads one layer, its matrix products integers."""
    require_tool(TOOLS["cortex-m4"])
    calibration = planish.data(models / "digits" / "calib.npz")
    graph = planish.load(models / "digits" / "attn.onnx", dims={"N": 1})
    graph = planish.optimize(graph, "simplify,fuse,quantize,fold-quantization,simplify", calibration=calibration)
    left = Counter(node.op.name for node in graph.nodes)
    assert (left["integer_softmax"], left["matmul"], left["layer_norm"], left["erf"]) == (2, 4, 5, 0)
    artifact = planish.compile(graph, target="cortex-m4", out=tmp_path / "out")
    with np.load(models / "digits" / "eval.npz") as data:
        inputs = {v.name: data[v.name][:SAMPLES].reshape(SAMPLES, *v.type.shape) for v in graph.inputs}
    done = target_named("cortex-m4").run(artifact, inputs, profile=True)
    for name, wanted in run_batch(graph, inputs).items():
        assert done.outputs[name].tobytes() == wanted.tobytes()
    assert artifact.facts["arena_bytes"] <= 5_000
    assert done.instructions is not None
    assert done.instructions <= 600_000
