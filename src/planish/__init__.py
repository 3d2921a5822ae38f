"""planish: a compiler for neural networks that must fit small machines.

    graph = planish.load("model.onnx", dims={"N": 1})
    graph = planish.optimize(graph, "simplify,fuse,quantize{weights=int8}", calibration=planish.data("calib.npz"))
    outputs = planish.run(graph, {"input": x})
    artifact = planish.compile(graph, target="cortex-m4", out="build/")
    verdict = planish.verify("build/")

Importing planish imports nothing else; each name is fetched from `planish.api` when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import compile, data, load, optimize, run, verify

__version__ = "0.1.0"
__all__ = ["compile", "data", "load", "optimize", "run", "verify"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import api

    globals()[name] = getattr(api, name)
    return globals()[name]


def __dir__() -> list[str]:
    return [*globals(), *__all__]
