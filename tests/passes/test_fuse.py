import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.equality import same
from planish.ir.errors import VerificationError
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, clip, div, mul, relu, sub
from planish.ir.ops.norm import batch_norm
from planish.ir.ops.pool import avg_pool2d, max_pool2d, sum_pool2d
from planish.ir.ops.shape import pad
from planish.ir.types import F32, I8, NCHW, NHWC
from planish.passes import fuse, padding
from planish.passes.fuse import Fuse
from planish.passes.pipeline import run_pipeline
from planish.testing import graphs
from tests.support.passes import RANDOM, graph_of, ops, reals, transformed, validated, x_input


@given(graphs(max_layers=8))
def test_equal_idempotent_and_deterministic(graph):
    graph = transformed(graph, "simplify")
    once = transformed(graph, Fuse())
    assert same(once, transformed(graph, Fuse()))
    again = run_pipeline(once, [Fuse()])
    assert not again.steps[0].changes
    assert same(again.graph, once)


def image(layout, channels=4, size=5, dtype=F32):
    return x_input(*layout.shape(2, channels, size, size), dtype=dtype)


def conv(x, layout, outputs=6, groups=1, **attributes):
    channels = x.type.shape[layout.channel]
    w = reals(*layout.shape(outputs, channels // groups, 3, 3))
    return conv2d(x, w, reals(outputs), groups=groups, layout=layout, **attributes)


def norm(x, layout):
    channels = x.type.shape[1 if layout is NCHW else -1]
    return batch_norm(
        x, *(reals(channels) for _ in range(3)), reals(channels, low=1e-4, high=2), epsilon=1e-3, layout=layout
    )


def channel(layout, channels, rank=4):
    shape = [1] * rank
    shape[layout.channel] = channels
    return reals(*shape)


PADS = (1, 0, 1, 2)
LAYERS = {
    "norm after": (lambda x, o: norm(conv(x, o, pads=PADS), o), ["conv2d"]),
    "norm after depthwise": (lambda x, o: norm(conv(x, o, outputs=8, groups=4), o), ["conv2d"]),
    "norm before": (lambda x, o: conv(norm(x, o), o, groups=2), ["conv2d"]),
    "norm before padding": (lambda x, o: conv(norm(x, o), o, pads=PADS), ["conv2d", "conv2d"]),
    "norm before activation": (lambda x, o: conv(relu(norm(x, o)), o), ["conv2d", "clip", "conv2d"]),
    "norm of norm": (lambda x, o: norm(norm(conv(x, o), o), o), ["conv2d"]),
    "add after": (lambda x, o: add(conv(x, o), channel(o, 6)), ["conv2d"]),
    "add one number after": (lambda x, o: add(reals(1), conv(x, o)), ["conv2d"]),
    "subtract after": (lambda x, o: sub(conv(x, o, pads=PADS), channel(o, 6)), ["conv2d"]),
    "subtract from": (lambda x, o: sub(channel(o, 6), conv(x, o)), ["conv2d", "sub"]),
    "add along another axis": (lambda x, o: add(conv(x, o), reals(3, 1)), ["conv2d", "add"]),
    "add more": (lambda x, o: add(conv(x, o), reals(7, 1, 1, 1, 1)), ["conv2d", "add"]),
    "add before": (lambda x, o: conv(sub(add(x, channel(o, 4)), reals(1)), o), ["conv2d"]),
    "add before padding": (lambda x, o: conv(add(x, channel(o, 4)), o, pads=PADS), ["add", "conv2d"]),
    "multiply after": (lambda x, o: mul(conv(x, o, pads=PADS), channel(o, 6)), ["conv2d"]),
    "divide after": (lambda x, o: div(conv(x, o, pads=PADS), channel(o, 6)), ["conv2d"]),
    "divide by zero": (lambda x, o: div(conv(x, o), np.float32(0)), ["conv2d", "div"]),
    "divide by": (lambda x, o: div(np.float32(1), conv(x, o)), ["conv2d", "div"]),
    "multiply before padding": (lambda x, o: conv(mul(x, channel(o, 4)), o, groups=2, pads=PADS), ["conv2d"]),
    "divide before padding": (lambda x, o: conv(div(x, channel(o, 4)), o, pads=PADS), ["conv2d"]),
    "normalized by hand": (
        lambda x, o: add(mul(div(sub(conv(x, o), channel(o, 6)), reals(1)), reals(1)), channel(o, 6)), ["conv2d"],
    ),
    "norm, multiply, add": (lambda x, o: relu(add(mul(norm(x, o), channel(o, 4)), channel(o, 4))), ["conv2d", "clip"]),
    "add zero": (lambda x, o: add(x, np.float32(0)), []),
    "add twice": (lambda x, o: add(add(x, reals(1)), channel(o, 4)), ["add"]),
    "pad before": (lambda x, o: conv(padded(x, o), o, pads=PADS), ["conv2d"]),
    "pad with one": (lambda x, o: conv(padded(x, o, value=1), o), ["pad", "conv2d"]),
    "pad channels": (lambda x, o: conv(pad(x, before=(0, 1, 0, 1), after=(0,) * 4), o), ["pad", "conv2d"]),
    "pad before counted mean": (
        lambda x, o: pool(avg_pool2d, padded(x, o), o, count_pads=True, pads=PADS), ["avg_pool2d"],
    ),
    "pad before mean": (lambda x, o: pool(avg_pool2d, padded(x, o), o), ["avg_pool2d"]),
    "pad before uncounted mean": (lambda x, o: pool(avg_pool2d, padded(x, o), o, pads=PADS), ["pad", "avg_pool2d"]),
    "pad before maximum": (lambda x, o: pool(max_pool2d, padded(x, o), o), ["pad", "max_pool2d"]),
    "pad before maximum of relu": (lambda x, o: pool(max_pool2d, padded(relu(x), o), o), ["clip", "max_pool2d"]),
    "pad with 1 before maximum of relu": (
        lambda x, o: pool(max_pool2d, padded(relu(x), o, value=1), o), ["clip", "pad", "max_pool2d"],
    ),
    "wide pad before mean": (lambda x, o: pool(avg_pool2d, padded(x, o, 3), o), ["pad", "avg_pool2d"]),
    "mean of the whole image": (lambda x, o: pool(avg_pool2d, x, o, window=(5, 5), strides=(9, 9)), ["reduce_mean"]),
    "mean of most of the image": (lambda x, o: pool(avg_pool2d, x, o, window=(5, 4)), ["avg_pool2d"]),
}  # fmt: skip


def padded(x, layout, size=1, value=0):
    sides = layout.shape(0, 0, size, size)
    return pad(x, before=sides, after=layout.shape(0, 0, size, 0), value=value)


def pool(build, x, layout, **attributes):
    return build(x, **({"window": (3, 3)} | attributes), layout=layout)


@pytest.mark.parametrize("layout", [NCHW, NHWC], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_images(name, layout):
    build, expected = LAYERS[name]
    graph = transformed(graph_of(build(image(layout), layout)), Fuse())
    assert ops(graph) == expected


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: norm(dense(x, reals(5, 3), reals(5)), NCHW), ["dense"]),
        (lambda x: dense(norm(x, NHWC), reals(5, 3), reals(5)), ["dense"]),
        (lambda x: add(matmul(x, reals(3, 5)), reals(1, 5)), ["dense"]),
        (lambda x: sub(dense(sub(x, reals(3)), reals(5, 3), reals(5)), reals(5)), ["dense"]),
        (lambda x: add(dense(x, reals(5, 3), reals(5)), reals(2, 1)), ["dense", "add"]),
        (lambda x: norm(x, NCHW), ["mul", "add"]),
        (lambda x: norm(relu(x), NHWC), ["clip", "mul", "add"]),
        (lambda x: dense(mul(x, reals(3)), reals(5, 3), reals(5)), ["dense"]),
        (lambda x: div(dense(x, reals(5, 3), reals(5)), reals(5)), ["dense"]),
        (lambda x: mul(mul(x, reals(3)), reals(1)), ["mul"]),
    ],
)
def test_vectors(build, expected):
    assert ops(transformed(graph_of(build(x_input(2, 3))), Fuse())) == expected


