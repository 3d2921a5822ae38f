"""Write docs/passes.md, the reference of all passes, from the passes themselves.

python tools/passes_page.py            # writes the page
python tools/passes_page.py --check    # status 1 where the page is not what it would write
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from planish.ir.rewrite import Rule
from planish.passes import PASSES
from planish.passes.base import Pass, option_text
from planish.passes.options import kind, options

PAGE = Path(__file__).parents[1] / "docs" / "passes.md"
HEAD = """\
# Passes

Written by `tools/passes_page.py` from the passes themselves. How to write one of one's own: [the tutorial](tutorials/write-a-pass.md).
A contract is what a pass promises, and what `check_pass` and `--validate` hold it to: EXACT (equal bits), REASSOCIATING
(equal over the reals), WITHIN(n) (each rewritten node within n quantization steps), APPROXIMATE (measured, and reported).
"""  # noqa: E501


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for cls in PASSES for line in _section(cls))]).rstrip() + "\n"


def _section(cls: type[Pass]) -> Iterator[str]:
    yield f"## {cls.name}\n"
    yield f"{cls.contract}. {_text(cls)}\n"
    fields = {f.name: f for f in cls.__dataclass_fields__.values()}
    if known := options(cls):
        yield "| option | values | default |\n|---|---|---|"
        for option in known:
            default = "(must be given)" if option.is_required else f"`{option_text(fields[option.name].default)}`"
            yield f"| `{option.name}` | {kind(option.annotation).replace('|', ', ')} | {default} |"
        yield ""
    if cls.rules:
        yield "| rule | what it does |\n|---|---|"
        yield from (f"| {titles} | {text} |" for text, titles in _rules(cls.rules))
        yield ""


def _rules(rules: tuple[Rule, ...]) -> list[tuple[str, str]]:
    """(Description, title) of each rule; rules of one class stand together: `TimesOne(mul), TimesOne(div)`."""
    by_class: dict[type[Rule], list[str]] = {}
    for rule in rules:
        by_class.setdefault(type(rule), []).append(f"`{rule.title}`")
    return [(_text(cls), ", ".join(titles)) for cls, titles in by_class.items()]


def _text(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else f"{PAGE} is out of date: run {sys.argv[0]}")
    PAGE.write_text(text, encoding="utf-8")
