"""Numbers that carry bounds of their errors: what float32 computes stays within them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.rounding import gamma
from planish.ir.running_error import Approximate, dot

UNIT = gamma(1, [np.float32(0)])
#: NumPy's own functions: a few units in the last place.
FUNCTIONS = 8 * UNIT
seeds = st.integers(0, 2**32 - 1)


def numbers(seed, *shape):
    """Float32 over some orders of magnitude, either sign."""
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) * 10.0 ** random.uniform(-3, 2, shape)).astype(np.float32)


def approximate(array):
    return Approximate.exactly(array, UNIT, FUNCTIONS)


def assert_within(computed, bound):
    assert computed.dtype == np.float32
    assert np.all(np.abs(computed - bound.value) <= bound.off)


@given(seeds)
def test_float32_stays_within(seed):
    a, b, c = (numbers(seed + i, 5, 7) for i in range(3))
    x, y, z = map(approximate, (a, b, c))
    product, bound = a * b + c, x * y + z
    assert_within(product, bound)
    with np.errstate(over="ignore"):
        gate, gate_bound = 1 / (1 + np.exp(-product)), bound.sigmoid()
    assert_within(gate, gate_bound)
    assert_within((1 - gate) * np.tanh(product) + gate * a, (1 - gate_bound) * bound.tanh() + gate_bound * x)


@given(seeds, st.permutations(range(9)))
def test_sums_in_any_order(seed, order):
    a, b, c = numbers(seed, 1, 8), numbers(seed + 1, 1, 8), numbers(seed + 2, 1, 1)
    terms = np.append(a * b, c)
    total = np.float32(0)
    for i in order:
        total += terms[i]
    bound = dot(
        [(approximate(a[:, :3]), approximate(b[:, :3])), (approximate(a[:, 3:]), approximate(b[:, 3:]))],
        [approximate(c)],
    )
    assert_within(total.reshape(1, 1), bound)


def test_an_error_that_was_there_is_carried_on():
    x = Approximate(np.ones((1, 2)), np.full((1, 2), 0.5), 0.0, 0.0)
    w = Approximate.exactly(np.array([[3.0, -4.0]]), 0.0, 0.0)
    assert np.isclose(dot([(x, w)], [w[:, :1]]).off, 3.5)
    assert np.isclose((x * x).off, 1.25).all()
    assert np.isclose(x.sigmoid().off, 0.125).all()
    assert (x + x).off.tolist() == [[1.0, 1.0]]
