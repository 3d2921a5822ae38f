"""Whatever is wrong: a clear text with a fix on stderr, the documented exit code, and nothing left behind."""

import numpy as np
import onnx
import onnx.helper as oh
import pytest

BAD_NAME = "evil*/\x1b[2J\n  fix: rm -rf\u202e"


def small_model(op="Relu", weight=1.0, name="node", domain="", batch=1, shape=None):
    x = oh.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape or [batch, 4])
    y = oh.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape or [batch, 4])
    w = onnx.numpy_helper.from_array(np.linspace(0, weight, 4, dtype=np.float32)[None], "w")
    nodes = [oh.make_node("Add", ["x", "w"], ["a"]), oh.make_node(op, ["a"], ["y"], name=name, domain=domain)]
    graph = oh.make_graph(nodes, "g", [x], [y], [w])
    opsets = [oh.make_opsetid("", 17), *([oh.make_opsetid(domain, 1)] if domain else [])]
    return oh.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def place(tmp_path, digits):
    """A folder with good and bad files; errors must leave it as it is."""
    (tmp_path / "good.onnx").write_bytes(small_model())
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "truncated.onnx").write_bytes((digits / "dscnn.onnx").read_bytes()[:3000])
    (tmp_path / "page.onnx").write_text("<!doctype html><title>404</title>")
    (tmp_path / "model.tflite").write_bytes(small_model())
    (tmp_path / "unknown.onnx").write_bytes(small_model("Frobnicate"))
    (tmp_path / "hostile.onnx").write_bytes(small_model("Frobnicate", name=BAD_NAME))
    (tmp_path / "domain.onnx").write_bytes(small_model("Relu", domain="com.example"))
    (tmp_path / "symbolic.onnx").write_bytes(small_model(batch="N"))
    (tmp_path / "image.onnx").write_bytes(small_model(shape=("N", "H", "W", 4)))
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("mine")
    np.savez(tmp_path / "calib.npz", x=np.zeros((3, 4), np.float32))
    np.savez(tmp_path / "other.npz", other=np.zeros((3, 4), np.float32))
    np.savez(tmp_path / "nan.npz", x=np.full((3, 4), np.nan, np.float32))
    (tmp_path / "broken.npz").write_text("no zip")
    return tmp_path


def snapshot(folder):
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


CASES = [
    # ---- the model file
    ("compile nowhere.onnx -t c -o out", 2, "nowhere.onnx"),
    ("compile folder.onnx -t c -o out", 2, "folder"),
    ("compile empty.onnx -t c -o out", 3, "empty"),
    ("compile truncated.onnx -t c -o out", 3, "truncated"),
    ("compile page.onnx -t c -o out", 3, "page.onnx"),
    ("compile model.tflite -t c -o out", 3, ".onnx"),
    ("compile unknown.onnx -t c -o out", 4, "Frobnicate"),
    ("check unknown.onnx -t c", 4, "Frobnicate"),
    ("compile domain.onnx -t c -o out", 4, "com.example"),
    # ---- options
    ("compile good.onnx -t cortex-m5 -o out", 2, "did you mean cortex-m"),
    ("compile good.onnx -t c", 2, "--out"),
    ("compile good.onnx -t c -o out --pipeline simplfy", 2, "did you mean simplify"),
    ("compile good.onnx -t c -o out --pipeline simplify{x=1}", 2, "no option x"),
    ("compile good.onnx -t c -o out --pipeline simplify,", 2, "pipeline"),
    ("compile good.onnx -t c -o out --quantize int8", 2, "--calib"),
    ("compile good.onnx -t c -o out --quantize int3", 2, "int8"),
    ("compile good.onnx -t c -o out --pipeline quantize", 2, "calibration"),
    ("compile good.onnx -t c -o out --pipeline quantize --quantize int8 --calib calib.npz", 2, "both"),
    ("compile good.onnx -t c -o out --name 1st", 2, "C identifier"),
    ("compile good.onnx -t c -o out --pipeline quantize{exclude=zzz} --calib calib.npz", 2, "planish check"),
    ("compile symbolic.onnx -t c -o out --dim N=1 --dim N=2", 2, "two things of N"),
    ("compile good.onnx -t c -o out --ram lots", 2, "64K"),
    ("compile good.onnx -t c -o out --dim N", 2, "N=1"),
    ("compile good.onnx -t c -o out --dim N=2", 2, "no dimension"),
    ("compile symbolic.onnx -t c -o out --dim N=0", 2, "N=1"),
    ("compile good.onnx -t c -o out --bind shape=1,2", 2, "no input"),
    ("compile good.onnx -t c -o out --dim N=2,M=0", 2, "N=1"),
    ("compile image.onnx -t c -o out", 2, "give --dim N=1 --dim H=... --dim W=..."),
    ("compile image.onnx -t c -o out --dim N=1,W=2", 2, "give --dim H=..."),
    # ---- data
    ("compile good.onnx -t c -o out --quantize int8 --calib nowhere.npz", 2, "does not exist"),
    ("compile good.onnx -t c -o out --quantize int8 --calib broken.npz", 2, "broken.npz"),
    ("compile good.onnx -t c -o out --quantize int8 --calib other.npz", 2, "'x'"),
    ("compile good.onnx -t c -o out --quantize int8 --calib nan.npz", 2, "NaN"),
    ("compile good.onnx -t c -o out --quantize int8 --calib random:1", 2, "random:lo,hi"),
    # ---- size
    ("compile good.onnx -t c -o out --ram 8", 5, "RAM"),
    ("compile good.onnx -t c -o out --flash 2", 5, "flash"),
    ("check good.onnx -t c --ram 8", 5, "RAM"),
    # ---- places
    ("compile good.onnx -t c -o mine", 2, "not written by planish"),
    ("compile good.onnx -t c -o good.onnx", 2, "is a file"),
    ("run good.onnx --data calib.npz -o out.txt", 2, ".npz"),
    (f"compile good.onnx -t c -o {'x' * 300}", 2, "ame too long"),
    (f"compile good.onnx -t c -o new/{'x' * 300}", 2, "ame too long"),
    (f"compile {'x' * 300}.onnx -t c -o out", 2, "ame too long"),
    (f"compile {'x' * 300}.planish -t c -o out", 2, "ame too long"),
    (f"run good.onnx --data calib.npz -o {'x' * 300}.npz", 2, "ame too long"),
    (f"run good.onnx --data {'x' * 300}.npz -o out.npz", 2, "ame too long"),
    (f"verify {'x' * 300}", 2, "ame too long"),
    ("run good.onnx --data calib.npz -o mine", 2, ".npz"),
    ("run nowhere.onnx --data calib.npz -o out.npz", 2, "nowhere.onnx"),
    ("run good.onnx --data other.npz -o out.npz", 2, "'x'"),
    ("verify nowhere", 2, "does not exist"),
    ("verify mine", 2, "planish did not write it"),
    ("report good.onnx", 2, "not a folder"),
    ("frobnicate", 2, "frobnicate"),
]


