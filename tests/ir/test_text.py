"""The text form: every graph round-trips, whatever its names; every mistake is told with its place."""

import contextlib
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.builder import const_value
from planish.ir.equality import difference, same
from planish.ir.errors import ModelError
from planish.ir.graph import Graph, Loc, apply, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, clip, relu
from planish.ir.ops.fused import Fused
from planish.ir.ops.shape import reshape
from planish.ir.text import load, parse_graph, print_graph, save
from planish.ir.types import DTYPES, F32, I8, NHWC, Quant, Sym, TensorType
from planish.testing import graphs

HOSTILE = ["*/", 'a"b', "return", "graph", "%x", "\u202e", "\ud800", "a\nb", "", "0", "0_1", "const", "__metadata__"]


def round_trip(graph):
    text, tensors = print_graph(graph)
    again = parse_graph(text, tensors)
    assert difference(again, graph) is None
    assert print_graph(again)[0] == text
    return text


@given(graphs())
def test_networks_round_trip(graph):
    round_trip(graph)


@given(st.lists(st.one_of(st.text(), st.sampled_from(HOSTILE)), min_size=4, max_size=4), st.text(min_size=1))
def test_any_name_round_trips(names, input_name):
    x = graph_input(input_name, TensorType((Sym(names[0] or "N", 2), 3), F32))
    y = add(x, x, named=names[1], loc=Loc((names[2],)))
    z = relu(add(y, np.ones(40 * 3, np.float32).reshape(40, 1, 3), named=names[2]), named=names[1])
    graph = Graph([x], [z, y], ["z" + names[3], "y" + names[3]], names[3])
    text = round_trip(graph)
    assert text.isascii()
    assert len(text.splitlines()) == len(graph) + 3, "a name breaks its line"


def test_golden():
    q = Quant.of(0.5, -3)
    x = graph_input("x", TensorType((1, 4, 4, 2), I8, q))
    w = const_value(np.arange(24, dtype=np.int8).reshape(1, 2, 6, 2), "w")
    w.type = w.type.with_quant(Quant((0.25,), (0,), 0))
    acc = conv2d(
        x, w, np.array([7], np.int32), pads=(1, 1, 0, 2), input_zero=-3, layout=NHWC, loc=Loc(("conv", "relu"))
    )
    a = graph_input("acc", acc.type)
    body = Graph([a], [clip(a, lo=0.0, named="r")], ["r"], "body")
    y = apply(Fused(body), acc, name="y").result
    graph = Graph([x], [y], ["out"], "tiny")
    assert round_trip(graph) == textwrap.dedent("""\
        graph @tiny(%x: i8[1,4,4,2] q<0.5:-3>) -> ("out": i32[1,4,2,1]) {
          %w = const @w : i8[1,2,6,2] q<axis 0: 0.25>
          %0 = const [7] : i32[1]
          %1 = conv2d(%x, %w, %0) {pads=[1,1,0,2], input_zero=-3, layout=NHWC} : i32[1,4,2,1] loc("conv", "relu")
          %y = fused(%1) {
            %r = clip(%1) {lo=0.0} : i32[1,4,2,1]
            return %r
          } : i32[1,4,2,1]
          return %y
        }
        """)


def test_a_body_with_the_same_operand_twice_keeps_its_inputs_apart():
    x = graph_input("x", TensorType((2,), F32))
    a, b = (graph_input(n, x.type) for n in "ab")
    body = Graph([a, b], [add(a, relu(b))], ["s"], "body")
    y = apply(Fused(body), x, x).result
    assert "|%a: f32[2], %b: f32[2]|" in round_trip(Graph([x], [y], ["y"]))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
@pytest.mark.parametrize("size", [3, 40])
def test_constants_of_every_dtype_survive_on_disk(dtype, size, tmp_path):
    limits = (0, 1) if dtype.kind == "bool" else (dtype.min, dtype.max) if dtype.is_integer else (-1.1, 3e-5)
    array = np.resize(np.array([*limits, 1]).astype(dtype.numpy), (size, 1))
    graph = Graph([], [reshape(array, shape=(size,))], ["y"])
    save(graph, tmp_path / "g.planish")
    assert (tmp_path / "g.safetensors").exists() == (size > 16)
    assert same(load(tmp_path / "g.planish"), graph)


def test_odd_floats_survive():
    values = np.array([np.nan, -np.inf, -0.0, 1e-45, 0.1, 16777217], np.float32)
    payload = np.array([0x7FC00001], np.uint32).view(np.float32)  # a NaN that decimal text cannot hold
    text = round_trip(Graph([], [const_value(values), const_value(payload)], ["a", "b"]))
    assert "const [nan, -inf, -0.0, 1e-45, 0.1, 1.6777216e+07]" in text
    assert "const @1" in text


