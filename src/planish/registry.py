"""Targets by the names that users write. Listed by hand; a target's module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from .ir.errors import PlanishError, UsageError
from .ir.extensions import Catalog, Extension

if TYPE_CHECKING:
    from .runtime.target import Target

#: Name -> class below `planish.backends`, which takes the name.
TARGETS: dict[str, str] = {
    "c": "c.target:CTarget",
    "cortex-m0": "cortexm.target:CortexMTarget",
    "cortex-m3": "cortexm.target:CortexMTarget",
    "cortex-m4": "cortexm.target:CortexMTarget",
    "cortex-m7": "cortexm.target:CortexMTarget",
    "cortex-m33": "cortexm.target:CortexMTarget",
    "cortex-m55": "cortexm.target:CortexMTarget",
    "onnx": "onnx.target:OnnxTarget",
    "tvm": "tvm.target:TvmTarget",
    "tvm:aarch64-linux": "tvm.target:TvmTarget",
    "tvm:aarch64-android": "tvm.target:TvmTarget",
    "npu:256": "npu.target:NpuTarget",
    "npu:128": "npu.target:NpuTarget",
    "npu:64": "npu.target:NpuTarget",
    "npu:32": "npu.target:NpuTarget",
}
#: Those that a colon and a word of the target's own may follow, `onnx:17`, `npu:machine.toml`; and their classes.
VARIABLE = {"onnx": "onnx.target:OnnxTarget", "npu": "npu.target:NpuTarget"}


@cache
def _catalog() -> Catalog[type[Target]]:
    """Targets of installed packages; ours are only names in it, as their modules take time."""
    from .runtime.target import Target

    return Catalog("planish.targets", dict.fromkeys(TARGETS, Target), Target)


def target_named(name: str) -> Target:
    """The target of this name, ours or an installed package's. Raises UsageError, with the nearest, where none is."""
    family, colon, _ = name.partition(":")
    place = TARGETS.get(name) or (VARIABLE.get(family) if colon else None)
    if place is None:
        if (extension := _catalog().installed().get(name)) is not None:
            return _made(extension, _catalog().loaded(extension))
        known = _catalog().names()
        near = get_close_matches(name, known, n=1)
        did_you_mean = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no target {name!r}", fix=f"{did_you_mean}targets are {', '.join(known)}")
    module, _, cls = place.partition(":")
    target: Target = getattr(import_module(f"planish.backends.{module}"), cls)(name)
    return target


def installed_targets() -> Iterator[tuple[Extension, Target | UsageError]]:
    """Those that other packages bring; for a broken one, the error."""
    for extension, cls in _catalog().listed():
        try:
            yield extension, cls if isinstance(cls, UsageError) else _made(extension, cls)
        except UsageError as error:
            yield extension, error


def _made(extension: Extension, cls: type[Target]) -> Target:
    """An installed package's target. Raises UsageError where it fails, or is called otherwise: folders name it."""
    try:
        target = cls(extension.name)  # type: ignore[call-arg]  # a target's class takes the name
    except PlanishError:
        raise
    except Exception as error:
        raise extension.broken(f"it cannot be made: {type(error).__name__}: {error}") from error
    if target.name != extension.name:
        raise extension.broken(f"it calls itself {target.name}; both need one name")
    return target
