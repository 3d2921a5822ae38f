"""Ways through: graph transformations and pipelines. All passes, listed by hand."""

from __future__ import annotations

from collections.abc import Iterator

from ..ir.errors import UsageError
from ..ir.extensions import Catalog, Extension
from .base import Pass
from .dead_channels import DeadChannels
from .decompose import Decompose
from .dequantize_constants import DequantizeConstants
from .fold_quantization import FoldQuantization
from .fuse import Fuse
from .group import Group
from .layout import Layout
from .quantize import Quantize
from .simplify import Simplify
from .widen import Widen

PASSES: tuple[type[Pass], ...] = (
    Simplify, Fuse, Quantize, FoldQuantization, DequantizeConstants, DeadChannels, Layout, Decompose, Group,
    Widen,
)  # fmt: skip

_catalog: Catalog[type[Pass]] = Catalog("planish.passes", {}, Pass, lambda cls: cls.name)


def register(cls: type[Pass]) -> None:
    """Make a pass known by its text name. Raises ValueError when the name is taken by another pass."""
    _catalog.add(cls.name, cls)


def pass_named(name: str) -> type[Pass] | None:
    """The pass class with this text name, ours or an installed package's, or None."""
    return _catalog.get(name)


def pass_names() -> list[str]:
    """The names of all passes, ours and those of installed packages; nothing is imported."""
    return _catalog.names()


def all_passes() -> tuple[type[Pass], ...]:
    """All passes, ours and those of installed packages, in order of registration."""
    return tuple(_catalog.all())


def passes_by_package() -> Iterator[tuple[Extension, type[Pass] | UsageError]]:
    """What installed packages bring; for a broken one, the error."""
    return _catalog.listed()


for _pass in PASSES:
    register(_pass)
