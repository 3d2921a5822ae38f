"""How much of a graph's outputs quantization leaves: their signal-to-noise ratios, against the float model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ..ir import arithmetic
from ..ir.evaluate import PART, evaluate
from ..ir.graph import Graph
from ..ir.types import Array, TensorType
from .calibration import LEAST_DB, decibel


def measured(graph: Graph, inputs: Sequence[Sequence[Array]], expected: Sequence[Sequence[Array]]) -> dict[str, float]:
    """SQNR of each output in dB, by name; nothing without samples."""
    if not inputs:
        return {}
    return dict(zip(graph.output_names, sqnr(expected, [_evaluated(graph, x) for x in inputs]), strict=True))


def rounded(levels: Mapping[str, float]) -> dict[str, float]:
    """Levels as a report shows them."""
    return {name: round(db, 2) for name, db in levels.items()}


def remarks(levels: Mapping[str, float], count: int) -> Iterator[str]:
    """About outputs of which too little is left."""
    for name, db in levels.items():
        if db < LEAST_DB:
            yield (
                f"output {name}: SQNR {db:.1f} dB against the float model, on {count} calibration samples; "
                "`planish debug blame` says which layers to leave in floats (quantize{exclude=...})"
            )


def rank(levels: Mapping[str, float]) -> tuple[int, float]:
    """What makes a quantization better: fewer outputs that are lost, then their mean SQNR."""
    return -sum(db < LEAST_DB for db in levels.values()), float(np.mean(list(levels.values()) or [0.0]))


def _evaluated(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Outputs as reals for inputs as reals, where those of the graph may be integers."""
    taken = [_encoded(x, v.type) for v, x in zip(graph.inputs, inputs, strict=True)]
    return [_decoded(y, v.type) for v, y in zip(graph.outputs, evaluate(graph, taken), strict=True)]


def _encoded(x: Array, type: TensorType) -> Array:
    if type.quant is None or not type.dtype.is_integer or x.dtype.kind != "f":
        return x
    scale, zero = np.array(type.quant.scale[0], np.float32), np.array(type.quant.zero[0])
    return arithmetic.quantize(x, scale, zero, type.dtype.min, type.dtype.max).astype(type.dtype.numpy)


def _decoded(x: Array, type: TensorType) -> Array:
    if type.quant is None or not type.dtype.is_integer:
        return x
    return (x.astype(np.float64) - type.quant.zero[0]) * type.quant.scale[0]


def sqnr(expected: Sequence[Sequence[Array]], actual: Sequence[Sequence[Array]]) -> list[float]:
    """For each output 10 log10(signal / noise), in dB, within 200 either way; samples first, then outputs."""
    levels = []
    for reference, quantized in zip(zip(*expected, strict=True), zip(*actual, strict=True), strict=True):
        signal = noise = 0.0
        for x, y in zip(reference, quantized, strict=True):
            for start in range(0, x.size, PART):
                wide, part = (a.reshape(-1)[start : start + PART].astype(np.float64) for a in (x, y))
                known = np.isfinite(wide)
                with np.errstate(invalid="ignore"):
                    difference = (wide - part)[known]
                signal += float(np.square(wide[known]).sum())
                noise += float(np.square(difference).sum())
        levels.append(decibel(signal, noise))
    return levels
