"""The page of operators is what the importer's tables say."""

import runpy
from pathlib import Path

from planish.frontends.onnx.adapters import ADAPTERS
from planish.frontends.onnx.adapters.notes import NOTES

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_tables_say():
    tool = runpy.run_path(str(ROOT / "tools" / "operators_page.py"))
    assert tool["PAGE"].read_text() == tool["page"](), "run: python tools/operators_page.py"


def test_notes_are_about_operators_that_there_are():
    assert set(NOTES) <= {name for domain, name in ADAPTERS if domain == ""} | {"If"}
