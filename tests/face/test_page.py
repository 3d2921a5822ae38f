"""report.html: complete, harmless whatever the names are, and the same for the same input."""

import copy
import html.parser
import json
import re
import shutil

import pytest

from planish.page import render

HOSTILE = ['<script>alert("x")</script>', "*/ }", "a\nb", "\u202eevil", "]]>", "&amp;", "'\"", "javascript:alert(1)"]


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; a tag that is not closed, or closed twice, is an error."""

    EMPTY = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def report(int8_build):
    return json.loads((int8_build / "report.json").read_text())


@pytest.fixture
def verified(planish, int8_build, digits, tmp_path):
    build = tmp_path / "build"
    shutil.copytree(int8_build, build)
    done = planish("verify", build, "--data", digits / "eval.npz", "--samples", 20)
    assert done.code == 0, done.err
    return build


def test_the_page_says_what_the_report_says(report):
    text = " ".join(Page(render(report)).text)
    assert f"{report['arena_bytes']:,}" in text
    assert "planish verify" in text  # not run yet
    for layer in report["layers"]:
        assert layer["kernel"] in text
        assert layer["shape"] in text
    for step in report["passes"]:
        assert step["contract"] in text


def test_verify_brings_its_result_to_the_page(verified):
    verdict = json.loads((verified / "verify.json").read_text())
    text = " ".join(Page((verified / "report.html").read_text()).text)
    assert "Exact." in text
    assert f"{100 * verdict['accuracy']:.2f}" in text


def test_a_folder_that_was_verified_is_still_ours(planish, verified, digits):
    done = planish("compile", digits / "dscnn.onnx", "-t", "c", "--dim", "N=1", "-o", verified)
    assert done.code == 0, done.err
    assert not (verified / "verify.json").exists()
    assert "Exact." not in (verified / "report.html").read_text()


def test_the_page_asks_for_nothing_and_runs_nothing(verified):
    text = (verified / "report.html").read_text()
    page = Page(text)
    assert "default-src 'none'" in dict(page.attributes)["content"] or "default-src 'none'" in text
    assert not {"script", "iframe", "object", "embed", "form", "base", "img"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "action"):
            assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)", text)
    assert len(text) < 200_000


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(report, name):
    changed = copy.deepcopy(report)
    changed["model"]["file"] = name
    for layer in changed["layers"]:
        layer["source"] = name
    for node in changed["graph"]:
        node["source"] = node["title"] = name
    changed["notes"] = [name]
    page, plain = Page(render(changed)), Page(render(report))
    assert sorted(set(page.tags)) == sorted(set(plain.tags))
    assert "\u202e" not in " ".join(page.text)


def simulated(report, name):
    """The report as of a target that simulates time: one layer of this name, and a step on the host."""
    row = {
        "name": name, "op": "conv2d", "cycles": 1500, "bound": 1200, "limit": "array", "utilisation": 0.5,
        "classes": {"compute": 1000, "padding": 200, "post": 100, "load": 150, "control": 50}, "energy_nj": 7.0,
        "tiling": "conv: 2x32",
    }  # fmt: skip
    step = {"name": name, "op": "quantize", "kernel": "portable", "instructions": None, "cycles": None, "reason": name}
    facts = {**report["facts"], "cycles": 1500, "profile": [row], "host_steps": [step], "host": {"core": "cortex-m55"}}
    return {**report, "facts": facts}


def test_where_the_cycles_go(report):
    assert "Where the cycles go" not in render(report)
    page = Page(render(simulated(report, "conv_1")))
    text = " ".join(page.text)
    assert all(word in text for word in ("Where the cycles go", "conv_1", "1,500", "1.25", "100.0 %", "cortex-m55"))
    widths = [float(value) for (name, value), (_, kind) in zip(page.attributes[2:], page.attributes, strict=False)
              if name == "width" and kind in ("linear", "reduce", "elementwise", "quantize", "move")]  # fmt: skip
    assert widths == pytest.approx([66.67, 13.33, 6.67, 10, 3.33], abs=0.01)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text_among_cycles(report, name):
    page, plain = Page(render(simulated(report, name))), Page(render(simulated(report, "plain")))
    assert sorted(set(page.tags)) == sorted(set(plain.tags))
    assert "\u202e" not in " ".join(page.text)


def test_same_report_same_page(report):
    assert render(report) == render(copy.deepcopy(report))


def test_reports_of_other_targets_have_pages(report):
    """No arena, no layers, no graph: what there is not is not shown."""
    bare = {**report, "layers": [], "graph": [], "arena_bytes": None, "flash_bytes": None, "facts": {}, "flags": None}
    page = Page(render(bare))
    assert "Memory over time" not in " ".join(page.text)
    assert page.tags.count("svg") <= 1  # the pattern that hatches
