"""Targets by the names that users write. Listed by hand; a target's module is imported when it is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from .ir.errors import UsageError

if TYPE_CHECKING:
    from .runtime.target import Target

#: Name -> class below `planish.backends`, which takes the name.
TARGETS: dict[str, str] = {
    "c": "cortexm.target:CTarget",
    "cortex-m4": "cortexm.target:CTarget",
    "cortex-m55": "cortexm.target:CTarget",
    "npu:32": "npu.target:NpuTarget",
    "npu:64": "npu.target:NpuTarget",
    "npu:128": "npu.target:NpuTarget",
    "npu:256": "npu.target:NpuTarget",
}

#: Targets that a part of the name describes further: `npu:my-machine.toml`, `npu:256@shared-sram`.
OPEN: dict[str, str] = {"npu:": "npu.target:NpuTarget"}


def target_named(name: str) -> Target:
    """The target of this name. Raises UsageError, with the nearest one, when there is none."""
    place = TARGETS.get(name) or next((OPEN[prefix] for prefix in OPEN if name.startswith(prefix)), None)
    if place is None:
        near = get_close_matches(name, TARGETS, n=1)
        did_you_mean = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no target {name!r}", fix=f"{did_you_mean}targets are {', '.join(TARGETS)}")
    module, _, cls = place.partition(":")
    target: Target = getattr(import_module(f"planish.backends.{module}"), cls)(name)
    return target
