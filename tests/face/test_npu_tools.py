"""`planish npu`: programs as files, and what is wrong with them, with its place."""

import json
import re

import pytest

PROGRAM = """\
; One image through the vector unit.
.arena 128
cfgt.flat view=v0 space=arena dtype=i8 address=0 size=64
cfgt.flat view=v1 space=act dtype=i8 address=0 size=64
cfgt.flat view=v2 space=act dtype=i8 address=64 size=64
cfgt.flat view=v3 space=arena dtype=i8 address=64 size=64

ld dst=v1 src=v0 signal=1 tag=1
ew function=max dst=v2 a=v1 b=v1 wait=1 signal=2 tag=2
st dst=v3 src=v2 wait=2 tag=3
halt
"""


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "program.asm"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def binary(planish, text, tmp_path):
    assert planish("npu", "assemble", text, "-o", tmp_path / "program.npu").code == 0
    return tmp_path / "program.npu"


def test_text_to_binary_and_back(planish, text, binary, tmp_path):
    done = planish("npu", "assemble", text, "-o", tmp_path / "again.npu", "--json")
    assert done.json == {"instructions": 8, "constant_bytes": 0, "arena_bytes": 128, "bytes": 20 + 8 * 16}
    shown = planish("npu", "disassemble", binary)
    assert planish("npu", "disassemble", binary, "--json").json["text"] == shown.out
    assert planish("npu", "disassemble", binary, "-o", tmp_path / "back.asm").code == 0
    assert (tmp_path / "back.asm").read_text() == shown.out
    assert planish("npu", "assemble", tmp_path / "back.asm", "-o", tmp_path / "back.npu").code == 0
    assert (tmp_path / "back.npu").read_bytes() == binary.read_bytes()


@pytest.mark.parametrize("form", ["text", "binary"])
def test_a_proof(planish, form, request):
    program = request.getfixturevalue(form)
    done = planish("npu", "lint", program, "-m", "npu:64")
    assert done.code == 0
    assert "proven legal" in done.out
    assert planish("npu", "lint", program, "-m", "64", "--json").json["proven"]


@pytest.mark.parametrize(
    ("old", "new", "kind", "line", "reason"),
    [
        ("wait=1 signal=2", "signal=2", "semaphore", 11, "semaphore 1"),
        ("ld dst=v1 src=v0 signal=1", "ld dst=v1 src=v0", "deadlock", 9, "semaphore 1"),
        ("signal=2 tag=2", "tag=2", "deadlock", 10, "semaphore 2"),
        ("b=v1", "b=v9", "illegal", 9, "view v9 was not set"),
        ("address=64 size=64\n\n", "address=96 size=64\n\n", "illegal", 10, "outside of arena"),
        ("wait=1 signal=2", "signal=2", "race", 9, "act"),
    ],
)
def test_what_is_wrong_has_a_line(planish, text, old, new, kind, line, reason):
    assert old in PROGRAM
    text.write_text(PROGRAM.replace(old, new))
    done = planish("npu", "lint", text, "-m", "npu:64", "--json")
    assert done.code == 3
    found = [f for f in done.json["findings"] if f["kind"] == kind]
    assert any(f.get("line") == line and reason in f["message"] for f in found), done.json["findings"]
    assert not done.json["proven"]
    assert done.json["error"]["code"] == 3
    shown = planish("npu", "lint", text, "-m", "npu:64")
    assert shown.code == 3
    assert kind in shown.err
    assert planish("npu", "simulate", text, "-m", "npu:64").code == 3


def test_of_a_binary_it_has_a_byte(planish, text, tmp_path):
    text.write_text(PROGRAM.replace("b=v1", "b=v9"))
    planish("npu", "assemble", text, "-o", tmp_path / "wrong.npu")
    done = planish("npu", "lint", tmp_path / "wrong.npu", "-m", "npu:64")
    assert done.code == 3
    assert f"byte {20 + 5 * 16}: illegal: instruction 5 (ew): view v9 was not set" in done.err


def test_cycles_and_a_trace(planish, binary, tmp_path):
    done = planish("npu", "simulate", binary, "-m", "npu:64", "--trace", tmp_path / "t.json", "--json")
    assert done.code == 0, done.err
    assert sum(layer["cycles"] for layer in done.json["layers"]) == done.json["cycles"] > 64 // 2
    assert [layer["tag"] for layer in done.json["layers"] if layer["cycles"]] == [1, 2, 3]
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert {e["name"] for e in events if e["ph"] == "X"} == {"ld", "ew", "st"}
    assert f"{done.json['cycles']:,} cycles" in planish("npu", "simulate", binary, "-m", "npu:64").out


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"ld dst=v1", 3, "program, line 1, column 1"),
        (b"halt\njump", 3, "there is no instruction 'jump'"),
        (b"halt\n\xff\xfe", 3, "neither binary nor text"),
        (b"PNPU", 3, "program, byte 4"),
        (b"\x7fELF\0\0\0\0", 3, "it does not start with PNPU"),
        (b"PNPU" + bytes([1, 0, 0, 0]) + b"\xff" * 12, 3, "program, byte 20"),
        (b"PNPU" + bytes([1, 0, 0, 0]) + bytes([1] + [0] * 11) + b"\x1f" * 16, 3, "program, byte 20, instruction 0"),
        (b"", 3, "does not end with its only halt"),
        (None, 2, "does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["lint", "simulate"])
def test_broken_programs(planish, tmp_path, command, content, code, said):
    if content is not None:
        (tmp_path / "program").write_bytes(content)
    done = planish("npu", command, tmp_path / "program", "-m", "npu:64")
    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err


def test_every_cut_and_every_flipped_byte_has_an_answer(planish, binary, tmp_path):
    data = binary.read_bytes()
    damaged = [data[:n] for n in range(len(data))]
    damaged += [data[:n] + bytes([data[n] ^ 0x55]) + data[n + 1 :] for n in range(len(data))]
    for wrong in damaged:
        (tmp_path / "wrong.npu").write_bytes(wrong)
        done = planish("npu", "lint", tmp_path / "wrong.npu", "-m", "npu:64")
        assert done.code in (0, 3)
        assert done.code == 0 or re.search(r"at: wrong\.npu", done.err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("assemble", "x.npu"), "Missing option '--out'"),
        (("lint", "x.npu"), "Missing option '--machine'"),
        (("lint", "program.asm", "-m", "512"), "there is no machine '512'"),
        (("lint", ".", "-m", "64"), "is a folder"),
    ],
)
def test_usage(planish, text, monkeypatch, arguments, said):
    monkeypatch.chdir(text.parent)
    done = planish("npu", *arguments)
    assert done.code == 2
    assert said in done.err
