"""The NPU from the command line: compile, verify, run from the folder alone, profile, trace; and what goes wrong."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from planish.backends.npu.assembly import assemble
from planish.backends.npu.encoding import decode
from planish.backends.npu.machine import FOLDER


@pytest.fixture(scope="module")
def npu_build(planish, digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("npu") / "build"
    calib = digits / "calib.npz"
    done = planish("compile", digits / "dscnn.onnx", "-t", "npu:256", "--quantize", "int8", "--calib", calib, "-o", out)
    assert done.code == 0, done.err
    return out


def test_verify_is_exact(planish, npu_build, digits):
    done = planish("verify", npu_build, "--data", digits / "eval.npz", "--samples", 10, "--json")
    assert done.code == 0, done.err
    assert done.json["exact"]
    assert done.json["cycles"] > 0


def test_the_report_counts_what_the_host_does(npu_build):
    facts = json.loads((npu_build / "report.json").read_text())["facts"]
    assert {step["op"] for step in facts["host_steps"]} == {"quantize", "dequantize"}
    assert all(step["reason"] for step in facts["host_steps"])
    assert facts["host_bytes"] == 64 * 5 + 10 * 5
    assert facts["cycles"] >= facts["bound_cycles"] / 2
    assert sum(row["cycles"] for row in facts["profile"]) <= facts["cycles"]


def test_the_host_in_profile_and_page(planish, npu_build, require_tool):
    require_tool("qemu-system-arm")
    host = planish("profile", npu_build, "--json").json["host"]
    assert host["instructions"] > 64
    shown = planish("profile", npu_build).out
    assert "the host is called 2 times, reads 266 and writes 104 bytes" in shown
    assert f"{host['instructions']:,} instructions" in shown
    page = (npu_build / "report.html").read_text()
    assert "host: elementwise" in page
    assert "the host&#39;s included" in page


def test_without_a_compiler_verify_says_what_is_missing(planish, npu_build, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = planish("verify", npu_build, "--samples", 1)
    assert done.code == 2
    assert "cc is not on PATH" in done.err


def test_text_and_binary_are_the_same_program(npu_build):
    binary = decode((npu_build / "segment_0.npu").read_bytes())
    assert assemble((npu_build / "segment_0.asm").read_text()) == binary


@pytest.fixture
def upsampling(tmp_path):
    """A model that doubles an image three times: nearest pixels, lines between them, lines with aligned corners."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (8, 3, 3, 3), "w1": (6, 8, 3, 3), "w2": (4, 6, 3, 3)}
    constants = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    constants.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "s"))
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    steps = [
        ("Conv", ["x", "w0"], {"pads": [1] * 4}),
        ("Resize", ["0", "", "s"], nearest),
        ("Conv", ["1", "w1"], {"pads": [1] * 4}),
        ("Resize", ["2", "", "s"], {"mode": "linear"}),
        ("Conv", ["3", "w2"], {"pads": [1] * 4}),
        ("Resize", ["4", "", "s"], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
    ]
    nodes = [
        helper.make_node(op, given, [str(i)], name=f"{op}{i}", **more) for i, (op, given, more) in enumerate(steps)
    ]
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 5])
    graph = helper.make_graph(nodes, "up", [image], [helper.make_empty_tensor_value_info("5")], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "up.onnx")
    return tmp_path / "up.onnx"


def test_resized_images(planish, upsampling, tmp_path, require_tool):
    require_tool("cc")
    arguments = ("-t", "npu:64", "--quantize", "int8", "--calib", "random:-1,1", "-o", tmp_path / "build")
    assert planish("compile", upsampling, *arguments).code == 0
    assert planish("verify", tmp_path / "build", "--samples", 5, "--json").json["exact"]
    found = planish("profile", tmp_path / "build", "--json").json
    assert {"Resize1", "Resize3"} <= {row["name"] for row in found["profile"]}
    hosted = {step["name"]: step["reason"] for step in found["host_steps"]}
    assert hosted["Resize5"] == "the pixels lie in 32 x 40 ways between those of the operand"
    assert len([name for name in hosted if "Resize" in name or "Conv" in name]) == 1


def test_profile_of_a_folder_and_its_trace(planish, npu_build, tmp_path, require_tool):
    require_tool("qemu-system-arm")
    done = planish("profile", npu_build, "--trace", tmp_path / "trace.json", "--json")
    assert done.code == 0, done.err
    assert {"cycles", "bound", "utilisation", "stall", "energy_nj"} <= set(done.json["profile"][0])
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {row["name"] for row in done.json["profile"]}
    timed = [e for e in events if e["ph"] == "X"]
    assert {e["name"] for e in timed} & names == names
    # The host first and last, the program between them: one after the other.
    assert [e["pid"] for e in sorted(timed, key=lambda e: e["ts"])][:: len(timed) - 1] == [1, 1]
    host = done.json["host"]
    assert sum(e["dur"] for e in timed if e["pid"] == 1) == sum(s["cycles"] for s in done.json["host_steps"])
    assert max(e["ts"] + e["dur"] for e in timed) == done.json["cycles"] + host["cycles"]
    shown = planish("profile", npu_build)
    assert "cycles" in shown.out


def test_profile_of_a_model(planish, digits):
    arguments = ("--quantize", "int8", "--calib", "random:0,1", "-t", "npu:64", "--json")
    done = planish("profile", digits / "dscnn.onnx", *arguments)
    assert done.code == 0, done.err
    assert done.json["cycles"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-t", "npu:999"), "no machine '999'"),
        (("-t", "npu:256@nowhere"), "no memory mode 'nowhere'"),
        (("-t", "c", "--trace", "t.json"), "does not simulate time"),
        ((), "--target is missing"),
    ],
)
def test_what_profile_refuses(planish, digits, arguments, said):
    done = planish("profile", digits / "dscnn.onnx", *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_machine_of_ones_own(planish, digits, tmp_path):
    machine = tmp_path / "mine.toml"
    shutil.copy(FOLDER / "npu256.toml", machine)
    arguments = ("-t", f"npu:{machine}", "--quantize", "int8", "--calib", "random:0,1")
    out = tmp_path / "build"
    assert planish("compile", digits / "dscnn.onnx", *arguments, "-o", out).code == 0
    machine.write_text(machine.read_text().replace("act = 18432", "act = 64"))
    small = planish("compile", digits / "dscnn.onnx", *arguments, "-o", tmp_path / "small")
    assert small.code == 5
    assert "no tiling of" in small.err
    assert not (tmp_path / "small").exists()


def test_a_program_that_was_cut_off(planish, npu_build, tmp_path, digits):
    broken = tmp_path / "broken"
    shutil.copytree(npu_build, broken)
    program = broken / "segment_0.npu"
    program.write_bytes(program.read_bytes()[:-5])
    done = planish("verify", broken, "--data", digits / "eval.npz", "--samples", 1)
    assert done.code != 0
    assert "Traceback" not in done.err
