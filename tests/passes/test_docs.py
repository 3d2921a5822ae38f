"""The tutorial on passes runs as it stands, and the reference of all passes is what the passes say."""

import re
import runpy
import sys
import types
from pathlib import Path

import pytest

from planish.ir.text import parse_graph

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_the_tutorial_runs(monkeypatch):
    module = types.ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, "tutorial", module)
    blocks = BLOCK.findall((ROOT / "docs" / "tutorials" / "write-a-pass.md").read_text())
    assert [language for language, _ in blocks] == ["python", "python", "text", "python", "text", "python", "python"]
    for (language, block), (following, told) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "python" and following == "text":
            with pytest.raises(AssertionError) as caught:
                exec(block, module.__dict__)
            agrees(told, str(caught.value))
        elif language == "python":
            exec(block, module.__dict__)


def agrees(told, found):
    """The same first line but for figures, and a graph of the same ops."""
    first, *_ = told.splitlines()
    assert re.sub(r"\d+ examples?", "", first) == re.sub(r"\d+ examples?", "", found.splitlines()[0])
    assert ops(told) == ops(found)


def ops(text):
    graph = parse_graph(text[text.index("graph @") : text.index("\n}\n") + 3])
    return [node.op.name for node in graph.nodes]


def test_the_reference_is_up_to_date():
    tool = runpy.run_path(str(ROOT / "tools" / "passes_page.py"))
    assert tool["PAGE"].read_text() == tool["page"](), "run: python tools/passes_page.py"
