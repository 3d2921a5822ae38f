"""Every op against its own declarations: one generic check for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st

from ..ir.builder import const_value
from ..ir.equality import difference
from ..ir.evaluate import evaluate
from ..ir.exact import Undefined
from ..ir.graph import Graph, apply, graph_input, infer
from ..ir.op import Bounds, Instance, Op, invert
from ..ir.precision import exact_twin
from ..ir.text import parse_graph, print_graph
from ..ir.types import Array, TensorType, converted, dtype_of, static, type_of
from ..ir.verifier import verify
from ..passes.decompose import decomposed
from .draw import HypothesisDraw, SeededDraw, composite, unhurried
from .roles import check_roles
from .ties import check_channels

#: Instances whose roles are checked: what axes mean hardly depends on numbers.
ROLES = 2


@composite
def instances(draw: st.DrawFn, op: type[Op]) -> Instance:
    """Valid uses of an op, from its own `examples`."""
    return _read_only(op.examples(HypothesisDraw(draw)))


def seeded_instances(op: type[Op], seeds: Iterable[int]) -> list[Instance]:
    """Valid uses of an op, one from each seed: fifteen times as fast as hypothesis draws them; nothing shrinks them."""
    return [_read_only(op.examples(SeededDraw(seed))) for seed in seeds]


def _read_only(instance: Instance) -> Instance:
    for operand in instance.operands:
        operand.setflags(write=False)
    return instance


def check_op(op: type[Op]) -> None:
    """Hold an op to its declarations on generated instances.

    The result has the inferred types, is deterministic and leaves the operands alone; `bounds` contains it; `permuted`,
    `channels` and `roles` obey their laws; `error` and `cost` answer; a graph with the instance verifies and survives
    the text form. Raises AssertionError with the smallest counterexample that hypothesis finds.
    """
    for instance in seeded_instances(op, range(ROLES)):
        check_roles(instance)
    for_each_instance(op, _holds)


def for_each_instance(op: type[Op], check: Callable[[Instance, st.DataObject], None]) -> None:
    """Run a check on generated instances of an op, under the active hypothesis profile, without its deadline."""

    @unhurried()
    @given(st.data())
    def run(data: st.DataObject) -> None:
        check(data.draw(instances(op)), data)

    run()


def graph_of(instance: Instance) -> Graph:
    """A graph of one node: constants where the instance says so, inputs `x0`, `x1`, ... elsewhere."""
    inputs = {
        i: graph_input(f"x{i}", type_of(array))
        for i, array in enumerate(instance.operands)
        if i not in instance.constants
    }
    operands = [inputs[i] if i in inputs else const_value(array) for i, array in enumerate(instance.operands)]
    results = apply(instance.op, *operands).results
    return Graph(list(inputs.values()), results, [f"y{i}" for i in range(len(results))], "counterexample")


def _holds(instance: Instance, data: st.DataObject) -> None:
    graph = graph_of(instance)
    text, tensors = print_graph(graph)
    note(text)
    verify(graph)
    gap = difference(parse_graph(text, tensors), graph)
    assert gap is None, f"the text form changes the graph: {gap}"
    assert instance.constants <= set(range(len(instance.operands))), "`constants` names operands that are not there"
    results = _results(instance)
    _within_bounds(instance, results, data)
    check_channels(instance, results, errors(instance.op, instance.operands), data)
    _permutes(instance, results, data)
    _defined(graph)
    instance.op.cost(*map(type_of, instance.operands))


def _results(instance: Instance) -> tuple[Array, ...]:
    """The results, checked against inference and against a second run."""
    op, before = instance.op, [x.tobytes() for x in instance.operands]
    results, again = reference(op, instance.operands), reference(op, instance.operands)
    assert [x.tobytes() for x in instance.operands] == before, "ref writes to its operands"
    types = infer(op, [type_of(x) for x in instance.operands])
    assert len(types) == len(results), f"infer gives {len(types)} results, ref {len(results)}"
    for type, result, twin in zip(types, results, again, strict=True):
        assert result.shape == type.shape, f"infer says {type}, ref gives {list(result.shape)}"
        assert np.array_equal(result, twin, equal_nan=type.dtype.is_float), "two runs differ"
        if type.dtype.is_integer:
            fits = result.size == 0 or (type.dtype.min <= int(result.min()) and int(result.max()) <= type.dtype.max)
            assert dtype_of(result).is_integer, f"infer says {type.dtype}, ref gives {result.dtype}"
            assert fits, f"ref leaves {type.dtype}"
        else:
            assert dtype_of(result) == type.dtype, f"infer says {type.dtype}, ref gives {result.dtype}"
    return results


def reference(op: Op, operands: Sequence[Array]) -> tuple[Array, ...]:
    """What `op.ref` gives, always as a tuple of arrays."""
    with np.errstate(all="ignore"):
        out = op.ref(*operands)
    return tuple(map(np.asarray, out)) if isinstance(out, tuple) else (np.asarray(out),)


def errors(op: Op, operands: Sequence[Array]) -> tuple[Array, ...]:
    """What `op.error` gives, always as a tuple."""
    with np.errstate(all="ignore"):
        out = op.error(*operands)
    return out if isinstance(out, tuple) else (out,)


def _within_bounds(instance: Instance, results: Sequence[Array], data: st.DataObject) -> None:
    """Bounds of the result contain it, known exactly, by range, by ranges of slices, or not at all."""
    op = instance.op
    slack = errors(op, instance.operands)

    def ranged(i: int, x: Array) -> Bounds:
        exact = Bounds.exactly(x)
        return exact if i in instance.constants or not x.size else Bounds(exact.type, exact.lo.min(), exact.hi.max())

    def unknown(i: int, x: Array) -> Bounds:
        return Bounds.exactly(x) if i in instance.constants else Bounds.top(type_of(x))

    def exactly(i: int, x: Array) -> Bounds:
        return Bounds.exactly(x)

    def sliced(i: int, x: Array) -> Bounds:
        exact = Bounds.exactly(x)
        if i in instance.constants or not x.size or not x.ndim:
            return exact
        axis = data.draw(st.integers(0, x.ndim - 1), "axis whose slices are known")
        others = [a for a in range(x.ndim) if a != axis]
        return Bounds(exact.type, *exact.over(others))

    for knowledge in (exactly, ranged, sliced, unknown):
        with np.errstate(all="ignore"):
            known = [knowledge(i, x) for i, x in enumerate(instance.operands)]
            out, sums = op.bounds(*known), op.accumulator(*known) is not None
        bounds = out if isinstance(out, tuple) else (out,)
        for bound, result, error in zip(bounds, results, slack, strict=True):
            assert bound.type.bare == TensorType(result.shape, bound.type.dtype), f"bounds are of a {bound.type}"
            wide = result.astype(bound.lo.dtype) if result.dtype.kind != "b" else result.astype(np.int64)
            dtype = bound.type.dtype
            if dtype.is_integer and not sums and result.size:
                inside = dtype.min <= int(bound.lo.min()) and int(bound.hi.max()) <= dtype.max
                assert inside, f"bounds ({knowledge.__name__}) leave {dtype}, whose arithmetic wraps"
            lo, hi = (np.broadcast_to(end, result.shape) for end in (bound.lo, bound.hi))
            room = error if dtype.is_float else np.array(0)
            assert np.all(wide >= lo - room), f"bounds ({knowledge.__name__}) promise at least {bound.lo}: {result}"
            assert np.all(wide <= hi + room), f"bounds ({knowledge.__name__}) promise at most {bound.hi}: {result}"


def _defined(graph: Graph) -> None:
    """The law of `Op.definition`: the simpler ops give the same, over the rationals."""
    node = next(n for n in graph.nodes if n.results[0] in graph.outputs)
    if not node.op.is_composite:
        return
    try:
        twin = exact_twin(graph)
    except Undefined:  # an attribute is infinite
        return
    composed = twin.clone()
    decomposed(composed, next(n for n in composed.nodes if n.op == node.op))
    verify(composed)
    for sample in ([_whole_numbers(v.type, seed) for v in twin.inputs] for seed in range(2)):
        try:
            before = evaluate(twin, sample)
        except Undefined:
            continue
        for a, b in zip(before, evaluate(composed, sample), strict=True):
            assert np.array_equal(a, b), f"the definition differs: {a} is {b}"


def _whole_numbers(type: TensorType, seed: int) -> Array:
    random = np.random.Generator(np.random.PCG64(seed))
    low, high = (0, 1) if type.dtype.kind == "bool" else (-4, 4)
    return converted(random.integers(low, high, static(type.shape), endpoint=True), type.dtype)


def _permutes(instance: Instance, results: Sequence[Array], data: st.DataObject) -> None:
    """The law of `Op.permuted`, for one permutation: op(transpose(x0), ...) == transpose(op'(x0, ...))."""
    if not instance.operands or len(results) != 1:
        return
    first, *others = instance.operands
    perm = tuple(data.draw(st.permutations(range(first.ndim)), label="permutation"))
    x0 = first.transpose(invert(perm))
    moved: Any = instance.op.permuted(perm, [type_of(x) for x in (x0, *others)])
    if moved is None:
        return
    op, perms, result_perm = moved
    arrays = [x if p is None else x.transpose(p) for x, p in zip((x0, *others), perms, strict=True)]
    (swapped,) = reference(op, arrays)
    (room,) = errors(instance.op, instance.operands)
    gap = np.abs(swapped.transpose(result_perm).astype(np.float64) - results[0].astype(np.float64))
    assert np.all(gap <= 2 * room), f"permuted({perm}) changes the result by up to {np.max(gap, initial=0)}"
