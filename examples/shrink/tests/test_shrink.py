"""What a package shows of itself: the same checks as planish's own ops, passes, kernels and targets pass."""

import hypothesis
import numpy as np
import onnx
import planish_nucleo
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import planish
from planish.cli import execute
from planish.ir.errors import DoesNotFitError
from planish.registry import target_named
from planish.testing import check_package

# The same cases on every run, however slow the machine.
hypothesis.settings.register_profile(
    "package",
    max_examples=8,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.large_base_example],
)
hypothesis.settings.load_profile("package")


@pytest.fixture
def denoiser(tmp_path):
    """An ONNX model: a layer, and its results shrunk."""
    weights = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Shrink", ["h"], ["y"], lambd=0.5, bias=0.5),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, d]) for n, d in (("x", 4), ("y", 8)))
    graph = helper.make_graph(nodes, "denoiser", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "denoiser.onnx")
    return tmp_path / "denoiser.onnx"


def usable(name):
    """The target; the test is skipped where its tools are missing."""
    target = target_named(name)
    if lacking := [need for need in target.needs() if not need.present]:
        pytest.skip(f"{lacking[0].name} is missing: {lacking[0].fix}")
    return target


def verified(name, graph, tmp_path):
    """What `planish verify` finds of the graph, compiled for a target."""
    usable(name)
    planish.compile(graph, target=name, out=tmp_path / name)
    return planish.verify(tmp_path / name, "random:-2,2", samples=8)


@pytest.mark.parametrize(("command", "name"), [("targets", "nucleo-f411"), ("passes", "soft-shrink")])
def test_it_is_listed(command, name, capsys):
    assert execute([command]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [name])
    assert "from planish-shrink" in row


def test_all_that_it_brings_is_held_to_what_planish_promises():
    counted = check_package("planish-shrink", programs=1)
    assert counted == dict.fromkeys(
        (
            "planish.ops",
            "planish.importers",
            "planish.exporters",
            "planish.elements",
            "planish.passes",
            "planish.targets",
        ),
        1,
    )


def test_the_importer_says_what_onnx_says(denoiser):
    x = np.linspace(-3, 3, 4, dtype=np.float32)[None]
    (expected,) = ReferenceEvaluator(str(denoiser)).run(None, {"x": x})
    ours = planish.run(planish.load(denoiser), {"x": x})["y"]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["nucleo-f411", "onnx"])
def test_floats_compile_and_verify(denoiser, target, tmp_path):
    assert verified(target, planish.load(denoiser), tmp_path).passed


def test_integers_compile_and_verify(denoiser, tmp_path):
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(1).normal(size=(32, 1, 4)).astype(np.float32))
    graph = planish.optimize(
        planish.load(denoiser), "simplify,fuse,quantize,fold-quantization", calibration=planish.data(samples)
    )
    assert "shrink" not in [node.op.name for node in graph.nodes]  # a table
    verdict = verified("nucleo-f411", graph, tmp_path)
    assert verdict.passed
    assert verdict.exact


def test_the_board_has_no_more_memory_than_it_has(denoiser, tmp_path, monkeypatch):
    monkeypatch.setattr(planish_nucleo, "RAM", 16)
    with pytest.raises(DoesNotFitError, match="on nucleo-f411, 16 are there"):
        planish.compile(planish.load(denoiser), target="nucleo-f411", out=tmp_path / "out")
