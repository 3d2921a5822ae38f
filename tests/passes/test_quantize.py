"""Static quantization: what it inserts, which ranges it takes, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir import arithmetic
from planish.ir.errors import UsageError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.norm import batch_norm
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.shape import reshape
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import sigmoid
from planish.ir.scheme import Encoding, Scheme
from planish.ir.text import print_graph
from planish.ir.types import F32, I8, Array, Quant, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.calibration import METHODS, Statistics
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.quantize import Quantize
from planish.testing import graphs
from tests.support.clusters import float_ops, steps_by_cluster

RANDOM = np.random.Generator(np.random.PCG64(1))


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def classifier() -> Graph:
    """Convolution, relu, residual add, pooling, reshape, dense, softmax."""
    x = graph_input("x", TensorType((1, 3, 8, 8), F32))
    c = relu(conv2d(x, normal(4, 3, 3, 3), normal(4), pads=(1, 1, 1, 1), loc=Loc(("first",))))
    c = relu(add(c, conv2d(c, normal(4, 4, 3, 3), normal(4), pads=(1, 1, 1, 1))))
    c = reshape(max_pool2d(c, window=(4, 4), strides=(4, 4)), shape=(1, 16))
    return Graph([x], [softmax(dense(c, normal(5, 16) * 0.1, normal(5)))], ["y"], "classifier")


def samples_of(graph: Graph, count: int = 16) -> list[dict[str, Array]]:
    return [{v.name: normal(*v.type.shape) for v in graph.inputs} for _ in range(count)]  # type: ignore[arg-type]


def context_of(graph: Graph) -> Context:
    samples = samples_of(graph)
    return Context(calibration=lambda: samples)


def quantized(graph: Graph, context: Context, fold: bool = False, **options: Any) -> Graph:
    graph = graph.clone()
    Quantize(**options).run(graph, context)
    verify(graph)
    if fold:
        FoldQuantization().run(graph, context)
        verify(graph)
    return graph


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "const"]


@given(graphs(), st.sampled_from(sorted(METHODS)), st.booleans())
def test_networks_quantize_and_every_cluster_folds_within_one_step(
    graph: Graph, method: Any, per_channel: bool
) -> None:
    context = context_of(graph)
    pairs = quantized(graph, context, calibration=method, per_channel=per_channel)
    assert [v.type for v in pairs.inputs] == [v.type for v in graph.inputs]
    assert [v.type for v in pairs.outputs] == [v.type for v in graph.outputs]
    steps = steps_by_cluster(pairs, [list(s.values()) for s in samples_of(graph, 3)])
    assert all(worst <= 1 for worst in steps.values()), steps
    left = float_ops(quantized(graph, context, fold=True, calibration=method))
    assert not {"conv2d", "dense", "softmax", "avg_pool2d", "reduce_mean"} & set(left)


def test_only_integers_between_entry_and_exit() -> None:
    graph = classifier()
    assert names(quantized(graph, context_of(graph), fold=True)) == [
        "quantize", "conv2d", "rescale", "conv2d", "rescale", "rescale_add", "max_pool2d", "reshape", "dense",
        "rescale", "integer_softmax", "dequantize",
    ]  # fmt: skip


def test_clips_belong_to_the_op_before_them() -> None:
    graph = classifier()
    for node in quantized(graph, context_of(graph)).nodes:
        if node.op.name == "clip":
            (user,) = node.result.users
            assert user.op.name == "quantize"
            assert user.result.type.quant is not None
            assert user.result.type.quant.zero == (-128,)


def test_softmax_has_its_natural_scale() -> None:
    graph = classifier()
    (y,) = quantized(graph, context_of(graph), io="int8").outputs
    assert y.type == TensorType((1, 5), I8, Quant.of(1 / 256, -128))


def test_integer_borders_change_nothing_but_the_border() -> None:
    graph = classifier()
    context = context_of(graph)
    inside, outside = (quantized(graph, context, fold=True, io=io) for io in ("float", "int8"))
    assert [v.type.dtype for v in (*outside.inputs, *outside.outputs)] == [I8, I8]
    entry, exit = outside.inputs[0].type.quant, outside.outputs[0].type.quant
    assert entry is not None
    assert exit is not None
    sample = normal(1, 3, 8, 8)
    codes = arithmetic.quantize(sample, np.array(entry.scale[0]), np.array(entry.zero[0]), -128, 127)
    (reals,), (integers,) = evaluate(inside, [sample]), evaluate(outside, [codes.astype(np.int8)])
    assert np.array_equal(reals, (integers.astype(np.float32) - exit.zero[0]) * np.float32(exit.scale[0]))


def test_excluded_nodes_stay_float_and_say_so() -> None:
    graph = classifier()
    context = context_of(graph)
    changes = Quantize(exclude=("first",)).run(copy := graph.clone(), context)
    assert changes.refused == {("conv2d", "first"): "excluded by the option"}
    assert any("first" in note for note in context.notes)
    FoldQuantization().run(copy, context)
    assert float_ops(copy) == ["conv2d"]


def test_ops_without_an_integer_form_stay_float_between_integers() -> None:
    x = graph_input("x", TensorType((1, 2, 4, 4), F32))
    c = batch_norm(conv2d(x, normal(2, 2, 3, 3), normal(2)), *(np.ones(2, np.float32) for _ in range(4)))
    graph = Graph([x], [conv2d(c, normal(1, 2, 2, 2), normal(1))], ["y"])
    context = context_of(graph)
    folded = quantized(graph, context, fold=True)
    assert names(folded) == [
        "quantize", "conv2d", "rescale", "dequantize", "batch_norm", "quantize", "conv2d", "rescale", "dequantize"
    ]  # fmt: skip
    assert any("batch_norm has no integer form" in note for note in context.notes)


def test_a_lone_movement_between_floats_is_left_alone() -> None:
    x = graph_input("x", TensorType((1, 2, 2, 2), F32))
    graph = Graph([x], [relu(reshape(x, shape=(2, 4)))], ["y"])
    assert names(quantized(graph, context_of(graph))) == ["reshape", "clip"]


@given(graphs(max_layers=3), st.booleans())
def test_weights_of_seven_bits_leave_room_for_sums_of_two_products(graph: Graph, per_channel: bool) -> None:
    """Of any two weights and activations of a byte, 16 bits hold the sum of the products."""
    form = quantized(graph, context_of(graph), weights="int7", per_channel=per_channel, calibration="minmax")
    stored = [n.operands[0].const for n in form.nodes if n.op.name == "dequantize"]
    for array in stored:
        if array is not None:
            assert 2 * 255 * np.abs(array.astype(np.int64)).max(initial=0) <= np.iinfo(np.int16).max


@pytest.mark.parametrize("per_channel", [True, False])
def test_weight_scales_grow_until_the_accumulator_fits(per_channel: bool) -> None:
    x = graph_input("x", TensorType((1, 4), F32))
    w, b = normal(2, 4), np.array([1.0, 1e5], np.float32)
    w[1] *= 1e-6  # its products are tiny beside its bias
    graph = Graph([x], [dense(x, w, b)], ["y"])
    folded = quantized(graph, context_of(graph), fold=True, per_channel=per_channel)
    assert not float_ops(folded)
    sample = [normal(1, 4)]
    (expected,), (actual,) = evaluate(graph, sample), evaluate(folded, sample)
    step = float(folded.outputs[0].producer.operands[1].const)  # type: ignore[union-attr, arg-type]
    assert np.abs(expected - actual).max() <= 2 * step


def test_a_bias_between_the_steps_of_its_products_moves_to_the_nearest() -> None:
    """Products of 100 * x cancel and leave less than a step of theirs: the layer becomes integer all the same."""
    x = graph_input("x", TensorType((1, 2), F32))
    weights, bias = np.array([[100, -100]], np.float32), np.array([0.001], np.float32)
    graph = Graph([x], [dense(x, weights, bias)], ["y"])
    alike = [{"x": np.full((1, 2), v, np.float32)} for v in (-1, 0.5, 1)]
    assert float_ops(quantized(graph, Context(calibration=lambda: alike), fold=True)) == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (None, "needs calibration data"),
        (list, "holds no sample"),
        (lambda: [{"z": normal(1, 3, 8, 8)}], "no array for input x"),
        (lambda: [{"x": np.full((1, 3, 8, 8), np.nan)}], "%x is not finite for calibration sample 0"),
    ],
)
def test_calibration_data_that_is_wrong(samples: Callable[[], Any] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Quantize().run(classifier(), Context(calibration=samples))


def test_weights_that_are_not_finite_are_named() -> None:
    x = graph_input("x", TensorType((1, 4), F32))
    y = dense(x, np.full((2, 4), np.nan, np.float32), normal(2), loc=Loc(("broken",)))
    graph = Graph([x], [y], ["y"])
    with pytest.raises(UsageError, match="broken"):
        Quantize().run(graph, context_of(graph))


def test_a_quantized_model_is_not_quantized_again() -> None:
    graph = classifier()
    with pytest.raises(UsageError, match="quantized already"):
        Quantize().run(quantized(graph, context_of(graph)), context_of(graph))


def test_an_unknown_name_to_exclude_is_refused_with_the_nearest() -> None:
    graph = classifier()
    with pytest.raises(UsageError, match="did you mean first"):
        Quantize(exclude=("frist",)).run(graph, context_of(graph))


def statistics_of(x: Array) -> Statistics:
    counts, edges = np.histogram(x, 256)
    return Statistics(float(x.min()), float(x.max()), (edges[1:] + edges[:-1]) / 2, counts)


@given(st.integers(0, 1000), st.sampled_from([1.0, 10.0, 1000.0]))
def test_mse_is_no_worse_than_the_whole_range(seed: int, outlier: float) -> None:
    x = np.append(np.random.Generator(np.random.PCG64(seed)).normal(size=1000), outlier)
    stats = statistics_of(x)

    def error(found: Encoding) -> float:
        codes = np.clip(np.rint(stats.centres / found.scale) + found.zero, -128, 127)
        return float(stats.counts @ np.square((codes - found.zero) * found.scale - stats.centres))

    assert error(METHODS["mse"](stats, Scheme())) <= error(METHODS["minmax"](stats, Scheme()))


def test_percentile_leaves_out_rare_values() -> None:
    x = np.append(RANDOM.uniform(-1, 1, 100_000), 100.0)
    assert (
        METHODS["percentile"](statistics_of(x), Scheme()).scale
        < 0.1 * METHODS["minmax"](statistics_of(x), Scheme()).scale
    )


def test_auto_takes_the_method_with_the_best_outputs() -> None:
    graph = classifier()
    facts = Quantize().run(graph, context_of(graph)).facts
    measured = facts["calibration_sqnr_db"]
    assert set(measured) == set(METHODS)
    mean = {m: np.mean(list(levels.values())) for m, levels in measured.items()}
    assert mean[facts["calibration"]] == max(mean.values())
    assert set(facts["input_ranges"]) == {"x"}


def test_values_keep_one_scale_through_movements() -> None:
    graph = classifier()
    quants: dict[str, set[Any]] = {}
    pairs = quantized(graph, context_of(graph))

    def of(value: Value) -> Any:
        (user,) = (n for n in value.users if n.op.name == "quantize")
        return user.result.type.quant

    for node in pairs.nodes:
        if node.op.keeps_scale:
            assert node.operands[0].producer is not None
            assert of(node.result) == node.operands[0].producer.operands[0].type.quant
            quants.setdefault(node.op.name, set()).add(of(node.result))
    assert set(quants) == {"max_pool2d", "reshape"}


def test_integer_borders_of_a_graph_without_nodes() -> None:
    x = graph_input("x", TensorType((1, 2), F32))
    borders = quantized(Graph([x], [x], ["y"], "empty"), context_of(Graph([x], [x])), io="int8")
    verify(borders)
    assert [v.type.dtype for v in borders.inputs] == [I8]


def test_golden() -> None:
    """A weight per output, a clip, an activation that a product wants symmetric, and a result whose range is known."""
    x = graph_input("x", TensorType((1, 2, 2), F32))
    w = np.array([[0.5, -0.125], [0.0, 2.0]], np.float32)
    y = relu(dense(x, w, np.array([1.0, -1.0], np.float32), named="layer"))
    graph = Graph([x], [sigmoid(matmul(y, y))], ["y"], "small")
    samples = [{"x": np.array([[[1, 2], [-3, 4]]], np.float32)}, {"x": np.array([[[0, 1], [2, 2]]], np.float32)}]
    context = Context(calibration=lambda: samples)
    for weights, golden in (("int8", GOLDEN), ("int7", GOLDEN.replace(*SEVEN_BITS).replace(*LARGER_SCALES))):
        made = quantized(graph, context, calibration="minmax", weights=weights)
        assert print_graph(made)[0] == golden


GOLDEN = """\
graph @small(%x: f32[1,2,2]) -> ("y": f32[1,2,2]) {
  %0 = const [0.02745098] : f32[]
  %1 = const [-19] : i8[]
  %x_1 = quantize(%x, %0, %1) : i8[1,2,2] q<0.027450980618596077:-19>
  %2 = const [0.02745098] : f32[]
  %3 = const [-19] : i8[]
  %4 = dequantize(%x_1, %2, %3) : f32[1,2,2]
  %5 = const [0.5, -0.125, 0.0, 2.0] : f32[2,2]
  %6 = const [1.0, -1.0] : f32[2]
  %7 = const [127, -32, 0, 127] : i8[2,2]
  %8 = const [0.003937008, 0.015748031] : f32[2,1]
  %9 = const [0] : i8[]
  %10 = dequantize(%7, %8, %9) : f32[2,2]
  %layer = dense(%4, %10, %6) : f32[1,2,2]
  %11 = clip(%layer) {lo=0.0} : f32[1,2,2]
  %12 = const [0.05511811] : f32[]
  %13 = const [0] : i8[]
  %14 = quantize(%11, %12, %13) : i8[1,2,2] q<0.05511811003088951:0>
  %15 = const [0.05511811] : f32[]
  %16 = const [0] : i8[]
  %17 = dequantize(%14, %15, %16) : f32[1,2,2]
  %18 = matmul(%17, %17) : f32[1,2,2]
  %19 = const [0.19215687] : f32[]
  %20 = const [-128] : i8[]
  %21 = quantize(%18, %19, %20) : i8[1,2,2] q<0.1921568661928177:-128>
  %22 = const [0.19215687] : f32[]
  %23 = const [-128] : i8[]
  %24 = dequantize(%21, %22, %23) : f32[1,2,2]
  %25 = sigmoid(%24) : f32[1,2,2]
  %26 = const [0.00390625] : f32[]
  %27 = const [-128] : i8[]
  %28 = quantize(%25, %26, %27) : i8[1,2,2] q<0.00390625:-128>
  %29 = const [0.00390625] : f32[]
  %30 = const [-128] : i8[]
  %31 = dequantize(%28, %29, %30) : f32[1,2,2]
  return %31
}
"""
#: What seven bits change: codes, and scales.
SEVEN_BITS = "%7 = const [127, -32, 0, 127] : i8[2,2]", "%7 = const [63, -16, 0, 63] : i8[2,2]"
LARGER_SCALES = "%8 = const [0.003937008, 0.015748031] : f32[2,1]", "%8 = const [0.007936508, 0.031746034] : f32[2,1]"
