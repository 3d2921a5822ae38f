"""One small function per ONNX operator: it reads a `SourceNode` and answers with values made by the op builders.

To support another operator, write its function in the file where it belongs and add it to that file's table.
"""

from __future__ import annotations

from ....ir.extensions import Catalog
from ..constants import WORK, only_constants, or_by_reference
from ..source import Adapter
from . import arithmetic, attention, dims, layers, learning, linear, movement, pooling, quantized, reductions, resizing
from .older import NEWER, older

#: Operator domains, and the version taken where a model does not say.
DOMAINS: dict[str, int] = {"": 1, "com.microsoft": 1, "ai.onnx.ml": 1}

#: Operators that stand although all their operands are constants: a dequantized weight is not a float weight.
KEPT = quantized.KEPT

ADAPTERS: dict[tuple[str, str], Adapter] = {
    **{("", name): adapter for table in (
        arithmetic.TABLE, linear.TABLE, pooling.TABLE, reductions.TABLE, movement.TABLE, resizing.TABLE, dims.TABLE,
        layers.TABLE, attention.TABLE, quantized.TABLE,
    ) for name, adapter in table.items()},
    **{("com.microsoft", name): adapter for name, adapter in quantized.MICROSOFT.items()},
    **{("ai.onnx.ml", name): adapter for name, adapter in learning.TABLE.items()},
}  # fmt: skip


def _full_name(domain: str, op_type: str) -> str:
    """An operator as entry points name it: `CumSum`, `com.example.Filter`."""
    return f"{domain}.{op_type}" if domain else op_type


_catalog: Catalog[Adapter] = Catalog("planish.importers", {_full_name(*key): ADAPTERS[key] for key in ADAPTERS})


def taken_of(domain: str) -> list[str]:
    """Operators of a domain that are imported, by adapters of ours and of installed packages."""
    names = (name.rpartition(".") for name in _catalog.names())
    return sorted(operator for of, _, operator in names if of == domain)


def adapter_for(domain: str, op_type: str, version: int) -> Adapter | None:
    """The adapter of an operator in a version of its domain, ours or an installed package's; None where there is none.

    Raises UsageError for a broken package.
    """
    adapter = ADAPTERS.get((domain, op_type))
    if adapter is None and "." not in op_type:  # a dot would be read as the end of a domain
        adapter = _catalog.get(_full_name(domain, op_type))
    if domain != "":
        return adapter
    if op_type in WORK:
        adapter = only_constants if adapter is None else or_by_reference(adapter)
    return older(adapter) if adapter is not None and version < NEWER else adapter
