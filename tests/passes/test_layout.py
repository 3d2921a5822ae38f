import numpy as np
import pytest
from hypothesis import given

from planish.ir.arithmetic import fixed_point
from planish.ir.equality import same
from planish.ir.errors import PlanishError
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.quant import Rescale, dequantize, quantize, rescale, table
from planish.ir.ops.reduce import reduce_mean
from planish.ir.ops.shape import concat, depth_to_space, pad, reshape, slice_, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.text import print_graph
from planish.ir.types import I8, NHWC, Quant
from planish.passes import layout as layout_module
from planish.passes.layout import Layout
from planish.passes.moving import regrouped
from planish.passes.pipeline import run_pipeline
from planish.passes.validation import Validation
from planish.testing import graphs
from tests.support.passes import RANDOM, graph_of, ops, reals, transformed, validated, x_input


@given(graphs())
def test_every_image_is_channels_last_and_the_function_is_the_same(graph):
    result = transformed(graph, "simplify", Layout())
    assert all(layout is NHWC for node in result.nodes if (layout := getattr(node.op, "layout", None)) is not None)
    assert same(result, transformed(graph, "simplify", Layout()))
    again = run_pipeline(result, [Layout()]).graph
    assert len(transposes(again)) <= len(transposes(result)), "ties may fall otherwise, to nobody's loss"


@given(graphs())
def test_there_and_back(graph):
    before = transformed(graph, "simplify")
    transformed(before, Layout(), "simplify", Layout("nchw"), "simplify")


def conv(x, outputs, groups=1, size=3, **attributes):
    channels = x.type.shape[1]
    w, b = reals(outputs, channels // groups, size, size), reals(outputs)
    return conv2d(x, w, b, groups=groups, pads=(size // 2,) * 4, **attributes)


def transposes(graph):
    return [node.op.perm for node in graph.nodes if node.op.name == "transpose"]


def laid_out(*outputs):
    return transformed(graph_of(*outputs), "simplify", Layout(), "simplify")


FIRST = [(0, 2, 3, 1)]


def test_everything_between_image_and_logits():
    x = x_input(2, 3, 8, 8)
    a = relu(conv(x, 6))
    b = add(add(relu(conv(a, 6, groups=6)), a), reals(6, 1, 1))
    c = pad(slice_(b, starts=(0, 0, 0, 0), stops=(2, 6, 8, 8), steps=(1, 1, 2, 2)), before=(0, 1, 0, 0), after=(0,) * 4)
    d = concat(max_pool2d(c, window=(2, 2), strides=(2, 2)), reals(2, 1, 2, 2), axis=1)
    y = softmax(dense(relu(reshape(d, shape=(2, 32))), reals(5, 32), reals(5)))
    graph = laid_out(y, reduce_mean(d, axes=(2, 3), keepdims=False))
    assert transposes(graph) == FIRST, "one at the public input, none inside"


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 1, 8, 8), []), ((2, 4, 1, 1), []), ((1, 2, 1, 8), FIRST), ((1, 2, 8, 8), FIRST)]
)
def test_a_transpose_that_moves_nothing_is_a_reshape(shape, expected):
    assert transposes(laid_out(reduce_mean(conv(x_input(*shape), 3), axes=(2, 3)))) == expected


def test_public_outputs_keep_their_shape():
    graph = laid_out(conv(x_input(1, 1, 8, 8), 3))
    assert transposes(graph) == [(0, 3, 1, 2)]
    single = laid_out(depth_to_space(conv(x_input(1, 1, 4, 4), 9), block=3))
    assert transposes(single) == []
    assert single.outputs[0].type.shape == (1, 1, 12, 12)


def test_a_channels_last_input_needs_no_transpose():
    x = transpose(x_input(1, 8, 8, 3), perm=(0, 3, 1, 2))
    assert transposes(laid_out(relu(reduce_mean(conv(x, 4), axes=(2, 3))))) == []


def test_transposes_behind_rebuilt_nodes_cancel_too():
    y = transpose(relu(transpose(conv(conv(x_input(1, 1, 3, 3), 1), 2), perm=(0, 2, 3, 1))), perm=(0, 3, 1, 2))
    graph = laid_out(y)
    assert {node.op.layout for node in graph.nodes if node.op.name == "conv2d"} == {NHWC}
    assert transposes(graph) == [(0, 3, 1, 2)]


def test_one_transpose_serves_all_users_of_an_input():
    x = x_input(1, 2, 6, 6)
    assert transposes(laid_out(reduce_mean(add(conv(x, 2), relu(conv(x, 2, size=1))), axes=(2, 3)))) == FIRST
    assert transposes(laid_out(reduce_mean(add(x, conv(x, 2)), axes=(2, 3)))) == FIRST


