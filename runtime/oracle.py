"""Whether two results agree: integers bit for bit, floats within what rounding explains. Never a guessed tolerance.

One float node, given the same inputs, errs by at most `Op.error`: gamma_n * ref(|x|, |w|) and the declared ulps. Errors
of whole float graphs are judged against a run in double precision: an executor may be GRAPH_FACTOR times as far from it
as the reference interpreter is itself, or as far as roundings are found to take the graph (`ir/perturbation.py`).
Infinities, and what is no number, must be what the interpreter says they are, where rounding cannot decide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.evaluate import evaluate_by_name
from ..ir.graph import Graph, Node, Value
from ..ir.op import Op
from ..ir.ops.elementwise import Clip
from ..ir.perturbation import largest_number, reach
from ..ir.precision import GRAPH_FACTOR, float64_twin, widened
from ..ir.types import F32, Array, dtype_of, type_of
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


def node_tolerance(op: Op, operands: Sequence[Array]) -> tuple[Array, ...]:
    """Per result, how far any two executors may be from the double-precision result of these float32 operands.

    Zero for integers. Where a result is so small that float32 holds it with less precision, the smallest normal number.
    """
    with np.errstate(all="ignore"):
        error = op.error(*operands)
    errors = error if isinstance(error, tuple) else (error,)
    tiny = float(np.finfo(np.float32).tiny)
    return tuple(np.where(np.asarray(e) > 0, e + tiny, 0.0) for e in errors)


Tolerance = tuple[Array, Array | float]
"""The result that is right, and how far from it an executor may be: one number, or one for each element."""


def graph_tolerance(graph: Graph, inputs: Mapping[str, Array], measure: bool = True) -> dict[str, Tolerance]:
    """Per output: the double-precision result, and how far from it an executor of the float graph may be.

    That is GRAPH_FACTOR times the largest error of the float32 interpreter on these inputs; because it may have been
    exact by luck, at least as many unit roundoffs of the largest output and of what was added up for it; and, where
    that is more, as far as roundings are found to take the graph: `measure`, which takes several evaluations.
    """
    return {name: found.tolerance() for name, found in _judged(graph, inputs, measure).items()}


@dataclass
class _Judged:
    """One output of one sample: in double precision, as the interpreter has it, and how far executors may be."""

    exact: Array
    single: Array
    room: float = 0.0

    @property
    def size(self) -> float:
        """The largest element that is finite."""
        return _largest(np.abs(self.exact), self.regular())

    def regular(self, room: float = 0.0) -> Array:
        """Elements that are finite, and stay so when moved by this."""
        with np.errstate(all="ignore"):
            inside = np.abs(self.exact) + room < largest_number(dtype_of(self.single))
        return np.asarray(np.isfinite(widened(self.single)) & inside, np.bool_)

    def tolerance(self) -> Tolerance:
        """Infinities and NaN stand in the reference where they are certain.

        The tolerance is infinite where rounding decides whether a number overflows, NaN (anything is allowed) where
        float32 overflowed on the way to what double precision has.
        """
        if not dtype_of(self.exact).is_float:
            return self.exact, 0.0
        regular = self.regular(self.room)
        if regular.all():
            return self.exact, self.room
        single, exact = widened(self.single), self.exact
        finite = np.isfinite(single) & np.isfinite(exact)
        with np.errstate(all="ignore"):
            beyond = (np.sign(exact) == np.sign(single)) & (
                np.abs(exact) - self.room > largest_number(dtype_of(self.single))
            )
        certain = (np.isnan(single) & np.isnan(exact)) | (np.isinf(single) & (beyond | (exact == single)))
        tolerance = np.select([regular, finite, certain], [self.room, math.inf, 0.0], math.nan)
        return np.where(finite, exact, single), tolerance


def _judged(graph: Graph, inputs: Mapping[str, Array], measure: bool) -> dict[str, _Judged]:
    arrays = checked(graph, inputs)
    single = evaluate_by_name(graph, arrays)
    twin = float64_twin(graph)
    makers = {name: _makers(v) for name, v in zip(twin.output_names, twin.outputs, strict=True)}
    seen: dict[Value, Array] = {v: widened(arrays[v.name]) for v in twin.inputs}
    needed = {v for nodes in makers.values() for node in nodes for v in node.operands}

    def keep(node: Node, results: tuple[Array, ...]) -> None:
        seen.update((v, r) for v, r in zip(node.results, results, strict=True) if v in needed)

    double = evaluate_by_name(twin, {v.name: seen[v] for v in twin.inputs}, keep)
    far = reach(graph, [arrays[v.name] for v in graph.inputs]) if measure else [0.0] * len(graph.outputs)
    unit = float(np.finfo(F32.numpy).eps) / 2
    result: dict[str, _Judged] = {}
    for (name, exact), away in zip(double.items(), far, strict=True):
        found = result[name] = _Judged(exact, single[name])
        if dtype_of(exact).is_float:
            with np.errstate(all="ignore"):
                own = _largest(np.abs(widened(single[name]) - exact), found.regular())
            size = max([found.size, *(_summed(node, seen) for node in makers[name])])
            found.room = max(GRAPH_FACTOR * max(own, unit * size), away)
    return result


def _largest(array: Array, where: Array) -> float:
    return float(np.max(array, initial=0, where=where))


def _makers(output: Value) -> list[Node]:
    """The nodes that computed what an output holds; others only moved, or chose, or clipped it."""
    found: dict[Node, None] = {}
    stack, passed = [output], set()
    while stack:
        value = stack.pop()
        if value in passed or value.producer is None or value.const is not None:
            continue
        passed.add(value)
        if value.producer.op.keeps_scale or isinstance(value.producer.op, Clip):
            stack.extend(value.producer.operands)
        else:
            found[value.producer] = None
    return list(found)


def _summed(node: Node, seen: Mapping[Value, Array]) -> float:
    """The largest sum of the absolute values of products that a node adds up; 0 where it does not."""
    operands = [c if (c := v.const) is not None else seen[v] for v in node.operands]
    if not node.op.cost(*map(type_of, operands)).macs:
        return 0.0
    floats = [np.abs(x) if dtype_of(x).is_float else x for x in operands]
    with np.errstate(all="ignore"):
        results = node.op.ref(*floats)
    sizes = [float(np.max(np.abs(r), initial=0)) for r in (results if isinstance(results, tuple) else (results,))]
    return max((s for s in sizes if math.isfinite(s)), default=0.0)


def batch_tolerance(
    graph: Graph, samples: Sequence[Mapping[str, Array]], measure: bool = True
) -> list[dict[str, Tolerance]]:
    """`graph_tolerance` of each sample, with the interpreter's worst error over all of them.

    On one sample it may have been precise by luck; so errors, relative to the largest element of the output, are those
    of the sample where it was least so.
    """
    each = [_judged(graph, sample, measure) for sample in samples]
    for name in graph.output_names:
        rows = [row[name] for row in each if dtype_of(row[name].exact).is_float]
        sizes = [row.size for row in rows]
        worst = max((row.room / size for row, size in zip(rows, sizes, strict=True) if size), default=0.0)
        for row, size in zip(rows, sizes, strict=True):
            row.room = worst * size if size else row.room
    return [{name: found.tolerance() for name, found in row.items()} for row in each]


def judge(graph: Graph, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> dict[str, Comparison]:
    """Judge an executor's outputs for one sample: integers (and booleans) bit for bit, floats by `graph_tolerance`."""
    return {
        name: compare(exact, outputs[name], tolerance)
        for name, (exact, tolerance) in graph_tolerance(graph, inputs).items()
    }


def _wide(array: Array) -> Array:
    """Values in a dtype in which they, and their differences, are exact (or as good as)."""
    dtype = dtype_of(array)
    if dtype.is_float:
        return array.astype(np.float64)
    return np.asarray(array.astype(object if dtype.bits == 64 else np.int64))  # of one element a Python int, else
