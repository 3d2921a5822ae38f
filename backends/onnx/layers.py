"""Normalizations of rows, recurrent layers, comparisons: what `adapters` says for other ops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...ir.ops.index import Take
from ...ir.ops.logic import Equal, Less, LessEqual, Not, Where
from ...ir.ops.norm import LayerNorm, Lrn
from ...ir.ops.recurrent import Lstm
from ...ir.ops.unary import Gelu, HardSigmoid, HardSwish, Silu
from .site import Operand, Site

#: Before these operator sets an activation is written as its definition.
GELU = 20
HARD_SWISH, SWISH = 14, 24


def layer_norm(site: Site, op: LayerNorm, x: Operand, scale: Operand, shift: Operand) -> Operand:
    """A shift of zeros is left out."""
    given = None if shift.const is not None and not shift.const.any() else shift
    return site.emit("LayerNormalization", x, scale, given, axis=-1, epsilon=op.epsilon)


def lrn(site: Site, op: Lrn, x: Operand) -> Operand:
    """The operator of the same meaning."""
    return site.emit("LRN", x, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)


def gelu(site: Site, op: Gelu, x: Operand) -> Operand:
    """One node, or its definition where the operator set does not have it."""
    if site.opset >= GELU:
        return site.emit("Gelu", x, approximate="tanh" if op.tanh else None)

    def number(role: str, value: float) -> Operand:
        return site.array(role, np.array(value, x.type.dtype.numpy))

    if op.tanh:
        cube = site.emit("Mul", site.emit("Mul", x, x), site.emit("Mul", x, number("cubed", 0.044715)))
        inner = site.emit("Mul", site.emit("Add", x, cube), number("slope", math.sqrt(2 / math.pi)))
        share = site.emit("Tanh", inner)
    else:
        share = site.emit("Erf", site.emit("Div", x, number("deviation", math.sqrt(2))))
    half = site.emit("Mul", x, number("half", 0.5))
    return site.emit("Mul", half, site.emit("Add", share, number("one", 1.0)))


def hard_swish(site: Site, op: HardSwish, x: Operand) -> Operand:
    """One node, or its definition where the operator set does not have it."""
    if site.opset >= HARD_SWISH:
        return site.emit("HardSwish", x)
    return site.emit("Mul", x, site.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def silu(site: Site, op: Silu, x: Operand) -> Operand:
    """One node, or two where the operator set does not have it."""
    if site.opset >= SWISH:
        return site.emit("Swish", x)
    return site.emit("Mul", x, site.emit("Sigmoid", x))


def lstm(site: Site, op: Lstm, *operands: Operand) -> tuple[Operand, ...]:
    """Bias and states of zeros are left out."""
    x, w, r, b, h, c = operands
    mode = "bidirectional" if w.type.shape[0] == 2 else "reverse" if op.reverse else None
    bias, *states = (None if v.const is not None and not v.const.any() else v for v in (b, h, c))
    types = op.infer(*(v.type for v in operands))
    return site.emit_all("LSTM", x, w, r, bias, None, *states, types=types, hidden_size=r.type.shape[2], direction=mode)


ADAPTERS: dict[Any, Any] = {
    LayerNorm: layer_norm, Lrn: lrn, Gelu: gelu, Lstm: lstm, HardSwish: hard_swish, Silu: silu,
    HardSigmoid: lambda site, op, x: site.emit("HardSigmoid", x, alpha=op.alpha, beta=op.beta),
    Take: lambda site, op, x, indices: site.emit("Gather", x, indices, axis=op.axis),
    Equal: lambda site, op, a, b: site.emit("Equal", a, b),
    Less: lambda site, op, a, b: site.emit("Less", a, b),
    LessEqual: lambda site, op, a, b: site.emit("LessOrEqual", a, b),
    Not: lambda site, op, x: site.emit("Not", x),
    Where: lambda site, op, condition, a, b: site.emit("Where", condition, a, b),
}  # fmt: skip
