"""Figures of outputs against those of the model: each output by itself, for a pooled one hides the smaller output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .ir import arithmetic
from .ir.graph import Graph, Value
from .ir.ops.quant import QuantOp
from .ir.types import Array
from .runtime.oracle import sqnr_db

Outputs = Mapping[str, Array]

#: Stands for no signal at all, where a finite number is wanted.
NOTHING_DB = -200.0


def is_float(graph: Graph) -> bool:
    """Whether a model computes with floats alone: nothing in it is quantized."""
    return all(not isinstance(n.op, QuantOp) and all(map(is_float, n.op.bodies())) for n in graph.nodes)


def taken(graph: Graph, arrays: Outputs) -> dict[str, Array]:
    """Samples of the source model as the lowered graph takes them: quantized to integers, or in another float dtype."""
    return {v.name: _quantized(v, np.asarray(arrays[v.name])) for v in graph.inputs}


def _quantized(value: Value, array: Array) -> Array:
    dtype, quant = value.type.dtype, value.type.quant
    if dtype.is_float:
        return array.astype(dtype.numpy)
    if not dtype.is_integer or array.dtype.kind != "f" or quant is None:
        return array
    integers = arithmetic.quantize(
        array, np.array(quant.scale[0], np.float32), np.array(quant.zero[0]), dtype.min, dtype.max
    )
    return integers.astype(dtype.numpy)


def reals(graph: Graph, outputs: Outputs) -> dict[str, Array]:
    """Outputs as real numbers in double precision: integers with an annotation are dequantized."""
    result = {}
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        wide, quant = outputs[name].astype(np.float64), value.type.quant
        result[name] = (wide - quant.zero[0]) * quant.scale[0] if quant and value.type.dtype.is_integer else wide
    return result


def levels(graph: Graph, outputs: Outputs, float_outputs: Outputs) -> dict[str, float]:
    """SQNR in dB by output, the float model's being the signal: infinite where they are equal, at least -200."""
    found = reals(graph, outputs)
    return {name: max(NOTHING_DB, sqnr_db(float_outputs[name], array)) for name, array in found.items()}


def worst(figures: Mapping[str, float]) -> float:
    """The least of several outputs' figures; infinite where there is none."""
    return min(figures.values(), default=np.inf)


def agreements(graph: Graph, outputs: Outputs, float_outputs: Outputs) -> dict[str, float]:
    """How often both have the same top-1, 0..1, by output: of those that are a vector of scores per sample."""
    found = {}
    for name in _scores(graph):
        guesses, float_guesses = (_top1(outs[name]) for outs in (outputs, float_outputs))
        if guesses is not None and float_guesses is not None:
            found[name] = float(np.mean(guesses == float_guesses))
    return found


def measured(
    graph: Graph, labels: Array | None, outputs: Outputs, float_outputs: Outputs, floats: bool = True
) -> dict[str, float | None]:
    """Top-1 accuracy of both by the first output of scores, and the agreement of the output where it is the least.

    floats: whether the others are those of a float model; of another there is no `accuracy_float`.
    """
    found = agreements(graph, outputs, float_outputs)
    rates: list[float | None] = [None, None]
    if found and labels is not None:
        guesses = [_top1(outs[next(iter(found))]) for outs in (outputs, float_outputs)]
        rates = [float(np.mean(g == labels)) if g is not None and g.shape == labels.shape else None for g in guesses]
    accuracy_float = rates[1] if floats else None
    return {"accuracy": rates[0], "accuracy_float": accuracy_float, "agreement": min(found.values(), default=None)}


def by_output(graph: Graph, outputs: Outputs, float_outputs: Outputs) -> dict[str, dict[str, Any]]:
    """All figures of each output, JSON-able: None where nothing differs, or there is nothing to measure."""
    agreed = agreements(graph, outputs, float_outputs)
    return {
        name: {"sqnr_db": finite(db), "agreement": agreed.get(name)}
        for name, db in levels(graph, outputs, float_outputs).items()
    }


def finite(db: float) -> float | None:
    """A level, or None where it is infinite: nothing differs."""
    return db if np.isfinite(db) else None


def _scores(graph: Graph) -> list[str]:
    """Outputs that may be scores: what has an input's shape reconstructs it, as an autoencoder does."""
    inputs = [v.type.shape for v in graph.inputs]
    return [
        name for name, v in zip(graph.output_names, graph.outputs, strict=True) if v.type.shape not in inputs
    ]  # fmt: skip


def _top1(scores: Array) -> Array | None:
    """`[samples, batch]` classes for `[samples, batch, classes]` scores; None for other shapes."""
    return scores.argmax(-1) if scores.ndim == 3 and scores.shape[-1] > 1 else None
