"""The reference interpreter: runs a graph with the ops' own semantics, by name, and says what it was given wrongly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..ir.errors import UsageError
from ..ir.evaluate import Listener, evaluate_by_name
from ..ir.graph import Graph, Value
from ..ir.types import Array, Sym


def run(graph: Graph, inputs: Mapping[str, Array], listener: Listener | None = None) -> dict[str, Array]:
    """Outputs by name for inputs by name. A symbolic dimension takes any size, the same wherever it stands.

    `listener(node, results)` sees every node but constants. Raises UsageError for a missing or unknown name, a wrong
    shape or a wrong dtype.
    """
    return evaluate_by_name(graph, checked(graph, inputs), listener)


def run_batch(graph: Graph, samples: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of every sample, stacked along a new first axis, as the inputs are: `[samples, *shape of the input]`."""
    counts = {name: len(array) for name, array in samples.items() if np.ndim(array)}
    if len(set(counts.values())) != 1 or len(counts) != len(samples):
        raise UsageError(
            f"inputs do not have the same number of samples: {counts}",
            fix="stack the samples of each input along a new first axis",
        )
    (count,) = set(counts.values())
    if count == 0:
        raise UsageError("there is no sample to run")
    rows = [run(graph, {name: array[i] for name, array in samples.items()}) for i in range(count)]
    return {name: np.stack([row[name] for row in rows]) for name in graph.output_names}


def checked(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as arrays, when they are what the graph takes; else UsageError."""
    wanted = ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
    if missing := [name for name in graph.input_names if name not in inputs]:
        raise UsageError(f"input {missing[0]!r} is missing", f"graph {graph.name}", f"give {wanted}")
    if unknown := [name for name in inputs if name not in graph.input_names]:
        raise UsageError(f"there is no input {unknown[0]!r}", f"graph {graph.name}", f"give {wanted}")
    sizes: dict[str, int] = {}
    return {v.name: _accepted(v, np.asarray(inputs[v.name]), sizes) for v in graph.inputs}


def _accepted(value: Value, array: Array, sizes: dict[str, int]) -> Array:
    """The array, when it has the value's type; `sizes` collects what the symbols stand for."""
    where, wanted = f"input {value.name!r}", value.type
    if array.dtype != wanted.dtype.numpy:
        raise UsageError(
            f"the array is {array.dtype}, expected {wanted.dtype.numpy} ({wanted})",
            where,
            f"convert it: x.astype({wanted.dtype.numpy.name!r})",
        )
    fits = array.ndim == wanted.rank and all(
        _dim_fits(dim, size, sizes) for dim, size in zip(wanted.shape, array.shape, strict=True)
    )
    if not fits:
        known = "".join(f", with {symbol} = {size}" for symbol, size in sizes.items())
        raise UsageError(f"the array has shape {list(array.shape)}, expected {wanted}{known}", where, f"give {wanted}")
    return array


def _dim_fits(dim: int | Sym, size: int, sizes: dict[str, int]) -> bool:
    if not isinstance(dim, Sym):
        return dim == size
    return size % dim.factor == 0 and sizes.setdefault(dim.symbol, size // dim.factor) == size // dim.factor
