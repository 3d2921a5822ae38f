"""C text: types, literals, and what the functions of one generated model share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...ir.types import BOOL, F32, I8, I16, I32, I64, U8, U16, U32, U64, Array, DType, dtype_of

#: In memory.
CTYPES: Mapping[DType, str] = {
    I8: "int8_t", U8: "uint8_t", I16: "int16_t", U16: "uint16_t", I32: "int32_t", U32: "uint32_t",
    I64: "int64_t", U64: "uint64_t", BOOL: "uint8_t", F32: "float",
}  # fmt: skip


def scalar(dtype: DType) -> str:
    """The C type that one element is computed in: integers of up to 16 bits are int32_t, the others themselves."""
    return "int32_t" if dtype.bits <= 16 and not dtype.is_float else CTYPES[dtype]


def _literal(value: Any, dtype: DType) -> str:
    """A C99 constant expression of exactly this value, in the type that `scalar` names."""
    if dtype.is_float:
        number = float(value)
        if math.isnan(number):
            return "NAN"
        if math.isinf(number):
            return "INFINITY" if number > 0 else "(-INFINITY)"
        text = np.format_float_scientific(dtype.numpy.type(number), trim="0") + "f"  # shortest that reads back
        return f"({text})" if text.startswith("-") else text
    number = int(value)
    if dtype.bits == 64:
        return "INT64_MIN" if number == I64.min else f"{'UINT64_C' if dtype == U64 else 'INT64_C'}({number})"
    if dtype == U32:
        return f"UINT32_C({number})"
    if number == I32.min:
        return "INT32_MIN"
    return f"({number})" if number < 0 else str(number)


@dataclass(frozen=True)
class Table:
    """A constant array in flash."""

    name: str
    data: Array
    align: int

    @property
    def nbytes(self) -> int:
        return int(self.data.size) * dtype_of(self.data).bits // 8


#: In C text: the model's name and a `_`. All that a generated file declares begins so; several compile as one unit.
OWN = "@"


@dataclass
class Module:
    """What the layers of one model share: constant tables, whose names differ, and helpers, each once; and headers.

    name: the model's, as a C identifier.
    """

    name: str
    tables: dict[tuple[str, bytes], Table] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    helpers: dict[str, str] = field(default_factory=dict)
    headers: set[str] = field(default_factory=set)

    def number(self, value: Any, dtype: DType) -> str:
        """A C99 constant expression of exactly this value, in the type that `scalar` names; its header is included."""
        if dtype.is_float and not math.isfinite(float(value)):
            self.headers.add("math.h")
        return _literal(value, dtype)

    def named(self, text: str) -> str:
        """C text with the model's name where `OWN` stands for it."""
        return text.replace(OWN, f"{self.name}_")


class Code:
    """What a kernel writes the function of one layer with. `name` is the layer's; tables are named after it."""

    def __init__(self, module: Module, name: str) -> None:
        self.module = module
        self.name = name
        self.table_bytes = 0

    def table(self, label: str, array: Array, align: int = 0) -> str:
        """The name of a constant array with these elements, flattened in row-major order.

        Equal arrays are stored once. `align`: bytes (a power of two), where the element's own alignment is too small.
        """
        flat = np.ascontiguousarray(array).reshape(-1)
        key = (flat.dtype.str, flat.tobytes())
        known = self.module.tables.get(key)
        if known is None or known.align < align:
            name = known.name if known else self._free(label)
            self.module.tables[key] = Table(name, flat, align)
            self.table_bytes += 0 if known else self.module.tables[key].nbytes
        return self.module.tables[key].name

    def _free(self, label: str) -> str:
        names = (f"{OWN}{self.name}_{label}{number or ''}" for number in itertools.count())
        name = next(name for name in names if name not in self.module.names)
        self.module.names.add(name)
        return name

    def helper(self, name: str, text: str) -> str:
        """The C name of a static function that layers share: `OWN` and `name`, as in its C text, written once."""
        if self.module.helpers.setdefault(name, text) != text:
            raise ValueError(f"two helpers are called {name}")
        return f"{OWN}{name}"

    def header(self, name: str) -> None:
        """Include a standard header, such as `math.h`."""
        self.module.headers.add(name)

    def number(self, value: Any, dtype: DType) -> str:
        """As `Module.number`."""
        return self.module.number(value, dtype)


def tidy(text: str) -> str:
    """C text indented by its braces and open parentheses; blank lines go, preprocessor lines stay at the margin.

    So neither templates nor snippets that are put into others care about indentation.
    """
    lines, braces, parens = [], 0, 0
    for raw in text.splitlines():
        line = raw.strip()
        if not line:
            continue
        closes = line.startswith("}")
        depth = 0 if line.startswith("#") else max(0, braces - closes) + (parens > 0)
        lines.append(" " * (4 * depth) + line)
        braces += line.count("{") - line.count("}")
        parens = max(0, parens + line.count("(") - line.count(")"))
    return "\n".join(lines) + "\n" if lines else ""