def test_what_others_need_stays():
    x = image(NCHW)
    y = conv(x, NCHW)
    assert ops(transformed(graph_of(norm(y, NCHW), y), Fuse())) == ["conv2d", "conv2d"]
    z = conv(x, NCHW)
    result = run_pipeline(graph_of(add(z, channel(NCHW, 6)), z), [Fuse()])
    assert ops(result.graph) == ["conv2d", "add"]
    reasons = {rule: reason for (rule, _), reason in result.steps[0].changes.refused.items()}
    assert reasons["ConstantAfterLayer(conv2d, add)"] == "the result of conv2d has other uses"


@pytest.mark.parametrize(("value", "expected"), [(7, ["conv2d"]), (0, ["pad", "conv2d"])])
def test_integer_padding_is_the_zero_point(value, expected):
    x = image(NCHW, dtype=I8)
    w = RANDOM.integers(-9, 9, (2, 4, 3, 3)).astype(np.int8)
    y = conv2d(padded(x, NCHW, value=value), w, np.zeros(2, np.int32), input_zero=7)
    assert ops(transformed(graph_of(y), Fuse())) == expected


@pytest.mark.parametrize(("value", "expected"), [(7, ["sum_pool2d"]), (0, ["pad", "sum_pool2d"])])
def test_integer_sums_pad_with_the_zero_point(value, expected):
    y = sum_pool2d(padded(image(NCHW, dtype=I8), NCHW, value=value), window=(2, 2), input_zero=7)
    assert ops(transformed(graph_of(y), Fuse())) == expected


