"""Ways through: graph transformations and pipelines. All passes, listed by hand."""

from __future__ import annotations

from ..ir.errors import UsageError
from ..ir.extensions import extensions
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

_registry: dict[str, type[Pass]] = {}


def register(cls: type[Pass]) -> None:
    """Make a pass known by its text name. Raises ValueError when the name is taken by another pass."""
    if _registry.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"pass name {cls.name} is taken by {_registry[cls.name].__module__}")


def pass_named(name: str) -> type[Pass] | None:
    """The pass class with this text name, ours or an installed package's, or None."""
    if name not in _registry:
        _extend(name)
    return _registry.get(name)


def all_passes() -> tuple[type[Pass], ...]:
    """All passes, ours and those of installed packages, in order of registration."""
    _extend()
    return tuple(_registry.values())


def _extend(name: str | None = None) -> None:
    for entry, cls in extensions("planish.passes", Pass, name):
        if entry != cls.name:
            raise UsageError(
                f"the entry point {entry} of planish.passes is the pass {cls.name}", fix="give both one name"
            )
        if (ours := _registry.setdefault(entry, cls)) is not cls:
            raise UsageError(f"two passes are named {entry}: {ours.__module__} and {cls.__module__}")


for _pass in PASSES:
    register(_pass)
