"""Portable pooling, reductions and softmax."""

from __future__ import annotations

import math

from ....ir.ops.norm import LayerNorm
from ....ir.ops.pool import AvgPool2d, MaxPool2d, SumPool2d
from ....ir.ops.reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from ....ir.ops.softmax import IntegerSoftmax, Softmax
from ....ir.types import F32, I32, DType
from ....runtime.target import Unsupported
from ...group import Group
from ...loops import epilogue
from .. import scalars
from ..code import CTYPES, Code, scalar
from .image import Image, sliding
from .loops import dense_strides, index, nest, position, variables
from .portable import Portable


def extremum(acc: str, x: str, dtype: DType, greater: bool = True) -> str:
    """C: acc = max(acc, x), or the smaller; NaN is beyond anything, as in NumPy."""
    nan = f" || {x} != {x}" if dtype.is_float else ""
    return f"if ({x} {'>' if greater else '<'} {acc}{nan}) {{\n{acc} = {x};\n}}\n"


def farthest(code: Code, dtype: DType, greater: bool = True) -> str:
    """C: what every element is at least; or, not greater, at most."""
    ends = (-math.inf, math.inf) if dtype.is_float else (dtype.min, dtype.max)
    return code.number(ends[0 if greater else 1], dtype)


class PortablePool2d(Portable):
    """One window of one channel at a time."""

    name = "pool2d"
    ops = (MaxPool2d, AvgPool2d, SumPool2d)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        x = Image.of(group.shape(x_value), op.layout)
        y = Image.of(group.shape(group.result), op.layout)
        rows, columns = sliding(op, x, y, op.window)
        dtype = group.anchor.result.type.dtype
        element = f"{scalars.pointer(group, code, x_value)}[{x.at('n', 'iy', 'ix', 'c')}]"
        padded = rows.padded or columns.padded
        counted = isinstance(op, AvgPool2d) and padded and not op.count_pads
        start, result = "0", ""
        if isinstance(op, MaxPool2d):
            start = farthest(code, dtype)
            step = f"const {scalar(dtype)} x = {element};\n" + extremum("acc", "x", dtype)
        elif isinstance(op, AvgPool2d):
            step = f"total += {element};\n"
            result = "total / (float)count" if counted else f"total / {float(op.window[0] * op.window[1])}f"
        else:
            step = f"acc += {element}{_minus(code, op.input_zero)};\n"
        return code.render(
            "pool.c.j2",
            y=y, rows=rows, columns=columns, type=scalar(dtype), start=start, step=step, counted=counted, result=result,
            store=scalars.store(group, code, y.position("n", "oy", "ox", "c", op.layout), "acc"),
        )  # fmt: skip


def _added(term: str, dtype: DType) -> str:
    """C: acc += term, an element of this dtype. Sums of wide integers wrap, as NumPy's do, by way of unsigned ones."""
    if dtype.is_float or dtype.bits <= 16:
        return f"acc += {term};\n"
    return f"acc = ({CTYPES[dtype]})((uint{dtype.bits}_t)acc + (uint{dtype.bits}_t)({term}));\n"


def _minus(code: Code, zero: int) -> str:
    return f" - {code.number(zero, I32)}" if zero else ""


class PortableReduce(Portable):
    """One result at a time: loops over the axes that stay, and within them over those that go."""

    name = "reduce"
    ops = (ReduceMean, ReduceSum, ReduceMax, ReduceMin)

    def emit(self, group: Group, code: Code) -> str:
        op, (x_value,) = group.op, group.anchor.operands
        shape, dtype = group.shape(x_value), group.anchor.result.type.dtype
        names = variables(shape)
        kept = [a for a in range(len(shape)) if a not in op.axes]
        at = tuple("0" if a in op.axes else n for a, n in enumerate(names) if op.keepdims or a not in op.axes)
        element = f"{scalars.pointer(group, code, x_value)}[{index(names, dense_strides(shape))}]"
        start, finish = "0", ""
        if isinstance(op, ReduceMax | ReduceMin):
            greater = isinstance(op, ReduceMax)
            start = farthest(code, dtype, greater)
            step = f"const {scalar(dtype)} x = {element};\n" + extremum("acc", "x", dtype, greater)
        else:
            step = _added(f"{element}{_minus(code, getattr(op, 'input_zero', 0))}", x_value.type.dtype)
        if isinstance(op, ReduceMean):
            finish = f"acc /= {float(math.prod(shape[a] for a in op.axes))}f;\n"
        inner = nest([names[a] for a in op.axes], [shape[a] for a in op.axes], step)
        store = scalars.store(group, code, position(at, group.shape(group.result)), "acc")
        body = f"{scalar(dtype)} acc = {start};\n{inner}{finish}{store}"
        return nest([names[a] for a in kept], [shape[a] for a in kept], body)


