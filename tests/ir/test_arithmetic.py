"""The integer formulas against exact arithmetic: the errors that docs/arithmetic.md states."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.arithmetic import fixed_point, quantize, rescale
from planish.ir.ops.quant import RescaleAdd, sum_factors
from planish.ir.ops.resize import UNIT, Coordinates, ResizeLinear, linear_taps
from planish.ir.ops.softmax import MOST_CLASSES, IntegerSoftmax, exp_table
from planish.ir.types import NHWC, Array

factors = st.floats(2.0**-31, 2.0**20, exclude_max=True) | st.floats(2.0**-12, 2)
accumulators = st.integers(-(2**31), 2**31 - 1)


def exact_rescale(acc: int, multiplier: int, shift: int) -> int:
    """The formula in Python's integers, nothing saturates."""
    return (acc * 2**shift * multiplier + 2**31) >> 32


@given(factors)
def test_fixed_point_is_the_definition(r: float) -> None:
    (multiplier,), (shift,) = fixed_point(r)
    halves = [int(np.rint(r * 2.0 ** (31 - k))) for k in range(32)]
    k = next(k for k, half in enumerate(halves) if half < 2**30)
    assert (int(multiplier), int(shift)) == (2 * halves[k], k)
    assert multiplier % 2 == 0
    assert k == 0 or multiplier >= 2**30 - 2


@pytest.mark.parametrize("factor", [-1.0, np.inf, np.nan, 2.0**29])
def test_factors_that_cannot_be_are_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="fixed-point"):
        fixed_point(factor)


@given(accumulators, factors, st.sampled_from([(-128, 127), (-32768, 32767), (0, 255)]), st.integers(-128, 127))
def test_saturation_is_hidden_by_the_clamp(acc: int, r: float, ends: tuple[int, int], zero: int) -> None:
    multiplier, shift = fixed_point(r)
    actual = np.clip(rescale(np.array([acc]), multiplier, shift) + zero, *ends)
    expected = np.clip(exact_rescale(acc, int(multiplier[0]), int(shift[0])) + zero, *ends)
    assert actual[0] == expected


@given(accumulators, factors)
def test_rescale_is_within_its_error(acc: int, r: float) -> None:
    (multiplier,), (shift,) = fixed_point(r)
    error = abs(exact_rescale(acc, int(multiplier), int(shift)) - acc * Fraction(r))
    assert error <= Fraction(1, 2) + abs(acc) * Fraction(2) ** (int(shift) - 32)


@given(
    st.floats(2.0**-8, 2), st.floats(-2, 2), st.integers(-128, 127), st.integers(-128, 127),
    st.lists(st.integers(-128, 127), min_size=3, max_size=3),
)  # fmt: skip
def test_rescale_add_is_within_its_error(fa: float, fb: float, a: int, b: int, zeros: list[int]) -> None:
    attributes = sum_factors([fa, fb], zeros[:2], zeros[2])
    assert attributes is not None
    op = RescaleAdd(**attributes, lo=-128, hi=127)
    actual = int(op.ref(np.array([a]), np.array([b]))[0])
    terms = (a - zeros[0]) * Fraction(fa) + (b - zeros[1]) * Fraction(fb)
    exact = min(max(zeros[2] + terms, -128), 127)
    assert abs(actual - exact) <= Fraction(1, 2) + (abs(a - zeros[0]) + abs(b - zeros[1])) * Fraction(1, 2**15)
    largest = 128 * (abs(op.a_multiplier) + abs(op.b_multiplier)) + abs(op.bias)
    assert largest < 2**31


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=8),
    st.floats(2.0**-20, 2.0**20, width=32),
    st.integers(-128, 127),
)
def test_quantize_clamps_whatever_comes(x: list[float], scale: float, zero: int) -> None:
    array = np.array(x, np.float32)
    with np.errstate(all="ignore"):
        codes = quantize(array, np.array(scale), np.array(zero), -128, 127)
        ratio = array / np.float32(scale)
    for code, real in zip(codes, ratio, strict=True):
        if np.isnan(real):
            assert code == -128
        elif abs(real) < 1e6:
            assert code == min(max(round(float(real)) + zero, -128), 127)  # round() is half to even
        else:
            assert code == (127 if real > 0 else -128)


def softmax_error(x: Array, scale: float) -> float:
    """Steps between the integer softmax and the exact one, which saturates at 127."""
    exponent = scale * (x - x.max(-1, keepdims=True).astype(np.float64))
    exact = 256 * np.exp(exponent) / np.exp(exponent).sum(-1, keepdims=True) - 128
    codes = IntegerSoftmax().ref(x.astype(np.int8), exp_table(scale))
    return float(np.abs(codes - np.minimum(exact, 127)).max())


@pytest.mark.parametrize("classes", [2, 10, 100, 1000, MOST_CLASSES])
@pytest.mark.parametrize("scale", [0.01, 0.05, 0.1, 0.25, 0.5])
def test_integer_softmax_is_within_one_step(classes: int, scale: float) -> None:
    random = np.random.Generator(np.random.PCG64(classes))
    uniform = random.integers(-128, 128, (50, classes))
    peaked = np.clip(random.normal(0, 30, (50, classes)), -128, 127).astype(np.int64)
    two_level = random.choice([-128, 127], (20, classes))
    one_hot = np.where(np.arange(classes) == 0, 127, random.integers(-128, 128, (20, 1)))
    assert max(softmax_error(x, scale) for x in (uniform, peaked, two_level, one_hot)) < 1


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from(list(Coordinates)), st.floats(2.0**-8, 4), st.integers(-128, 127),
)  # fmt: skip
def test_resize_linear_is_within_its_error(
    seed: int, h: int, w: int, oh: int, ow: int, coordinates: Coordinates, s: float, zero: int
) -> None:
    x = np.random.default_rng(seed).integers(-128, 128, (1, h, w, 1)).astype(np.int8)
    op = ResizeLinear((oh, ow), (oh / h, ow / w), coordinates, zero, NHWC)
    (multiplier,), (shift,) = fixed_point(s / UNIT)
    found = [exact_rescale(int(acc), int(multiplier), int(shift)) for acc in op.ref(x).flat]
    wide = x[0, :, :, 0].astype(int)
    apart = sum(int(np.abs(np.diff(wide, axis=axis)).max(initial=0)) for axis in (0, 1))
    error = Fraction(1, 2) + Fraction(s) * apart / 2**11 + Fraction(int(np.abs(wide - zero).max()), 2**12)
    rows, columns = linear_taps(op, 0, h), linear_taps(op, 1, w)
    for q, (i, j) in zip(found, np.ndindex(oh, ow), strict=True):
        f, g = Fraction(float(rows.share[i])), Fraction(float(columns.share[j]))
        real = sum(
            (int(wide[r, c]) - zero) * a * b
            for r, a in ((rows.first[i], 1 - f), (rows.second[i], f))
            for c, b in ((columns.first[j], 1 - g), (columns.second[j], g))
        )
        assert abs(q - Fraction(s) * real) <= error
