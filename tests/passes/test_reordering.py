"""Random chains of data movements: simplified, they move the same elements to the same places."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.equality import same
from planish.ir.evaluate import evaluate
from planish.ir.op import product
from planish.ir.ops.index import gather
from planish.ir.ops.shape import reshape, slice_, transpose
from planish.passes.pipeline import run_pipeline
from planish.passes.simplify import Simplify, reordering
from planish.passes.simplify.reordering import (
    ReshapeBeforeTranspose,
    ShuffleIsGather,
    SliceBeforeReshape,
    SliceOfGather,
)
from planish.testing.draw import composite
from tests.support.passes import graph_of, ops, x_input


def factored(draw, size):
    """A shape of this many elements: its prime factors, joined at random, and perhaps a 1."""
    factors, rest = [], size
    for p in (2, 3, 5):
        while rest % p == 0:
            factors.append(p)
            rest //= p
    shape = [1] * draw(st.integers(0, 1)) + ([rest] if rest > 1 else [])
    for factor in draw(st.permutations(factors)):
        if shape and draw(st.booleans()):
            shape[-1] *= factor
        else:
            shape.append(factor)
    return tuple(shape) or (1,)


def moved(draw, x):
    """One movement of x."""
    shape = x.type.shape
    match draw(st.sampled_from(["reshape", "transpose", "slice", "gather", "shuffle"])):
        case "reshape":
            return reshape(x, shape=factored(draw, product(shape)))
        case "transpose":
            return transpose(x, perm=tuple(draw(st.permutations(range(len(shape))))))
        case "slice":
            axis = draw(st.integers(0, len(shape) - 1))
            start = draw(st.integers(0, shape[axis] - 1))
            stop = draw(st.integers(start + 1, shape[axis]))
            starts, stops, steps = [0] * len(shape), list(shape), [1] * len(shape)
            starts[axis], stops[axis], steps[axis] = start, stop, draw(st.sampled_from([1, 1, 2]))
            return slice_(x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))
        case "gather":
            axis = draw(st.integers(0, len(shape) - 1))
            indices = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
            return gather(x, axis=axis, indices=tuple(indices))
        case _:
            axis = draw(st.integers(0, len(shape) - 1))
            groups = draw(st.sampled_from([d for d in range(1, shape[axis] + 1) if shape[axis] % d == 0]))
            split = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
            perm = list(range(len(split)))
            perm[axis], perm[axis + 1] = axis + 1, axis
            return reshape(transpose(reshape(x, shape=split), perm=tuple(perm)), shape=shape)


@composite
def movements(draw):
    """A tree of movements: each of some earlier value; the last ones are outputs."""
    values = [x_input(*draw(st.sampled_from([(2, 6, 4), (1, 12, 2), (4, 3, 2, 2), (30,)])))]
    for _ in range(draw(st.integers(2, 6))):
        values.append(moved(draw, draw(st.sampled_from(values[-2:]))))
    return graph_of(*values[-draw(st.integers(1, 2)) :])


def labels(graph):
    """An input whose elements all differ."""
    shape = graph.inputs[0].type.shape
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


def holds(graph):
    """The simplified graph moves the same elements, and is simplified already; nodes do not become more."""
    once = run_pipeline(graph, "simplify").graph
    for before, after in zip(evaluate(graph, [labels(graph)]), evaluate(once, [labels(graph)]), strict=True):
        np.testing.assert_array_equal(before, after)
    assert same(run_pipeline(once, "simplify").graph, once)
    assert len(ops(once)) <= len(ops(graph))


@given(movements())
def test_elements_end_in_the_same_places(graph):
    holds(graph)


class WrongShuffle(ShuffleIsGather):
    """A mutant: gathers by the inverse order."""

    def rewrite(self, m, x):
        right = super().rewrite(m, x)
        if right is None or not hasattr(right, "producer"):
            return right
        op = right.producer.op
        return gather(x, axis=op.axis, indices=tuple(np.argsort(op.indices).tolist()))


class WholeGather(SliceOfGather):
    """A mutant: forgets where the slice starts."""

    def rewrite(self, m, x):
        axis = m.gather.axis
        return m.gather.like(x, indices=m.gather.indices[: m.slice.value.type.shape[axis]])


class FirstInterval(SliceBeforeReshape):
    """A mutant: slices the operand from its start."""

    def rewrite(self, m, x):
        right = super().rewrite(m, x)
        if not hasattr(right, "producer"):
            return right
        cut = right.producer.operands[0].producer.op
        stops = tuple(b - a for a, b in zip(cut.starts, cut.stops, strict=True))
        return reshape(slice_(x, starts=(0,) * len(stops), stops=stops, steps=cut.steps), shape=right.type.shape)


class SamePermutation(ReshapeBeforeTranspose):
    """A mutant: takes axes to be regrouped in the order of the result."""

    def rewrite(self, m, x):
        right = super().rewrite(m, x)
        if not hasattr(right, "producer"):
            return right
        return reshape(x, shape=right.type.shape)


@pytest.mark.parametrize(
    ("mutant", "build"),
    [
        (WrongShuffle(), lambda x: shuffle(x, 3)),
        (
            WholeGather(),
            lambda x: slice_(gather(x, axis=1, indices=(3, 1, 0)), starts=(0, 1), stops=(2, 3), steps=(1, 1)),
        ),
        (
            FirstInterval(),
            lambda x: slice_(reshape(x, shape=(2, 2, 3)), starts=(1, 0, 0), stops=(2, 2, 3), steps=(1, 1, 1)),
        ),
        (
            SamePermutation(),
            lambda x: reshape(transpose(reshape(x, shape=(2, 2, 3)), perm=(2, 0, 1)), shape=(3, 2, 1, 2)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_mutants_are_caught(mutant, build, monkeypatch):
    graph = graph_of(build(x_input(2, 6)))
    holds(graph)
    monkeypatch.setattr(Simplify, "rules", (mutant,))
    assert isinstance(mutant, tuple(type(rule) for rule in reordering.REORDERING))
    with pytest.raises(AssertionError):
        holds(graph)


def shuffle(x, groups):
    n, c = x.type.shape
    return reshape(transpose(reshape(x, shape=(n, groups, c // groups)), perm=(0, 2, 1)), shape=(n, c))
