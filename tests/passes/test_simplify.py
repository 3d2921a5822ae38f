import numpy as np
import pytest
from hypothesis import given

from planish.ir.builder import const_value
from planish.ir.equality import same
from planish.ir.errors import VerificationError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Loc
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, clip, div, mul, relu, sub
from planish.ir.ops.index import expand, gather
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.ops.shape import concat, pad, reshape, slice_, transpose
from planish.ir.ops.unary import cast
from planish.ir.rewrite import Rule, rewrite
from planish.ir.text import print_graph
from planish.ir.types import F32, I8, Quant
from planish.passes.base import Changes, Pass
from planish.passes.pipeline import run_pipeline
from planish.passes.simplify import Simplify
from planish.runtime.contracts import EXACT
from planish.testing import graphs
from tests.support.passes import RANDOM, graph_of, ops, reals, transformed, validated, x_input


@given(graphs())
def test_bit_equal_idempotent_and_deterministic(graph):
    once = transformed(graph, Simplify())
    assert same(once, transformed(graph, Simplify()))
    twice = run_pipeline(once, "simplify")
    assert not twice.steps[0].changes
    assert same(twice.graph, once)


def first(x):
    return slice_(x, starts=(0, 0, 0), stops=(1, 3, 4), steps=(1, 1, 1))


def cut(x, stops, start=0):
    """The part up to `stops`, and from `start` along the first axis."""
    return slice_(x, starts=(start, *(0 for _ in stops[1:])), stops=stops, steps=(1,) * len(stops))


