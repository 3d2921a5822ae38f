"""Names of source nodes, shortened for people; reports and `--json` have them whole."""

from __future__ import annotations

from .ir.graph import NOWHERE

#: Characters of a name in tables and drawings.
SHORT = 28


def short_source(source: str, otherwise: str = "", longest: int = SHORT) -> str:
    """`/a/a.0/Conv + /a/a.2/Relu` as `a.0/Conv +1`: the end of the first name, and how many others there are.

    A part of a path that the next one repeats is left out. otherwise: for nodes that the compiler added.
    """
    if source in ("", str(NOWHERE)):
        return otherwise
    first, *others = source.split(" + ")
    parts = [part for part in first.split("/") if part]
    told = [a for a, b in zip(parts, [*parts[1:], ""], strict=True) if not b.startswith(a)]
    more = f" +{len(others)}" if others else ""
    return ended("/".join(told) or first, longest - len(more)) + more


def ended(text: str, longest: int) -> str:
    """The text, or its end after an ellipsis."""
    return text if len(text) <= longest else f"\N{HORIZONTAL ELLIPSIS}{text[1 - longest :]}"
