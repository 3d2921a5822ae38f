"""Ways through: graph transformations and pipelines. All passes, listed by hand."""

from __future__ import annotations

from .base import Pass
from .fold_quantization import FoldQuantization
from .fuse import Fuse
from .group import Group
from .layout import Layout
from .quantize import Quantize
from .simplify import Simplify

PASSES: tuple[type[Pass], ...] = (Simplify, Fuse, Quantize, FoldQuantization, Layout, Group)

_registry: dict[str, type[Pass]] = {}


def register(cls: type[Pass]) -> None:
    """Make a pass known by its text name. Raises ValueError when the name is taken by another pass."""
    if _registry.setdefault(cls.name, cls) is not cls:
        raise ValueError(f"pass name {cls.name} is taken by {_registry[cls.name].__module__}")


def pass_named(name: str) -> type[Pass] | None:
    """The pass class with this text name, or None."""
    return _registry.get(name)


def all_passes() -> tuple[type[Pass], ...]:
    """All registered passes, in order of registration."""
    return tuple(_registry.values())


for _pass in PASSES:
    register(_pass)
