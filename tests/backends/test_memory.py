"""Memory plans: proven by the checker, as small as brute force says, and the checker itself catches what is wrong."""

import dataclasses
import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from planish.backends.memory import Space, check, offsets, plan
from planish.backends.memory.offsets import Block, Span, heights, pack
from planish.backends.memory.order import best_order
from planish.backends.memory.storage import lower
from planish.ir.errors import InvalidGraphError
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.elementwise import Add, Clip, add, relu
from planish.ir.ops.shape import Concat, Reshape, Slice, concat, reshape, slice_
from planish.ir.types import F32, I8, TensorType
from planish.testing.draw import composite


class Model:
    """Elementwise kernels work in place, concatenation wants scratch, reshapes are free."""

    def __init__(self, in_place=True, scratch=0):
        self.may, self.bytes = in_place, scratch

    def scratch(self, node):
        return self.bytes if isinstance(node.op, Concat) else 0

    def in_place(self, node):
        if not self.may:
            return ()
        return {Add: (0, 1), Clip: (0,), Slice: (0,)}.get(type(node.op), ())

    def is_alias(self, node):
        return isinstance(node.op, Reshape)


def vector(name, n):
    return graph_input(name, TensorType((n,), I8))


def head(x, n):
    return slice_(x, starts=(0,), stops=(n,), steps=(1,))


@composite
def graphs(draw, most=12):
    values = [vector("x", draw(st.integers(1, 9)))]
    if draw(st.booleans()):
        values.append(np.arange(draw(st.integers(1, 9)), dtype=np.int8))
    for _ in range(draw(st.integers(1, most))):
        x = values[draw(st.integers(max(0, len(values) - 4), len(values) - 1))]
        kind = draw(st.sampled_from(["relu", "concat", "head", "reshape", "add"]))
        y = draw(st.sampled_from(values))
        same = [v for v in values if v is not x and tuple(_shape(v)) == tuple(_shape(x))]
        if kind == "relu":
            values.append(relu(concat(x, axis=0)) if isinstance(x, np.ndarray) else relu(x))
        elif kind == "concat" and _shape(x)[0] + _shape(y)[0] < 24:
            values.append(concat(x, y, axis=0))
        elif kind == "head":
            values.append(head(x, draw(st.integers(1, _shape(x)[0]))))
        elif kind == "reshape":
            values.append(reshape(x, shape=_shape(x)))
        elif kind == "add":
            values.append(add(x, draw(st.sampled_from(same)) if same else x))
    results = [v for v in values if not isinstance(v, np.ndarray)]
    count = draw(st.integers(1, 3))
    outputs = [draw(st.sampled_from(results[-4:])) for _ in range(count)]
    return Graph([values[0]], outputs, [f"y{i}" for i in range(count)])


def _shape(v):
    return v.shape if isinstance(v, np.ndarray) else v.type.shape


models = st.builds(Model, st.booleans(), st.sampled_from([0, 3, 10]))


@given(graphs(most=30), models, st.sampled_from([1, 4, 8]))
def test_plans_are_proven(graph, model, alignment):
    p = plan(graph, model, alignment)
    check(graph, p, model)
    assert p.arena_bytes >= p.bound
    assert p.arena_bytes % alignment == 0


def orders(steps):
    """All topological orders."""

    def extend(done, rest):
        if not rest:
            yield done
        for step in rest:
            if all(s.producer is None or s.producer in done for s in step.reads):
                yield from extend([*done, step], [s for s in rest if s is not step])

    return extend([], list(steps))


def peak_of(order, program):
    """Live bytes counted value by value, step by step."""
    produced = [(s, t) for t, step in enumerate(order) for s in step.writes if s.space is Space.ARENA]
    peak = 0
    for t, step in enumerate(order):
        live = [s for s, born in produced if born <= t <= max([order.index(r) for r in s.readers], default=born)]
        total = sum(program.aligned(s.nbytes) for s in live) + program.aligned(step.scratch)
        if any(all(order.index(r) <= t for r in s.readers) for s in step.takes):
            total -= program.aligned(step.writes[0].nbytes)
        peak = max(peak, total)
    return peak


@given(graphs(most=6), models)
def test_order_is_optimal_against_brute_force(graph, model):
    program = lower(graph, model, 1)
    best = best_order(program)
    assert best.optimal
    assert best.peak == peak_of(list(best.steps), program)
    assert best.peak == min(peak_of(order, program) for order in orders(program.steps))


