"""The Python API: the same steps as the command line's, on graphs in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy.typing as npt

from . import driver, verification
from .folder import new_folder
from .ir.graph import Graph
from .ir.types import Array
from .passes.base import Context
from .passes.pipeline import Listener, run_pipeline
from .registry import target_named
from .runtime import interpreter
from .runtime.data import Data, Dataset, read
from .runtime.target import Artifact, Limits
from .verification import Verdict

__all__ = ["compile", "data", "load", "optimize", "run", "verify"]


def load(
    path: str | os.PathLike[str],
    *,
    dims: Mapping[str, int] | None = None,
    bind: Mapping[str, npt.ArrayLike] | None = None,
) -> Graph:
    """Import an ONNX model. dims: sizes of symbolic dimensions by name. bind: values that replace inputs, by name.

    Raises ModelError (broken or unsafe file), UnsupportedError (naming every node that is to blame) or UsageError.
    """
    return driver.read_model(Path(path), dims or {}, bind or {}, static_batch=False).graph


def optimize(
    graph: Graph,
    pipeline: str,
    *,
    calibration: Data | Dataset | None = None,
    target: str | None = None,
    listeners: Sequence[Listener] = (),
) -> Graph:
    """A copy of the graph with the passes of a pipeline applied, such as `simplify,fuse,quantize{weights=int8}`.

    Its `origin` is the graph that the first such call was given: `compile` takes it as the reference.

    calibration: for passes that want data. target: for passes that ask what a device can do.
    """
    dataset = calibration.of(graph) if isinstance(calibration, Data) else calibration
    context = Context(
        None if dataset is None else lambda: iter(dataset), None if target is None else target_named(target)
    )
    result = run_pipeline(graph, pipeline, context, listeners=listeners).graph
    result.origin = graph.origin or graph
    return result


def run(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the reference interpreter, by name. Raises UsageError for inputs that the graph does not take."""
    return interpreter.run(graph, inputs)


def compile(
    graph: Graph,
    *,
    target: str,
    out: str | os.PathLike[str],
    name: str | None = None,
    reference: Graph | None = None,
    calibration: Data | None = None,
    ram: int | None = None,
    flash: int | None = None,
    build: bool = False,
) -> Artifact:
    """Lower a graph for a target and write the artifact into the folder `out`, which appears when it is complete.

    name: C identifier; by default the graph's. reference: the float graph that `verify` measures agreement with; by
    default the one that `optimize` made this graph of, else the graph itself. calibration: tells `verify` from which
    ranges to draw inputs. ram, flash: the device's, in bytes. build: compile what was emitted, as `planish compile
    --build` does. Raises UnsupportedError, DoesNotFitError, or UsageError for an `out` that is not ours to replace.
    """
    chosen, folder = target_named(target), Path(out)
    original = reference or graph.origin or graph
    model = driver.Model(name or driver.identifier(graph.name), original, graph)
    driver.require_static(graph)
    dataset = None if calibration is None else calibration.of(original)
    driver.lower(model, Context(None if dataset is None else lambda: iter(dataset), chosen))
    with new_folder(folder) as working:
        artifact, report = driver.emit(model, chosen, working, Limits(ram, flash), dataset, build)
    return chosen.load(folder, artifact.graph, report["facts"])


def verify(build: str | os.PathLike[str], data: str | Data | None = None, *, samples: int | None = None) -> Verdict:
    """Run a compiled folder against the interpreter; `passed` and `exact` of the verdict say how that went.

    The verdict is kept in the folder, as `verify.json` and on the page `report.html`, where the folder can be written.
    """
    verdict = verification.verify_build(Path(build), data, samples)
    verification.record(Path(build), verdict)
    return verdict


def data(text: str | os.PathLike[str]) -> Data:
    """Samples: the path of an `.npz` file keyed by input name, or `random:lo,hi`."""
    return read(text)
