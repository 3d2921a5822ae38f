"""Large graphs cost what they are large: lines executed, function by function, on graphs of n and of 2n nodes."""

import copy
import sys
from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import planish
from planish.backends.memory import offsets
from planish.ir.equality import same
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, maximum, mul, relu, sub
from planish.ir.ops.index import gather
from planish.ir.ops.quant import dequantize
from planish.ir.ops.shape import concat, reshape, slice_, transpose
from planish.ir.ops.unary import sigmoid, tanh
from planish.ir.parser import parse_graph
from planish.ir.text import print_graph
from planish.ir.types import F32, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from planish.runtime.target import Limits

ROOT = str(Path(planish.__file__).resolve().parent)
W = np.ones(8, np.float32)


def vector():
    return graph_input("x", TensorType((1, 8), F32))


def chain(n, *ops):
    x = value = vector()
    for i in range(n):
        value = ops[i % len(ops)](value, loc=Loc((f"n{i}",)), named=f"v{i}")
    return Graph([x], [value], ["y"])


def added(n):
    return chain(n, lambda v, **where: add(v, W, **where))


def repeated(n):
    return chain(n, relu)


def alternating(n):
    return chain(n, sigmoid, tanh)


def reshaped(n):
    return chain(n, *(lambda v, s=s, **where: reshape(v, shape=s, **where) for s in ((8, 1), (2, 4), (1, 8))))


def transposed(n):
    return chain(n, lambda v, **where: transpose(v, perm=(1, 0), **where))


def subtracted_from(n):
    """Constants are first operands: no rule takes them together."""
    return chain(n, lambda v, **where: sub(W, v, **where))


def convolved(n):
    x = value = graph_input("x", TensorType((1, 1, 4, 4), F32))
    for _ in range(n):
        value = conv2d(value, np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32))
    return Graph([x], [value], ["y"])


