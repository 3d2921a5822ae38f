"""`run`: inputs from a file, outputs to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .driver import LOWERED, REFERENCE, read_model
from .folder import new_file, read_report
from .ir.errors import UsageError
from .ir.text import load
from .measuring import taken
from .registry import target_named
from .runtime.data import read
from .runtime.interpreter import run_batch
from .screen import Screen, counted


def run_model(
    model: Path,
    data: str,
    samples: int | None,
    dims: Mapping[str, int],
    binds: Mapping[str, Any],
    out: Path,
    screen: Screen,
) -> None:
    """Run a model file on the interpreter, or a compiled folder as its target runs it; outputs go to `out`.

    The file has an array per output, samples along its batch axis.
    """
    if out.suffix != ".npz":
        raise UsageError(f"{out} is no .npz file", fix="name one with -o: outputs.npz")
    if model.is_dir() and (dims or binds):
        raise UsageError(f"{model} is compiled: its shapes are fixed", fix="leave out --dim and --bind")
    source = read(data)
    with screen.working(f"running {model.name}"):
        if model.is_dir():
            report = read_report(model)
            target = target_named(report["target"])
            artifact = target.load(model, load(model / LOWERED), report["facts"])
            dataset = source.of(load(model / REFERENCE), samples)
            outputs = target.run(artifact, taken(artifact.graph, dataset.arrays)).outputs
            ran_on = f"target {target.name}"
        else:
            graph = read_model(model, dims, binds, static_batch=False).graph
            dataset = source.of(graph, samples)
            outputs = run_batch(graph, dataset.arrays)
            ran_on = "the reference interpreter"
    flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in outputs.items()}
    with new_file(out) as path, path.open("wb") as file:
        np.savez(file, **flat)  # type: ignore[arg-type]  # NumPy's stubs take the names for options
    shapes = {name: {"dtype": str(array.dtype), "shape": list(array.shape)} for name, array in flat.items()}
    screen.result({"samples": len(dataset), "ran_on": ran_on, "outputs": shapes})
    screen.say(f"{counted(len(dataset), 'sample')} on {ran_on} -> {out}")
    for name, array in flat.items():
        screen.say(f"  {name}: {array.dtype}{list(array.shape)}")
