"""Targets by the names that users write. Listed by hand; a target's module is imported when it is asked for."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from .ir.errors import UsageError
from .ir.extensions import extensions

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


def target_named(name: str) -> Target:
    """The target of this name, ours or an installed package's. Raises UsageError, with the nearest, where none is."""
    family, colon, _ = name.partition(":")
    place = TARGETS.get(name) or (VARIABLE.get(family) if colon else None)
    if place is None:
        from .runtime.target import Target

        for _, installed in extensions("planish.targets", Target, name):
            return installed(name)
        near = get_close_matches(name, TARGETS, n=1)
        did_you_mean = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no target {name!r}", fix=f"{did_you_mean}targets are {', '.join(TARGETS)}")
    module, _, cls = place.partition(":")
    target: Target = getattr(import_module(f"planish.backends.{module}"), cls)(name)
    return target
