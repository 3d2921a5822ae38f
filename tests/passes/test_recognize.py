"""Activations written as formulas become one op, and near misses do not."""

import math

import numpy as np
import pytest

from planish.ir.ops.elementwise import add, clip, div, mul
from planish.ir.ops.unary import erf, hard_sigmoid, sigmoid
from planish.ir.rewrite import rewrite
from planish.passes import recognize
from planish.passes.recognize import ACTIVATIONS
from tests.support.passes import graph_of, ops, transformed, x_input


def number(value):
    return np.array(value, np.float32)


def phi(x):
    return add(erf(div(x, number(math.sqrt(2)))), number(1))


def six(x, three=3):
    return clip(add(x, number(three)), lo=0.0, hi=6.0)


FORMS = {
    "gelu, half last": (lambda x: mul(mul(x, phi(x)), number(0.5)), ["gelu"]),
    "gelu, half first": (lambda x: mul(phi(x), mul(number(0.5), x)), ["gelu"]),
    "gelu, times": (
        lambda x: mul(mul(x, number(0.5)), add(number([1]), erf(mul(x, number(math.sqrt(0.5)))))), ["gelu"],
    ),
    "gelu of another": (lambda x: mul(mul(x, phi(mul(x, x))), number(0.5)), None),
    "gelu by another root": (
        lambda x: mul(mul(x, add(erf(div(x, number(1.5))), number(1))), number(0.5)), None,
    ),
    "gelu without the half": (lambda x: mul(mul(x, phi(x)), number(1.5)), None),
    "gelu that broadcasts": (lambda x: mul(mul(x, phi(x)), np.full((2, 1, 1), 0.5, np.float32)), None),
    "silu": (lambda x: mul(x, sigmoid(x)), ["silu"]),
    "silu of two": (lambda x: mul(x, sigmoid(add(x, x))), None),
    "hard swish": (lambda x: mul(hard_sigmoid(x, alpha=1 / 6), x), ["hard_swish"]),
    "hard swish, steeper": (lambda x: mul(hard_sigmoid(x, alpha=0.2), x), None),
    "hard swish by clip": (lambda x: mul(x, div(six(x), number(6))), ["hard_swish"]),
    "hard swish, product first": (lambda x: div(mul(x, six(x)), number(6)), ["hard_swish"]),
    "hard swish, times": (lambda x: mul(mul(six(x), x), number(1 / 6)), ["hard_swish"]),
    "hard sigmoid": (lambda x: div(six(x), number(6)), ["hard_sigmoid"]),
    "hard sigmoid, times": (lambda x: mul(six(x), number(1 / 6)), ["hard_sigmoid"]),
    "hard sigmoid, off": (lambda x: div(six(x, 2), number(6)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    build, expected = FORMS[name]
    graph = graph_of(build(x_input(3, 5)))
    fused = transformed(graph, "simplify,fuse")
    known = {"gelu", "silu", "hard_swish", "hard_sigmoid"}
    if expected is None:
        assert not known & (set(ops(fused)) - set(ops(graph)))
    else:
        assert ops(fused) == expected


def test_reasons_are_given():
    x = x_input(3)
    log = rewrite(graph_of(div(six(x, 2), number(6))), ACTIVATIONS)
    assert any("constants" in reason for reason in log.refused.values())


@pytest.mark.parametrize("name", ["gelu by another root", "gelu without the half", "hard sigmoid, off"])
def test_constants_that_do_not_count_are_caught(name, monkeypatch):
    monkeypatch.setattr(recognize, "near", lambda constant, value: True)
    with pytest.raises(Exception, match="breaks its contract"):
        transformed(graph_of(FORMS[name][0](x_input(3, 5))), "fuse")
