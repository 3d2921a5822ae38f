"""Is it what it should be? An artifact's outputs against the interpreter's, as a whole or layer by layer."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .ir.graph import Graph, Node
from .ir.ops.quant import Quantize
from .ir.types import Array
from .runtime.oracle import Tolerance, batch_tolerance, differs, graph_tolerance
from .runtime.target import Artifact, Target
from .runtime.unchained import step_values

Outputs = Mapping[str, Array]

#: Samples on which layers are judged one by one.
BY_LAYER = 20


@dataclass(frozen=True)
class Difference:
    """The first element in which the artifact is not what the interpreter says; `elements`: of this output and sample.

    expected: for float arithmetic the result in double precision, which the tolerance is about.
    """

    output: str
    sample: int
    index: tuple[int, ...]
    expected: float
    found: float
    elements: int
    tolerance: float

    def __str__(self) -> str:
        place = f"{self.output}[{','.join(map(str, self.index))}] of sample {self.sample}"
        within = f", tolerance {self.tolerance:.3g}" if self.tolerance else ""
        return f"{place}: the interpreter says {self.expected!r}, the artifact {self.found!r}{within}"


def first_difference(graph: Graph, inputs: Outputs, expected: Outputs, found: Outputs) -> Difference | None:
    """The first sample's first element that is not what it should be; None when all are.

    Where all arithmetic is on integers, every bit counts; where some is on floats, the oracle's tolerance for graphs.
    """
    if not is_integer(graph):
        return _float_difference(graph, _samples(inputs), found)
    for i in range(len(next(iter(expected.values())))):
        for name, array in expected.items():
            wrong = _bits_differ(array[i], found[name][i])
            if (difference := _difference(name, i, array[i], found[name][i], wrong, 0.0)) is not None:
                return difference
    return None


def _float_difference(graph: Graph, samples: Sequence[Outputs], found: Outputs) -> Difference | None:
    """The first difference that is no rounding. What is near needs few trials, which are less than all."""
    for i, (sample, near) in enumerate(zip(samples, batch_tolerance(graph, samples, early=True), strict=True)):
        got = {name: array[i] for name, array in found.items()}
        if _first_beyond(near, got, i) is None:
            continue
        if (difference := _first_beyond(graph_tolerance(graph, sample), got, i)) is not None:
            return difference
    return None


def _first_beyond(allowed: Mapping[str, Tolerance], found: Outputs, sample: int) -> Difference | None:
    for name, (reference, tolerance) in allowed.items():
        wrong = differs(reference, found[name], tolerance)
        if (difference := _difference(name, sample, reference, found[name], wrong, tolerance)) is not None:
            return difference
    return None


def _samples(inputs: Outputs, most: int | None = None) -> list[dict[str, Array]]:
    """The samples of stacked inputs, one by one."""
    count = len(next(iter(inputs.values())))
    return [{name: array[i] for name, array in inputs.items()} for i in range(min(count, most or count))]


def _difference(
    name: str, sample: int, reference: Array, found: Array, wrong: Array, tolerance: Array | float
) -> Difference | None:
    if not wrong.any():
        return None
    first = tuple(int(k) for k in np.argwhere(wrong)[0])
    room = float(np.broadcast_to(tolerance, wrong.shape)[first])
    return Difference(name, sample, first, float(reference[first]), float(found[first]), int(wrong.sum()), room)


@dataclass(frozen=True)
class ByLayer:
    """What judging layers one by one found: the largest difference in steps, and the first that is too large."""

    steps: int
    difference: Difference | None


def judge_layers(target: Target, artifact: Artifact, inputs: Outputs) -> ByLayer | None:
    """Run every quantized layer of the artifact on the interpreter's inputs; None where it cannot, or need not, be.

    A layer that gives integers may be one step off, floats are held to the oracle's tolerance.
    """
    if is_integer(artifact.graph) or not any(map(_quantizes, artifact.graph.nodes)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        parts = target.unchained(artifact, Path(folder))
        if parts is None:
            return None
        pieces, cut = parts
        samples = _samples(inputs, BY_LAYER)
        right = [step_values(cut.whole, sample, cut.given) for sample in samples]
        given = [{**sample, **values} for sample, values in zip(samples, right, strict=True)]
        found = target.run(pieces, {name: np.stack([g[name] for g in given]) for name in given[0]}).outputs
    expected = {new: np.stack([values[old] for values in right]) for old, new in zip(cut.given, cut.made, strict=True)}
    steps = {name: _apart(array, found[name]) for name, array in expected.items()}
    for name, apart in steps.items():
        for i, wrong in enumerate(apart > 1):
            if (difference := _difference(name, i, expected[name][i], found[name][i], wrong, 1.0)) is not None:
                return ByLayer(int(apart.max()), difference)
    worst = max(int(apart.max(initial=0)) for apart in steps.values())
    floats = cut.without_steps()
    return ByLayer(worst, _float_difference(floats, given, found) if floats.outputs else None)


def _apart(a: Array, b: Array) -> Array:
    return np.abs(a.astype(np.int64) - b.astype(np.int64))


def _bits_differ(a: Array, b: Array) -> Array:
    """Elementwise, by bits: NaN is NaN, and -0.0 is not 0.0."""
    unsigned = f"u{a.dtype.itemsize}"
    return np.asarray(np.ascontiguousarray(a).view(unsigned) != np.ascontiguousarray(b).view(unsigned)).reshape(a.shape)


def is_integer(graph: Graph) -> bool:
    """Whether all arithmetic is on integers: floats only enter through quantize, leave through dequantize, or move."""
    for node in graph.nodes:
        bodies = node.op.bodies()
        if bodies and all(is_integer(body) for body in bodies):
            continue
        if bodies or (any(v.type.dtype.is_float for v in node.results) and not _harmless(node.op)):
            return False
    return True


def _quantizes(node: Node) -> bool:
    return isinstance(node.op, Quantize) or any(_quantizes(n) for body in node.op.bodies() for n in body.nodes)


def _harmless(op: Any) -> bool:
    return op.moves_data or op.name in ("const", "dequantize")


def same_bytes(a: Array, b: Array) -> bool:
    """Whether two arrays are equal in shape, dtype and every bit."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