X = (2, 3, 4)
CASES = {
    "reshape of reshape": (lambda x: reshape(reshape(x, shape=(6, 4)), shape=(24,)), ["reshape"]),
    "reshape to itself": (lambda x: reshape(x, shape=X), []),
    "reshape there and back": (lambda x: reshape(reshape(x, shape=(24,)), shape=X), []),
    "transpose of transpose": (lambda x: transpose(transpose(x, perm=(1, 2, 0)), perm=(1, 0, 2)), ["transpose"]),
    "transpose there and back": (lambda x: transpose(transpose(x, perm=(1, 2, 0)), perm=(2, 0, 1)), []),
    "identity transpose": (lambda x: transpose(x, perm=(0, 1, 2)), []),
    "transpose of ones": (lambda x: transpose(reshape(x, shape=(24, 1, 1)), perm=(2, 0, 1)), ["reshape"]),
    "slice of everything": (lambda x: slice_(x, starts=(0, 0, 0), stops=X, steps=(1, 1, 1)), []),
    "slice of slice": (
        lambda x: slice_(
            slice_(x, starts=(0, 1, 0), stops=(2, 3, 4), steps=(1, 1, 2)),
            starts=(1, 0, 1), stops=(2, 2, 2), steps=(1, 2, 1),
        ),
        ["slice"],
    ),
    "pad by nothing": (lambda x: pad(x, before=(0, 0, 0), after=(0, 0, 0), value=3), []),
    "pad of pad": (
        lambda x: pad(pad(x, before=(0, 1, 0), after=(1, 0, 0), value=2), before=(0, 1, 2), after=(0, 0, 1), value=2),
        ["pad"],
    ),
    "pad of other pad": (
        lambda x: pad(pad(x, before=(0, 1, 0), after=(1, 0, 0), value=2), before=(0, 1, 2), after=(0, 0, 1), value=1),
        ["pad", "pad"],
    ),
    "concat of one": (lambda x: concat(x, axis=1), []),
    "concat with nothing": (lambda x: concat(x, reals(2, 0, 4), axis=1), []),
    "concat of concat": (lambda x: concat(concat(x, relu(x), axis=1), x, axis=1), ["clip", "concat"]),
    "concat of other concat": (lambda x: concat(concat(x, x, axis=0), concat(x, x, axis=0), axis=1), ["concat"] * 2),
    "neighbouring slices": (
        lambda x: concat(
            *(slice_(x, starts=(0, a, 0), stops=(2, a + 1, 4), steps=(1, 1, 1)) for a in range(3)), axis=1
        ),
        [],
    ),
    "slices in another order": (
        lambda x: concat(
            *(slice_(x, starts=(0, a, 0), stops=(2, b, 4), steps=(1, 1, 1)) for a, b in ((1, 3), (0, 1))), axis=1
        ),
        ["slice", "slice", "concat"],
    ),
    "slice of concat": (
        lambda x: slice_(concat(x, relu(x), axis=1), starts=(0, 3, 0), stops=(2, 6, 4), steps=(1, 1, 1)), ["clip"],
    ),
    "slice across concat": (
        lambda x: slice_(concat(x, relu(x), axis=1), starts=(0, 2, 0), stops=(2, 5, 4), steps=(1, 1, 1)),
        ["clip", "concat", "slice"],
    ),
    "clip of clip": (lambda x: clip(clip(x, lo=-1.0, hi=2.0), lo=0.0, hi=6.0), ["clip"]),
    "clip of clip apart": (lambda x: clip(clip(x, lo=1.0, hi=2.0), lo=-2.0, hi=-1.0), ["clip"]),
    "clip of clip at zeros of both signs": (lambda x: clip(clip(x, lo=-0.0), lo=0.0), ["clip", "clip"]),
    "clip without bounds": (clip, []),
    "add -0.0": (lambda x: add(x, np.array(-0.0, np.float32)), []),
    "add 0.0": (lambda x: add(x, np.array(0.0, np.float32)), ["add"]),
    "add nothing to more": (lambda x: add(x, np.full((5, 1, 1, 1), -0.0, np.float32)), ["add"]),
    "subtract 0.0": (lambda x: sub(x, np.zeros((3, 1), np.float32)), []),
    "subtract -0.0": (lambda x: sub(x, np.array(-0.0, np.float32)), ["sub"]),
    "times one": (lambda x: mul(x, np.ones((3, 1), np.float32)), []),
    "times one, and more": (lambda x: mul(x, np.ones((5, 1, 1, 1), np.float32)), ["mul"]),
    "by one": (lambda x: div(x, np.float32(1)), []),
    "one by": (lambda x: div(np.float32(1), x), ["div"]),
    "cast to itself": (lambda x: cast(x, dtype=F32), []),
    "expand to itself": (lambda x: expand(x, shape=X), []),
    "expand for a sum": (lambda x: add(expand(first(x), shape=X), x), ["slice", "add"]),
    "expand two": (lambda x: add(expand(x, shape=(5, *X)), expand(x, shape=(5, *X))), ["expand", "add"]),
    "shuffled in place": (lambda x: reshape(transpose(reshape(x, shape=(2, 3, 2, 2)), perm=(0, 1, 3, 2)), shape=X),
                          ["gather"]),
    "shuffled across axes": (
        lambda x: reshape(transpose(reshape(x, shape=(2, 3, 2, 2)), perm=(0, 2, 1, 3)), shape=X),
        ["reshape", "transpose", "reshape"],
    ),
    "half of the shuffled": (
        lambda x: cut(reshape(transpose(reshape(x, shape=(2, 3, 2, 2)), perm=(0, 1, 3, 2)), shape=X), (2, 3, 2)),
        ["gather"],
    ),
    "slice of gather along another axis": (
        lambda x: cut(gather(x, axis=2, indices=(3, 1)), (1, 3, 2)), ["gather", "slice"],
    ),
    "gather of gather": (lambda x: gather(gather(x, axis=2, indices=(3, 1)), axis=2, indices=(1, 1, 0)), ["gather"]),
    "gather of other gather": (
        lambda x: gather(gather(x, axis=2, indices=(3, 1)), axis=1, indices=(1, 1, 0)), ["gather", "gather"],
    ),
    "gather of neighbours": (lambda x: gather(x, axis=1, indices=(1, 2)), ["slice"]),
    "gather of all": (lambda x: gather(x, axis=1, indices=(0, 1, 2)), []),
    "slice of transpose": (
        lambda x: transpose(cut(transpose(x, perm=(1, 0, 2)), (2, 2, 4)), perm=(1, 0, 2)), ["slice"],
    ),
    "slice that leaves a reshape": (lambda x: cut(transpose(x, perm=(2, 0, 1)), (4, 1, 1)), ["slice", "reshape"]),
    "slice of reshape": (
        lambda x: reshape(cut(reshape(x, shape=(6, 4)), (3, 4)), shape=(12,)), ["slice", "reshape"]),
    "slice of joined rows": (lambda x: cut(reshape(x, shape=(6, 4)), (4, 4)), ["reshape", "slice"]),
    "parts of a product": (
        lambda x: [reshape(cut(transpose(reshape(x, shape=(2, 3, 2, 2)), perm=(2, 0, 1, 3)), (i + 1, 2, 3, 2), i),
                           shape=(6, 2)) for i in range(2)],
        ["slice", "reshape", "slice", "reshape"],
    ),
    "reshape of transpose of reshape": (
        lambda x: reshape(transpose(reshape(x, shape=(6, 2, 2)), perm=(1, 0, 2)), shape=(2, 1, 2, 3, 2)),
        ["reshape", "transpose"],
    ),
    "subtract from 0.0": (lambda x: sub(np.zeros(X, np.float32), x), ["sub"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_identities(name):
    build, expected = CASES[name]
    simplified = transformed(built(build), Simplify())
    assert ops(simplified) == expected
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38, -7], np.float32)
    x = special[RANDOM.integers(0, 8, X)]
    for before, after in zip(evaluate(built(build), [x]), evaluate(simplified, [x]), strict=True):
        assert before.tobytes() == after.tobytes(), "special values too"


def built(build):
    result = build(x_input(*X))
    return graph_of(*result) if isinstance(result, list) else graph_of(result)


def scales(scale, zero, dtype=np.int8):
    return np.array(scale, np.float32), np.array(zero, dtype)


@pytest.mark.parametrize(
    ("there", "back", "options", "expected"),
    [
        (scales(0.1, 3), scales(0.1, 3), {}, []),
        (scales(0.1, 3), scales(0.1, 4), {}, ["dequantize", "quantize"]),
        (scales(0.1, 3), scales(0.2, 3), {}, ["dequantize", "quantize"]),
        (scales(0.1, 3), scales(0.1, 3), {"lo": 3}, ["dequantize", "quantize"]),
        (scales(1e-40, 3), scales(1e-40, 3), {}, ["dequantize", "quantize"]),
    ],
)
def test_quantize_of_dequantize(there, back, options, expected):
    graph = graph_of(quantize(dequantize(x_input(300, dtype=I8), *there), *back, **options))
    assert ops(transformed(graph, Simplify())) == expected


def test_every_int8_survives_dequantize_and_quantize():
    q = np.arange(-128, 128).astype(np.int8)
    graph = graph_of(quantize(dequantize(x_input(256, dtype=I8), *scales(0.0123, -7)), *scales(0.0123, -7)))
    assert np.array_equal(evaluate(graph, [q])[0], q)


def test_constants_fold_but_dequantize_stays():
    x = x_input(1, 6)
    stored = dequantize(RANDOM.integers(-128, 127, (6, 4)).astype(np.int8), *scales(0.1, 0))
    w = transpose(stored, perm=(1, 0))
    b = add(np.ones(4, np.float32), reshape(np.arange(4, dtype=np.float32), shape=(4,)))
    simplified = transformed(graph_of(dense(x, w, b)), Simplify())
    assert ops(simplified) == ["dequantize", "dense"], "the transpose went into the weights"
    bias = next(n for n in simplified.nodes if n.op.name == "dense").operands[2]
    assert bias.const.tolist() == [1, 2, 3, 4]


def test_the_channel_axis_of_constants_moves_along():
    w = const_value(RANDOM.integers(-128, 127, (4, 6)).astype(np.int8))
    w.type = w.type.with_quant(Quant((0.1,) * 4, (0,) * 4, axis=0))
    scale, zero = np.linspace(0.1, 0.4, 4, dtype=np.float32).reshape(4, 1), np.zeros((4, 1), np.int8)
    graph = graph_of(add(x_input(6, 4), transpose(dequantize(w, scale, zero), perm=(1, 0))))
    simplified = transformed(graph, Simplify())
    stored = next(n.operands[0] for n in simplified.nodes if n.op.name == "dequantize")
    assert (stored.type.shape, stored.type.quant.axis) == ((6, 4), 1)


def test_chains_of_constants_do_not_double():
    """Each of these is small beside its operands; 2^12 times as much is not small beside the first."""
    value = const_value(reals(1024))
    for _ in range(12):
        value = concat(value, value, axis=0)
    after = transformed(graph_of(add(x_input(1), value)), Simplify())
    assert sum(array.nbytes for array in after.constants.values()) <= 2**17


def test_folding_is_bounded():
    big = add(np.zeros((1, 4096), np.float32), np.zeros((4096, 1), np.float32))  # 64 MiB from 32 KiB
    result = run_pipeline(graph_of(add(x_input(1), big)), "simplify")
    assert ops(result.graph) == ["add", "add"]
    assert any("bytes" in reason for reason in result.steps[0].changes.refused.values())


def test_common_subexpressions_unite_their_sources():
    x = x_input(2, 3)
    a, b = relu(x, loc=Loc(("a",))), relu(x, loc=Loc(("b",)))
    c, d = add(a, x, loc=Loc(("c",))), add(x, b, loc=Loc(("d",)))
    simplified = transformed(graph_of(sub(c, d)), Simplify())
    assert ops(simplified) == ["clip", "add", "sub"]
    assert [n.loc.names for n in simplified.nodes][:2] == [("a", "b"), ("c", "d")]


def test_constants_are_equal_by_their_bits():
    x = x_input(2)
    graph = graph_of(sub(add(x, np.float32(0.0)), add(x, np.float32(-0.0))))
    assert ops(transformed(graph, Simplify())) == ["add", "sub"]


def test_golden():
    x = x_input(1, 2, 3, 3)
    w = transpose(np.arange(18, dtype=np.float32).reshape(1, 3, 3, 2), perm=(0, 3, 1, 2))
    y = clip(relu(conv2d(x, w, np.zeros(1, np.float32), named="c"), named="r"), hi=6.0, named="y")
    assert print_graph(transformed(graph_of(y), Simplify()))[0] == GOLDEN


GOLDEN = """\
graph @main(%x: f32[1,2,3,3]) -> ("y0": f32[1,1,1,1]) {
  %0 = const @0 : f32[1,2,3,3]
  %1 = const [0.0] : f32[1]
  %c = conv2d(%x, %0, %1) : f32[1,1,1,1]
  %y = clip(%c) {lo=0.0, hi=6.0} : f32[1,1,1,1]
  return %y
}
"""


class AddZeroAlways(Rule):
    """A mutant: x + 0.0 is x."""

    def pattern(self, x):
        return add(x, np.array(0.0, np.float32))

    def rewrite(self, m, x):
        return x


class OuterClipOnly(Rule):
    """A mutant: the outer bounds alone."""

    def pattern(self, x):
        return clip(clip(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        return m.outer.like(x)


class TransposesInTheWrongOrder(Rule):
    """A mutant: composes permutations the wrong way round."""

    def pattern(self, x):
        return transpose(transpose(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        return m.outer.like(x, perm=tuple(m.outer.perm[i] for i in m.inner.perm))


@pytest.mark.parametrize(
    ("mutant", "build"),
    [
        (AddZeroAlways(), lambda x: add(clip(x, lo=-0.0, hi=-0.0), np.array(0.0, np.float32))),
        (OuterClipOnly(), CASES["clip of clip"][0]),
        (TransposesInTheWrongOrder(), lambda x: transpose(transpose(x, perm=(1, 2, 0)), perm=(0, 2, 1))),
    ],
)  # fmt: skip
def test_mutants_are_caught(mutant, build):
    class Mutant(Pass):
        contract = EXACT

        def run(self, graph, context):
            changes = Changes()
            changes.add(rewrite(graph, [mutant]))
            return changes

    with pytest.raises(VerificationError, match="breaks its contract EXACT"):
        validated(graph_of(build(x_input(3, 3, 3))), Mutant())
