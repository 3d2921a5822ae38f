import numpy as np
import pytest
from hypothesis import given

from planish.ir.arithmetic import fixed_point
from planish.ir.equality import same
from planish.ir.graph import Loc
from planish.ir.ops import unary
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, clip, relu
from planish.ir.ops.quant import dequantize, rescale, rescale_add, sum_factors
from planish.ir.ops.shape import reshape
from planish.ir.ops.softmax import softmax
from planish.ir.ranges import ranges
from planish.ir.text import print_graph
from planish.ir.types import BF16, F16, F32, F64, I8
from planish.passes.group import Group, ungroup
from planish.passes.pipeline import run_pipeline
from planish.testing import graphs
from tests.support.passes import RANDOM, graph_of, ops, reals, transformed, x_input


@given(graphs())
def test_bit_equal_idempotent_and_reversible(graph):
    graph = transformed(graph, "simplify")
    grouped = transformed(graph, Group())
    assert same(grouped, transformed(graph, Group()))
    again = run_pipeline(grouped, [Group()])
    assert not again.steps[0].changes
    assert same(again.graph, grouped)
    restored = grouped.clone()
    ungroup(restored)
    assert sorted(ops(restored)) == sorted(ops(graph))
    transformed(restored, "simplify")


def bodies(graph):
    """Ops of each group, and of what stands alone."""
    return [ops(n.op.body) if n.op.name == "fused" else n.op.name for n in graph.nodes if n.op.name != "const"]


def layer(x, zero=0, **options):
    channels = x.type.shape[1]
    w, b = RANDOM.integers(-9, 9, (channels, channels, 1, 1)).astype(np.int8), np.zeros(channels, np.int32)
    multiplier, shift = fixed_point(np.linspace(0.01, 0.02, channels))
    acc = conv2d(x, w, b, input_zero=zero, **options)
    return rescale(acc, multiplier.reshape(-1, 1, 1), shift.reshape(-1, 1, 1), loc=Loc(("scale",)))


def total(a, b):
    return rescale_add(a, b, **sum_factors([0.3, 0.5], (1, 2), 0))


def grouped(*outputs):
    return transformed(graph_of(*outputs), Group())


def test_layers_take_what_is_behind_them():
    x = x_input(1, 3, 4, 4, dtype=I8)
    a = layer(x)
    b = total(a, layer(a))
    y = dequantize(b, np.float32(0.1), np.int8(3))
    graph = grouped(clip(y, lo=0.0))
    assert bodies(graph) == [["conv2d", "rescale"], ["conv2d", "rescale", "rescale_add", "dequantize", "clip"]]
    assert all(v.type.dtype.name != "i32" for n in graph.nodes if n.op.name == "fused" for v in n.results)


def test_the_later_of_two_convolutions_takes_the_sum():
    x = x_input(1, 3, 4, 4, dtype=I8)
    early = layer(x)
    both = graph_of(total(layer(x, zero=1), early))  # operands are computed from left to right
    graph = transformed(both, Group())
    assert bodies(graph) == [["conv2d", "rescale"], ["conv2d", "rescale", "rescale_add"]]
    last = [n for n in graph.nodes if n.op.name == "fused"][-1]
    assert [n.op.input_zero for n in last.op.body.nodes if n.op.name == "conv2d"] == [0]


def test_a_layer_rather_than_another_sum_takes_the_sum():
    x = x_input(2, 3)
    assert bodies(grouped(add(dense(x, reals(3, 3), reals(3)), relu(x)))) == ["clip", ["dense", "add"]]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda x: add(relu(x), x), [["clip", "add"]]),
        (lambda x: relu(relu(x)), [["clip", "clip"]]),
        (lambda x: relu(softmax(x)), [["softmax", "clip"]]),
        (lambda x: relu(dense(x, reals(2, 3), reals(2))), [["dense", "clip"]]),
        (lambda x: relu(reshape(x, shape=(3, 2))), ["reshape", "clip"]),
        (lambda x: add(softmax(x), reals(4, 1, 1)), ["softmax", "add"]),
        (lambda x: (y := softmax(x), relu(y), y), ["softmax", "clip"]),
        (lambda x: (y := softmax(x), add(y, y)), ["softmax", "add"]),
    ],
    ids=["add", "two clips", "softmax", "dense", "movement", "broadcast", "output", "two uses"],
)  # fmt: skip
def test_what_is_grouped(build, expected):
    x = x_input(2, 3)
    built = build(x)
    outputs = built[1:] if isinstance(built, tuple) else (built,)
    assert bodies(grouped(*outputs)) == expected


def test_operands_locations_and_text():
    x = x_input(1, 2)
    c = np.ones(2, np.float32)
    d = dense(x, np.ones((2, 2), np.float32), c, loc=Loc(("fc",)), named="d")
    y = add(add(d, c, loc=Loc(("one",))), x, loc=Loc(("sum", "fc")), named="y")
    graph = transformed(graph_of(y), "simplify", Group())
    (node,) = (n for n in graph.nodes if n.op.name == "fused")
    assert node.loc.names == ("fc", "one", "sum")
    assert len(set(node.operands)) == len(node.operands) == 3, "each once"
    assert print_graph(graph)[0] == GOLDEN


GOLDEN = """\
graph @main(%x: f32[1,2]) -> ("y0": f32[1,2]) {
  %0 = const [1.0, 1.0, 1.0, 1.0] : f32[2,2]
  %1 = const [1.0, 1.0] : f32[2]
  %y = fused(%x, %0, %1) {
    %d = dense(%x, %0, %1) : f32[1,2] loc("fc")
    %2 = add(%d, %1) : f32[1,2] loc("one")
    %y = add(%2, %x) : f32[1,2] loc("sum", "fc")
    return %y
  } : f32[1,2] loc("fc", "one", "sum")
  return %y
}
"""


@pytest.mark.parametrize("dtype", [F64, F32, F16, BF16], ids=str)
def test_every_function_of_every_float_has_bounds_and_is_grouped(dtype):
    x = x_input(2, 3, dtype=dtype)
    functions = (unary.exp, unary.log, unary.sqrt, unary.tanh, unary.sigmoid, unary.erf, unary.gelu, unary.silu)
    graph = graph_of(*(add(function(x), x) for function in functions))
    assert all(v in ranges(graph) for v in graph.outputs)
    grouped = run_pipeline(graph, "group").graph
    assert set(ops(grouped)) == {"fused"}
    assert all(v in ranges(grouped) for v in grouped.outputs)
