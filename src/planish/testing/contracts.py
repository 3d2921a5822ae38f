"""What a pass does to one graph, held against its contract."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.equality import difference
from ..ir.errors import PlanishError, VerificationError
from ..ir.evaluate import evaluate, evaluate_by_name, evaluate_node, symbol_sizes
from ..ir.exact import Undefined
from ..ir.graph import Graph, Node, Value
from ..ir.precision import exact_twin
from ..ir.types import EXACT, Array, Sym, TensorType, converted, dtype_of
from ..passes.base import Context, Pass
from ..passes.pipeline import Result, run_pipeline
from ..passes.validation import Validation
from ..runtime.contracts import Promise

#: What a symbolic dimension is when a graph is executed.
SYMBOL = 2
#: Values that tell exact rewrites from almost exact ones.
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, -7.0)

NO_CASTS = "exact numbers do not become floats: write planish.ir.precision.widened(x) for x.astype(np.float64)"

Sample = dict[str, Array]
Style = Callable[[np.random.Generator, TensorType], Array]


@dataclass(frozen=True)
class Failure:
    """How a pass fails on a graph: the kind of failure in a few words, and what was seen."""

    kind: str
    seen: str = ""


#: A failure, or whether anything was compared.
Verdict = Failure | bool


@dataclass(frozen=True)
class Outcome:
    """What became of one graph: whether the pass changed it, how it failed, if it did, and why rules did not match.

    proven: changed, and held to the contract; not so where exact numbers end, as at log(0).
    """

    changed: bool
    failure: Failure | None = None
    reasons: tuple[str, ...] = ()
    proven: bool = False


def outcome(applied: Pass, graph: Graph) -> Outcome:
    """Run a pass on a graph and hold the result to what the pass and all passes promise.

    The result verifies, is the same in a second run, keeps inputs and outputs, and is changed only if the pass says so;
    an EXACT or REASSOCIATING pass finds nothing left to do in it; the contract is kept on generated inputs.
    """
    graph = _named(graph)
    try:
        result = _run(applied, graph)
        twin = _run(applied, graph).graph
        settled = applied.contract.promise > Promise.REASSOCIATING or _run(applied, result.graph).graph
    except PlanishError as error:
        return Outcome(True, Failure("the pass fails", str(error)))
    changed = bool(result.steps[0].changes)
    failure, proven = None, False
    if (gap := difference(result.graph, twin)) is not None:
        failure = Failure("two runs differ", gap)
    elif not changed and (gap := difference(graph, result.graph)) is not None:
        failure = Failure("the pass changes the graph and does not say so", gap)
    elif isinstance(settled, Graph) and (gap := difference(result.graph, settled)) is not None:
        failure = Failure("the pass is not done after one run", gap)
    elif changed:
        found = _contract(applied, graph, result)
        if isinstance(found, Failure):
            did = ", ".join(f"{action} x{times}" for action, times in result.steps[0].changes.applied.items())
            failure = Failure(found.kind, f"{found.seen}; the pass did: {did}")
        else:
            proven = found
    return Outcome(changed, failure, tuple(result.steps[0].changes.refused.values()), proven)


def _contract(applied: Pass, before: Graph, result: Result) -> Verdict:
    check: Callable[[Pass, Graph, Result], Verdict] = {
        Promise.EXACT: _bit_equal,
        Promise.REASSOCIATING: _equal_over_the_rationals,
        Promise.WITHIN: _within_steps,
        Promise.APPROXIMATE: _reports,
    }[applied.contract.promise]
    if applied.contract.promise <= Promise.REASSOCIATING and _interface(before) != _interface(result.graph):
        return Failure("inputs or outputs change", f"before: {_interface(before)}   after: {_interface(result.graph)}")
    return check(applied, before, result)


def samples(graph: Graph) -> list[Sample]:
    """Inputs for a graph, the same each time: one of whole numbers, one of uniform ones."""
    return _drawn(graph, (_whole, _uniform))


def _drawn(graph: Graph, styles: Sequence[Style]) -> list[Sample]:
    random = np.random.Generator(np.random.PCG64(0))
    return [{v.name: style(random, v.type) for v in graph.inputs} for style in styles]


def _bit_equal(applied: Pass, before: Graph, result: Result) -> Verdict:
    smallest = min((math.prod(_shape(v.type)) for v in before.inputs), default=0)
    # Small inputs hold few of the special values: more of them, so that most values are met.
    specials = max(3, 2 * len(SPECIAL) // max(1, smallest))
    for sample in _drawn(before, (_whole, *[_special] * specials, _uniform)):
        if gap := _gap(evaluate_by_name(before, sample), evaluate_by_name(result.graph, sample)):
            return Failure("the bits differ", gap)
    return True


def _equal_over_the_rationals(applied: Pass, before: Graph, result: Result) -> Verdict:
    """Convert the graph, then run the pass: what the rewrite computes is computed exactly as well."""
    compared = False
    for sample in _drawn(before, (_whole, _quarters)):
        rationals = {name: converted(x, EXACT) if dtype_of(x).is_float else x for name, x in sample.items()}
        try:
            twin = exact_twin(before)
            expected = evaluate_by_name(twin, rationals)
        except Undefined:
            continue
        except TypeError:  # floats become integers inside
            return _equal_but_for_rounding(applied, before)
        try:
            actual = evaluate_by_name(_run(applied, twin).graph, rationals)
        except Undefined as error:
            return Failure("exact mode: not equal", f"what was a number is none: {error}")
        except (PlanishError, ArithmeticError, TypeError) as error:
            hint = f"\n  {NO_CASTS}" if "'Exact'" in str(error) else ""
            return Failure("exact mode: the pass fails", f"{error}{hint}")
        if gap := _gap(expected, actual):
            return Failure("exact mode: not equal", gap)
        compared = True
    return compared


def _equal_but_for_rounding(applied: Pass, before: Graph) -> Verdict:
    try:
        run_pipeline(before, [applied], _context(before), listeners=[Validation(generated=2, calibration=0)])
    except VerificationError as error:
        return Failure("beyond what rounding explains", str(error))
    return False  # close is not equal


def _within_steps(applied: Pass, before: Graph, result: Result) -> Verdict:
    """Every integer that has kept its name and type, from the same inputs: later nodes go on from what was before."""
    for sample in samples(before):
        seen = _values(before, sample)
        if failure := _compared(applied.contract.steps, seen, result.graph, sample):
            return failure
    return True


def _values(graph: Graph, sample: Sample) -> dict[str, tuple[TensorType, Array]]:
    """All computed values by name."""
    seen: dict[str, tuple[TensorType, Array]] = {}

    def listen(node: Node, results: tuple[Array, ...]) -> None:
        seen.update({v.name: (v.type.bare, r) for v, r in zip(node.results, results, strict=True)})

    evaluate(graph, [sample[v.name] for v in graph.inputs], listen)
    return seen


def _compared(steps: int, seen: Mapping[str, tuple[TensorType, Array]], after: Graph, sample: Sample) -> Failure | None:
    live: dict[Value, Array] = {v: sample[v.name] for v in after.inputs}
    sizes = symbol_sizes((v.type.shape for v in live), (x.shape for x in live.values()))
    for node in after.nodes:
        results = evaluate_node(node, [live[v] for v in node.operands], sizes)
        for value, array in zip(node.results, results, strict=True):
            live[value] = array
            type, expected = seen.get(value.name, (None, array))
            if type is None or type != value.type.bare:
                continue
            live[value] = expected
            if type.dtype.is_integer:
                gap = np.abs(array.astype(np.int64) - expected.astype(np.int64))
                if np.any(gap > steps):
                    at = tuple(int(i) for i in np.argwhere(gap > steps)[0])
                    where = f"first at %{value.name}[{','.join(map(str, at))}]"
                    return Failure(
                        f"more than {steps} steps apart", f"before: {expected[at]}   after: {array[at]}   {where}"
                    )
    return None


def _reports(applied: Pass, before: Graph, result: Result) -> Verdict:
    return bool(result.steps[0].changes.facts) or Failure(
        "nothing is reported", "an APPROXIMATE pass says in `Changes.facts` what it did"
    )


# ---- running and comparing


def _run(applied: Pass, graph: Graph) -> Result:
    return run_pipeline(graph, [applied], _context(graph))


def _context(graph: Graph) -> Context:
    return Context(calibration=lambda: samples(graph))


def _named(graph: Graph) -> Graph:
    """A copy in which every value has a name of its own, by which it can be found again."""
    copy = graph.clone()
    taken = set(copy.input_names)
    fresh = (name for i in itertools.count() if (name := str(i)) not in taken)
    for node in copy.nodes:
        for value in node.results:
            if not value.name or value.name in taken:
                value.name = next(fresh)
            taken.add(value.name)
    return copy


def _interface(graph: Graph) -> list[tuple[str, str]]:
    names = (*graph.input_names, *graph.output_names)
    return [(name, str(v.type)) for name, v in zip(names, (*graph.inputs, *graph.outputs), strict=True)]


def _gap(before: Mapping[str, Array], after: Mapping[str, Array]) -> str:
    """The first difference between outputs; "" where all are equal (any NaN equals any NaN)."""
    for name, a in before.items():
        b = after[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"before: {a.dtype}{list(a.shape)}   after: {b.dtype}{list(b.shape)}   at %{name}"
        unequal = a != b
        if a.dtype.kind == "f":
            unequal = unequal & ~(np.isnan(a) & np.isnan(b)) | (np.signbit(a) != np.signbit(b)) & (a == b)
        if np.any(unequal):
            at = tuple(int(i) for i in np.argwhere(unequal)[0])
            where = f"first difference at %{name}[{','.join(map(str, at))}]"
            return f"before: {a[at]}   after: {b[at]}   {where}"
    return ""


def _shape(type: TensorType) -> tuple[int, ...]:
    return tuple(SYMBOL * d.factor if isinstance(d, Sym) else d for d in type.shape)


def _whole(random: np.random.Generator, type: TensorType) -> Array:
    low, high = (-8, 8) if type.dtype.is_float else (max(type.dtype.min, -128), min(type.dtype.max, 255))
    return random.integers(low, high, _shape(type), endpoint=True).astype(type.dtype.numpy)


def _special(random: np.random.Generator, type: TensorType) -> Array:
    if not type.dtype.is_float:
        return _whole(random, type)
    with np.errstate(all="ignore"):
        return np.resize(random.permutation(SPECIAL), _shape(type)).astype(type.dtype.numpy)


def _uniform(random: np.random.Generator, type: TensorType) -> Array:
    return random.uniform(-4, 4, _shape(type)).astype(type.dtype.numpy) if type.dtype.is_float else _whole(random, type)


def _quarters(random: np.random.Generator, type: TensorType) -> Array:
    whole = _whole(random, type)
    return (whole / 4).astype(whole.dtype) if type.dtype.is_float else whole
