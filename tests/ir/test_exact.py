"""Exact numbers: the arithmetic of rationals, functions that are stable symbols, and every op's `ref` over them."""

import subprocess
import sys
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from planish.ir import exact as exact_module
from planish.ir.constant import Const
from planish.ir.errors import InferenceError
from planish.ir.evaluate import evaluate
from planish.ir.exact import Exact, Undefined, exact
from planish.ir.graph import Graph, graph_input
from planish.ir.literals import GELU_CUBIC, SIXTH, SQRT_2, SQRT_HALF
from planish.ir.ops import all_ops
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, mul, pow_
from planish.ir.ops.unary import sqrt
from planish.ir.precision import exact_twin, widened
from planish.ir.types import EXACT, F32, TensorType, converted, dtype_of
from planish.ir.verifier import verify
from planish.testing import graph_of, instances
from planish.testing.ops import errors
from tests.support.passes import graph_of as graph_from
from tests.support.passes import x_input

rationals = st.fractions(-100, 100, max_denominator=1000)
positive = st.fractions("1/1000", 100, max_denominator=1000)


@given(rationals, rationals)
def test_arithmetic_is_that_of_fractions(a, b):
    x, y = exact([a, b])
    assert (x + y, x - y, x * y) == (a + b, a - b, a * b)
    assert (x < y, x <= y, x == y, bool(x)) == (a < b, a <= b, a == b, bool(a))
    assert max(x, y) == max(a, b)
    if b:
        assert x / y == a / b
    else:
        with pytest.raises(Undefined):
            x / y


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_floats_enter_exactly(x):
    assume(x not in exact_module._LITERALS)  # those mean something else
    assert exact(np.float32(x)).item().value == Fraction(x)


@pytest.mark.parametrize("cast", [float, int, complex, lambda x: exact([x]).astype(np.float64), np.isfinite])
def test_nothing_comes_out(cast):
    with pytest.raises(TypeError):
        cast(Exact(0.5))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_not_enter(value):
    with pytest.raises(Undefined):
        exact([value])


def test_strings_are_no_numbers():
    with pytest.raises(InferenceError):
        exact(["1/2"])


@given(rationals)
def test_functions_keep_sign_and_range(x):
    v = Exact(x)
    assert v.exp() > 0
    assert (v.exp() < 1, v.exp() == 1, v.exp() > 1) == (x < 0, x == 0, x > 0)
    for odd in (Exact.tanh, Exact.erf):
        assert odd(-v) == -odd(v)
        assert -1 < odd(v) < 1
        assert (odd(v) > 0) == (x > 0)


@given(positive, positive)
def test_functions_are_symbols(a, b):
    for function in (Exact.exp, Exact.log, Exact.sqrt, Exact.tanh, Exact.erf):
        assert (function(Exact(a)) == function(Exact(b))) == (a == b)
    assert (Exact(a).log() > 0, Exact(a).log() == 0) == (a > 1, a == 1)


@given(positive)
def test_roots_are_one_symbol(a):
    x = Exact(a)
    half = Exact(0.5)
    assert x.sqrt() == x**0.5 == x**half
    assert 1 / x.sqrt() == x**-0.5
    assert (x * x).sqrt() == x, "squares have roots"
    assert x**3 == a**3


@pytest.mark.parametrize("undefined", [lambda: Exact(-1).sqrt(), lambda: Exact(0).log(), lambda: Exact(-2) ** 0.3])
def test_values_that_the_reals_do_not_have(undefined):
    with pytest.raises(Undefined):
        undefined()


def test_symbols_are_the_same_in_every_process():
    code = "from planish.ir.exact import Exact; print(Exact(3).exp(), Exact(3).sqrt(), Exact(3).tanh())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.split() == [str(f(Exact(3))) for f in (Exact.exp, Exact.sqrt, Exact.tanh)]


@pytest.mark.parametrize("op", all_ops(), ids=lambda op: op.name)
@given(data=st.data())
def test_every_op_serves_exact_numbers(op, data):
    instance = data.draw(instances(op))
    graph = graph_of(instance)
    try:
        twin = exact_twin(graph)
    except Undefined:
        reject()  # an attribute is infinite
    verify(twin)
    held = [instance.op.data] if isinstance(instance.op, Const) else []
    floats = [x for x in (*instance.operands, *held) if dtype_of(x).is_float]
    assume(all(np.isfinite(x).all() for x in floats))  # others are no rational numbers
    assume(not any(float(v) in exact_module._LITERALS for x in floats for v in x.flat))  # they mean something else
    arrays = [x for i, x in enumerate(instance.operands) if i not in instance.constants]
    given_exact = [converted(x, EXACT) if dtype_of(x).is_float else x for x in arrays]
    try:
        with patch.object(exact_module, "_hashed", wraps=exact_module._hashed) as symbols:
            results = evaluate(twin, given_exact)
    except TypeError:
        assert not any(v.type.dtype.is_float for v in graph.outputs), "floats are computed that have no exact form"
        return
    for found, expected, room in zip(
        results, evaluate(graph, arrays), errors(instance.op, instance.operands), strict=True
    ):
        if not dtype_of(expected).is_float:
            assert np.array_equal(found, expected)
            continue
        assert dtype_of(found) is EXACT
        if not symbols.called:  # a symbol is no approximation of what it stands for
            rounded = np.array([float(v.value) for v in found.flat]).reshape(found.shape)
            assert np.all(np.abs(rounded - expected) <= room)


def test_results_are_exact_again_after_every_node():
    x = x_input(1, 1, 2, 2)
    y = conv2d(x, np.ones((1, 1, 2, 2), np.float32), np.zeros(1, np.float32), pads=(1, 1, 1, 1))
    (result,) = evaluate(exact_twin(graph_from(y)), [exact(np.ones((1, 1, 2, 2)))])
    assert {type(v) for v in result.flat} == {Exact}


def test_an_identity_holds_and_its_neighbour_does_not():
    x = graph_input("x", TensorType((2,), EXACT))
    third = exact(np.array([3.0])) ** -1
    both = Graph([x], [mul(add(x, x), third), mul(x, third), pow_(x, exact(0.5)), sqrt(x)], ["a", "b", "c", "d"])
    a, b, c, d = evaluate(both, [exact([2.0, 7.0])])
    assert (a == b + b).all()
    assert (a != b).all()
    assert (c == d).all()


def test_a_float_that_is_nearest_to_a_literal_means_it():
    single = exact(np.array([SQRT_2, SQRT_HALF, SIXTH, GELU_CUBIC], np.float32))
    assert (single == exact(np.array([SQRT_2, SQRT_HALF, SIXTH, GELU_CUBIC]))).all()
    assert single[0] == Exact(2).sqrt()
    assert single[0] * single[1] == 1
    assert single[2] * 6 == 1
    beside = np.nextafter(np.float32(SQRT_2), np.float32(2))
    assert Exact(beside).value == Fraction(float(beside))
    assert Exact(beside) != SQRT_2
    assert single[0] == SQRT_2


def test_widening_leaves_exact_numbers_alone():
    assert dtype_of(widened(exact([1.5]))) is EXACT
    assert widened(np.array([1.5], F32.numpy)).dtype == np.float64