def test_parameters_that_are_not_finite_stay():
    x = conv(image(NCHW), NCHW)
    y = batch_norm(x, reals(6), reals(6), reals(6), np.full(6, -1, np.float32))
    assert ops(run_pipeline(graph_of(y), [Fuse()]).graph) == ["conv2d", "batch_norm"]


class WithoutEpsilon(fuse.BatchNormAfterLayer):
    """A mutant that forgets epsilon."""

    def rewrite(self, m, x, w, b, scale, shift, mean, var):
        k = scale / np.sqrt(var)
        return fuse.affine_after(m.layer, x, w, b, k, shift - mean * k)


class AnyPadding(padding.PadIntoConv):
    """A mutant that ignores what the convolution pads with."""

    def rewrite(self, m, x, w, b):
        return m.window.like(x, w, b, pads=padding.spatial_pads(m))


class PaddedShift(fuse.BatchNormBeforeLayer):
    """A mutant that moves a shift past padding."""

    def rewrite(self, m, x, w, b, **parameters):
        k, t = fuse.scale_and_shift(m, **parameters)
        terms = (w * fuse.per_input(t, w, m.layer)).reshape(w.shape[0], -1)
        return m.layer.like(x, (w * fuse.per_input(k, w, m.layer)).astype(w.dtype), (b + terms.sum(1)).astype(b.dtype))


@pytest.mark.parametrize(
    ("mutant", "build"),
    [
        (WithoutEpsilon(conv2d), lambda x: norm(conv(x, NCHW), NCHW)),
        (AnyPadding(), lambda x: conv(padded(x, NCHW, value=1), NCHW)),
        (PaddedShift(conv2d), lambda x: conv(norm(x, NCHW), NCHW, pads=PADS)),
    ],
    ids=["epsilon", "padding", "shift"],
)
def test_mutants_are_caught(mutant, build, monkeypatch):
    monkeypatch.setattr(fuse, "INTO_NEIGHBOURS", (mutant,))
    with pytest.raises(VerificationError, match="breaks its contract REASSOCIATING"):
        validated(graph_of(build(image(NCHW))), Fuse())


@given(st.data())
def test_a_clip_between_keeps_a_norm_from_a_layer(data):
    layout = data.draw(st.sampled_from([NCHW, NHWC]))
    graph = graph_of(norm(clip(conv(image(layout), layout), lo=-1.0), layout))
    assert ops(transformed(graph, Fuse())) == ["conv2d", "clip", "conv2d"], "a depthwise convolution of one pixel"