@given(graphs(most=12), models)
def test_without_budget_the_order_is_valid_and_no_better(graph, model):
    program = lower(graph, model, 1)
    rushed, best = best_order(program, budget=0), best_order(program)
    assert rushed.peak >= best.peak
    assert rushed.peak == peak_of(list(rushed.steps), program)


def block(by_step):
    """A block from its height at each step."""
    return Block([Span(t, t, height) for t, height in sorted(by_step.items())])


def by_step(block):
    return {t: span.height for span in block.spans for t in range(span.first, span.last + 1)}


blocks = st.lists(st.dictionaries(st.integers(0, 3), st.integers(1, 3), min_size=1).map(block), min_size=1, max_size=5)


def apart(blocks, offsets):
    """Whether no two blocks overlap at any step."""
    placed = [(by_step(b), x) for b, x in zip(blocks, offsets, strict=True)]
    return all(
        x + a[t] <= y or y + b[t] <= x for (a, x), (b, y) in itertools.combinations(placed, 2) for t in a.keys() & b
    )


def fits(blocks, size):
    """Whether some offsets work in an arena of this size, by trying them all."""
    ranges = [range(size - b.top + 1) for b in blocks]
    return any(apart(blocks, offsets) for offsets in itertools.product(*ranges))


@given(blocks)
def test_offsets_are_optimal_against_brute_force(some):
    packing = pack(some)
    assert packing.optimal
    assert packing.size >= max(heights(some))
    assert apart(some, packing.offsets)
    assert fits(some, packing.size)
    assert not fits(some, packing.size - 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1))
def test_a_block_needs_the_most_of_what_it_was_extended_by(steps):
    some, expected, now = Block(), {}, 0
    for duration, height in steps:
        some.extend(now, now + duration, height)
        expected |= {t: max(height, expected.get(t, 0)) for t in range(now, now + duration + 1)}
        now += duration
    assert by_step(some) == expected
    assert heights([some]) == list(expected.values())
    assert all(a.last < b.first for a, b in itertools.pairwise(some.spans))


@given(st.lists(st.dictionaries(st.integers(0, 9), st.integers(1, 9), min_size=1).map(block), min_size=1, max_size=20))
def test_where_too_many_blocks_meet_they_are_placed_in_order_of_time(some):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offsets, "MEETINGS", -1)
        packing = pack(some)
    assert apart(some, packing.offsets)
    assert packing.size == max(x + b.top for x, b in zip(packing.offsets, some, strict=True))
    assert packing.size >= max(heights(some))
    assert packing.optimal == (packing.size == max(heights(some)))


def test_the_search_beats_the_greedy_orders():
    """An instance found by drawing many."""
    some = [block({2: 3, 3: 3}), block({1: 3, 2: 3, 3: 3}), block({0: 4}), block({0: 3, 1: 3, 2: 3})]
    assert (pack(some, budget=0).size, pack(some).size) == (10, 9)


def test_chain_takes_the_two_largest_neighbours():
    x = vector("x", 10)
    a = concat(x, x, axis=0)
    b = concat(a, a, axis=0)
    c = head(b, 10)
    d = concat(c, c, axis=0)
    p = plan(Graph([x], [head(d, 1)]), Model(in_place=False), alignment=1)
    assert (p.arena_bytes, p.optimal) == (60, True)
    assert [r.size for r in p.rows] == [20, 40, 10, 20]


def test_residual_add_takes_the_operand_that_dies():
    x = vector("x", 100)
    a = concat(x, axis=0)
    b = concat(a, axis=0)
    y = concat(add(a, b), axis=0)
    graph = Graph([x], [y])
    assert plan(graph, Model(in_place=True), 1).arena_bytes == 200
    assert plan(graph, Model(in_place=False), 1).arena_bytes == 300


def test_an_operand_that_is_read_later_is_not_overwritten():
    x = vector("x", 100)
    a = concat(x, axis=0)
    b = relu_like(a)
    graph = Graph([x], [concat(a, b, axis=0)])
    p = plan(graph, Model(), 1)
    check(graph, p, Model())
    assert p.arena_bytes == 200


def relu_like(v):
    return head(v, v.type.size)


def test_the_order_computes_small_things_first():
    x = vector("x", 10)
    wide = [concat(x, x, x, x, x, x, axis=0) for _ in range(3)]
    narrow = [head(w, 1) for w in wide]
    graph = Graph([x], [concat(*narrow, axis=0)])
    assert plan(graph, Model(), 1).arena_bytes == 62


