"""Writes docs/operators.md from the importer's tables; `make docs` runs it, and a test holds the page to it."""

from __future__ import annotations

from pathlib import Path

import onnx

from planish.frontends.onnx.adapters import ADAPTERS
from planish.frontends.onnx.adapters.notes import NOTES
from planish.frontends.onnx.constants import MOST_ELEMENTS, WORK
from planish.frontends.onnx.functions import MOST_BYTES, MOST_NODES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operators.md"

HEAD = """# Operators of ONNX

What `planish` imports, written by `make docs` from the importer's own tables. Operator sets from 1 on are read, up
to the newest that the installed `onnx` knows; old forms are put as the newer ones have them. Element types are
float16, bfloat16, float32, float64, integers of 4 to 64 bits and bool; a node whose types ONNX allows and planish
does not is *unsupported* (exit code 4), one that contradicts ONNX's own schema *broken* (3).

- **Meaning.** The specification's words decide; where they leave something open, ONNX Runtime does; where that
  differs between processors, the table says what was decided. All executors agree: the interpreter, C, TVM. Floats
  of 16 bits are computed with in float32, and each result is rounded once.
- **Functions of a model's own** become the nodes that they stand for: at most {nodes:,} nodes, and {mib} MiB beside
  the file's own size; they may not call themselves.
- **If** with a condition that is known while importing becomes the branch that it takes. Loop and Scan are not
  supported.
- **Optional results** may be named, as long as nobody reads those that planish does not compute.
- **Constants** behind operators without a kernel are computed by ONNX's own reference implementation, up to
  {elements:,} elements: the last table.

## Operators

| operator | since | notes |
|---|---|---|
"""


def page() -> str:
    """The page as text."""
    lines = [HEAD.format(nodes=MOST_NODES, mib=MOST_BYTES >> 20, elements=MOST_ELEMENTS).rstrip("\n")]
    own = sorted({name for domain, name in ADAPTERS if domain == ""} | {"If"})
    lines += [f"| {name} | {_since(name)} | {NOTES.get(name, '')} |".replace("  |", " |") for name in own]
    lines += ["", "## Of other domains", ""]
    for domain in sorted({d for d, _ in ADAPTERS if d}):
        names = ", ".join(sorted(name for d, name in ADAPTERS if d == domain))
        lines.append(f"- `{domain}`: {names}")
    others = sorted(set(WORK) - {name for domain, name in ADAPTERS if domain == ""})
    lines += ["", "## Of constants only", "", ", ".join(others), ""]
    return "\n".join(lines)


def _since(name: str) -> int:
    """The operator set that has it first."""
    return min(s.since_version for s in onnx.defs.get_all_schemas_with_history() if (s.domain, s.name) == ("", name))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
