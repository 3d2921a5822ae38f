"""Figures mean what they say: flash, accuracy of the float model, counts of nodes, and hints that help."""

import shutil

import numpy as np
import pytest

import planish as api
from planish.backends.c import sizes
from planish.backends.cortexm.kernels import KERNELS
from planish.backends.fitting import remedies
from planish.folder import read_report
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import relu
from planish.ir.text import load, save
from planish.ir.types import F32, F64, TensorType

PIPELINE = "simplify,fuse,quantize{weights=int8,per_channel=false,calibration=minmax}"


def normal(*shape, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).normal(size=shape).astype(np.float32)


# ---- what accuracy is about


def test_a_graph_knows_what_it_was_made_of(digits, tmp_path, require_tool):
    """Quantized in two steps, without a word of the reference: the float figures are the float model's."""
    require_tool("cc")
    graph = api.load(digits / "dscnn.onnx", dims={"N": 1})
    data = api.data(digits / "calib.npz")
    quantized = api.optimize(api.optimize(graph, PIPELINE, calibration=data), "simplify")
    assert quantized.origin is graph
    api.compile(quantized, target="c", out=tmp_path / "out")
    verdict = api.verify(tmp_path / "out", str(digits / "eval.npz"), samples=20)
    assert verdict.reference == "float model"
    assert verdict.sqnr_db is not None
    assert verdict.sqnr_db < 60
    lowered, reference = (load(tmp_path / "out" / "graphs" / f"{n}.planish") for n in ("lowered", "reference"))
    assert not any(n.op.name in ("quantize", "dequantize") for n in reference.nodes)
    assert any(n.op.name == "rescale" or n.op.bodies() for n in lowered.nodes)


def test_of_a_quantized_model_there_is_no_float_accuracy(digits, planish, tmp_path, require_tool):
    require_tool("cc")
    graph = api.load(digits / "dscnn.onnx", dims={"N": 1})
    save(api.optimize(graph, PIPELINE, calibration=api.data(digits / "calib.npz")), tmp_path / "quantized.planish")
    api.compile(load(tmp_path / "quantized.planish"), target="c", out=tmp_path / "out")
    verdict = api.verify(tmp_path / "out", str(digits / "eval.npz"), samples=5)
    assert verdict.accuracy is not None
    assert verdict.accuracy_float is None
    assert verdict.reference == "source model"
    said = planish("verify", tmp_path / "out", "--data", digits / "eval.npz", "--samples", 5).out
    assert "float model" not in said
    assert "float model" not in (tmp_path / "out" / "report.html").read_text().split("<main>")[0]


# ---- flash


@pytest.fixture(scope="module")
def device_build(planish, digits, tmp_path_factory, require_tool):
    """For a Cortex-M4, measured."""
    require_tool("arm-none-eabi-gcc")
    out = tmp_path_factory.mktemp("m4") / "build"
    line = ("--quantize", "int8", "--calib", digits / "calib.npz", "--flash", "32K", "-o", out)
    done = planish("compile", digits / "dscnn.onnx", "-t", "cortex-m4", *line)
    assert done.code == 0, done.err
    assert "flash" in done.out
    assert "about" not in done.out
    return out


def test_flash_is_constants_and_code(planish, device_build, digits, require_tool):
    """In reports, in `check`, in `verify`, on the page, and for the limit."""
    require_tool("qemu-system-arm")
    report = read_report(device_build)
    flash = report["flash_bytes"]
    assert report["flash_error"] == 0
    assert flash == report["constant_bytes"] + report["code_bytes"]
    assert report["code_bytes"] > 5000
    assert sum(layer["constant_bytes"] for layer in report["layers"]) == report["constant_bytes"]
    assert planish("verify", device_build, "--samples", 1, "--json").json["flash_bytes"] == flash
    assert f"{flash:,} B" in (device_build / "report.html").read_text()
    line = ("check", digits / "dscnn.onnx", "-t", "cortex-m4", "--quantize", "int8", "--json", "--flash")
    assert planish(*line, flash).json["flash_bytes"] == flash
    between = (report["constant_bytes"] + flash) // 2
    tight = planish(*line, between)
    assert tight.code == 5
    assert tight.json["fits"] is False
    assert f"{flash} bytes of flash" in tight.json["error"]["what"]


