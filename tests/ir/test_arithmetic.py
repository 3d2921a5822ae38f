"""The fixed-point formulas against exact rational arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planish.ir.arithmetic import fixed_point, quantize, rescale
from planish.ir.ops.quant import sum_factors

INT32 = st.integers(-(2**31), 2**31 - 1)
FACTORS = st.floats(2.0**-40, 2.0**29, exclude_max=True)


def scalar(factor):
    multiplier, shift = fixed_point(factor)
    return int(multiplier[0]), int(shift[0])


@given(FACTORS)
def test_multipliers_are_even_and_shifts_minimal(factor):
    m, k = scalar(factor)
    assert m % 2 == 0
    assert 0 <= m < 2**31
    assert k >= 0
    if k:
        assert round(Fraction(factor) * 2 ** (31 - (k - 1))) >= 2**30, "a smaller shift would do"
    # M / 2^(32 - k) is r to within half a unit of M / 2.
    assert abs(Fraction(m, 2 ** (32 - k)) - Fraction(factor)) <= Fraction(1, 2 ** (32 - k))


@given(INT32, FACTORS)
def test_rescale_is_the_rounded_product(acc, factor):
    """Without saturation: round-half-up of acc * 2^k * M / 2^32, so within 1/2 + |acc| / 2^(32-k) of acc * factor."""
    m, k = scalar(factor)
    assume(-(2**31) <= acc * 2**k < 2**31)
    q = int(rescale(np.array([acc]), np.array([m]), np.array([k]))[0])
    assert q == math.floor(Fraction(acc * 2**k * m, 2**32) + Fraction(1, 2))
    assert abs(q - acc * Fraction(factor)) <= Fraction(1, 2) + Fraction(abs(acc), 2 ** (32 - k))


@given(INT32, FACTORS, st.sampled_from([(-128, 127), (0, 255), (-32768, 32767)]), st.integers(-128, 127))
def test_saturation_of_the_shift_is_never_seen(acc, factor, clamp, zero):
    """Clamped to 16 bits or fewer, the result is what unbounded integers give."""
    m, k = scalar(factor)
    unbounded = math.floor(Fraction(acc * 2**k * m, 2**32) + Fraction(1, 2)) + zero
    q = int(rescale(np.array([acc]), np.array([m]), np.array([k]))[0]) + zero
    lo, hi = clamp
    assert min(max(q, lo), hi) == min(max(unbounded, lo), hi)


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf, 2.0**29])
def test_impossible_factors_are_refused(factor):
    with pytest.raises(ValueError, match="fixed-point"):
        fixed_point(factor)


@given(st.floats(width=32), st.floats(2.0**-20, 2.0**20, width=32), st.integers(-128, 127))
def test_quantize_rounds_half_to_even_and_never_wraps(x, scale, zero):
    q = int(quantize(np.array([x], np.float32), np.array(scale, np.float32), np.array(zero), -128, 127)[0])
    if math.isnan(x):
        assert q == -128
        return
    with np.errstate(over="ignore"):
        scaled = float(np.float32(x) / np.float32(scale))
    wanted = scaled if math.isinf(scaled) else round(scaled) + zero  # Python rounds half to even too
    assert q == min(max(wanted, -128), 127)


@given(
    st.lists(st.floats(-100, 100), min_size=2, max_size=2),
    st.lists(st.integers(-128, 127), min_size=2, max_size=2),
    st.integers(-128, 127),
    st.lists(st.integers(-128, 127), min_size=2, max_size=2),
)
def test_sum_of_two_scales(factors, zeros, zero, x):
    """The shift is the largest that keeps both multipliers in 16 bits; the sum is then within their rounding."""
    found = sum_factors(factors, zeros, zero)
    assert found is not None
    m, s = (found["a_multiplier"], found["b_multiplier"]), found["shift"]
    assert all(abs(v) <= 32767 for v in m)
    if s < 23:
        assert any(abs(round(Fraction(f) * 2 ** (s + 1))) > 32767 for f in factors)
    q = (x[0] * m[0] + x[1] * m[1] + found["bias"]) >> s
    exact = zero + sum(Fraction(f) * (v - z) for f, v, z in zip(factors, x, zeros, strict=True))
    assert abs(q - exact) <= Fraction(1, 2) + Fraction(
        sum(abs(v - z) for v, z in zip(x, zeros, strict=True)), 2 ** (s + 1)
    )
