"""Values of unlike ranges: what is put together keeps the precision of its parts, and what is lost is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.builder import const_value
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, maximum, minimum, mul, relu, sub
from planish.ir.ops.index import expand, gather
from planish.ir.ops.logic import where
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.shape import concat, pad, reshape, slice_, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import silu
from planish.ir.types import F32, Array, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.calibration import BIT_DB, LEAST_DB, METHODS, decibel
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.quantize import Quantize
from tests.support.clusters import float_ops

COUNT = 6


def normal(seed: int, *shape: int) -> Array:
    return np.random.Generator(np.random.PCG64(seed)).normal(size=shape).astype(np.float32)


def samples_of(graph: Graph, seed: int = 0) -> list[dict[str, Array]]:
    return [
        {v.name: normal(seed + 100 * i + k, *v.type.shape) for k, v in enumerate(graph.inputs)}  # type: ignore[arg-type]
        for i in range(COUNT)
    ]


def quantized(graph: Graph, samples: Any, **options: Any) -> tuple[Graph, Context]:
    """The integer graph, and what was remarked."""
    context, copy = Context(calibration=lambda: samples), graph.clone()
    Quantize(**options).run(copy, context)
    verify(copy)
    FoldQuantization().run(copy, context)
    verify(copy)
    return copy, context


def level(graph: Graph, changed: Graph, samples: Any, pick: Callable[[list[Array]], Array]) -> float:
    """SQNR in dB of some elements of the outputs."""
    pairs = [[pick(evaluate(g, list(s.values()))).astype(np.float64) for g in (graph, changed)] for s in samples]
    return decibel(sum(np.square(a).sum() for a, _ in pairs), sum(np.square(a - b).sum() for a, b in pairs))


# ---- one scale for all

#: What puts two values of one shape [1, c, h, w] together, and how either is found in the result again.
JOINS: dict[str, tuple[Callable[[Value, Value], Any], Callable[[Array], Array], Callable[[Array], Array]]] = {
    "concat": (lambda a, b: concat(a, b, axis=1), lambda y: y[:, : y.shape[1] // 2], lambda y: y[:, y.shape[1] // 2 :]),
    "concat of concat": (
        lambda a, b: concat(concat(a, a, axis=2), concat(b, b, axis=2), axis=1),
        lambda y: y[:, : y.shape[1] // 2],
        lambda y: y[:, y.shape[1] // 2 :],
    ),
    "where": (
        lambda a, b: where(const_value(np.arange(a.type.shape[-1]) % 2 == 0), a, b),  # type: ignore[operator]
        lambda y: y[..., ::2],
        lambda y: y[..., 1::2],
    ),
}
#: What moves a value [1, c, h, w] on, and leaves it where `JOINS` find its parts.
MOVES: dict[str, Callable[[Value], Any]] = {
    "nothing": lambda x: x,
    "pad": lambda x: pad(x, before=(0, 0, 1, 0), after=(0, 0, 0, 0)),
    "reshape": lambda x: reshape(reshape(x, shape=(int(np.prod(x.type.shape)),)), shape=x.type.shape),
    "transpose": lambda x: transpose(transpose(x, perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2)),
    "gather": lambda x: gather(x, axis=2, indices=tuple(reversed(range(x.type.shape[2])))),
    "expand": lambda x: expand(x, shape=(2, *x.type.shape[1:])),
    "slice": lambda x: slice_(x, starts=(0,) * 4, stops=(*x.type.shape[:2], 1, x.type.shape[3]), steps=(1,) * 4),
    "relu": relu,
    "max_pool2d": lambda x: max_pool2d(x, window=(2, 1), strides=(1, 1)),
}


@given(st.data())
def test_what_is_put_together_keeps_its_parts(data: Any) -> None:
    """Each part has the SQNR that it has alone; or it loses a bit; or it has at least 20 dB.

    The noise of the part alone and that of the common scale add up: at worst they are alike, 3 dB; and the expected
    SQNR is that of histograms, with at least 96 elements: 1 dB.
    """
    join, *picks = JOINS[data.draw(st.sampled_from(sorted(JOINS)))]
    moves = [MOVES[name] for name in data.draw(st.lists(st.sampled_from(sorted(MOVES)), max_size=2))]
    factors = [10.0 ** data.draw(st.integers(-3, 3)) for _ in range(2)]
    seed, method = data.draw(st.integers(0, 99)), data.draw(st.sampled_from(sorted(METHODS)))

    def built(both: Callable[[Value, Value], Any]) -> Graph:
        x = graph_input("x", TensorType((1, 3, 4, 4), F32))
        parts = [
            conv2d(x, normal(seed + i, 2, 3, 1, 1) * np.float32(f), normal(seed + 9, 2) * np.float32(f))
            for i, f in enumerate(factors)
        ]
        y = both(*parts)
        for move in moves:
            y = move(y)
        return Graph([x], [y], ["y"])

    graph = built(join)
    samples = samples_of(graph, seed)
    together, _ = quantized(graph, samples, calibration=method)
    for i, pick in enumerate(picks):
        alone = built(lambda *parts, i=i: parts[i])
        own = level(alone, quantized(alone, samples, calibration=method)[0], samples, lambda ys: ys[0])
        found = level(graph, together, samples, lambda ys, pick=pick: pick(ys[0]))
        assert found >= min(own - BIT_DB, LEAST_DB) - 4, f"part {i}: {found:.1f} dB, alone {own:.1f} dB"


@pytest.mark.parametrize("op", [maximum, minimum])
def test_what_is_chosen_keeps_its_precision(op: Any) -> None:
    """The smaller of large and small numbers: those that are chosen are small."""
    x = graph_input("x", TensorType((1, 8), F32))
    large = relu(dense(x, normal(1, 8, 8) * 100, np.full(8, 500, np.float32)))
    graph = Graph([x], [op(large, dense(x, normal(2, 8, 8), normal(3, 8)))], ["y"])
    samples = samples_of(graph)
    assert level(graph, quantized(graph, samples)[0], samples, lambda ys: ys[0]) > 30


def test_parts_of_like_ranges_stay_integers() -> None:
    x = graph_input("x", TensorType((1, 3, 4, 4), F32))
    parts = [conv2d(x, normal(i, 2, 3, 1, 1) * f, normal(i, 2)) for i, f in enumerate((1, 3))]
    graph = Graph([x], [conv2d(concat(*parts, axis=1), normal(5, 2, 4, 1, 1), normal(6, 2))], ["y"])
    assert float_ops(quantized(graph, samples_of(graph))[0]) == []


def test_where_a_small_part_does_not_matter_the_layer_stays_integer() -> None:
    """A convolution of two parts, one a thousandth of the other, with like weights: 60 dB below, nobody misses it."""
    x = graph_input("x", TensorType((1, 3, 4, 4), F32))
    parts = [conv2d(x, normal(i, 2, 3, 1, 1) * np.float32(f), normal(i, 2)) for i, f in enumerate((1000, 1))]
    graph = Graph([x], [conv2d(concat(*parts, axis=1), normal(5, 2, 4, 1, 1), normal(6, 2))], ["y"])
    left = float_ops(quantized(graph, samples_of(graph))[0])
    assert "conv2d" not in left


def test_where_it_does_matter_the_layer_stays_float_and_says_so() -> None:
    x = graph_input("x", TensorType((1, 3, 4, 4), F32))
    parts = [
        conv2d(x, normal(i, 2, 3, 1, 1) * np.float32(f), normal(i, 2) * np.float32(f)) for i, f in enumerate((1e4, 1))
    ]
    w = normal(5, 2, 4, 1, 1) * np.array([1e-4, 1e-4, 1, 1], np.float32)[:, None, None]
    y = conv2d(concat(*parts, axis=1), w, normal(6, 2), loc=Loc(("last",)))
    graph = Graph([x], [y], ["y"])
    samples = samples_of(graph)
    integers, context = quantized(graph, samples)
    assert level(graph, integers, samples, lambda ys: ys[0]) > LEAST_DB
    assert any("last" in note and "dB" in note for note in context.notes)


@pytest.mark.parametrize("excluded", [("first",), ("both",), ()])
def test_exclusion_is_asked_before_scales_are_united(excluded: tuple[str, ...]) -> None:
    """A concat that stays float takes each operand as it is."""
    x = graph_input("x", TensorType((1, 3, 4, 4), F32))
    parts = [
        conv2d(x, normal(i, 2, 3, 1, 1) * f, normal(i, 2), loc=Loc((n,)))
        for i, (n, f) in enumerate((("first", 1), ("second", 4)))
    ]
    graph = Graph([x], [concat(*parts, axis=1, loc=Loc(("both",)))], ["y"])
    integers, _ = quantized(graph, samples_of(graph), exclude=excluded)
    scales = {float(n.operands[1].const) for n in integers.nodes if n.op.name == "dequantize"}  # type: ignore[arg-type]
    assert len(scales) == (2 if excluded == ("both",) else 1)
    assert float_ops(integers) == {("both",): ["concat"], ("first",): ["conv2d"], (): []}[excluded]


# ---- what is cut apart


@pytest.mark.parametrize("function", [None, relu, silu])
@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_a_layer_of_unlike_slices_is_computed_in_parts(factor: float, function: Any) -> None:
    x = graph_input("x", TensorType((1, 3, 4, 4), F32))
    scale = np.array([1, 1, factor, factor, factor], np.float32)
    both = conv2d(x, normal(1, 5, 3, 3, 3) * scale[:, None, None, None], normal(2, 5) * scale)
    both = both if function is None else function(both)
    ends = [(0, 2), (2, 5)]
    cut = [slice_(both, starts=(0, a, 0, 0), stops=(1, b, 2, 2), steps=(1,) * 4) for a, b in ends]
    cut = [conv2d(part, normal(3, 2, b - a, 1, 1), normal(4, 2)) for part, (a, b) in zip(cut, ends, strict=True)]
    graph = Graph([x], cut, ["a", "b"])
    samples = samples_of(graph)
    integers, _ = quantized(graph, samples)
    assert float_ops(integers) == []
    for i in range(2):
        assert level(graph, integers, samples, lambda ys, i=i: ys[i]) > 30


def test_movements_between_floats_are_left_alone_however_many() -> None:
    """A state of unlike halves, and one that is only moved."""
    state = graph_input("state", TensorType((2, 1, 8), F32))
    halves = [slice_(state, starts=(i, 0, 0), stops=(i + 1, 1, 8), steps=(1, 1, 1)) for i in range(2)]
    moved = [transpose(reshape(half, shape=(8, 1)), perm=(1, 0)) for half in halves]
    graph = Graph([state], [reshape(moved[0], shape=(8,)), moved[1]], ["h", "c"])
    factors = np.array([0.1, 30], np.float32)[:, None, None]
    integers, context = quantized(graph, [{"state": normal(i, 2, 1, 8) * factors} for i in range(9)])
    assert {n.op.name for n in integers.nodes} == {n.op.name for n in graph.nodes}
    assert context.notes == []


def test_a_state_of_unlike_halves_feeds_layers_with_a_scale_each() -> None:
    state = graph_input("state", TensorType((2, 1, 8), F32))
    halves = [slice_(state, starts=(i, 0, 0), stops=(i + 1, 1, 8), steps=(1, 1, 1)) for i in range(2)]
    layers = [dense(reshape(half, shape=(1, 8)), normal(i, 4, 8), normal(7, 4)) for i, half in enumerate(halves)]
    graph = Graph([state], layers, ["h", "c"])
    factors = np.array([0.1, 30], np.float32)[:, None, None]
    samples = [{"state": normal(i, 2, 1, 8) * factors} for i in range(9)]
    integers, _ = quantized(graph, samples)
    assert set(float_ops(integers)) <= {"slice", "reshape"}
    for i in range(2):
        assert level(graph, integers, samples, lambda ys, i=i: ys[i]) > 30


# ---- masks

TOKENS = 8
CAUSAL = np.triu(np.ones((TOKENS, TOKENS), bool), 1)


def _masked(kind: str, value: float, scores: Value) -> Any:
    mask = np.where(CAUSAL, np.float32(value), np.float32(0))
    if kind == "add":
        return add(scores, mask)
    if kind == "subtracted":
        return sub(scores, -mask)
    if kind == "in front":
        return add(mask, scores)
    return where(const_value(CAUSAL), const_value(np.full((1, 1), value, np.float32)), scores)


@pytest.mark.parametrize("between", ["", "reshape", "transpose"])
@pytest.mark.parametrize("value", [-1e4, -1e9, float(np.finfo(np.float32).min), -np.inf])
@pytest.mark.parametrize("kind", ["add", "subtracted", "in front", "where"])
def test_scores_survive_their_mask(kind: str, value: float, between: str) -> None:
    x = graph_input("x", TensorType((TOKENS, TOKENS), F32))
    masked = _masked(kind, value, dense(x, np.eye(TOKENS, dtype=np.float32), np.zeros(TOKENS, np.float32)))
    if between == "reshape":
        masked = reshape(masked, shape=(1, TOKENS, TOKENS))
    if between == "transpose":
        masked = transpose(transpose(masked, perm=(1, 0)), perm=(1, 0))
    graph = Graph([x], [softmax(masked)], ["y"])
    samples = [{"x": 2 * normal(i, TOKENS, TOKENS)} for i in range(COUNT)]
    integers, _ = quantized(graph, samples)
    assert level(graph, integers, samples, lambda ys: ys[0]) > 30
    assert float_ops(integers) == (["where"] if kind == "where" else [])


@pytest.mark.parametrize("value", [-1e4, -1e9])
def test_scores_survive_a_mask_that_is_computed(value: float) -> None:
    x, seen = graph_input("x", TensorType((TOKENS, TOKENS), F32)), graph_input("seen", TensorType((TOKENS,), F32))
    scores = dense(x, np.eye(TOKENS, dtype=np.float32), np.zeros(TOKENS, np.float32))
    mask = sub(np.float32(1), seen)

    graph = Graph([x, seen], [softmax(add(scores, mul(mask, np.float32(value))))], ["y"])
    samples = [
        {"x": 2 * normal(i, TOKENS, TOKENS), "seen": (np.arange(TOKENS) <= i % TOKENS).astype(np.float32)}
        for i in range(COUNT)
    ]
    integers, _ = quantized(graph, samples)
    assert level(graph, integers, samples, lambda ys: ys[0]) > 30


def test_rows_that_are_masked_as_a_whole_leave_the_others_alone() -> None:
    """Nobody knows which rows are meant to be read: where no scale serves all, the softmax stays float."""
    x = graph_input("x", TensorType((TOKENS, TOKENS), F32))
    mask = np.zeros((TOKENS, TOKENS), np.float32)
    mask[-2:] = -1e9
    graph = Graph(
        [x], [softmax(add(dense(x, np.eye(TOKENS, dtype=np.float32), np.zeros(TOKENS, np.float32)), mask))], ["y"]
    )
    samples = [{"x": 2 * normal(i, TOKENS, TOKENS)} for i in range(COUNT)]
    integers, _ = quantized(graph, samples)
    assert level(graph, integers, samples, lambda ys: ys[0][:-2]) > 30


def test_an_infinite_value_that_others_read_stays_float_and_says_so() -> None:
    x = graph_input("x", TensorType((TOKENS, TOKENS), F32))
    masked = _masked("add", -np.inf, dense(x, np.eye(TOKENS, dtype=np.float32), np.zeros(TOKENS, np.float32)))
    graph = Graph([x], [softmax(masked), relu(masked)], ["y", "z"])
    samples = samples_of(graph)
    integers, context = quantized(graph, samples)
    assert any("infinite" in note for note in context.notes)
    for i in range(2):
        assert level(graph, integers, samples, lambda ys, i=i: ys[i]) > 30


# ---- what is said


@given(st.integers(0, 99), st.floats(-4, 0), st.sampled_from(["auto", *sorted(METHODS)]))
def test_an_output_of_which_too_little_is_left_is_named(seed: int, exponent: float, method: str) -> None:
    """What is left of two layers that nearly cancel, beside an output that loses nothing."""
    x = graph_input("x", TensorType((1, 8), F32))
    w, b = normal(seed, 4, 8), normal(seed + 1, 4)
    near = w + np.float32(10**exponent) * normal(seed + 2, 4, 8)
    graph = Graph([x], [sub(dense(x, w, b), dense(x, near, b)), dense(x, w, b)], ["left", "whole"])
    samples = samples_of(graph, seed)
    context, copy = Context(calibration=lambda: samples), graph.clone()
    Quantize(calibration=method).run(copy, context)  # type: ignore[arg-type]
    for i, name in enumerate(graph.output_names):
        db = level(graph, copy, samples, lambda ys, i=i: ys[i])
        said = any(note.startswith(f"output {name}: SQNR {db:.1f} dB") for note in context.notes)
        assert said == (db < LEAST_DB), (name, db, context.notes)


def test_integer_outputs_are_measured_as_they_are() -> None:
    """Where only the border is coarse: an input whose one outlier below zero a relu drops."""
    x = graph_input("x", TensorType((1, 3, 4, 4), F32))
    graph = Graph([x], [relu(x), conv2d(x, normal(5, 2, 3, 1, 1), normal(6, 2))], ["copy", "layer"])
    samples = samples_of(graph)
    samples[0]["x"][0, 0, 0, 0] = -1e6
    context = Context(calibration=lambda: samples)
    facts = Quantize(io="int8", calibration="minmax").run(graph.clone(), context).facts
    assert set(facts["calibration_sqnr_db"]["minmax"]) == {"copy", "layer"}
    assert any(note.startswith("output copy: SQNR") for note in context.notes), context.notes
