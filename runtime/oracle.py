"""Whether two results agree: integers bit for bit, floats within what rounding explains. Never a guessed tolerance.

One float node, given the same inputs, errs by at most `Op.error`: gamma_n * ref(|x|, |w|) and the declared ulps. Whole
float graphs are judged against a run in double precision, each element by how far roundings are found to take it, with
a stated probability of a false alarm (`ir/perturbation.py`).
Infinities, and what is no number, must be what the interpreter says they are, where rounding cannot decide it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..ir.evaluate import evaluate_by_name
from ..ir.graph import Graph
from ..ir.perturbation import largest_number, reach
from ..ir.precision import float64_twin, widened
from ..ir.types import Array, dtype_of
from .interpreter import checked


@dataclass(frozen=True)
class Comparison:
    """How far a result is from its reference.

    exact: every element is equal (NaN equals NaN). agrees: every difference is within the tolerance.
    differing: how many elements are not equal. max_error: the largest difference. sqnr_db: the power of the reference
    over that of the difference, infinite where there is none. first: index of the first element beyond the tolerance.
    """

    exact: bool
    agrees: bool
    differing: int
    max_error: float
    sqnr_db: float
    first: tuple[int, ...] | None = None
    expected: float = 0.0
    actual: float = 0.0

    def __str__(self) -> str:
        if self.exact:
            return "equal"
        figures = f"{self.differing} elements differ, by up to {self.max_error:g} (SQNR {self.sqnr_db:.1f} dB)"
        if self.first is None:
            return f"within tolerance: {figures}"
        at = ",".join(map(str, self.first))
        return f"{figures}; first at [{at}]: expected {self.expected:g}, got {self.actual:g}"


def compare(reference: Array, actual: Array, tolerance: Array | float = 0.0) -> Comparison:
    """Compare arrays of one shape. tolerance: absolute, a scalar or per element; leave it 0 for integers.

    Raises ValueError for different shapes: then nothing can be said about elements.
    """
    if reference.shape != actual.shape:
        raise ValueError(f"shapes {list(reference.shape)} and {list(actual.shape)} cannot be compared")
    expected, got = _wide(reference), _wide(actual)
    with np.errstate(all="ignore"):
        equal = (expected == got) | ((expected != expected) & (got != got))
        error = np.where(equal, 0, np.abs(got - expected)).astype(np.float64)
        error[np.isnan(error)] = np.inf  # NaN against a number
    beyond = differs(reference, actual, tolerance)
    where = tuple(int(i) for i in np.unravel_index(int(np.argmax(beyond)), beyond.shape)) if beyond.any() else None
    return Comparison(
        exact=bool(equal.all()),
        agrees=where is None,
        differing=int((~equal).sum()),
        max_error=float(error.max(initial=0)),
        sqnr_db=sqnr_db(reference, actual),
        first=where,
        expected=float(expected[where]) if where is not None else 0.0,
        actual=float(got[where]) if where is not None else 0.0,
    )


def differs(reference: Array, actual: Array, tolerance: Array | float = 0.0) -> Array:
    """Elementwise: further apart than the tolerance. NaN equals NaN alone; a tolerance of NaN allows anything."""
    expected, got = _wide(reference), _wide(actual)
    with np.errstate(all="ignore"):
        same = (expected == got) | ((expected != expected) & (got != got))
        near = (np.abs(got - expected) <= tolerance) & ((expected != expected) == (got != got))
    return np.asarray(~(same | near | np.isnan(tolerance)), np.bool_)


def sqnr_db(reference: Array, actual: Array) -> float:
    """Signal to quantization noise, 10 log10(sum ref^2 / sum (ref - actual)^2), in dB: inf where nothing differs.

    Infinities and NaNs that both have are no noise, and no signal; those that one has are nothing but noise: -inf.
    """
    signal, noise = _wide(reference).astype(np.float64), _wide(actual).astype(np.float64)
    same = (signal == noise) | (np.isnan(signal) & np.isnan(noise))
    with np.errstate(all="ignore"):
        difference = float(np.sum(np.square(signal - noise), where=~same))
        power = float(np.sum(np.square(signal), where=np.isfinite(signal)))
    if difference == 0:
        return math.inf
    return 10 * math.log10(power / difference) if power > 0 and math.isfinite(difference) else -math.inf


Tolerance = tuple[Array, Array]
"""The result that is right, and how far from it each element may be that an executor computes."""


def graph_tolerance(graph: Graph, inputs: Mapping[str, Array], early: bool = False) -> dict[str, Tolerance]:
    """Per output: the double-precision result, and how far from it an executor of the float graph may be.

    early: a smaller tolerance that takes a quarter of the time; what is beyond it is not wrong for that.
    """
    arrays = checked(graph, inputs)
    single = evaluate_by_name(graph, arrays)
    double = evaluate_by_name(float64_twin(graph), {name: widened(x) for name, x in arrays.items()})
    far = reach(graph, [arrays[v.name] for v in graph.inputs], early)
    return {
        name: _tolerance(exact, single[name], room) for (name, exact), room in zip(double.items(), far, strict=True)
    }


def batch_tolerance(
    graph: Graph, samples: Iterable[Mapping[str, Array]], early: bool = False
) -> Iterator[dict[str, Tolerance]]:
    """`graph_tolerance` of each sample, when it is asked for. No sample's tolerance depends on another's."""
    return (graph_tolerance(graph, sample, early) for sample in samples)


def _tolerance(exact: Array, single: Array, room: Array) -> Tolerance:
    """Infinities and NaN stand in the reference where they are certain.

    single: as the interpreter has it. room: from `reach`. The tolerance is infinite where rounding decides whether a
    number overflows, NaN (anything is allowed) where it decides whether there is one, or where float32 overflowed on
    the way to what double precision has.
    """
    if not dtype_of(exact).is_float:
        return exact, room
    limit = largest_number(dtype_of(single))
    with np.errstate(all="ignore"):
        wide = widened(single)
        finite = np.isfinite(wide) & np.isfinite(exact)
        regular = finite & (np.abs(exact) + room < limit)
        beyond = (np.sign(exact) == np.sign(wide)) & (np.abs(exact) - room > limit)
        certain = (np.isnan(wide) & np.isnan(exact)) | (np.isinf(wide) & (beyond | (exact == wide)))
    tolerance = np.select(
        [regular, np.isnan(room), finite, certain & np.isfinite(room)], [room, math.nan, math.inf, 0.0], math.nan
    )
    return np.where(finite, exact, wide), tolerance


def judge(graph: Graph, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Comparison]:
    """Judge an executor's outputs for one sample: integers (and booleans) bit for bit, floats by `graph_tolerance`."""
    verdicts: dict[str, Comparison] = {}
    for early in (True, False):
        allowed = graph_tolerance(graph, inputs, early)
        verdicts = {name: compare(exact, outputs[name], room) for name, (exact, room) in allowed.items()}
        if all(verdict.agrees for verdict in verdicts.values()):
            break
    return verdicts


def _wide(array: Array) -> Array:
    """Values in a dtype in which they, and their differences, are exact (or as good as)."""
    dtype = dtype_of(array)
    if dtype.is_float:
        return array.astype(np.float64)
    return np.asarray(array.astype(object if dtype.bits == 64 else np.int64))  # of one element a Python int, else
