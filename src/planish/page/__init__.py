"""report.html: one page without scripts or requests that shows what `report.json` and `verify.json` say.

Every name in it comes from a model file and is hostile: text is escaped by the template engine, after characters that
do not show or that change what others show became escapes; and the page forbids itself everything but its own style.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from ..screen import counted, plain
from .cycles import cycle_figures
from .figures import COST_NAMES, cost_rows, headline, kernel_rows, output_rows, pass_rows, percent
from .graph import graph_drawings
from .timeline import timelines

if TYPE_CHECKING:
    from jinja2 import Environment


def render(report: Mapping[str, Any], verdict: Mapping[str, Any] | None = None) -> str:
    """The page of a report (`planish.report.build_report`) and, where it was verified, of `Verdict.as_json`."""
    style = _file("style.css")
    rows = cost_rows(report, verdict)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            verdict=verdict,
            style=_trusted(style),
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            headline=headline(report, verdict),
            rows=rows,
            cost_names=COST_NAMES,
            columns=[any(row["costs"][i][0] != "" for row in rows) for i in range(len(COST_NAMES))],
            outputs=output_rows(report, verdict),
            kernels=kernel_rows(report),
            passes=pass_rows(report),
            drawings=graph_drawings(report),
            timelines=timelines(report),
            spent=cycle_figures(report),
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__name__, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "percent": percent,
        "counted": counted,
        "lines": _lines,
        "digits": lambda number: f"{number:,}" if number != "" else "",
        "decimal": lambda number: f"{number:.6g}",
    }
    return environment


def _shown(value: Any) -> Any:
    """What stands in braces in the template, without the characters that play tricks."""
    if isinstance(value, bool) or value is None:
        raise TypeError("the template shows a value that is no text and no number")
    return plain(value) if type(value) is str else value  # Markup is a str that is already escaped


def _lines(text: str) -> str:
    """Text of ours in lines, whose parts may be names: the line ends stay."""
    from markupsafe import Markup, escape

    return Markup("&#10;").join(escape(plain(line)) for line in text.split("\n"))


def _trusted(text: str) -> str:
    from markupsafe import Markup

    return Markup(text)  # our own file


def _file(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
