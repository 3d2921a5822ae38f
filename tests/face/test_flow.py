"""From a model file to a verified folder, as `make demo` does it."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

import planish as api
from planish.backends.c.target import CTarget
from planish.backends.kernel import Choices
from planish.folder import read_report
from planish.ir.errors import UsageError
from planish.page import render
from planish.registry import TARGETS
from planish.runtime.target import Unsupported

VERDICT = {
    "exact", "samples", "accuracy", "accuracy_float", "agreement", "sqnr_db", "instructions", "arena_bytes",
    "stack_bytes", "flash_bytes", "cycles", "layers", "passed", "data", "target",
}  # fmt: skip


@pytest.fixture
def copy(int8_build, tmp_path):
    return shutil.copytree(int8_build, tmp_path / "copy")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_lists_itself(int8_build):
    report = read_report(int8_build)
    unlisted = {"report.json", "report.html", "verify.json"}  # itself, and what `verify` writes anew
    assert {"report.json", "report.html"} <= set(contents(int8_build)) <= {*report["files"], *unlisted}
    assert report["files"] == {n: len(b) for n, b in contents(int8_build).items() if n not in unlisted}
    assert report["inputs"]["x"]["range"] == [0.0, 1.0]
    assert report["calibration"] == {"source": "calib.npz", "samples": 200}
    assert any("batch dimension N is taken as 1" in note for note in report["notes"])
    assert report["macs"] > 100_000
    assert sum(layer["macs"] for layer in report["layers"]) == report["macs"]
    assert max(layer["ram_bytes"] for layer in report["layers"]) <= report["arena_bytes"]


def test_verify_with_data(planish, int8_build, digits):
    done = planish("verify", int8_build, "--data", digits / "eval.npz", "--json")
    verdict = done.json
    assert done.code == 0
    assert done.err == ""
    assert set(verdict) >= VERDICT
    assert verdict["exact"] is True
    assert verdict["samples"] == 540
    assert verdict["accuracy"] > 0.97
    assert verdict["accuracy_float"] == 1.0
    assert verdict["agreement"] > 0.97
    assert verdict["sqnr_db"] > 20
    assert verdict["instructions"] is None  # nobody counts on a host
    assert verdict["interpreted"] is None


def test_verify_without_data_draws_from_the_calibrated_ranges(planish, int8_build):
    verdict = planish("verify", int8_build, "--samples", "3", "--json").json
    assert verdict["exact"] is True
    assert verdict["samples"] == 3
    assert verdict["accuracy"] is None
    assert "calibrated ranges" in verdict["data"]
    assert "seed 0" in verdict["data"]


def test_verify_for_people(planish, int8_build):
    done = planish("verify", int8_build, "--data", "random:0,1", "--samples", "2")
    assert done.code == 0
    assert "exact, 2 samples of random:0,1, seed 0" in done.out


def test_a_program_that_computes_something_else_is_caught(planish, copy):
    tables = copy / "dscnn_tables.h"
    text = tables.read_text()
    table = next(m for m in re.finditer(r"\{([^{}]+)\}", text) if m.group(1).count(",") > 200)
    changed = re.sub(r"-?\d+", lambda m: str(-int(m.group())), table.group(1))
    tables.write_text(text[: table.start(1)] + changed + text[table.end(1) :])
    done = planish("verify", copy, "--samples", "3")
    assert done.code == 6, done.err
    assert re.search(r"at: logits\[0,\d\] of sample 0: the interpreter says \S+, the artifact \S+", done.err)
    assert "DIFFERENT" in done.out
    as_json = planish("verify", copy, "--samples", "3", "--json")
    assert as_json.code == 6
    assert as_json.err == ""
    assert as_json.json["exact"] is False
    assert as_json.json["passed"] is False
    assert as_json.json["error"]["code"] == 6
    assert as_json.json["difference"]["output"] == "logits"


def test_a_program_that_does_not_compile_is_caught(planish, copy):
    (copy / "dscnn.c").write_text("#error not C\n")
    done = planish("verify", copy, "--samples", "1")
    assert done.code == 6, done.err
    assert "Traceback" not in done.err


def test_a_float_build_is_within_the_tolerance(planish, digits, tmp_path, require_tool):
    require_tool("cc")
    assert planish("compile", digits / "dscnn.onnx", "-t", "c", "-o", tmp_path / "out").code == 0
    done = planish("verify", tmp_path / "out", "--data", digits / "eval.npz", "--samples", "20", "--json")
    assert done.code == 0
    assert done.json["passed"] is True
    assert done.json["accuracy"] == 1.0
    no_data = planish("verify", tmp_path / "out")
    assert no_data.code == 2
    assert "--data" in no_data.err


def test_check_says_what_compile_makes(planish, digits, int8_build):
    done = planish("check", digits / "dscnn.onnx", "-t", "c", "--quantize", "int8", "--json")
    report = read_report(int8_build)
    assert done.code == 0
    assert done.json["supported"] is True
    assert done.json["fits"] is True
    assert {key: done.json[key] for key in ("macs", "arena_bytes")} == {k: report[k] for k in ("macs", "arena_bytes")}
    assert len(done.json["layers"]) == len(report["layers"])
    tight = planish("check", digits / "dscnn.onnx", "-t", "c", "--quantize", "int8", "--ram", "1K", "--json")
    assert tight.code == 5
    assert tight.json["fits"] is False
    assert tight.json["layers"]


def test_run_gives_what_the_interpreter_and_the_artifact_compute(planish, digits, int8_build, tmp_path):
    line = ("--data", digits / "eval.npz", "--samples", "5", "--json", "-o")
    float_run = planish("run", digits / "dscnn.onnx", *line, tmp_path / "float.npz")
    int8_run = planish("run", int8_build, *line, tmp_path / "int8.npz")
    assert float_run.json["ran_on"] == "the reference interpreter"
    assert int8_run.json["ran_on"] == "target c"
    assert int8_run.json["outputs"] == {"logits": {"dtype": "float32", "shape": [5, 10]}}
    floats, integers = (np.load(tmp_path / name)["logits"] for name in ("float.npz", "int8.npz"))
    images = np.load(digits / "eval.npz")["x"][:5]
    graph = api.load(digits / "dscnn.onnx")
    for image, logits in zip(images, floats, strict=True):
        assert api.run(graph, {"x": image[None]})["logits"].tobytes() == logits.tobytes()
    assert np.abs(floats - integers).max() < 0.1 * np.abs(floats).max()


def test_report_shows_layers_and_passes(planish, int8_build):
    done = planish("report", int8_build)
    assert done.code == 0
    for text in ("dscnn for c", "dense/Gemm", "fold-quantization", "dscnn.c", "calib.npz"):
        assert text in done.out
    assert planish("report", int8_build, "--json").json == read_report(int8_build)


def test_targets_and_passes_are_listed(planish):
    assert {"c", "cortex-m4", "cortex-m55"} <= {t["name"] for t in planish("targets", "--json").json["targets"]}
    found = {p["name"]: p for p in planish("passes", "--json").json["passes"]}
    assert found["quantize"]["options"]["weights"] == "int8"
    assert found["simplify"]["contract"] == "EXACT"
    assert "cortex-m4" in planish("targets").out
    assert "fold-quantization" in planish("passes").out


def test_print_after_prints_each_graph_on_stderr(planish, digits, tmp_path):
    line = ("compile", digits / "dscnn.onnx", "-t", "c", "--print-after", "-o", tmp_path / "out")
    done = planish(*line)
    assert "graph @" in done.err
    assert "after layout" in done.err
    assert "graph @" not in done.out


def test_notes_are_quiet_with_q(planish, digits):
    line = ("check", digits / "dscnn.onnx", "-t", "c")
    assert "batch dimension N is taken as 1" in planish(*line).err
    assert planish(*line, "-q").err == ""
    assert planish("-q", *line).err == ""
    assert planish(*line, "--dim", "N=1").err == ""


def test_same_input_same_bytes(digits, int8_build, tmp_path):
    """In another process, with other hash seeds, another folder, name of the folder, locale and time zone."""
    command = [sys.executable, "-m", "planish", "compile", str(digits / "dscnn.onnx"), "-t", "c", "--quantize", "int8"]
    command += ["--calib", str(digits / "calib.npz"), "-o", "elsewhere"]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = contents(tmp_path / "elsewhere"), contents(int8_build)
    for by_verify in ("report.html", "verify.json"):
        expected.pop(by_verify, None)
    assert found.pop("report.html").decode() == render(read_report(int8_build))
    assert found == expected


def test_no_color_and_no_terminal_mean_no_escapes(planish, int8_build):
    done = planish("report", int8_build, "--no-color")
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("core", [name for name in TARGETS if name.startswith("cortex-")])
def test_every_core_is_exact(planish, digits, tmp_path, require_tool, core):
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        require_tool(tool)
    build, calib = tmp_path / "build", digits / "calib.npz"
    done = planish("compile", digits / "dscnn.onnx", "-t", core, "--quantize", "int8", "--calib", calib, "-o", build)
    assert done.code == 0, done.err
    verdict = planish("verify", build, "--data", digits / "eval.npz", "--samples", 3, "--json").json
    assert verdict["exact"]
    assert verdict["instructions"] > 0


def test_the_python_api(digits, tmp_path, require_tool):
    require_tool("cc")
    graph = api.load(digits / "dscnn.onnx", dims={"N": 1})
    data = api.data(digits / "calib.npz")
    small = api.optimize(graph, "simplify,fuse,quantize{weights=int8},fold-quantization", calibration=data)
    artifact = api.compile(small, target="c", out=tmp_path / "out", reference=graph, calibration=data)
    assert artifact.path == tmp_path / "out"
    verdict = api.verify(tmp_path / "out", api.data(digits / "eval.npz"), samples=50)
    assert verdict.passed
    assert verdict.exact
    assert verdict.accuracy == 1.0


def test_without_calibration_the_ranges_are_what_the_graph_quantizes(digits, tmp_path, require_tool):
    require_tool("cc")
    graph = api.load(digits / "dscnn.onnx", dims={"N": 1})
    data = api.data(digits / "calib.npz")
    small = api.optimize(graph, "quantize,fold-quantization", calibration=data)
    api.compile(small, target="c", out=tmp_path / "out", name="own_name")
    low, high = read_report(tmp_path / "out")["inputs"]["x"]["range"]
    assert abs(low) < 0.01
    assert 0.9 < high < 1.1
    assert (tmp_path / "out/own_name.c").exists()
    assert api.verify(tmp_path / "out", samples=2).exact


def test_a_symbolic_graph_is_not_compiled(digits, tmp_path):
    with pytest.raises(UsageError, match="N is not known") as error:
        api.compile(api.load(digits / "dscnn.onnx"), target="c", out=tmp_path / "out")
    assert "--dim N=" in error.value.fix
    assert not (tmp_path / "out").exists()


def test_what_ran_where_is_said(planish, int8_build, digits, tmp_path, monkeypatch):
    """Where emulation is slow the artifact runs on some samples, and the interpreter's figures stand apart."""
    monkeypatch.setattr(CTarget, "verified_macs", 7 * read_report(int8_build)["macs"])
    np.savez(tmp_path / "some.npz", **{name: array[:60] for name, array in np.load(digits / "eval.npz").items()})
    line = ("verify", int8_build, "--data", tmp_path / "some.npz")
    verdict = planish(*line, "--json").json
    assert verdict["samples"] == 7
    assert verdict["interpreted"]["samples"] == 60
    assert verdict["interpreted"]["accuracy"] > 0.95
    assert "by the interpreter, on all 60 samples: accuracy" in planish(*line).out
    assert planish(*line, "--samples", "9", "--json").json["samples"] == 9


