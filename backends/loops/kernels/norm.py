"""Normalizations: softmax on reals and on integers, layer and batch normalization."""

from __future__ import annotations

import numpy as np

from ....ir.ops.norm import BatchNorm, LayerNorm
from ....ir.ops.softmax import IntegerSoftmax, Softmax
from ....ir.types import F32, I8, I32, NCHW, U32
from ....runtime.target import Unsupported
from ...group import Group
from .. import epilogue
from ..code import Code
from ..elements import larger
from ..epilogue import Position
from ..expressions import Load, call, convert, dense_strides, fitted, flat, lowest, number, table
from ..kernel import LoopKernel


class SoftmaxKernel(LoopKernel):
    """Row by row: the maximum; exponentials and their sum; quotients. Exponentials wait in a float result."""

    name = "softmax"
    ops = (Softmax,)

    def write(self, group: Group, code: Code) -> None:
        shape, source = group.shape(group.result), code.operand(group.anchor.operands[0])
        kept = group.result.type.dtype == F32
        with code.loops(shape[:-1]) as outer:
            row = flat((*outer, 0), dense_strides(shape))
            most, total = code.local(F32, lowest(F32), "max"), code.local(F32, 0, "sum")
            with code.loop(shape[-1]) as j:
                code.store(most, 0, larger(code.load(source, row + j), code.load(most, 0)))
            with code.loop(shape[-1]) as j:
                exponential = code.let(call("expf", code.load(source, row + j) - code.load(most, 0)))
                if kept:
                    code.store(code.y, row + j, exponential)
                code.store(total, 0, code.load(total, 0) + exponential)
            with code.loop(shape[-1]) as j:
                again = (
                    code.load(code.y, row + j)
                    if kept
                    else call("expf", code.load(source, row + j) - code.load(most, 0))
                )
                code.result(Position.of((*outer, j), shape), again / code.load(total, 0))

    def in_place(self, group: Group) -> tuple[int, ...]:
        if group.result.type.dtype != F32:
            return epilogue.residuals(group)
        # Exponentials overwrite the result's place before the epilogue reads any operand, but after x has been read.
        x = group.top(group.anchor.operands[0])
        later = {group.top(v) for n in group.epilogue for v in n.operands}
        return tuple(i for i, v in enumerate(group.parameters) if v is x and v not in later)


class IntegerSoftmaxKernel(LoopKernel):
    """Row by row: the maximum; the sum of table entries; products with its reciprocal."""

    name = "integer_softmax"
    ops = (IntegerSoftmax,)

    def accepts(self, group: Group) -> Unsupported | None:
        x, entries = group.anchor.operands
        array = group.constant(entries)
        if array is None:
            return Unsupported("the table of integer_softmax is computed, not constant")
        if array.min() < 0 or array[0] <= 0 or int(array.max()) * group.shape(x)[-1] > I32.max:
            return Unsupported("the sum of the table's entries over a row may not fit 32 bits")
        return super().accepts(group)

    def write(self, group: Group, code: Code) -> None:
        x, entries = group.anchor.operands
        shape, source, exp = group.shape(x), code.operand(x), table(group.array(entries), "exp")
        with code.loops(shape[:-1]) as outer:
            row = flat((*outer, 0), dense_strides(shape))
            most, total = code.local(I32, -128, "max"), code.local(I32, 0, "sum")

            def entry(j: object) -> Load:
                value = code.load(exp, code.load(most, 0) - convert(code.load(source, row + j), I32))
                assert isinstance(value, Load)
                return value

            with code.loop(shape[-1]) as j:
                code.store(most, 0, larger(convert(code.load(source, row + j), I32), code.load(most, 0)))
            with code.loop(shape[-1]) as j:
                code.store(total, 0, code.load(total, 0) + entry(j))
            reciprocal = code.let(convert(number(I32.max, I32) / code.load(total, 0), U32))
            with code.loop(shape[-1]) as j:
                product = convert(entry(j), U32) * reciprocal
                q = convert((product + (1 << 22)) >> 23, I32) - 128
                code.result(Position.of((*outer, j), shape), fitted(larger(q, number(127, I32), greater=False), I8))


class LayerNormKernel(LoopKernel):
    """Row by row: the mean; the variance; quotients."""

    name = "layer_norm"
    ops = (LayerNorm,)

    def write(self, group: Group, code: Code) -> None:
        x, scale, shift = group.anchor.operands
        shape, source = group.shape(x), code.operand(x)
        factor, term, size = code.operand(scale), code.operand(shift), float(shape[-1])
        with code.loops(shape[:-1]) as outer:
            row = flat((*outer, 0), dense_strides(shape))
            mean, variance = code.local(F32, 0, "mean"), code.local(F32, 0, "variance")
            with code.loop(shape[-1]) as j:
                code.store(mean, 0, code.load(mean, 0) + code.load(source, row + j))
            code.store(mean, 0, code.load(mean, 0) / size)
            with code.loop(shape[-1]) as j:
                d = code.let(code.load(source, row + j) - code.load(mean, 0))
                code.store(variance, 0, code.load(variance, 0) + d * d)
            deviation = code.let(call("sqrtf", code.load(variance, 0) / size + float(group.op.epsilon)))
            with code.loop(shape[-1]) as j:
                value = (code.load(source, row + j) - code.load(mean, 0)) / deviation
                code.result(Position.of((*outer, j), shape), value * code.load(factor, j) + code.load(term, j))


class BatchNormKernel(LoopKernel):
    """(x - mean) * factor + shift, with factor = scale / sqrt(var + epsilon) computed beforehand."""

    name = "batch_norm"
    ops = (BatchNorm,)

    def accepts(self, group: Group) -> Unsupported | None:
        if any(group.constant(v) is None for v in group.anchor.operands[1:]):
            return Unsupported("the parameters of batch_norm are computed, not constant")
        return super().accepts(group)

    def write(self, group: Group, code: Code) -> None:
        x, *parameters = group.anchor.operands
        scale, shift, mean, var = (group.array(v) for v in parameters)
        with np.errstate(all="ignore"):  # of a negative variance, as in `ref`
            factor = scale / np.sqrt(var + var.dtype.type(group.op.epsilon))
        shape, source = group.shape(x), code.operand(x)
        channel = 1 if group.op.layout is NCHW else len(shape) - 1
        factors, shifts, means = (
            table(array.astype(np.float32), label)
            for label, array in (("factor", factor), ("shift", shift), ("mean", mean))
        )
        with code.loops(shape[:-1]) as outer, code.lanes(shape[-1]) as last:
            axes = (*outer, last)
            at, c = Position.of(axes, shape), axes[channel]
            value = (code.load(source, at.flat) - code.load(means, c)) * code.load(factors, c) + code.load(shifts, c)
            code.result(at, value)