def test_scratch_lives_only_during_its_node():
    x = vector("x", 8)
    a = concat(x, axis=0)
    b = concat(a, axis=0)
    p = plan(Graph([x], [concat(b, axis=0)]), Model(scratch=100), 1)
    assert p.arena_bytes == 116
    assert [r.size for r in p.rows if r.value is None] == [100, 100, 100]


def test_outputs_are_written_directly_and_read_from_there():
    x = vector("x", 8)
    a = concat(x, axis=0)
    graph = Graph([x], [a, relu_like(a), a, x], ["a", "b", "again", "input"])
    p = plan(graph, Model(), 4)
    check(graph, p, Model())
    assert p.arena_bytes == 0
    assert [(p.places[v].space, p.places[v].index) for v in graph.outputs] == [
        (Space.OUTPUT, 0), (Space.OUTPUT, 1), (Space.OUTPUT, 0), (Space.INPUT, 0),
    ]  # fmt: skip
    assert p.copies == (2, 3)


def test_an_alias_has_its_operands_place():
    x = vector("x", 8)
    a = concat(x, axis=0)
    flat = reshape(a, shape=(2, 4))
    graph = Graph([x], [concat(flat, axis=0)])
    p = plan(graph, Model(), 4)
    assert p.places[flat] == p.places[a]
    assert len(p.order) == 2


def test_aliases_of_constants_name_the_constant():
    x = vector("x", 8)
    table = reshape(np.arange(8, dtype=np.int8), shape=(8,))
    graph = Graph([x], [add(x, table)])
    p = plan(graph, Model(), 4)
    assert p.constants[table] is table.producer.operands[0]


def long_graph():
    x = vector("x", 8)
    a = concat(x, axis=0)
    b = concat(a, axis=0)
    c = concat(b, a, axis=0)
    return Graph([x], [concat(c, axis=0)]), a, b, c


def test_planted_overlap_is_caught():
    graph, a, b, _ = long_graph()
    model = Model()
    p = plan(graph, model, 1)
    with pytest.raises(InvalidGraphError, match="overlaps what its node still uses"):
        check(graph, dataclasses.replace(p, places={**p.places, b: p.places[a]}), model)


def test_planted_early_reuse_is_caught():
    x = vector("x", 8)
    a = concat(x, axis=0)
    b = concat(x, axis=0)
    graph = Graph([x], [concat(a, b, axis=0)])
    p = plan(graph, Model(), 1)
    with pytest.raises(InvalidGraphError, match="no longer"):
        check(graph, dataclasses.replace(p, places={**p.places, b: p.places[a]}), Model())


@given(graphs(most=12), st.data())
def test_a_smaller_arena_or_a_wrong_order_is_caught(graph, data):
    model = Model()
    p = plan(graph, model, 1)
    if p.arena_bytes:
        with pytest.raises(InvalidGraphError):
            check(graph, dataclasses.replace(p, arena_bytes=p.arena_bytes - 1), model)
    if p.order:
        with pytest.raises(InvalidGraphError, match="exactly once"):
            check(graph, dataclasses.replace(p, order=p.order[1:]), model)
    dependent = [i for i in range(1, len(p.order)) if p.order[i - 1] in {v.producer for v in p.order[i].operands}]
    if dependent:
        i = data.draw(st.sampled_from(dependent))
        swapped = (*p.order[: i - 1], p.order[i], p.order[i - 1], *p.order[i + 1 :])
        with pytest.raises(InvalidGraphError):
            check(graph, dataclasses.replace(p, order=swapped), model)


def test_planted_scratch_over_an_operand_is_caught():
    x = vector("x", 8)
    a = concat(x, axis=0)
    y = concat(a, axis=0)
    graph, model = Graph([x], [y]), Model(scratch=4)
    p = plan(graph, model, 1)
    with pytest.raises(InvalidGraphError, match="scratch overlaps an operand"):
        check(graph, dataclasses.replace(p, scratch={**p.scratch, y.producer: p.places[a].offset}), model)


def test_long_chains_need_no_search():
    x = graph_input("x", TensorType((100,), F32))
    y = x
    for _ in range(3000):
        y = relu(y)
    graph = Graph([x], [y])
    p = plan(graph, Model(in_place=False))
    check(graph, p, Model(in_place=False))
    assert (p.arena_bytes, p.optimal) == (800, True)