@pytest.mark.parametrize("quantized", [True, False])
def test_without_a_compiler_flash_is_an_estimate_and_says_so(
    planish, device_build, digits, monkeypatch, require_tool, quantized
):
    require_tool("arm-none-eabi-gcc")
    options = ("--quantize", "int8") if quantized else ()
    line = ("check", digits / "dscnn.onnx", "-t", "cortex-m4", *options)
    measured = planish(*line, "--json").json
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    estimated = planish(*line, "--json").json
    assert estimated["constant_bytes"] == measured["constant_bytes"]
    assert 0 < estimated["flash_error"] < 1
    assert abs(estimated["code_bytes"] / measured["code_bytes"] - 1) <= estimated["flash_error"]
    close = planish(*line, "--flash", estimated["flash_bytes"] + 1)
    assert close.code == 0
    assert "flash about" in close.out
    assert "estimated, within" in close.out
    assert "it may not fit" in close.err


def test_every_kernel_has_a_size():
    """Of kernels that nobody has measured the average stands: none may."""
    known = set(sizes._table()["cortex-m4"]["bytes_per_character"])
    assert {kernel.name for kernel in KERNELS["cortex-m4"]} <= known
    assert set(sizes._table()) >= set(KERNELS)


def test_what_has_no_flash_takes_no_limit(planish, digits):
    done = planish("check", digits / "dscnn.onnx", "-t", "onnx", "--flash", "1M")
    assert done.code == 2
    assert "--flash is for devices" in done.err


def test_build_compiles_what_was_emitted(planish, digits, tmp_path, require_tool, monkeypatch):
    require_tool("cc")
    line = ("compile", digits / "dscnn.onnx", "-t", "c", "--build", "-o")
    assert planish(*line, tmp_path / "good").code == 0
    monkeypatch.setattr("planish.backends.c.cflags.MODEL_FLAGS", ("-std=c99", "-Dfor=!"))
    done = planish(*line, tmp_path / "bad")
    assert done.code == 6, done.err
    assert not (tmp_path / "bad").exists()
    assert planish("compile", digits / "dscnn.onnx", "-t", "onnx", "--build", "-o", tmp_path / "onnx").code == 2


# ---- hints, and what is said unasked


@pytest.mark.parametrize(("limit", "quantized"), [("--ram", True), ("--flash", True), ("--flash", False)])
def test_hints_name_what_was_not_done(planish, digits, limit, quantized):
    options = ("--quantize", "int8") if quantized else ()
    done = planish("check", digits / "dscnn.onnx", "-t", "cortex-m4", *options, limit, "1K")
    assert done.code == 5
    (fix,) = [line for line in done.err.splitlines() if line.lstrip().startswith("fix:")]
    assert "prune" not in fix
    assert ("--quantize" in fix) == (not quantized)


def test_hints_name_the_batch_where_there_is_one():
    x = graph_input("x", TensorType((4, 8), F32))
    graph = Graph([x], [dense(x, normal(2, 8), normal(2))], ["y"])
    assert "batch" in remedies(graph)


def test_an_npu_that_does_nothing_is_remarked(planish, digits, tmp_path):
    done = planish("check", digits / "dscnn.onnx", "-t", "npu:64")
    assert done.code == 0
    assert "nothing runs on the NPU" in done.err
    assert "--quantize int8" in done.err


def test_no_more_nodes_are_refused_than_there_are(planish, tmp_path):
    x = graph_input("x", TensorType((1, 8), F64))
    save(Graph([x], [relu(relu(x))], ["y"], "m"), tmp_path / "m.planish")
    done = planish("compile", tmp_path / "m.planish", "-t", "cortex-m4", "-o", tmp_path / "out", "--json")
    assert done.code == 4
    what = done.json["error"]["what"]
    refused, nodes, *_ = (int(word) for word in what.split() if word.isdigit())
    assert refused <= nodes


# ---- without data


def test_made_up_ranges_decide_nothing(planish, tmp_path):
    """A bias that is below zero for inputs up to 1, and not for those up to 255: the channels are not dead."""
    x = graph_input("x", TensorType((1, 3, 8, 8), F32))
    first = relu(conv2d(x, np.abs(normal(16, 3, 3, 3)) * 0.02, np.full(16, -3, np.float32), pads=(1,) * 4))
    graph = Graph([x], [conv2d(first, normal(16, 16, 3, 3) * 0.1, normal(16), pads=(1,) * 4)], ["y"], "m")
    save(graph, tmp_path / "m.planish")
    np.savez(tmp_path / "data.npz", x=np.abs(normal(8, 1, 3, 8, 8)) * 100)
    line = ("check", tmp_path / "m.planish", "-t", "c", "--quantize", "int8", "--json")
    without, given = (planish(*line, *calib).json for calib in ((), ("--calib", tmp_path / "data.npz")))
    for key in ("macs", "arena_bytes", "constant_bytes"):
        assert without[key] == given[key], key
    assert any("without --calib" in note for note in without["notes"])
    assert not any("SQNR" in note for note in without["notes"])