def residual(n):
    x = value = graph_input("x", TensorType((1, 1, 4, 4), F32))
    for _ in range(n // 3):
        layer = conv2d(value, np.ones((1, 1, 3, 3), np.float32), np.zeros(1, np.float32), pads=(1, 1, 1, 1))
        value = add(value, sigmoid(layer))
    return Graph([x], [value], ["y"])


def branches(n, x):
    return [mul(x, np.full(8, i + 2, np.float32), named=f"b{i}") for i in range(n)]


def joined(n):
    x = vector()
    return Graph([x], [concat(*branches(n, x), axis=1)], ["y"])


def parted(n):
    """One value in n slices, each computed with, and joined."""
    x = graph_input("x", TensorType((1, n), F32))
    parts = [slice_(x, starts=(0, i), stops=(1, i + 1), steps=(1, 1)) for i in range(n)]
    return Graph([x], [concat(*map(sigmoid, parts), axis=1)], ["y"])


def many_users(n):
    """One value with n users, whose results become one in the manner of a tree."""
    x = vector()
    values = branches(n, sigmoid(x))
    while len(values) > 1:
        pairs = list(zip(values[::2], values[1::2], strict=False))
        values = [maximum(a, b) for a, b in pairs] + values[2 * len(pairs) :]
    return Graph([x], values, ["y"])


def many_outputs(n):
    x = vector()
    results = [relu(relu(b)) for b in branches(n, x)]
    return Graph([x], results, [f"y{i}" for i in range(n)])


def on_weights(n):
    """A chain on weights that say how they were quantized: nothing folds it."""
    x = vector()
    weights = dequantize(np.ones((8,), np.int8), np.float32(0.5), np.int8(0))
    for i in range(n):
        weights = sigmoid(weights) if i % 2 else tanh(weights)
    return Graph([x], [add(x, weights)], ["y"])


def doubled(n):
    """Each value is read twice by the next: as many paths as 2^n."""
    x = vector()
    weights = dequantize(np.ones((8,), np.int8), np.float32(0.5), np.int8(0))
    for i in range(n):
        weights = add(weights, weights) if i % 2 else mul(weights, weights)
    return Graph([x], [transpose(add(transpose(x, perm=(1, 0)), reshape(weights, shape=(8, 1))), perm=(1, 0))], ["y"])


def gathered(n):
    order = (3, 1, 0, 2, 7, 6, 5, 4)
    return chain(n, lambda v, **where: gather(v, axis=1, indices=order, **where), sigmoid)


SHAPES = [
    added, repeated, alternating, reshaped, transposed, subtracted_from, convolved, residual, joined, parted,
    many_users, many_outputs, on_weights, doubled, gathered,
]  # fmt: skip


def transformed(graph, name):
    """All that compiling does before anything is written."""
    target = target_named(name)
    passes = f"simplify,fuse,{target.lowering}"
    return target, run_pipeline(graph, passes, Context(target=target)).graph


def compiled(graph, name, folder):
    target, lowered = transformed(graph, name)
    folder.mkdir()
    return target.emit(lowered, folder, "model", Limits())


def told(graph):
    """Text, back from text, and evaluated."""
    text, tensors = print_graph(graph)
    assert same(parse_graph(text, tensors), graph)
    evaluate(graph, [np.zeros(v.type.shape, np.float32) for v in graph.inputs])


def lines(work):
    """How many lines are executed, by function of ours."""
    counted = Counter()

    def local(frame, event, argument):
        if event == "line":
            counted[frame.f_code.co_filename, frame.f_code.co_qualname] += 1
        return local

    def enter(frame, event, argument):
        return local if frame.f_code.co_filename.startswith(ROOT) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        work()
    finally:
        sys.settrace(before)
    return counted


#: Nodes of the smaller graph. Of 2.3 times as many lines a function is suspected that takes more than a few per node.
NODES, GROWTH, FEW = 40, 2.3, 6


def require_linear(small, large):
    """AssertionError with the functions that grow faster than the graph."""
    faster = {
        place: (small[place], count)
        for place, count in large.items()
        if count > max(GROWTH * small[place], FEW * 2 * NODES)
    }
    assert not faster, "\n".join(f"{name} in {file}: {counts}" for (file, name), counts in faster.items())


@pytest.mark.parametrize(
    ("target", "shape"),
    [("c", shape) for shape in SHAPES]
    + [("onnx", shape) for shape in (alternating, convolved, joined, parted, many_users, many_outputs, doubled)],
)
def test_compiling_grows_as_the_graph_does(shape, target, tmp_path, monkeypatch):
    monkeypatch.setattr(offsets, "MEETINGS", 0)  # a budget of its own bounds what is not linear there
    compiled(shape(4), target, tmp_path / "first")  # what is done once
    small, large = (lines(lambda n=n: compiled(shape(n), target, tmp_path / str(n))) for n in (NODES, 2 * NODES))
    require_linear(small, large)


@pytest.mark.parametrize("shape", [alternating, residual, joined, parted, many_users, many_outputs])
def test_text_and_evaluation_grow_as_the_graph_does(shape):
    told(shape(4))
    require_linear(*(lines(lambda n=n: told(shape(n))) for n in (NODES, 2 * NODES)))


# ---- deeper than Python recurses

DEEP = 2 * sys.getrecursionlimit()


def test_deep_graphs_are_copied_compared_and_written():
    graph = alternating(DEEP)
    for twin in (copy.copy(graph), copy.deepcopy(graph), graph.clone()):
        assert same(twin, graph)
        assert set(twin.nodes).isdisjoint(graph.nodes)
    told(graph)
    verify(graph)


@pytest.mark.parametrize("target", ["c", "onnx"])
def test_deep_graphs_are_compiled(target, tmp_path):
    compiled(on_weights(DEEP), target, tmp_path / "out")


class Name(str):
    """A name that counts how often it is looked up."""

    __slots__ = ()
    looked_up = 0

    def __hash__(self):
        Name.looked_up += 1
        return super().__hash__()


def test_places_of_a_long_chain_unite_without_being_written_down():
    """A chain that becomes one node has the names of all, each once, in order; and no list of them for every step."""
    Name.looked_up, place = 0, Loc()
    for i in range(DEEP):
        place = Loc((Name(f"n{i}"),)) | place | Loc((Name(f"n{i}"), Name(f"m{i}")))
    assert copy.deepcopy(place) == place
    assert list(place.names) == [f"n{i}" for i in reversed(range(DEEP))] + [f"m{i}" for i in range(DEEP)]
    assert Name.looked_up < 10 * DEEP


@given(st.recursive(st.lists(st.sampled_from("abc")), lambda parts: st.tuples(parts, parts)))
def test_united_places_are_what_they_always_were(tree):
    """Names of both, each once, in the order in which they are met first."""

    def united(part):
        if isinstance(part, list):
            names = tuple(dict.fromkeys(part))
            return Loc(names), names
        (a, first), (b, second) = map(united, part)
        return a | b, tuple(dict.fromkeys(first + second))

    place, names = united(tree)
    assert bool(place) == bool(names)
    assert (place.names, str(place)) == (names, " + ".join(names) if names else "(no source)")
    assert place == Loc(names)
    assert hash(place) == hash(Loc(names))
