"""Schemes: scales, zero points and codes of every granularity, and what cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.roles import ACTIVATION, BIAS, PARAMETER, SYMMETRIC, weight
from planish.ir.scheme import TINY, Recipe, Scheme
from planish.ir.types import F32, I4, I8, I16, I32, U4, U8, Array

WIDE = st.floats(-(2.0**100), 2.0**100)
NEAR = st.floats(-100, 100)


@st.composite
def schemes(draw: st.DrawFn, per: tuple[str, ...] = ("tensor", "axis", "group")) -> Scheme:
    dtype = draw(st.sampled_from([I8, I16, I4, U4, U8]))
    granularity: Any = draw(st.sampled_from(per))
    return Scheme(
        dtype,
        symmetric=dtype.kind == "int" and draw(st.booleans()),
        per=granularity,
        group=draw(st.integers(1, 5)) if granularity == "group" else None,
        power_of_two=draw(st.booleans()),
        bits=draw(st.none() | st.integers(2, dtype.bits)),
    )


@given(schemes(("tensor",)), NEAR | WIDE, NEAR | WIDE)
def test_an_encoding_covers_its_range_and_has_zero(scheme: Scheme, a: float, b: float) -> None:
    lo, hi = sorted((a, b))
    e = scheme.encoding(lo, hi)
    assert np.float32(e.scale) == e.scale >= TINY
    assert e.dtype.min <= e.lo <= scheme.lo <= e.zero <= scheme.hi <= e.hi <= e.dtype.max
    assert e.decode(e.encode(np.array([0.0], np.float32))) == [0.0]
    assert not scheme.symmetric or e.zero == 0
    ends = [min(lo, 0.0), max(hi, 0.0)]
    # Half a step, and what float32 rounds.
    steps = np.abs(e.decode(e.encode(np.array(ends, np.float32))) - ends) / e.scale
    assert np.all(steps <= 0.5 + 2**-22 * (e.hi - e.lo)) or max(map(abs, ends)) < 2 * TINY


@given(schemes(("tensor",)), NEAR, NEAR)
def test_a_scale_is_no_larger_than_its_range_asks_for(scheme: Scheme, a: float, b: float) -> None:
    lo, hi = min(a, b, 0.0), max(a, b, 0.0)
    span, steps = (max(-lo, hi), scheme.hi) if scheme.symmetric else (hi - lo, scheme.hi - scheme.lo)
    if span / steps < TINY:
        return
    scale = scheme.encoding(lo, hi).scale
    if scheme.power_of_two:
        assert np.frexp(scale)[0] == 0.5
        assert scale / 2 < span / steps <= scale
    else:
        assert scale == np.float32(span / steps)


@given(schemes(), st.integers(0, 2**32), st.permutations([0, 1, 2]), st.integers(0, 2))
def test_weights_are_the_nearest_codes_of_their_slice(scheme: Scheme, seed: int, axes: list[int], batch: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    shape = random.integers(1, 8, 3)
    w = (random.normal(size=shape) * np.exp(random.normal(size=shape) * 3)).astype(np.float32)
    w[random.random(shape) < 0.2] = 0
    role = weight(axes[0], tuple(axes[1 : 3 - batch % 2]), tuple(axes[3 - batch % 2 :]))
    scale, zero = scheme.of_weights(w, role)
    codes = scheme.codes(w, scale, zero)
    expected = [1, 1, 1]
    if scheme.per != "tensor":
        expected[axes[0]] = w.shape[axes[0]]
    if scheme.group is not None:
        expected[axes[1]] = -(-w.shape[axes[1]] // scheme.group)
    assert scale.shape == zero.shape == (() if scheme.per == "tensor" else tuple(expected))
    assert codes.dtype == scheme.dtype.numpy
    wide = codes.astype(np.int64)
    assert scheme.lo <= wide.min() <= wide.max() <= scheme.hi
    each, offset = (np.broadcast_to(scheme.spread(part, w.shape), w.shape) for part in (scale, zero))
    assert np.all(
        np.abs((wide - offset) * each.astype(np.float64) - w) <= (0.5 + (not scheme.symmetric)) * 1.001 * each
    )
    for place in np.ndindex(*w.shape):  # a slice alone has the scale that it has among the others
        alone = _slice(w, place, scheme, role.output, axes[1])
        if alone.any():
            own = scheme.like(per="tensor", group=None).of_weights(alone, role)
            assert (each[place], offset[place]) == own


def _slice(w: Array, place: tuple[int, ...], scheme: Scheme, output: int | None, reduction: int) -> Array:
    """The weights that share a scale with the one at this place."""
    cut = [slice(None)] * w.ndim
    if scheme.per != "tensor" and output is not None:
        cut[output] = slice(place[output], place[output] + 1)
    if scheme.group is not None:
        start = place[reduction] // scheme.group * scheme.group
        cut[reduction] = slice(start, start + scheme.group)
    return w[tuple(cut)]


def test_slices_of_zeros_take_the_largest_scale_and_zeros_alone_a_scale_of_their_own() -> None:
    scheme, role = Scheme(symmetric=True, per="axis"), weight(0, (1,))
    w = np.array([[0, 0], [1.27, -0.5], [2.54, 0]], np.float32)
    assert np.array_equal(scheme.of_weights(w, role)[0], np.float32([[0.02], [0.01], [0.02]]))
    for zeros in (np.zeros((2, 3), np.float32), np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32)):
        scale, _ = scheme.of_weights(zeros, role)
        assert scale.shape == (len(zeros), 1)
        assert np.all(scale == np.float32(1 / 127))
        assert not scheme.codes(zeros, scale, np.array(0)).any()


def test_scales_do_not_underflow() -> None:
    w = np.array([[1e-44], [1]], np.float32)
    assert Scheme(symmetric=True, per="axis").of_weights(w, weight(0, (1,)))[0][0, 0] == TINY
    assert Scheme().encoding(-1e-44, 1e-44).scale == np.float32(1 / 255)


@pytest.mark.parametrize(
    ("scheme", "lo", "hi", "scale", "zero"),
    [
        (Scheme(), 0, 1, 2**-8, -128),
        (Scheme(), -1, 1, 2**-7, 0),
        (Scheme(I16), 0, 1, 2**-16, -(2**15)),
        (Scheme(U8), -1, 1, 2**-7, 128),
        (Scheme(I16, symmetric=True), 0, 1, 2**-15, 0),
        (Scheme(I8, bits=4), 0, 1, 2**-4, -8),
    ],
)
def test_known_ranges_are_divided_evenly(scheme: Scheme, lo: float, hi: float, scale: float, zero: int) -> None:
    found = scheme.natural(lo, hi)
    assert (found.scale, found.zero) == (scale, zero)


@pytest.mark.parametrize(
    ("scheme", "ends"),
    [
        (Scheme(), (-128, 127)),
        (Scheme(symmetric=True), (-127, 127)),
        (Scheme(symmetric=True, bits=7), (-63, 63)),
        (Scheme(I4, symmetric=True, bits=2), (-1, 1)),
        (Scheme(I4, bits=3), (-4, 3)),
        (Scheme(U4), (0, 15)),
        (Scheme(U8, bits=3), (0, 7)),
        (Scheme(I16), (-32768, 32767)),
    ],
)
def test_codes_have_the_bits_that_are_asked_for(scheme: Scheme, ends: tuple[int, int]) -> None:
    assert (scheme.lo, scheme.hi) == ends


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dtype": F32}, "codes are integers of at most 16 bits, not f32"),
        ({"dtype": I32}, "not i32"),
        ({"dtype": U8, "symmetric": True}, "symmetric codes are signed, u8 is not"),
        ({"bits": 1}, "i8 holds codes of 2 to 8 bits, not 1"),
        ({"dtype": I4, "bits": 8}, "i4 holds codes of 2 to 4 bits, not 8"),
        ({"per": "channel"}, "per tensor, axis or group, not per channel"),
        ({"per": "group"}, "needs the size of a group"),
        ({"group": 32}, "nothing else has one"),
        ({"per": "group", "group": 0}, "at least one element, not 0"),
    ],
)
def test_schemes_that_cannot_be_are_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Scheme(**fields)


def test_what_has_no_scale_is_refused() -> None:
    per_axis, per_group = Scheme(symmetric=True, per="axis"), Scheme(symmetric=True, per="group", group=2)
    w = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="only weights have a scale per axis, this operand is of the kind bias"):
        per_axis.of_weights(w, BIAS)
    with pytest.raises(ValueError, match="these weights have none"):
        per_group.of_weights(w, weight(0, (), (1,)))
    for bad in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match="not finite"):
            per_axis.of_weights(w * np.float32(bad), weight(0, (1,)))
        with pytest.raises(ValueError, match="no scale encodes"):
            Scheme().encoding(0.0, bad)


def test_a_recipe_gives_roles_their_schemes() -> None:
    recipe = Recipe(activation=Scheme(I16), weight=Scheme(I4, symmetric=True, per="group", group=32))
    assert recipe.of(ACTIVATION) == Scheme(I16)
    assert recipe.of(SYMMETRIC) == Scheme(I16, symmetric=True)
    assert recipe.of(weight(0, (1,))) == recipe.weight
    assert recipe.of(BIAS) is recipe.of(PARAMETER) is None


def test_unsigned_schemes_have_a_signed_one_with_zero_point_0() -> None:
    assert Scheme(U8, bits=6).centred == Scheme(I8, symmetric=True, bits=6)
    assert Recipe(activation=Scheme(U8)).of(SYMMETRIC) == Scheme(I8, symmetric=True)
