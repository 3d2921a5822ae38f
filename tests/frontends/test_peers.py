"""Whom the tests believe: exact integers decide, and ONNX Runtime is asked only where it computes them here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.support import integers
from tests.support.integers import BYTES, byte_product, conv, dense, exact_sums, is_exact, is_exact_here, saturated_sums
from tests.support.operators import one_node, runtime


def double(model, inputs, sums):
    """A runtime that executes one QLinear layer with sums of its own."""
    node = model.graph.node[0]
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    if node.op_type == "QLinearConv":
        pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), None)
        return [conv(inputs["x"], constants, pads, sums)]
    return [dense(inputs["x"], constants, sums)]


def saturating(model, inputs):
    return double(model, inputs, saturated_sums)


def test_two_products_of_bytes_saturate_at_16_bits():
    x, w = np.full((1, 2), 255, np.uint8), np.full((2, 1), 127, np.int8)
    assert exact_sums(x, w) == 2 * 255 * 127
    assert saturated_sums(x, w) == 2**15 - 1


def test_a_runtime_whose_sums_saturate_is_found_out():
    assert not is_exact(np.uint8, np.int8, saturating)
    assert is_exact(np.uint8, np.int8, lambda *model: double(*model, exact_sums))


def some_bytes(rng, dtype, shape, only_extremes):
    limits = np.iinfo(dtype)
    values = [limits.min, limits.max] if only_extremes else range(limits.min, limits.max + 1)
    return rng.choice(values, shape).astype(dtype)


@given(st.data(), st.sampled_from(BYTES), st.sampled_from(BYTES))
def test_where_the_runtime_is_believed_it_is_exact(data, x_dtype, w_dtype):
    """The probe asks with extremes alone; bytes of all kinds in all shapes are exact where it says so."""
    if not is_exact_here(x_dtype, w_dtype):
        return
    rows, depth, columns = (data.draw(st.integers(1, n)) for n in (9, 67, 67))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    x, w = (
        some_bytes(rng, dtype, shape, data.draw(st.booleans()))
        for dtype, shape in ((x_dtype, (rows, depth)), (w_dtype, (depth, columns)))
    )
    model, constants = byte_product(x, w)
    theirs = runtime(model, {"x": x})
    assert theirs is not None
    np.testing.assert_array_equal(theirs[0], dense(x, constants))


def extreme_product():
    x, w = np.full((2, 4), 255, np.uint8), np.full((4, 3), 127, np.int8)
    model, constants = byte_product(x, w)
    return model, x, w, constants, dense


def extreme_conv():
    x, w = np.full((1, 2, 2, 2), 255, np.uint8), np.full((1, 2, 2, 2), 127, np.int8)
    one, zero, scale = np.array(1, np.float32), np.array(0, np.uint8), np.array(2048, np.float32)
    constants = {
        "xs": one, "xz": zero, "w": w, "ws": one, "wz": np.array(0, np.int8),
        "ys": scale, "yz": zero, "b": np.array([5], np.int32),
    }  # fmt: skip
    return one_node("QLinearConv", {"x": x}, constants), x, w, constants, lambda x, c: conv(x, c, None)


@pytest.mark.parametrize("layer", [extreme_product, extreme_conv])
def test_a_saturating_runtime_is_not_believed(monkeypatch, tmp_path, layer):
    """As on a processor with AVX2 and without VNNI: our exact answer passes, although the runtime's is far off."""
    monkeypatch.setattr(integers, "runtime", saturating)
    monkeypatch.setattr(integers, "is_exact_here", lambda x, w: is_exact(x, w, saturating))
    model, x, w, constants, exact = layer()
    gap = exact(x, constants).astype(int) - saturating(model, {"x": x})[0].astype(int)
    assert gap.min() > 1, "the double is not off"
    assert integers.check_integers(tmp_path / "model.onnx", model, {"x": x}, exact(x, constants), w)
