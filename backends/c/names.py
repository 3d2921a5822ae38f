"""Names and comments in generated C: nothing from a model file gets there as it is."""

from __future__ import annotations

import re

# <name>.h and <name>.c must hide neither a standard header nor a file of the harness.
_TAKEN = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic "
    "stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time uchar wchar wctype "
    "main harness host startup semihosting measure layer"
)
LONGEST = 40


def identifier(text: str) -> str:
    """A C identifier for a model, from any text: [a-z][a-z0-9_]*, at most 40 characters, no keyword of C or C++ in use.

    All that is generated appends to it (`<name>_run`), so keywords cannot arise.
    """
    words = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:LONGEST].strip("_")
    if not words or not words[0].isalpha():
        words = f"model_{words}".strip("_")[:LONGEST].strip("_")
    return f"{words}_model" if words in _TAKEN.split() else words


def plain(text: str, longest: int = 100) -> str:
    """Text that is safe in a C comment: [A-Za-z0-9_./ -] stay, everything else becomes `_`."""
    safe = re.sub(r"[^A-Za-z0-9_./ -]", "_", text)
    return safe if len(safe) <= longest else safe[: longest - 3] + "..."
