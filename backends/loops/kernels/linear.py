"""Convolutions and products, one result at a time, of any layout, strides, pads, dilations and groups."""

from __future__ import annotations

import numpy as np

from ....ir.graph import Value
from ....ir.ops.conv import Conv2d
from ....ir.ops.dense import Dense, Matmul
from ....ir.types import I16, I32, NCHW, Array
from ....runtime.target import Unsupported
from ...group import Group, uniform
from ..code import Code
from ..epilogue import Position
from ..expressions import Expr, convert, dense_strides, flat, number, table
from ..kernel import LoopKernel
from .reduce import accumulate
from .windows import Sliding


class Linear(LoopKernel):
    """Base: operands are x, constant weights whose first axis is the output channel, and a constant bias."""

    def accepts(self, group: Group) -> Unsupported | None:
        if any(group.constant(v) is None for v in group.anchor.operands[1:]):
            return Unsupported(f"weights or bias of {group.op.name} are computed, not constant", "use matmul and add")
        return super().accepts(group)


def folded_bias(w: Array, b: Array, zero: int) -> Array | None:
    """The bias minus zero * sum(w), so that x needs no zero point; None where partial sums might exceed 32 bits."""
    sums = w.reshape(len(w), -1).astype(np.int64)
    folded = b - zero * sums.sum(1)
    reach = np.abs(folded) + np.abs(sums).sum(1) * 2**15
    return folded.astype(np.int32) if reach.max() <= I32.max else None


class Weights:
    """Weights [channels, ...]. Those of 16 bits lie in 8, less an offset, where those of each channel span no more.

    So do asymmetric weights of 8 bits, from which their zero points have been taken.
    """

    def __init__(self, w: Array) -> None:
        self.stored, self.offsets = w, np.zeros(len(w), np.int16)
        if w.dtype != np.int16:
            return
        rows = w.reshape(len(w), -1).astype(np.int64)
        offsets = np.minimum(rows.min(1) + 128, I16.max)
        if (rows.max(1) - offsets).max() > 127:
            return
        if rows.max() - rows.min() <= 255:
            offsets = np.full_like(offsets, offsets.min())
        self.stored, self.offsets = (rows - offsets[:, None]).astype(np.int8), offsets.astype(np.int16)

    def load(self, code: Code, channel: Expr, index: Expr) -> Expr:
        """The weight at a flat index, of this channel; integers as I32."""
        element = code.load(table(self.stored, "weights"), index)
        if self.stored.dtype.kind == "f":
            return element
        element = convert(element, I32)
        if self.stored.dtype != np.int8 or not self.offsets.any():
            return element
        one = uniform(self.offsets)
        if one is not None:
            return element + int(one)
        return element + convert(code.load(table(self.offsets, "offsets"), channel), I32)


class Conv2dKernel(Linear):
    """A sum over the taps of a window and the channels of its group."""

    name = "conv2d"
    ops = (Conv2d,)

    def accepts(self, group: Group) -> Unsupported | None:
        weights = group.constant(group.anchor.operands[1])
        if weights is not None and any(group.op.pads) and not np.isfinite(weights).all():
            return Unsupported(
                "weights are infinite or no number: times the zeros of the padding, which is passed over, no number",
                "export a checkpoint with finite weights",
            )
        return super().accepts(group)

    def write(self, group: Group, code: Code) -> None:
        op, layout = group.op, group.op.layout
        x, w_value, b_value = group.anchor.operands
        w, bias = group.array(w_value), group.array(b_value)
        if layout is NCHW:
            w = w.transpose(0, 2, 3, 1)
        rows, columns = Sliding.of(group, (w.shape[1], w.shape[2]))
        zero = op.input_zero
        if zero and not (rows.padded or columns.padded):
            folded = folded_bias(w, bias, zero)
            zero, bias = (zero, bias) if folded is None else (0, folded)
        shape, dtype, source = group.shape(group.result), group.anchor.result.type.dtype, code.operand(x)
        weights, strides = Weights(w), dense_strides(group.shape(x))
        inputs, outputs = w.shape[3], w.shape[0] // op.groups

        def place(n: Expr, row: Expr, column: Expr, channel: Expr) -> list[Expr]:
            at = [n, channel, channel, channel]
            at[layout.spatial[0]], at[layout.spatial[1]] = row, column
            return at

        spatial = [shape[dim] for dim in layout.spatial]
        with code.loops([shape[0], *spatial, w.shape[0]]) as (n, y, x_, oc):
            acc = code.local(dtype, code.load(table(bias, "bias"), oc))
            first = code.let(oc / outputs * inputs) if op.groups > 1 else number(0, I32)
            with rows.taps(code, y) as (ky, iy), columns.taps(code, x_) as (kx, ix):

                def term(ic: Expr) -> Expr:
                    element = convert(code.load(source, flat(place(n, iy, ix, first + ic), strides)), dtype)
                    index = flat((oc, ky, kx, ic), dense_strides(w.shape))
                    return (element - zero if zero else element) * weights.load(code, oc, index)

                accumulate(code, acc, inputs, term)
            code.result(Position.of(place(n, y, x_, oc), shape), code.load(acc, 0))


class DenseKernel(Linear):
    """A row of the weights times a row of the input."""

    name = "dense"
    ops = (Dense,)

    def write(self, group: Group, code: Code) -> None:
        x, w_value, b_value = group.anchor.operands
        w, bias, zero = group.array(w_value), group.array(b_value), group.op.input_zero
        if zero and (folded := folded_bias(w, bias, zero)) is not None:
            zero, bias = 0, folded
        shape, inputs, dtype = group.shape(group.result), w.shape[1], group.anchor.result.type.dtype
        source, weights = code.operand(x), Weights(w)
        with code.loops(shape) as axes:
            acc = code.local(dtype, code.load(table(bias, "bias"), axes[-1]))
            row = flat((*axes[:-1], 0), dense_strides((*shape[:-1], inputs)))

            def term(k: Expr) -> Expr:
                element = convert(code.load(source, row + k), dtype)
                weight = weights.load(code, axes[-1], flat((axes[-1], k), (inputs, 1)))
                return (element - zero if zero else element) * weight

            accumulate(code, acc, inputs, term)
            code.result(Position.of(axes, shape), code.load(acc, 0))


class MatmulKernel(LoopKernel):
    """Either operand may be constant; leading axes broadcast."""

    name = "matmul"
    ops = (Matmul,)

    def write(self, group: Group, code: Code) -> None:
        a, b = group.anchor.operands
        shape, inputs, dtype = group.shape(group.result), group.shape(a)[-1], group.anchor.result.type.dtype
        with code.loops(shape) as axes:
            acc = code.local(dtype, 0)

            def element(value: Value, *last: Expr) -> Expr:
                own = group.shape(value)
                batch = axes[len(shape) - len(own) : -2]
                dense = dense_strides(own)
                strides = [0 if size == 1 else s for size, s in zip(own[:-2], dense[:-2], strict=True)]
                return convert(code.load(code.operand(value), flat((*batch, *last), (*strides, *dense[-2:]))), dtype)

            accumulate(code, acc, inputs, lambda k: element(a, axes[-2], k) * element(b, k, axes[-1]))
            code.result(Position.of(axes, shape), code.load(acc, 0))
