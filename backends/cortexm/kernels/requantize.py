"""The epilogue that fast int8 kernels know: rescale to int8, perhaps the sum with a residual, perhaps a clip.

What follows these (dequantize at the end of a model, a table) runs over the finished int8 results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ....ir.graph import Node, Value
from ....ir.op import Bounds
from ....ir.ops.elementwise import Clip
from ....ir.ops.quant import Rescale, RescaleAdd, Table
from ....ir.types import I8, I32, Array
from ....runtime.target import Unsupported
from ...group import Group, uniform
from ...loops import epilogue
from ...loops.epilogue import Position
from ...loops.expressions import Buffer, Load, Variable
from ..code import Code
from ..render import CRenderer


@dataclass(frozen=True)
class Residual:
    """q' = clamp((q * factor + residual * residual_factor + bias) >> shift, lo, hi)."""

    value: Value
    factor: int
    residual_factor: int
    bias: int
    shift: int
    lo: int
    hi: int


@dataclass(frozen=True)
class Requantize:
    """q = clamp(zero + ((acc - input_zero) * 2^shift * multiplier + 2^31 >> 32), lo, hi), by output channel.

    value: what is finished when all this is done. rest: the nodes that follow it.
    """

    value: Value

    multiplier: Array
    shift: Array
    input_zero: int
    zero: int
    lo: int
    hi: int
    residual: Residual | None = None
    rest: tuple[Node, ...] = ()


def requantize(group: Group) -> Requantize | Unsupported:
    """The group's epilogue in this form, or why it has another one."""
    if not group.epilogue or not isinstance(group.epilogue[0].op, Rescale):
        return Unsupported("the accumulators are not rescaled")
    found = _rescale(group, group.epilogue[0])
    for i, node in enumerate(group.epilogue[1:], start=1):
        if isinstance(found, Unsupported):
            return found
        if found.value not in node.operands:
            return Unsupported(f"{node.op.name} does not follow the ops before it")
        if isinstance(node.op, RescaleAdd) and found.residual is None:
            found = _residual(group, found, node)
        elif isinstance(node.op, Clip):
            found = _clipped(found, node)
        else:
            return _followed(group, found, group.epilogue[i:])
    return found


def _rescale(group: Group, node: Node) -> Requantize | Unsupported:
    op = node.op
    assert isinstance(op, Rescale)
    if op.dtype != I8 or node.operands[0] is not group.anchor.result:
        return Unsupported(f"the result is rescaled to {op.dtype}, not i8")
    arrays = [group.constant(v) for v in node.operands[1:]]
    channels = group.shape(group.anchor.result)[-1]
    vectors = []
    for array in arrays:
        if array is None:
            return Unsupported("the multipliers are no constants")
        if array.size not in (1, channels) or (array.size > 1 and array.shape[-1] != channels):
            return Unsupported("the multipliers differ over more than channels")
        vectors.append(np.broadcast_to(array.reshape(-1), (channels,)).astype(np.int64))
    if vectors[1].min(initial=0) < 0:
        return Unsupported("the rescale has a negative shift")
    return Requantize(node.result, vectors[0], vectors[1], op.input_zero, op.zero, op.lo, op.hi)


def _residual(group: Group, found: Requantize, node: Node) -> Requantize | Unsupported:
    op, value = node.op, found.value
    assert isinstance(op, RescaleAdd)
    a, b = node.operands
    other = b if a is value else a
    factors = (op.a_multiplier, op.b_multiplier) if a is value else (op.b_multiplier, op.a_multiplier)
    if a is b or group.parameter(other) is None or other.type.dtype != I8 or op.dtype != I8:
        return Unsupported("the sum is not with another i8 tensor")
    if other.type.shape != value.type.shape:
        return Unsupported("the sum broadcasts")
    if not 1 <= op.shift <= 31 or abs(op.bias) + 128 * (abs(factors[0]) + abs(factors[1])) >= 2**31:
        return Unsupported("the factors of the sum are out of range")
    residual = Residual(other, *factors, op.bias, op.shift, op.lo, op.hi)
    return replace(found, value=node.result, residual=residual)


def _clipped(found: Requantize, node: Node) -> Requantize | Unsupported:
    op = node.op
    assert isinstance(op, Clip)
    inner = found.residual or found
    lo, hi = (int(np.clip(limit, -128, 127)) for limit in (op.lo, op.hi))
    if op.lo > 127 or op.hi < -128:
        return Unsupported("the clip leaves nothing")
    lo, hi = min(max(inner.lo, lo), hi), max(min(inner.hi, hi), lo)
    if found.residual is None:
        return replace(found, value=node.result, lo=lo, hi=hi)
    return replace(found, value=node.result, residual=replace(found.residual, lo=lo, hi=hi))


def _followed(group: Group, found: Requantize, rest: tuple[Node, ...]) -> Requantize | Unsupported:
    """Any elementwise ops whose other operands are single numbers or tables."""
    known = {found.value}
    for node in rest:
        for i, v in enumerate(node.operands):
            array = group.constant(v)
            single = array is not None and (uniform(array) is not None or (isinstance(node.op, Table) and i == 1))
            if v not in known and not single:
                return Unsupported(f"{node.op.name} follows, with another tensor")
        known.add(node.result)
    return epilogue.refusal(group) or replace(found, rest=rest)


def around(group: Group, code: Code, found: Requantize, body: str) -> str:
    """`body` makes all int8 results at `int8_t *out`; then the rest of the epilogue makes y of them, front to back.

    Where y's elements are wider, the int8 results wait at its end: an element is read before its place is overwritten.
    """
    if not found.rest:
        return f"int8_t *const out = y;\n{body}"
    result = group.result.type
    waiting = result.nbytes - result.size
    i = Variable(I32, "i")
    done = Load(I8, Buffer("out", I8, result.size), i)
    rest = CRenderer(code).statements(epilogue.store(group, Position(i, ()), done, found.value))
    return (
        f"int8_t *const out = (int8_t *)(void *)y + {waiting};\n{{\n{body}\n}}\n"
        f"for (int32_t i = 0; i < {result.size}; ++i) {{\n{rest}}}\n"
    )


def accumulator_bounds(group: Group, found: Requantize) -> tuple[Array, Array]:
    """Smallest and largest accumulator per output channel, as rescale sees it, for any int8 input."""
    x, w, b = group.anchor.operands
    bounds = group.anchor.op.bounds(Bounds.top(x.type), Bounds.exactly(group.array(w)), Bounds.exactly(group.array(b)))
    return bounds.lo.reshape(-1) - found.input_zero, bounds.hi.reshape(-1) - found.input_zero
