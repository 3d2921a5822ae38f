"""Layers and movements side by side become one, where that leaves fewer nodes, and compute what they did."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, mul, relu
from planish.ir.ops.shape import concat, reshape, slice_, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.types import Sym
from planish.passes.fuse import Fuse
from planish.passes.parallel import common_movement, cut, shares_of
from planish.passes.pipeline import run_pipeline
from planish.testing import check_pass
from tests.passes.recognition_mutants import SideBySide
from tests.support.passes import graph_of, ops, reals, transformed, x_input

COLUMNS = 6


def layer(x, outputs):
    return dense(x, reals(outputs, COLUMNS), reals(outputs))


def heads(y, count, perm=(0, 2, 1, 3)):
    n, rows, columns = y.type.shape
    return transpose(reshape(y, shape=(n, rows, count, columns // count)), perm=perm)


def projected(x, q=2, k=2, v=2, size=4):
    return (heads(layer(x, count * size), count) for count in (q, k, v))


def attended(x):
    q, k, v = projected(x)
    scores = mul(matmul(q, transpose(k, perm=(0, 1, 3, 2))), np.float32(0.5))
    return reshape(transpose(matmul(softmax(scores), v), perm=(0, 2, 1, 3)), shape=(1, 5, 8))


def test_projections_of_attention_are_one_layer():
    graph = transformed(graph_of(attended(x_input(1, 5, COLUMNS))), "simplify", Fuse())
    assert ops(graph) == ["dense", "reshape", "transpose", *["slice"] * 3, "attention", "transpose", "reshape"]
    (merged,) = [n for n in graph.nodes if n.op.name == "dense"]
    assert merged.operands[1].type.shape == (24, COLUMNS)


def test_equal_over_the_rationals():
    assert check_pass(SideBySide()).proven > 5


def test_parts_need_not_be_alike_in_size():
    x = x_input(1, 5, COLUMNS)
    q, k, v = projected(x, 3, 1, 2)
    graph = transformed(graph_of(relu(q), k, mul(v, v)), Fuse())
    assert ops(graph).count("dense") == ops(graph).count("transpose") == 1
    assert [v.type.shape[1] for v in graph.outputs] == [3, 1, 2]


def one_is_used_twice(x):
    q, k, v = projected(x)
    return q, k, v, q.producer.operands[0].producer.operands[0]


def several_perms(x):
    return heads(layer(x, 8), 2), heads(layer(x, 8), 2, (0, 2, 3, 1))


def several_sizes(x):
    return heads(layer(x, 8), 2), heads(layer(x, 8), 4)


def computed_weights(x):
    w = x_input(8, COLUMNS, name="w")
    return tuple(heads(dense(x, w, reals(8)), 2) for _ in range(2))


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (lambda x: (relu(layer(x, 8)), layer(x, 8)), 2),
        (lambda x: (relu(reshape(layer(x, 8), shape=(5, 8))), reshape(layer(x, 8), shape=(5, 8))), 2),
        (several_perms, 2), (several_sizes, 2), (computed_weights, 2),
        (one_is_used_twice, 2),
        (lambda x: (heads(layer(x, 8), 2), heads(layer(relu(x), 8), 2)), 2),
    ],
)  # fmt: skip
def test_what_would_only_cost_slices_stays(build, layers):
    graph = transformed(graph_of(*build(x_input(1, 5, COLUMNS))), Fuse())
    assert ops(graph).count("dense") == layers


def test_any_batch():
    graph = run_pipeline(graph_of(*projected(x_input(Sym("N"), 5, COLUMNS))), [Fuse()]).graph
    assert ops(graph) == ["dense", "reshape", "transpose", "slice", "slice", "slice"]


def split(x, *sizes, axis=-1):
    return cut(x, axis % x.type.rank, sizes)


MOVEMENTS = {
    "transposes": (lambda x: [transpose(v, perm=(2, 0, 1)) for v in split(x, 2, 4)], ["transpose", "slice", "slice"]),
    "heads": (lambda x: [heads(v, v.type.shape[-1] // 2) for v in split(x, 2, 4)],
              ["reshape", "transpose", "slice", "slice"]),
    "other axes": (lambda x: [reshape(v, shape=(5, 1, v.type.shape[-1])) for v in split(x, 2, 4)],
                   ["reshape", "slice", "slice"]),
    "not all of it": (lambda x: [transpose(v, perm=(2, 0, 1)) for v in split(x, 2, 4)[:1]], ["slice", "transpose"]),
    "other perms": (lambda x: [transpose(v, perm=(2, i, 1 - i)) for i, v in enumerate(split(x, 3, 3))],
                    ["slice", "transpose"] * 2),
    "mixed axes": (lambda x: [reshape(v, shape=(v.type.shape[-1], 5, 1)) for v in split(x, 2, 4)],
                   ["slice", "reshape"] * 2),
    "other sizes": (lambda x: [heads(v, 2) for v in split(x, 2, 4)], ["slice", "reshape", "transpose"] * 2),
    "used twice": (lambda x: [f(v) for v in split(x, 2, 4) for f in (relu, lambda v: transpose(v, perm=(2, 0, 1)))],
                   ["slice", "clip", "transpose"] * 2),
}  # fmt: skip


@pytest.mark.parametrize(("build", "expected"), MOVEMENTS.values(), ids=MOVEMENTS)
def test_movements_before_slices(build, expected):
    assert sorted(ops(transformed(graph_of(*build(x_input(1, 5, 6))), Fuse()))) == sorted(expected)


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(0, 2))
def test_cuts_share_out(sizes, axis):
    shape = [2, 3, 4]
    shape[axis] = sum(sizes)
    x = x_input(*shape)
    graph = graph_of(concat(*cut(x, axis, sizes), axis=axis))
    shares = shares_of(x)
    if len(sizes) == 1:
        assert shares == []
    else:
        assert [(s.axis, s.sizes) for s in shares] == [(axis, sizes)]
    assert ops(graph).count("slice") == len(sizes)


def test_overlaps_and_steps_do_not_share_out():
    x = x_input(2, 6)
    whole = {"steps": (1, 1)}
    a, b = (slice_(x, starts=(0, s), stops=(2, e), **whole) for s, e in ((0, 4), (3, 6)))
    graph = graph_of(a, b)
    assert shares_of(x) == []
    assert len(graph) == 2
    y = x_input(2, 6, name="y")
    halves = [slice_(y, starts=(0, s), stops=(2, s + 3), steps=(1, 2)) for s in (0, 3)]
    graph_of(*halves)
    assert shares_of(y) == []


def test_a_movement_of_the_whole_says_where_it_is_cut():
    x = x_input(1, 5, 6)
    parts = [reshape(v, shape=(1, 5, v.type.shape[-1] // 2, 2)) for v in cut(x, 2, [2, 4])]
    graph_of(*parts)
    movement = common_movement(2, [v.producer for v in parts])
    assert (movement.op.shape, movement.axis, movement.sizes) == ((1, 5, 3, 2), 2, (1, 2))


def test_reshapes_around_a_layer():
    x = x_input(2, 5, COLUMNS)
    y = reshape(layer(reshape(x, shape=(10, COLUMNS)), 4), shape=(2, 5, 4))
    assert ops(transformed(graph_of(add(y, y)), Fuse())) == ["dense", "add"]
    flat = reshape(layer(reshape(x, shape=(5, 2, COLUMNS)), 4), shape=(1, 40))
    assert ops(transformed(graph_of(flat), Fuse())) == ["dense", "reshape"]
    other = reshape(layer(reshape(x_input(4, 3), shape=(2, COLUMNS)), 4), shape=(8,))
    assert ops(transformed(graph_of(other), Fuse())) == ["reshape", "dense", "reshape"]