def test_every_node_that_a_target_refuses_is_named(planish, digits, tmp_path, monkeypatch):
    """With the reason, and what helps; compiling says the same and leaves nothing."""

    def supports(self, node):
        return Unsupported("there is no kernel", "leave it out") if node.op.name in ("add", "fused") else None

    monkeypatch.setattr(Choices, "problem", supports)
    done = planish("check", digits / "dscnn.onnx", "-t", "c", "--json")
    assert done.code == 4
    assert done.json["supported"] is False
    assert done.json["fits"] is None
    assert len(done.json["unsupported"]) == 7
    assert done.json["unsupported"][0] == {
        "node": "/stem/stem.0/Conv + /stem/stem.2/Relu",
        "op": "fused",
        "operands": ["f32[1,8,8,1]", "f32[24,3,3,1]", "f32[24]"],
        "reason": "there is no kernel",
        "hint": "leave it out",
    }
    shown = planish("check", digits / "dscnn.onnx", "-t", "c")
    assert shown.out.count("there is no kernel") == 7
    compiled = planish("compile", digits / "dscnn.onnx", "-t", "c", "-o", tmp_path / "out")
    assert compiled.code == 4
    assert compiled.err.count("there is no kernel") == 7
    assert list(tmp_path.iterdir()) == []


