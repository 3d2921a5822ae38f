"""The verifier accepts what builders make and catches each way of breaking it, naming the place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.errors import InvalidGraphError
from planish.ir.graph import Graph, Node, Value, apply, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import Clip, add, relu
from planish.ir.ops.fused import Fused
from planish.ir.ops.pool import sum_pool2d
from planish.ir.ops.quant import rescale_add
from planish.ir.ops.reduce import reduce_sum
from planish.ir.types import F32, I8, I16, Quant, TensorType
from planish.ir.verifier import verify
from planish.testing import graphs


@given(graphs())
def test_networks_and_their_copies_verify(graph):
    verify(graph)
    verify(graph.clone())


def chain():
    x = graph_input("x", TensorType((2,), F32))
    y = relu(x, named="y")
    z = add(y, x, named="z")
    return Graph([x], [z], ["out"])


def result(graph, name):
    return next(v for n in graph.nodes for v in n.results if v.name == name)


def drop_use(graph):
    result(graph, "y").uses.clear()


def add_stale_use(graph):
    z = result(graph, "z")
    z.uses[z.producer, 0] = None


def swap_order(graph):
    y, z = (result(graph, n).producer for n in "yz")
    y.prev, y.next, z.prev, z.next = z, None, None, y
    graph._first, graph._last = z, y


def foreign_operand(graph):
    graph.set_operand(result(graph, "z").producer, 1, Value(TensorType((2,), F32), "foreign"))


def wrong_type(graph):
    result(graph, "y").type = TensorType((3,), F32)


def wrong_dtype_with_quant(graph):
    graph.inputs[0].type = graph.inputs[0].type.with_quant(Quant.of(1.0, 0))


def detached_output(graph):
    graph.outputs = [Value(TensorType((2,), F32), "loose")]


def same_output_names(graph):
    graph.outputs *= 2
    graph.output_names = ["out", "out"]


def missing_output_name(graph):
    graph.output_names = []


def input_twice(graph):
    graph.inputs.append(graph.inputs[0])


def unnamed_input(graph):
    graph.inputs[0].name = ""


def miscounted(graph):
    graph._count = 1


def broken_body(graph):
    a = graph_input("a", TensorType((2,), F32))
    body = Graph([a], [relu(a, named="inner")], ["r"], "body")
    graph.insert(Node(Fused(body), [graph.inputs[0]], [a.type], result(graph, "y").producer.loc))
    body.inputs[0].type = TensorType((2,), I8)


def unknown_result(graph):
    y = result(graph, "y").producer
    y.results = (Value(y.result.type, "y"),)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (drop_use, "does not know of this use"),
        (add_stale_use, "lists a use that is none"),
        (swap_order, "not computed before it is used"),
        (foreign_operand, "not computed before it is used"),
        (wrong_type, "%y"),
        (wrong_dtype_with_quant, "no integer"),
        (detached_output, "not computed in this graph"),
        (same_output_names, "2 outputs are named 'out'"),
        (missing_output_name, "0 names"),
        (input_twice, "2 inputs are named 'x'"),
        (unnamed_input, "has no name"),
        (miscounted, "list of nodes"),
        (broken_body, "%inner"),
        (unknown_result, "belongs to another node"),
    ],
)
def test_damage_is_caught(damage, words):
    graph = chain()
    verify(graph)
    damage(graph)
    with pytest.raises(InvalidGraphError) as error:
        verify(graph)
    assert words in str(error.value) or words in error.value.where


@pytest.mark.parametrize(
    ("quant", "words"),
    [
        (Quant.of(0.0, 0), "scale 0.0"),
        (Quant.of(float("nan"), 0), "scale nan"),
        (Quant.of(1.0, 128), "zero point 128"),
        (Quant((1.0, 2.0), (0, 0)), "2 scales"),
        (Quant((1.0, 2.0), (0, 0), 0), "only constants may"),
    ],
)
def test_annotations_are_sane(quant, words):
    x = graph_input("x", TensorType((2,), I8, quant))
    with pytest.raises(InvalidGraphError, match=words):
        verify(Graph([x], [x], ["y"]))


def test_a_scale_per_axis_is_as_long_as_the_axis():
    x = graph_input("x", TensorType((1, 3), I8))
    w = np.zeros((2, 3), np.int8)
    acc = dense(x, w, np.zeros(2, np.int32))
    weights = acc.producer.operands[1]
    graph = Graph([x], [acc], ["y"])
    weights.type = weights.type.with_quant(Quant((1.0, 2.0), (0, 0), 0))
    verify(graph)
    weights.type = weights.type.with_quant(Quant((1.0, 2.0), (0, 0), 1))
    with pytest.raises(InvalidGraphError, match="2 scales and 2 zero points, not 3"):
        verify(graph)


def wide_conv(k):
    x = graph_input("x", TensorType((1, k, 1, 1), I16))
    w = np.ones((3, k, 1, 1), np.int16)
    w[1] = 32767
    return x, conv2d(x, w, np.zeros(3, np.int32), named="acc")


def test_the_channel_that_may_overflow_is_named():
    x, acc = wide_conv(1)
    verify(Graph([x], [acc], ["y"]))
    x, acc = wide_conv(3)
    with pytest.raises(InvalidGraphError, match=r"channel 1 can reach -3221127168") as error:
        verify(Graph([x], [acc], ["y"]))
    assert "%acc = conv2d" in error.value.where


@pytest.mark.parametrize("build", [
    lambda x: sum_pool2d(x, window=(1, 70000)),
    lambda x: reduce_sum(x, axes=(3,)),
    lambda x: matmul(x, np.full((70000, 1), 32767, np.int16)),
    lambda x: rescale_add(x, x, a_multiplier=32767, b_multiplier=32767, bias=2**20, shift=1),
    lambda x: dense(x, np.ones((1, 70000), np.int16), np.array([2**31 - 1], np.int32)),
])  # fmt: skip
def test_every_kind_of_sum_is_proven(build):
    x = graph_input("x", TensorType((1, 1, 1, 70000), I16))
    graph = Graph([x], [build(x)], ["y"])
    with pytest.raises(InvalidGraphError, match="32-bit sum"):
        verify(graph)


def test_sums_in_bodies_are_proven_with_what_is_known_outside():
    """The clamp outside bounds the operand inside: the same body is fine with it and not without."""
    inner = graph_input("a", TensorType((1, 70000), I16))
    body = Graph([inner], [reduce_sum(inner, axes=(1,))], ["s"], "body")
    for clamp, proven in ((Clip(-100, 100), True), (Clip(), False)):
        x = graph_input("x", inner.type)
        graph = Graph([x], [apply(Fused(body), apply(clamp, x).result).result], ["y"])
        if proven:
            verify(graph)
        else:
            with pytest.raises(InvalidGraphError, match="32-bit sum"):
                verify(graph)


@given(st.integers(1, 8), st.integers(0, 2**16))
def test_what_is_proven_does_not_overflow(k, seed):
    """Where the verifier accepts, the worst inputs stay inside int32; where it refuses, they do not."""
    random = np.random.default_rng(seed)
    w = random.choice([-32768, -1000, 0, 7, 32767], (2, k)).astype(np.int16)
    b = random.choice([-(2**31), 0, 2**31 - 1], 2).astype(np.int32)
    x = graph_input("x", TensorType((k,), I16))
    exact = [
        [sum(int(c) * (hi if (c > 0) == up else lo) for c in row) + int(bias) for row, bias in zip(w, b, strict=True)]
        for lo, hi in [(-32768, 32767)]
        for up in (False, True)
    ]
    fits = all(-(2**31) <= v < 2**31 for ends in exact for v in ends)
    try:
        verify(Graph([x], [dense(x, w, b)], ["y"]))
        proven = True
    except InvalidGraphError:
        proven = False
    assert proven == fits