class PortableSoftmax(Portable):
    """Row by row: the maximum; exponentials and their sum; quotients. Exponentials wait in a float result."""

    name = "softmax"
    ops = (Softmax,)

    def emit(self, group: Group, code: Code) -> str:
        code.header("math.h")
        (x_value,) = group.anchor.operands
        shape = group.shape(x_value)
        names = (*variables(shape[:-1]), "j")
        at = position(names, shape)
        x = f"{scalars.pointer(group, code, x_value)}[{at.flat}]"
        kept = group.result.type.dtype == F32
        exponential = f"expf({x} - max)"
        loop = f"for (int32_t j = 0; j < {shape[-1]}; ++j) {{\n"
        numerator = f"y[{at.flat}]" if kept else exponential
        keep = f"y[{at.flat}] = e;\n" if kept else ""
        body = (
            f"float max = -INFINITY;\n{loop}const float x = {x};\n{extremum('max', 'x', F32)}}}\n"
            f"float sum = 0.0f;\n{loop}const float e = {exponential};\n{keep}sum += e;\n}}\n"
            f"{loop}const float acc = {numerator} / sum;\n{scalars.store(group, code, at, 'acc')}}}\n"
        )
        return nest(names[:-1], shape[:-1], body)

    def in_place(self, group: Group) -> tuple[int, ...]:
        if group.result.type.dtype != F32:
            return epilogue.residuals(group)
        # Exponentials overwrite the result's place before the epilogue reads any operand, but after x has been read.
        x = group.top(group.anchor.operands[0])
        later = {group.top(v) for n in group.epilogue for v in n.operands}
        return tuple(i for i, v in enumerate(group.parameters) if v is x and v not in later)


class PortableLayerNorm(Portable):
    """Row by row: the mean; the variance; quotients."""

    name = "layer_norm"
    ops = (LayerNorm,)

    def emit(self, group: Group, code: Code) -> str:
        code.header("math.h")
        x_value, scale, shift = group.anchor.operands
        shape = group.shape(x_value)
        names = (*variables(shape[:-1]), "j")
        at = position(names, shape)
        x = f"{scalars.pointer(group, code, x_value)}[{at.flat}]"
        factor, term = (f"{scalars.pointer(group, code, v)}[j]" for v in (scale, shift))
        loop, size = f"for (int32_t j = 0; j < {shape[-1]}; ++j) {{\n", code.number(shape[-1], F32)
        body = (
            f"float mean = 0.0f;\n{loop}mean += {x};\n}}\nmean /= {size};\n"
            f"float variance = 0.0f;\n{loop}const float d = {x} - mean;\nvariance += d * d;\n}}\n"
            f"const float deviation = sqrtf(variance / {size} + {code.number(group.op.epsilon, F32)});\n"
            f"{loop}const float acc = ({x} - mean) / deviation * {factor} + {term};\n"
            f"{scalars.store(group, code, at, 'acc')}}}\n"
        )
        return nest(names[:-1], shape[:-1], body)


class PortableIntegerSoftmax(Portable):
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

    def emit(self, group: Group, code: Code) -> str:
        x_value, table = group.anchor.operands
        shape = group.shape(x_value)
        names = (*variables(shape[:-1]), "j")
        at = position(names, shape)
        x = f"{scalars.pointer(group, code, x_value)}[{at.flat}]"
        entry = f"{code.table('exp', group.array(table))}[max - {x}]"
        loop = f"for (int32_t j = 0; j < {shape[-1]}; ++j) {{\n"
        body = (
            f"int32_t max = -128;\n{loop}const int32_t x = {x};\n{extremum('max', 'x', I32)}}}\n"
            f"int32_t sum = 0;\n{loop}sum += {entry};\n}}\n"
            "const uint32_t reciprocal = (uint32_t)(INT32_MAX / sum);\n"
            f"{loop}const int32_t q = (int32_t)(((uint32_t){entry} * reciprocal + (1u << 22)) >> 23) - 128;\n"
            f"const int32_t acc = q < 127 ? q : 127;\n{scalars.store(group, code, at, 'acc')}}}\n"
        )
        return nest(names[:-1], shape[:-1], body)