def test_importing_planish_imports_nothing_else():
    script = "import sys, planish; sys.exit(str({'numpy', 'onnx', 'click', 'rich'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_an_unknown_name_of_the_api_is_an_attribute_error():
    with pytest.raises(AttributeError, match="frobnicate"):
        _ = api.frobnicate
    assert "compile" in dir(api)


def test_a_broken_report_is_no_traceback(planish, copy):
    report = json.loads((copy / "report.json").read_text())
    (copy / "report.json").write_text(json.dumps({**report, "target": "cortex-m99"}))
    assert planish("verify", copy).code == 2
    (copy / "graphs/lowered.planish").write_text("graph @x(")
    (copy / "report.json").write_text(json.dumps(report))
    assert planish("verify", copy).code == 3


OWN_PASS = """
from dataclasses import dataclass
from planish.passes.base import Changes, Pass

@dataclass(frozen=True)
class CountNodes(Pass):
    strength: int = 1

    def run(self, graph, context):
        context.notes.append(f"{len(graph) * self.strength} nodes")
        return Changes()
"""


def test_a_pass_of_ones_own(planish, digits, tmp_path):
    (tmp_path / "own.py").write_text(OWN_PASS)
    (tmp_path / "none.py").write_text("x = 1")
    (tmp_path / "broken.py").write_text("1 / 0")
    line = ("check", digits / "dscnn.onnx", "-t", "c", "--pipeline", "simplify,count-nodes{strength=1000}", "--load")
    done = planish(*line, tmp_path / "own.py")
    assert done.code == 0, done.err
    assert "000 nodes" in done.err
    for name, says in (("none.py", "no pass"), ("broken.py", "ZeroDivisionError"), ("nowhere.py", "no Python file")):
        wrong = planish(*line, tmp_path / name)
        assert wrong.code == 2
        assert says in wrong.err
