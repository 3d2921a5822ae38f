"""Softmax, on reals and on integers, and batch normalization."""

from __future__ import annotations

import numpy as np

from ....ir.ops.norm import BatchNorm
from ....ir.ops.softmax import IntegerSoftmax, Softmax
from ....ir.types import F32, I32, NCHW
from ....runtime.target import Unsupported
from ...group import Group
from ...loops.expressions import dense_strides
from .. import scalars
from .. import tir as tirx
from ..code import Code
from ..numbers import call, larger, number
from ..render import LANES
from ..scalars import Position
from .base import TirKernel


class TirSoftmax(TirKernel):
    """Row by row: the maximum; the sum of exponentials; quotients. Exponentials wait in scratch."""

    name = "softmax"
    ops = (Softmax,)

    def scratch(self, group: Group) -> int:
        return 4 * group.shape(group.result)[-1]

    def emit(self, group: Group, code: Code) -> None:
        shape = group.shape(group.result)
        source = scalars.buffer(group, code, group.anchor.operands[0])
        kept = code.scratch(shape[-1], "float32")
        with code.loops(shape[:-1]) as outer:
            most, total = code.local((1,), "float32"), code.local((1,), "float32")
            code.store(most, number(-np.inf, F32), 0)
            code.store(total, tirx.const(0.0, "float32"), 0)
            row = scalars.flat((*outer, 0), dense_strides(shape))
            with code.loop(shape[-1]) as j:
                code.store(most, larger(code.load(source, row + j), code.load(most, 0), F32), 0)
            with code.loop(shape[-1]) as j:
                code.store(kept, call("expf", code.load(source, row + j) - code.load(most, 0)), j)
            with code.loop(shape[-1]) as j:
                code.store(total, code.load(total, 0) + code.load(kept, j), 0)
            with code.loop(shape[-1]) as j:
                value = code.load(kept, j) / code.load(total, 0)
                scalars.store(group, code, Position.of((*outer, j), shape), value)


class TirIntegerSoftmax(TirKernel):
    """Row by row: the maximum; the sum of table entries; products with its reciprocal."""

    name = "integer_softmax"
    ops = (IntegerSoftmax,)

    def accepts(self, group: Group) -> Unsupported | None:
        x, table = group.anchor.operands
        entries = group.constant(table)
        if entries is None:
            return Unsupported("the table of integer_softmax is computed, not constant")
        if entries.min() < 0 or entries[0] <= 0 or int(entries.max()) * group.shape(x)[-1] > I32.max:
            return Unsupported("the sum of the table's entries over a row may not fit 32 bits")
        return super().accepts(group)

    def emit(self, group: Group, code: Code) -> None:
        x_value, table_value = group.anchor.operands
        shape = group.shape(x_value)
        source, table = scalars.buffer(group, code, x_value), code.table(group.array(table_value))
        with code.loops(shape[:-1]) as outer:
            most, total = code.local((1,), "int32"), code.local((1,), "int32")
            code.store(most, tirx.const(-128, "int32"), 0)
            code.store(total, tirx.const(0, "int32"), 0)
            row = scalars.flat((*outer, 0), dense_strides(shape))

            def element(j: object) -> object:
                return tirx.Cast("int32", code.load(source, row + j))

            with code.loop(shape[-1]) as j:
                code.store(most, tirx.max(code.load(most, 0), element(j)), 0)
            with code.loop(shape[-1]) as j:
                code.store(total, code.load(total, 0) + code.load(table, code.load(most, 0) - element(j)), 0)
            reciprocal = code.local((1,), "int64")
            quotient = tirx.truncdiv(tirx.const(I32.max, "int32"), code.load(total, 0))
            code.store(reciprocal, tirx.Cast("int64", quotient), 0)
            with code.loop(shape[-1]) as j:
                entry = tirx.Cast("int64", code.load(table, code.load(most, 0) - element(j)))
                product = entry * code.load(reciprocal, 0) + tirx.const(1 << 22, "int64")
                q = tirx.Cast("int32", product >> tirx.const(23, "int64")) - 128
                value = tirx.Cast("int8", tirx.min(q, tirx.const(127, "int32")))
                scalars.store(group, code, Position.of((*outer, j), shape), value)


class TirBatchNorm(TirKernel):
    """(x - mean) * factor + shift, with factor = scale / sqrt(var + epsilon) computed beforehand."""

    name = "batch_norm"
    ops = (BatchNorm,)

    def accepts(self, group: Group) -> Unsupported | None:
        if any(group.constant(v) is None for v in group.anchor.operands[1:]):
            return Unsupported("the parameters of batch_norm are computed, not constant")
        return super().accepts(group)

    def emit(self, group: Group, code: Code) -> None:
        x, *parameters = group.anchor.operands
        scale, shift, mean, var = (group.array(v) for v in parameters)
        with np.errstate(all="ignore"):  # of a negative variance, as in `ref`
            factor = scale / np.sqrt(var + var.dtype.type(group.op.epsilon))
        shape = group.shape(x)
        channel = 1 if group.op.layout is NCHW else len(shape) - 1
        source = scalars.buffer(group, code, x)
        factors, shifts, means = (code.table(a.astype(np.float32)) for a in (factor, shift, mean))
        with code.loops(shape[:-1]) as outer:

            def one(i: object) -> None:
                axes = (*outer, i)
                at, c = Position.of(axes, shape), axes[channel]
                value = (code.load(source, at.flat) - code.load(means, c)) * code.load(factors, c)
                scalars.store(group, code, at, value + code.load(shifts, c))

            code.lanes(shape[-1], LANES, one)
