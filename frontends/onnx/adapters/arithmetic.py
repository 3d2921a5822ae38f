"""Elementwise operators. What a few core ops compute exactly is composed of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ....ir.builder import const_value
from ....ir.evaluate import evaluate_node
from ....ir.graph import Value
from ....ir.ops import activations as a
from ....ir.ops import elementwise as e
from ....ir.ops import logic as l
from ....ir.ops import unary as u
from ..source import Adapter, SourceNode
from ..tensors import dtype_from


def number(like: Value, value: float) -> Value:
    """A scalar constant of the same dtype."""
    return const_value(np.array(value, like.type.dtype.numpy))


def binary(build: Callable[..., Any]) -> Adapter:
    return lambda node: build(node.value(0), node.value(1))


def unary(build: Callable[..., Any]) -> Adapter:
    return lambda node: build(node.value(0))


def variadic(build: Callable[..., Any]) -> Adapter:
    return lambda node: reduce(build, (node.value(i) for i in range(max(1, len(node.operands)))))


def negated(x: Value) -> Value:
    return e.mul(x, number(x, -1))


def neg(node: SourceNode) -> Value:
    if node.value(0).type.dtype.kind not in ("float", "int"):
        raise node.broken("there are no negatives of this element type")
    return negated(node.value(0))


def abs_(node: SourceNode) -> Value:
    x = node.value(0)
    return x if x.type.dtype.kind == "uint" else u.abs_(x)


def reciprocal(node: SourceNode) -> Value:
    x = node.value(0)
    return e.div(number(x, 1), x)


def relu(node: SourceNode) -> Value:
    return e.relu(node.value(0))


def clip(node: SourceNode) -> Value:
    x = node.value(0)
    if node.opset < 11:
        return e.clip(x, lo=node.real("min", -math.inf), hi=node.real("max", math.inf))
    lo, hi = node.optional(1), node.optional(2)
    for bound in (lo, hi):
        if bound is not None and bound.type.shape not in ((), (1,)):
            raise node.broken(f"a bound is a single number, not {bound.type}")
    if all(bound is None or _is_real(bound) for bound in (lo, hi)):
        ends = [None if array is None else float(array) for array in (node.number(1), node.number(2))]
        return e.clip(x, lo=-math.inf if ends[0] is None else ends[0], hi=math.inf if ends[1] is None else ends[1])
    low = x if lo is None else e.maximum(x, lo)
    return low if hi is None else e.minimum(low, hi)


def _is_real(bound: Value) -> bool:
    """Whether a bound is a constant that an attribute, a float64, holds: not of all integers of 64 bits."""
    if bound.const is None:
        return False
    value = bound.const.reshape(()).item()
    return bool(bound.type.dtype.is_float or bound.type.dtype.number(float(value)) == value)


def hard_sigmoid(node: SourceNode) -> Value:
    return u.hard_sigmoid(node.value(0), alpha=node.real("alpha", 0.2), beta=node.real("beta", 0.5))


def swish(node: SourceNode) -> Value:
    x, alpha = node.value(0), node.real("alpha", 1.0)
    return u.silu(x) if alpha == 1 else e.mul(x, u.sigmoid(e.mul(x, number(x, alpha))))


def sloped(x: Value, slope: Value) -> Value:
    """X where it is positive, slope * x elsewhere; one of the two terms is always zero."""
    return e.add(e.relu(x), e.mul(e.clip(x, hi=0.0), slope))


def leaky_relu(node: SourceNode) -> Value:
    x = node.value(0)
    return sloped(x, number(x, node.real("alpha", 0.01)))


def prelu(node: SourceNode) -> Value:
    return sloped(node.value(0), node.value(1))


def power(node: SourceNode) -> Value:
    x, y = node.value(0), node.value(1)
    if not x.type.dtype.is_float:
        raise node.unsupported("powers of integers are not supported", fix="cast to float before")
    exponent = float(y.const.reshape(()).item()) if y.const is not None and y.const.size == 1 else None
    if exponent == 2 and y.type.rank <= x.type.rank:
        return e.mul(x, x)
    if y.type.dtype != x.type.dtype:
        y = u.cast(y, dtype=x.type.dtype) if exponent is None else number(x, exponent)
    return e.pow_(x, y)


def cast(node: SourceNode) -> Value:
    x = node.value(0)
    node.ignore("saturate", "round_mode")  # about 8-bit floats only
    dtype = dtype_from(node.integer("to", 0), f"the result of {node.name!r}")
    return x if dtype == x.type.dtype else u.cast(x, dtype=dtype)


def cast_like(node: SourceNode) -> Value:
    node.ignore("saturate", "round_mode")
    x, dtype = node.value(0), node.value(1).type.dtype
    if x.type.dtype == dtype:
        return x
    y: Value = u.cast(x, dtype=dtype)
    return y if x.const is None else const_value(evaluate_node(y.producer, [x.const])[0])  # type: ignore[arg-type]


def modulo(node: SourceNode) -> Value:
    a, b = node.array(0), node.array(1)
    if a is None or b is None:
        raise node.broken("an operand is missing")
    if np.issubdtype(b.dtype, np.integer) and np.any(b == 0):
        raise node.broken("a divisor is zero")
    with np.errstate(all="ignore"):  # of infinities, and by 0: no number
        return node.constant(np.fmod(a, b) if node.integer("fmod", 0) else np.mod(a, b))


def flipped(build: Callable[..., Any]) -> Adapter:
    return lambda node: build(node.value(1), node.value(0))


def gelu(node: SourceNode) -> Value:
    mode = node.text("approximate", "none")
    if mode not in ("none", "tanh"):
        raise node.broken(f"approximate is {mode!r}")
    return u.gelu(node.value(0), tanh=mode == "tanh")


def elu(node: SourceNode) -> Value:
    return a.elu(node.value(0), alpha=node.real("alpha", 1.0))


def selu(node: SourceNode) -> Value:
    alpha, scale = node.real("alpha", 1.67326319217681884765625), node.real("gamma", 1.05070102214813232421875)
    return a.elu(node.value(0), alpha=alpha, scale=scale)


def celu(node: SourceNode) -> Value:
    alpha = node.real("alpha", 1.0)
    if not alpha > 0:
        raise node.broken(f"alpha is {alpha}")
    return a.elu(node.value(0), alpha=alpha, width=alpha)


def softsign(node: SourceNode) -> Value:
    x = node.value(0)
    return e.div(x, e.add(abs_(node), number(x, 1)))


def thresholded_relu(node: SourceNode) -> Value:
    x = node.value(0)
    return l.where(l.less(number(x, node.real("alpha", 1.0)), x), x, number(x, 0))


def mean(node: SourceNode) -> Value:
    count = max(1, len(node.operands))
    total: Value = reduce(e.add, (node.value(i) for i in range(count)))
    return total if count == 1 else e.div(total, number(total, count))


TABLE: dict[str, Adapter] = {
    "Add": binary(e.add), "Sub": binary(e.sub), "Mul": binary(e.mul), "Div": binary(e.div), "Pow": power,
    "Sum": variadic(e.add), "Min": variadic(e.minimum), "Max": variadic(e.maximum),
    "Neg": neg, "Abs": abs_, "Reciprocal": reciprocal, "Exp": unary(u.exp), "Log": unary(u.log),
    "Sqrt": unary(u.sqrt), "Floor": unary(u.floor), "Erf": unary(u.erf), "Gelu": gelu, "Cast": cast,
    "CastLike": cast_like, "Mod": modulo, "Equal": binary(l.equal), "Less": binary(l.less),
    "LessOrEqual": binary(l.less_equal), "Greater": flipped(l.less), "GreaterOrEqual": flipped(l.less_equal),
    "Not": unary(l.not_), "And": binary(e.minimum), "Or": binary(e.maximum),
    "Xor": lambda node: l.not_(l.equal(node.value(0), node.value(1))),
    "Where": lambda node: l.where(*(node.value(i) for i in range(3))),
    "Sigmoid": unary(u.sigmoid), "Tanh": unary(u.tanh), "HardSigmoid": hard_sigmoid,
    "HardSwish": unary(u.hard_swish), "Swish": swish,
    "Relu": relu, "Clip": clip, "LeakyRelu": leaky_relu, "PRelu": prelu,
    "Elu": elu, "Selu": selu, "Celu": celu, "Softplus": unary(a.softplus), "Mish": unary(a.mish),
    "Softsign": softsign, "ThresholdedRelu": thresholded_relu, "Mean": mean,
}  # fmt: skip