@pytest.mark.parametrize(("line", "code", "says"), CASES, ids=[line for line, _, _ in CASES])
def test_an_error_is_clear_and_leaves_nothing(planish, place, monkeypatch, line, code, says):
    monkeypatch.chdir(place)
    before = snapshot(place)
    done = planish(*line.split())
    assert done.code == code, done.err
    assert says in done.err
    assert "Traceback" not in done.err
    assert "  fix: " in done.err
    assert done.out == "" or code == 5  # what does not fit is shown layer by layer

    as_json = planish(*line.split(), "--json")
    assert as_json.code == code
    assert as_json.json["error"]["code"] == code
    assert says in str(as_json.json["error"])
    assert as_json.err == ""
    assert snapshot(place) == before


def test_hostile_names_are_shown_as_escapes(planish, place):
    done = planish("check", place / "hostile.onnx", "-t", "c")
    assert done.code == 4
    assert "evil*/" in done.err
    assert not set(done.err) & set("\x1b\u202e")
    assert sum(line.startswith("  fix:") for line in done.err.splitlines()) == 1
    assert planish("check", place / "hostile.onnx", "-t", "c", "--json").out.isascii()


def test_nan_weights_are_refused(planish, place):
    (place / "nan.onnx").write_bytes(small_model(weight=np.nan))
    done = planish("compile", place / "nan.onnx", "-t", "c", "-o", place / "out")
    assert done.code == 3, done.err
    assert "tensor 'w'" in done.err
    assert "not finite" in done.err
    assert not (place / "out").exists()


def test_an_internal_error_says_so(planish, place, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of our own")

    monkeypatch.setattr("planish.driver.prepare", broken)
    line = ("compile", place / "good.onnx", "-t", "c", "-o", place / "out")
    done = planish(*line)
    assert done.code == 1
    assert "ZeroDivisionError: of our own" in done.err
    assert "report" in done.err
    assert "Traceback" not in done.err
    assert "Traceback" in planish(*line, "-v").err
    assert planish(*line, "--json").json["error"]["code"] == 1


def test_an_interrupt_is_130(planish, place, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("planish.driver.prepare", interrupted)
    done = planish("compile", place / "good.onnx", "-t", "c", "-o", place / "out", "--json")
    assert done.code == 130
    assert done.json["error"]["code"] == 130


def test_a_full_disk_is_the_users_to_mend(planish, place, monkeypatch):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("planish.driver.write_report", full)
    done = planish("compile", place / "good.onnx", "-t", "c", "-o", place / "out")
    assert done.code == 2
    assert "No space left" in done.err
    assert not (place / "out").exists()
    assert not list(place.glob(".out*"))


@pytest.mark.parametrize("group", [(), ("debug",), ("npu",)])
def test_a_group_of_commands_alone_shows_its_help(planish, group):
    done = planish(*group)
    assert done.code == 2
    assert done.err.startswith("Usage: planish")
    assert "error" not in done.err.splitlines()[0]
