"""Folders appear complete under their final name, or not at all; what is not ours is never deleted."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from planish.folder import REPORT, new_file, new_folder, read_report, write_report
from planish.ir.errors import ModelError, UsageError


def build(out, **files):
    with new_folder(out) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        write_report(folder, {"planish": "0", "format": 1})


def fail(out):
    with new_folder(out) as folder:
        (folder / "half").write_text("")
        raise ZeroDivisionError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_with_its_parents(tmp_path):
    build(tmp_path / "a/b/out", model="1")
    assert names(tmp_path / "a/b") == ["out"]
    assert names(tmp_path / "a/b/out") == ["model", REPORT]
    assert (tmp_path / "a/b/out").stat().st_mode & 0o777 == (tmp_path / "a/b").stat().st_mode & 0o777


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "a/out")
    assert names(tmp_path) == []


def test_our_own_folder_is_replaced_whole(tmp_path):
    build(tmp_path / "out", old="1")
    build(tmp_path / "out", new="2")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new", REPORT]


def test_a_failure_keeps_the_folder_that_was_there(tmp_path):
    build(tmp_path / "out", old="1")
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "out")
    assert names(tmp_path / "out") == ["old", REPORT]


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    build(tmp_path / "out", model="1")
    assert names(tmp_path / "out") == ["model", REPORT]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    if exists:
        (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    build(tmp_path / "link", model="1")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["model", REPORT]


def foreign_file(out):
    out.write_text("mine")


def foreign_folder(out):
    out.mkdir()
    (out / "thesis.tex").write_text("mine")


def foreign_report(out):
    out.mkdir()
    (out / REPORT).write_text('{"files": {"thesis.tex": 4}}')
    (out / "thesis.tex").write_text("mine")


def added_file(out):
    build(out, model="1")
    (out / "thesis.tex").write_text("mine")


def edited_file(out):
    build(out, model="1")
    (out / "model").write_text("1, and much work by hand")


@pytest.mark.parametrize("occupy", [foreign_file, foreign_folder, foreign_report, added_file, edited_file])
def test_what_is_not_ours_is_refused_and_kept(tmp_path, occupy):
    occupy(tmp_path / "out")
    before = snapshot(tmp_path)
    with pytest.raises(UsageError) as error:
        build(tmp_path / "out", model="2")
    assert error.value.fix
    assert snapshot(tmp_path) == before


def snapshot(folder):
    return {str(path): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def test_a_folder_that_fills_up_meanwhile_is_kept(tmp_path):
    def intrude():
        with new_folder(tmp_path / "out"):
            foreign_folder(tmp_path / "out")

    with pytest.raises(UsageError):
        intrude()
    assert names(tmp_path / "out") == ["thesis.tex"]
    assert names(tmp_path) == ["out"]


SLEEPER = """
import sys, time
from pathlib import Path
from planish.cli import _terminated
from planish.folder import new_folder
import signal
signal.signal(signal.SIGTERM, _terminated)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("")
    print("half", flush=True)
    time.sleep(60)
"""


def sleeper(out):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLEEPER), str(out)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    return process


@pytest.mark.parametrize(("number", "left"), [(signal.SIGKILL, 1), (signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path, number, left):
    with sleeper(tmp_path / "out") as process:
        process.send_signal(number)
    assert process.returncode
    assert not (tmp_path / "out").exists()
    assert len(names(tmp_path)) == left  # nobody can tidy up after kill -9
    build(tmp_path / "out")
    assert names(tmp_path) == ["out"]  # but the next one does


def test_what_another_process_works_on_is_no_leftover(tmp_path):
    with sleeper(tmp_path / "out") as process:
        (under_way,) = names(tmp_path)
        build(tmp_path / "out")
        assert names(tmp_path) == sorted([under_way, "out"])
        process.kill()
    build(tmp_path / "out")
    assert names(tmp_path) == ["out"]


def test_only_leftovers_of_this_name_go(tmp_path):
    kept = [".other.abcdefgh.partial", ".out.abc.partial", ".out.abcdefgh.partial.txt", "out.abcdefgh.partial"]
    for name in (*kept, ".out.abcdefgh.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.12345678.partial").symlink_to(tmp_path / ".other.abcdefgh.partial")
    build(tmp_path / "out")
    assert names(tmp_path) == sorted([*kept, ".out.12345678.partial", "out"])


def test_a_build_that_stepped_aside_comes_back(tmp_path):
    """As when a process is killed between the two renames that replace a build."""
    build(tmp_path / "out", model="1")
    (tmp_path / "out").rename(tmp_path / ".out.abcdefgh.old")

    def fail():
        with new_folder(tmp_path / "out"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out/model").read_text() == "1"


def test_leftovers_of_files(tmp_path):
    (tmp_path / ".out.npz.abcdefgh.partial.npz").write_text("half")
    with new_file(tmp_path / "out.npz") as path:
        path.write_text("whole")
    assert names(tmp_path) == ["out.npz"]


@pytest.mark.parametrize("out", ["x" * 300, "x" * 300 + "/y", "y/" + "x" * 300])
def test_names_that_are_too_long(tmp_path, out):
    def folder():
        with new_folder(tmp_path / out):
            pass

    def file():
        with new_file(tmp_path / out):
            pass

    for write in (folder, file):
        with pytest.raises(UsageError, match="cannot write"):
            write()
    assert names(tmp_path) == []


def test_a_read_only_place_is_a_usage_error(tmp_path):
    if os.geteuid() == 0:
        place = "/proc/nowhere"
    else:
        tmp_path.chmod(0o500)
        place = tmp_path / "out"
    with pytest.raises(UsageError, match="cannot write"), new_folder(Path(place)):
        pass


def test_a_file_is_complete_or_absent(tmp_path):
    def fail_half_way():
        with new_file(tmp_path / "out.npz") as path:
            path.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert names(tmp_path) == []
    with new_file(tmp_path / "out.npz") as path:
        path.write_text("whole")
    assert (tmp_path / "out.npz").read_text() == "whole"
    assert names(tmp_path) == ["out.npz"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (None, UsageError),
        ("", ModelError),
        ("[]", ModelError),
        ("{}", ModelError),
        ('{"planish": "0", "format": 99, "files": {}}', ModelError),
        ('{"planish": "0", "format": 1, "files": []}', ModelError),
        ('{"planish": "0", "format": 1, "files": {}}', ModelError),
        ('{"planish": "0", "format": 1, "files": {"gone.c": 1}}', ModelError),
        ('{"planish": "0", "format": 1, "files": {"../x": 1}}', ModelError),
    ],
)
def test_a_broken_report_is_an_error(tmp_path, text, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "x").write_text("1")
    if text is not None:
        (tmp_path / "out" / REPORT).write_text(text)
    with pytest.raises(kind):
        read_report(tmp_path / "out")


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_report_needs_a_folder(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        read_report(tmp_path / place)