def test_integers_are_bit_equal_and_constants_follow():
    x = x_input(1, 3, 5, 5, dtype=I8)
    w, b = RANDOM.integers(-9, 9, (4, 3, 3, 3)).astype(np.int8), RANDOM.integers(-99, 99, 4).astype(np.int32)
    multiplier, shift = fixed_point(np.array([0.01, 0.02, 0.03, 0.04]))
    acc = conv2d(x, w, b, input_zero=7)
    q = rescale(acc, multiplier.reshape(4, 1, 1), shift.reshape(1, 4, 1, 1), zero=3)
    q.type = q.type.with_quant(Quant.of(0.1, 3))
    flat = reshape(table(q, RANDOM.integers(-99, 99, 256).astype(np.int8)), shape=(1, 36))
    v = RANDOM.integers(-9, 9, (2, 36)).astype(np.int8)
    logits = dense(table(flat, np.arange(-128, 128).astype(np.int8)), v, np.zeros(2, np.int32))
    validation = Validation()
    result = run_pipeline(graph_of(logits, q), "simplify,layout,simplify", listeners=[validation])
    assert {f.difference for f in validation.findings} == {0.0}
    (scaled,) = (n for n in result.graph.nodes if isinstance(n.op, Rescale))
    assert [v.type.shape for v in scaled.operands[1:]] == [(4,), (4,)], "full rank while moving, trimmed afterwards"
    assert scaled.result.type.quant == Quant.of(0.1, 3)
    assert [n.result.type.shape for n in result.graph.nodes if n.op.name == "reshape"] == [(1, 36)]
    assert transposes(result.graph) == [(0, 2, 3, 1), (0, 3, 1, 2)], "input and second output"


def test_dequantized_weights_are_moved_as_integers():
    w = dequantize(
        RANDOM.integers(-9, 9, (4, 3, 3, 3)).astype(np.int8),
        np.array([1, 2, 3, 4], np.float32).reshape(4, 1, 1, 1), np.zeros((4, 1, 1, 1), np.int8),
    )  # fmt: skip
    v = RANDOM.integers(-9, 9, (2, 36)).astype(np.int8)
    v = dequantize(v, np.full((2, 1), 0.5, np.float32), np.zeros((2, 1), np.int8))
    scale, zero = np.float32(0.1), np.int8(3)
    y = quantize(conv2d(x_input(1, 3, 5, 5), w, reals(4)), scale, zero)
    graph = laid_out(dense(dequantize(reshape(y, shape=(1, 36)), scale, zero), v, reals(2)))
    assert transposes(graph) == FIRST
    assert ops(graph).count("dequantize") == 3


def test_batch_in_the_flattened_axis_keeps_the_transpose():
    y = dense(reshape(conv(x_input(2, 1, 4, 4), 3), shape=(1, 96)), reals(2, 96), reals(2))
    assert transposes(laid_out(y)) == [(0, 3, 1, 2)]


@pytest.mark.parametrize(
    ("perm", "wanted", "expected"),
    [
        ((0, 3, 1, 2), (2, 4, 15), ((2, 15, 4), (0, 2, 1))),  # pixels lie together
        ((0, 3, 1, 2), (2, 60), None),  # channels and pixels do not
        ((0, 3, 1, 2), (2, 1, 4, 3, 5, 1), ((2, 1, 3, 5, 1, 4), (0, 1, 5, 2, 3, 4))),
        ((0, 3, 1, 2), (2, 2, 2, 3, 5), ((2, 3, 5, 2, 2), (0, 3, 4, 1, 2))),
        ((1, 0, 2, 3), (3, 2, 20), ((2, 3, 20), (1, 0, 2))),
        ((1, 0, 2, 3), (6, 20), None),
    ],
)
def test_regrouped(perm, wanted, expected):
    x = RANDOM.integers(0, 99, (2, 3, 5, 4))
    assert regrouped(x.shape, perm, wanted) == expected
    if expected is not None:
        assert np.array_equal(x.transpose(perm).reshape(wanted), x.reshape(expected[0]).transpose(expected[1]))


def test_a_computed_operand_may_have_fewer_axes():
    x, mask = x_input(1, 2, 4, 3), x_input(2, 3, name="mask")
    y = add(transpose(x, perm=(0, 2, 1, 3)), relu(mask))
    assert ops(laid_out(y)) == ["transpose", "clip", "add"]


def test_golden():
    x = x_input(1, 2, 4, 4)
    w = np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1)
    y = add(conv2d(x, w, np.ones(2, np.float32), named="c"), x, named="y")
    assert print_graph(laid_out(y))[0] == GOLDEN


GOLDEN = """\
graph @main(%x: f32[1,2,4,4]) -> ("y0": f32[1,2,4,4]) {
  %0 = const [1.0, 1.0] : f32[2]
  %1 = transpose(%x) {perm=[0,2,3,1]} : f32[1,4,4,2]
  %2 = const [0.0, 1.0, 2.0, 3.0] : f32[2,1,1,2]
  %c = conv2d(%1, %2, %0) {layout=NHWC} : f32[1,4,4,2]
  %y = add(%c, %1) : f32[1,4,4,2]
  %y_1 = transpose(%y) {perm=[0,3,1,2]} : f32[1,2,4,4]
  return %y_1
}
"""


@pytest.mark.parametrize("name", ["invert", "composed"])
def test_mutants_are_caught(name, monkeypatch):
    mutant = {"invert": lambda perm: perm, "composed": lambda first, second: tuple(second[i] for i in first)}[name]
    monkeypatch.setattr(layout_module, name, mutant)
    x = transpose(x_input(1, 4, 3, 3), perm=(0, 3, 1, 2))
    y = dense(reshape(conv(transpose(x, perm=(0, 2, 3, 1)), 3), shape=(1, 27)), reals(2, 27), reals(2))
    z = x_input(3, 3, 3, 3, name="z")
    turned = relu(transpose(transpose(z, perm=(0, 2, 3, 1)), perm=(1, 0, 2, 3)))
    with pytest.raises(PlanishError):
        validated(graph_of(y, turned, add(conv(z, 3), reals(3, 3, 3))), Layout())