def test_ten_thousand_nodes():
    x = value = graph_input("x", TensorType((1,), F32))
    for _ in range(10_000):
        value = relu(value)
    round_trip(Graph([x], [value], ["y"]))


def test_deep_bodies_are_refused_not_a_crash():
    opening = "%y = fused(%x) {\n" * 5000
    text = f"graph @g(%x: f32[1]) -> (f32[1]) {{ {opening} return %x {'} : f32[1] return %y' * 5000} }}"
    with pytest.raises(ModelError, match="nested more than"):
        parse_graph(text)


def test_small_differences_are_seen():
    def of(lo, named="y", loc="a", shape=(2,)):
        x = graph_input("x", TensorType(shape, F32))
        return Graph([x], [clip(x, lo=lo, loc=Loc((loc,)), named="v")], [named])

    base = of(0.0)
    assert same(base, of(0.0))
    for other in (of(-0.0), of(0.0, named="z"), of(0.0, loc="b"), of(0.0, shape=(3,))):
        assert not same(base, other)


HEAD = "graph @g(%x: f32[2]) -> (f32[2]) {\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "graph"),
        ("graph @g(%x: f32[2]", 1, "too early"),
        (HEAD + "  %y = clip(%x) : f32[2]\n  return %z }", 3, "%z is not defined"),
        (HEAD + "  %y = clap(%x) : f32[2]\n  return %y }", 2, "no op clap"),
        (HEAD + "  %y = clip(%x) {low=1.0} : f32[2]\n  return %y }", 2, "no attribute low"),
        (HEAD + "  %y = clip(%x) {lo=true} : f32[2]\n  return %y }", 2, "wants a float"),
        (HEAD + "  %y = clip(%x) : f32[3]\n  return %y }", 2, "the text says f32[3]"),
        (HEAD + "  %y = clip(%x) : f31[2]\n  return %y }", 2, "no element type f31"),
        (HEAD + "  %x = clip(%x) : f32[2]\n  return %x }", 2, "defined twice"),
        (HEAD + "  %y = max_pool2d(%x) : f32[2]\n  return %y }", 2, "needs the attribute window"),
        (HEAD + "  %y = add(%x) : f32[2]\n  return %y }", 2, "does not take"),
        (HEAD + "  %y, %z = clip(%x) : f32[2]\n  return %y }", 2, "2 are named"),
        (HEAD + "  %y = const @w : f32[2]\n  return %y }", 2, "no tensor @w"),
        (HEAD + "  %y = const [1, 2, 3] : f32[2]\n  return %y }", 2, "3 elements"),
        (HEAD + "  %y = const [1.0, 300] : i8[2]\n  return %y }", 2, "no i8"),
        (HEAD + "  return %x, %x }", 1, "2 are returned"),
        (HEAD + "  %y = const [1, 2] : i8[2]\n  return %y }", 1, "declared"),
        (HEAD + f"  %y = const [{'9' * 5000}] : i8[1]\n  return %y }}", 2, "no i8"),
        (HEAD + "  return %x \u00a7 }", 2, "expected"),
        ("graph @g(%x: f32[-2]) -> (f32[-2]) { return %x }", 1, "negative"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(text, line, words):
    with pytest.raises(ModelError) as error:
        parse_graph(text)
    assert error.value.where.startswith(f"line {line}, column ")
    assert words in str(error.value)


@given(st.data())
def test_broken_text_is_a_model_error_and_nothing_else(data):
    graph = data.draw(graphs(max_layers=2))
    text, tensors = print_graph(graph)
    at, length = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 8))
    broken = text[:at] + data.draw(st.text(alphabet='%@[](){}<>:,="x0-.*|', max_size=4)) + text[at + length :]
    with contextlib.suppress(ModelError):
        parse_graph(broken, tensors)


def test_a_broken_sidecar_is_a_model_error(tmp_path):
    graph = Graph([], [const_value(np.zeros(40, np.float32))], ["y"])
    save(graph, tmp_path / "g.planish")
    (tmp_path / "g.safetensors").write_bytes(b"\xff" * 16)
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "g.planish")
    (tmp_path / "g.safetensors").unlink()
    with pytest.raises(ModelError, match="no tensor"):
        load(tmp_path / "g.planish")


@given(st.dictionaries(st.one_of(st.text(), st.sampled_from(HOSTILE)), st.text(), max_size=3))
def test_metadata_is_kept_by_text_and_clones(metadata):
    x = graph_input("x", TensorType((2,), F32))
    graph = Graph([x], [relu(x, named="y")])
    graph.metadata = metadata
    text, tensors = print_graph(graph.clone())
    assert parse_graph(text, tensors).metadata == metadata
    assert len(text.splitlines()) == 4
