"""How much flash a generated model takes, estimated from its text where there is no compiler that says it.

Flash is what has to be stored for the model: its constants, the code of its functions, and what these take from the C
and compiler libraries. The estimate is for machines without the cross compiler. It multiplies the length of each
function's text by the bytes per character that its kernel had, on the average, for the core: `code_sizes.toml`, which
`tools/code_sizes.py` writes, together with how far off that was on models that it had not seen.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Of portable C nobody knows the machine: it is estimated for this one.
ANY_CORE = "cortex-m4"


@dataclass(frozen=True)
class Flash:
    """Bytes of constants, and of code with what it takes from libraries.

    error: how far off an estimate of the code may be, relative; 0 where it was measured.
    """

    constants: int
    code: int
    error: float = 0.0

    @property
    def total(self) -> int:
        return self.constants + self.code


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_name("code_sizes.toml").read_text(encoding="utf-8"))


def estimate(core: str, functions: Sequence[tuple[str, str]], constants: int) -> Flash:
    """Flash of a model: functions are kernels with their texts; constants in bytes."""
    own = _table().get(core, _table()[ANY_CORE])
    return Flash(constants, estimated_code(functions, _table()[own["like"]] if "like" in own else own), own["error"])


def estimated_code(functions: Sequence[tuple[str, str]], table: Mapping[str, Any]) -> int:
    """Bytes of code of functions, with what they take from libraries, by the table of a core."""
    per_character = table["bytes_per_character"]
    called = set().union(*(library_calls(text) for _, text in functions))
    code = sum(length(text) * per_character.get(kernel, per_character["any"]) for kernel, text in functions)
    code += table["model"] + table["call"] * len(functions) + sum(table["library"].get(name, 0) for name in called)
    return round(code)


def length(text: str) -> int:
    """Characters of C, without comments and white space, and with names as one character each."""
    bare = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return len(re.sub(r"\s+", "", re.sub(r"[A-Za-z_]\w*", "n", bare)))


#: Library functions that generated code may call.
LIBRARY = ("erff", "expf", "fmaxf", "fminf", "floorf", "log1pf", "logf", "memcpy", "memset", "powf", "rintf", "roundf",
           "sinf", "cosf", "sqrtf", "tanhf", "truncf")  # fmt: skip


def library_calls(text: str) -> set[str]:
    """Which library functions a text calls; `float` where it computes with floats, `int64` where with long integers."""
    words = set(re.findall(r"[A-Za-z_]\w*", text))
    kinds = {kind for kind in ("float", "int64") if not words.isdisjoint({kind, f"{kind}_t"})}
    return words.intersection(LIBRARY) | kinds
