"""Resize and Upsample against ONNX Runtime, and what is refused."""

import itertools
import re

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planish.frontends.onnx import load
from planish.ir.errors import PlanishError
from planish.testing.draw import composite
from tests.support.operators import check, one_node, real, small

CASES = settings(suppress_health_check=list(HealthCheck))
COORDINATES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


@composite
def resizes(draw):
    """A model and its inputs; None where what comes out of the scales is empty, or not defined."""
    x = real(draw, (draw(small), draw(small), draw(st.integers(1, 7)), draw(st.integers(1, 7))))
    mode, version = draw(st.sampled_from(["nearest", "linear"])), draw(st.sampled_from([11, 13, 18, 19]))
    if mode == "nearest" and draw(st.booleans()):
        x = (100 * x).astype(np.int8)
    attributes = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(COORDINATES))}
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(NEAREST))
    empty = np.empty(0, np.float32)
    constants = {"roi": empty if version < 13 else None}
    if draw(st.booleans()):
        factors = st.sampled_from([1, 2, 3, 1.5, 0.5, 0.6, 2.75])
        constants["scales"] = np.array([1, 1, draw(factors), draw(factors)], np.float32)
        made = constants["scales"][2:] * x.shape[2:]
        unclear = attributes["coordinate_transformation_mode"] == "align_corners" and (made != np.floor(made)).any()
        if min(np.floor(made)) < 1 or unclear:
            return None
    else:
        constants["scales"] = empty if version < 13 else None
        constants["sizes"] = np.array([*x.shape[:2], draw(st.integers(1, 11)), draw(st.integers(1, 11))])
    return one_node("Resize", {"x": x}, constants, version=version, **attributes), {"x": x}


@CASES
@given(resizes())
def test_resize(tmp_path, case):
    if case is not None:
        assert check(tmp_path / "m.onnx", *case, terms=12 if case[1]["x"].dtype == np.float32 else 0)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("nearest", NEAREST)
def test_each_nearest_pixel(tmp_path, coordinates, nearest):
    """Of 1 to 7 pixels, 1 to 11: where two are equally near, and the scale is rounded, too."""
    attributes = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    for given_, made in itertools.product(range(1, 8), range(1, 12)):
        x = np.arange(given_, dtype=np.float32).reshape(1, 1, given_, 1)
        constants = {"roi": None, "scales": None, "sizes": np.array([1, 1, made, 1])}
        assert check(tmp_path / "m.onnx", one_node("Resize", {"x": x}, constants, version=13, **attributes), {"x": x})


@CASES
@given(st.data())
def test_upsample_and_the_first_resize(tmp_path, data):
    x = real(data.draw, (1, 2, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))))
    op, version = data.draw(st.sampled_from([("Upsample", 7), ("Upsample", 9), ("Resize", 10)]))
    factors = [1, 2, 3, 1.5] + ([0.5, 0.6] if op == "Resize" else [])
    scales = np.array([1, 1, *(data.draw(st.sampled_from(factors)) for _ in "hw")], np.float32)
    if min(np.floor(scales[2:] * x.shape[2:])) < 1:
        return
    mode = data.draw(st.sampled_from(["nearest", "linear"]))
    if version == 7:
        model = one_node(op, {"x": x}, version=version, mode=mode, scales=scales.tolist())
    else:
        model = one_node(op, {"x": x}, {"scales": scales}, version=version, mode=mode)
    assert check(tmp_path / "m.onnx", model, {"x": x}, terms=12)


def test_axes_and_channels_last(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 4, 3)
    model = one_node("Resize", {"x": x}, {"r": None, "s": np.array([2, 2], np.float32)}, version=18, axes=[-2, -1])
    assert check(tmp_path / "m.onnx", model, {"x": x})
    last = one_node("Resize", {"x": x}, {"r": None, "s": np.array([1, 2, 2, 1], np.float32)}, version=18)
    assert check(tmp_path / "m.onnx", last, {"x": x})
    assert "layout" in str(load(tmp_path / "m.onnx").outputs[0].producer.op)


def test_what_changes_nothing_is_nothing(tmp_path):
    x = np.ones((1, 2, 4, 3), np.float32)
    model = one_node("Resize", {"x": x}, {"r": None, "s": np.ones(4, np.float32)}, version=18)
    assert check(tmp_path / "m.onnx", model, {"x": x})
    assert not list(load(tmp_path / "m.onnx").nodes)


SIZES = {"r": None, "s": None, "n": np.array([1, 2, 8, 6])}


@pytest.mark.parametrize(
    ("constants", "attributes", "said"),
    [
        (SIZES, {"mode": "cubic"}, "cubic interpolation is not supported"),
        (SIZES, {"mode": "lanczos"}, "mode is 'lanczos'"),
        (SIZES, {"antialias": 1}, "antialias is not supported"),
        (SIZES, {"keep_aspect_ratio_policy": "not_larger"}, "keep_aspect_ratio_policy is 'not_larger'"),
        (SIZES, {"coordinate_transformation_mode": "tf_crop_and_resize"}, "is 'tf_crop_and_resize'"),
        (SIZES, {"nearest_mode": "up"}, "nearest_mode is 'up'"),
        ({"r": None, "s": None, "n": np.array([1, 4, 8, 6])}, {}, "axes [1, 2, 3] of f32[1,2,4,3] are resized"),
        ({"r": None, "s": None, "n": np.array([1, 2, 0, 6])}, {}, "[4, 3] pixels become [0, 6]"),
        ({"r": None, "s": None, "n": np.array([1, 2, -3, 6])}, {}, "[4, 3] pixels become [-3, 6]"),
        ({"r": None, "s": None, "n": np.array([1, 2, 2**40, 6])}, {}, "at most 262144"),
        ({"r": None, "s": None, "n": np.array([8, 6])}, {}, "neither scales nor sizes fit"),
        ({"r": None, "s": np.array([1, 1, np.nan, 2], np.float32)}, {}, "nan"),
        ({"r": None, "s": np.array([1, 1, -1, 2], np.float32)}, {}, "a scale is -1.0"),
        ({"r": None, "s": np.array([1, 1, 1e30, 2], np.float32)}, {}, "at most 262144"),
        ({"r": None, "s": np.array([2, 2], np.float32)}, {}, "2 scales for axes [0, 1, 2, 3]"),
    ],
)
def test_what_is_refused(tmp_path, constants, attributes, said):
    x = np.ones((1, 2, 4, 3), np.float32)
    model = one_node("Resize", {"x": x}, constants, version=19, **attributes)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(PlanishError, match=re.escape(said)):
        load(tmp_path / "m.onnx")


def test_a_scale_below_one_is_no_upsampling(tmp_path):
    x, scales = np.ones((1, 2, 4, 3), np.float32), np.array([1, 1, 0.5, 1], np.float32)
    onnx.save(one_node("Upsample", {"x": x}, {"s": scales}, version=9), tmp_path / "m.onnx")
    with pytest.raises(PlanishError, match="not at least 1"):
        load(tmp_path / "m.onnx")
