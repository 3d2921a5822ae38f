"""What people see on the terminal: results on stdout, remarks, progress and errors on stderr.

Text from models, data and file systems passes through `plain` before it is shown: it can neither move the cursor nor
pretend to be a line of ours. With --json one object goes to stdout and nothing else does.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .ir.errors import PlanishError

if TYPE_CHECKING:
    from rich.console import Console

#: Unicode categories that do not show, or that change what others show: controls, format (bidi), surrogates, private
#: use, unassigned, line and paragraph separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
#: A name that fills the screen says less than its beginning.
_LONGEST = 2000
_WIDEST = 120  # of a cell


def plain(text: object, longest: int = _LONGEST) -> str:
    """The text on one line, with every character that could play tricks written as an escape."""
    written = str(text)
    if len(written) > longest:
        written = f"{written[:longest]}... ({len(written)} characters)"
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSEEN else c for c in written)


def indented(text: str) -> str:
    """As `plain`, for a part of an error: further lines stay, too far to the right to pass for another part."""
    return "\n        ".join(plain(line) for line in text.split("\n"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True)
class Column:
    """A column of a table: heading, and whether its cells are numbers (right-aligned, digits grouped)."""

    heading: str
    number: bool = False


def counted(number: int, thing: str) -> str:
    """`1 sample`, `2,000 samples`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def cell(value: object) -> str:
    """A table cell: digits grouped, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = plain(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


@dataclass
class Screen:
    """Where output goes, as the global options say. verbosity: -1 quiet, 0, 1 or more: verbose."""

    json: bool = False
    verbosity: int = 0
    color: bool = True

    @cached_property
    def out(self) -> Console:
        return self._console(stderr=False)

    @cached_property
    def err(self) -> Console:
        return self._console(stderr=True)

    def _console(self, stderr: bool) -> Console:
        from rich.console import Console

        # A pipe is no terminal with 80 columns: what is piped is not to be folded.
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else 1000
        return Console(stderr=stderr, no_color=not self.color, highlight=False, emoji=False, markup=False, width=width)

    def say(self, text: object = "") -> None:
        """A line of the result."""
        if not self.json:
            self.out.print(plain(text), soft_wrap=True)

    def note(self, text: object) -> None:
        """A remark beside the result."""
        if not self.json and self.verbosity >= 0:
            self.err.print(plain(f"note: {text}"), style="dim", soft_wrap=True)

    def detail(self, text: object) -> None:
        """A remark for those who ask with -v."""
        if not self.json and self.verbosity > 0:
            self.err.print(plain(text), style="dim", soft_wrap=True)

    def block(self, text: str) -> None:
        """Text of several lines that we wrote ourselves, such as a printed graph, beside the result."""
        if not self.json:
            for line in text.splitlines():
                self.err.print(plain(line), soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """A table of the result; columns in which nothing stands are left out."""
        if self.json:
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        shown = [i for i in range(len(columns)) if any(row[i] not in (None, "") for row in rows)]
        table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
        for i in shown:
            table.add_column(columns[i].heading, justify="right" if columns[i].number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(cell(row[i]) for i in shown))
        with self.out.capture() as drawn:
            self.out.print(table)
        lines = (line.rstrip() for line in drawn.get().splitlines())
        sys.stdout.write("\n".join(line for line in lines if line) + "\n\n")

    def result(self, value: Mapping[str, Any]) -> None:
        """The one object of --json."""
        if self.json:
            sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """A sign of life on stderr while the block works; only on a terminal."""
        if self.json or self.verbosity < 0 or not self.err.is_terminal:
            yield
        else:
            with self.err.status(plain(text)):
                yield

    def error(self, error: PlanishError) -> None:
        """What, where, why, and what to do, on stderr; as an object with --json."""
        if self.json:
            self.result({"error": error_as_json(error)})
            return
        self.err.print("error:", style="bold red", end=" ")
        self.err.print(indented(error.what), style="bold", soft_wrap=True)
        if error.where:
            self.err.print(f"  at: {indented(error.where)}", soft_wrap=True)
        for detail in error.details:
            self.err.print(f"  - {indented(detail)}", soft_wrap=True)
        if error.fix:
            self.err.print(f"  fix: {indented(error.fix)}", style="green", soft_wrap=True)


def error_as_json(error: PlanishError) -> dict[str, Any]:
    """An error for programs: kind, exit code and the parts of its message."""
    return {
        "kind": type(error).__name__,
        "code": error.code,
        "what": error.what,
        "where": error.where,
        "details": list(error.details),
        "fix": error.fix,
    }
