"""What operators say of infinities, of what is no number, and of the two zeros: one answer of all executors."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.frontends.onnx import load
from planish.ir.errors import UnsupportedError
from planish.ir.evaluate import evaluate
from planish.passes.pipeline import run_pipeline
from tests.support.emitted import run_for
from tests.support.operators import one_node, runtime

NAN, INF = np.nan, np.inf


def executed(folder, model, x, target):
    """The result of a model on a target; `interpreter` is none."""
    onnx.save(model, folder / "m.onnx")
    graph = load(folder / "m.onnx")
    if target == "interpreter":
        return evaluate(graph, [x])[0]
    return next(iter(run_for(target, graph, {"x": x}).values()))


@pytest.fixture(params=["interpreter", "c", "tvm"])
def target(request, require_tool):
    if request.param != "interpreter":
        require_tool("cc")
    if request.param == "tvm":
        request.getfixturevalue("tvm")
    return request.param


def test_log_sum_exp_of_infinities(tmp_path, target):
    x = np.array([[1, NAN, 2], [INF, 1, -INF], [-INF] * 3, [INF, INF, 1], [1, -INF, 1], [-200, -200, -200]], np.float32)
    model = one_node("ReduceLogSumExp", {"x": x}, {"axes": np.array([1])}, version=18, keepdims=0)
    got = executed(tmp_path, model, x, target)
    np.testing.assert_allclose(got, runtime(model, {"x": x})[0], rtol=1e-6)
    assert np.isnan(got[0])
    assert got[1:4].tolist() == [INF, -INF, INF]


def test_the_absolute_value_of_zeros_is_zero(tmp_path, target):
    x = np.array([0.0, -0.0, -1.5, NAN, -INF], np.float32)
    got = executed(tmp_path, one_node("Abs", {"x": x}), x, target)
    assert not np.signbit(got[:2]).any()
    np.testing.assert_array_equal(got, np.abs(x))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_the_absolute_value_of_the_lowest_integer_wraps(tmp_path, target, dtype):
    x = np.array([np.iinfo(dtype).min, -1, 0, np.iinfo(dtype).max], dtype)
    assert executed(tmp_path, one_node("Abs", {"x": x}), x, target).tolist() == np.abs(x).tolist()


@pytest.mark.parametrize("op", ["MaxPool", "GlobalMaxPool", "ReduceMax", "Max"])
def test_the_largest_of_what_is_no_number_is_none(tmp_path, target, op):
    x = np.array([1, NAN, 3, 4, NAN, NAN, -INF, -INF], np.float32).reshape(1, 2, 1, 4)
    attributes = {"MaxPool": {"kernel_shape": [1, 2], "strides": [1, 2]}, "ReduceMax": {"axes": [3]}}.get(op, {})
    others = {"c": np.zeros((1, 2, 1, 4), np.float32)} if op == "Max" else {}
    got = executed(tmp_path, one_node(op, {"x": x}, others, version=17, **attributes), x, target)
    pairs = {"MaxPool": [NAN, 4, NAN, -INF], "Max": [1, NAN, 3, 4, NAN, NAN, 0, 0]}.get(op, [NAN, NAN])
    np.testing.assert_array_equal(got.reshape(-1), np.array(pairs, np.float32))


@given(st.data())
def test_average_pools_that_round_up_count_the_pads_that_are_given(tmp_path_factory, data):
    draw, folder = data.draw, tmp_path_factory.getbasetemp()
    kernel = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    strides = [draw(st.integers(1, 3)) for _ in kernel]
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    sizes = [draw(st.integers(3, 7)) for _ in kernel]
    x = np.random.default_rng(draw(st.integers(0, 99))).integers(-8, 8, (1, 2, *sizes)).astype(np.float32)
    model = one_node(
        "AveragePool", {"x": x}, version=19, kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=1,
        count_include_pad=1,
    )  # fmt: skip
    theirs = runtime(model, {"x": x})[0]
    onnx.save(model, folder / "m.onnx")
    graph = load(folder / "m.onnx")
    for each in (graph, run_pipeline(graph, "simplify,fuse").graph):
        np.testing.assert_allclose(evaluate(each, [x])[0], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("scale", "taken"), [(0.6, False), (1.5, True), (2.0, True), (1.3, False)])
def test_aligned_corners_need_whole_sizes(tmp_path, scale, taken):
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    scales = {"r": None, "s": np.array([1, 1, scale, scale], np.float32)}
    model = one_node("Resize", {"x": x}, scales, mode="linear", coordinate_transformation_mode="align_corners")
    onnx.save(model, tmp_path / "m.onnx")
    if not taken:
        with pytest.raises(UnsupportedError, match="sizes instead of scales"):
            load(tmp_path / "m.onnx")
        return
    np.testing.assert_allclose(evaluate(load(tmp_path / "m.onnx"), [x])[0], runtime(model, {"x": x})[0], rtol=1e-5)


def test_sixteen_bits_are_rounded_once(tmp_path):
    x = np.linspace(-3, 3, 61).astype(np.float16)
    for op in ("Celu", "Selu", "Mish", "Gelu", "Sigmoid", "HardSwish"):
        onnx.save(one_node(op, {"x": x}, version=20), tmp_path / "m.onnx")
        graph = load(tmp_path / "m.onnx")
        onnx.save(one_node(op, {"x": x.astype(np.float32)}, version=20), tmp_path / "m.onnx")
        (single,) = evaluate(load(tmp_path / "m.onnx"), [x.astype(np.float32)])
        np.testing.assert_array_equal(evaluate(graph, [x])[0], single.astype(np.float16), op)
