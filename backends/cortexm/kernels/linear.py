"""Portable convolutions and products: any layout, strides, pads, dilations and groups, float and integer."""

from __future__ import annotations

import numpy as np

from ....ir.ops.conv import Conv2d
from ....ir.ops.dense import Dense, Matmul
from ....ir.types import I16, I32, NCHW, NHWC, Array
from ....runtime.target import Unsupported
from ...group import Group
from .. import scalars
from ..code import Code, scalar
from .image import Image, sliding
from .loops import accumulate, dense_strides, index, nest, position, variables
from .portable import Portable


class Linear(Portable):
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


def stored_weight(code: Code, w: Array, channel: str, index: str) -> str:
    """C: the weight at an index. Those of 16 bits lie in 8, less an offset, where those of each channel span no more.

    So do asymmetric weights of 8 bits, from which their zero points have been taken.
    """
    if w.dtype != np.int16:
        return f"{code.table('weights', w)}[{index}]"
    rows = w.reshape(len(w), -1).astype(np.int64)
    offsets = np.minimum(rows.min(1) + 128, I16.max)
    if (rows.max(1) - offsets).max() > 127:
        return f"{code.table('weights', w)}[{index}]"
    if rows.max() - rows.min() <= 255:
        offsets = np.full_like(offsets, offsets.min())
    table = code.table("weights", (rows - offsets[:, None]).astype(np.int8))
    one = bool(np.all(offsets == offsets[0]))
    offset = code.number(offsets[0], I32) if one else f"{code.table('offsets', offsets.astype(np.int16))}[{channel}]"
    return f"({table}[{index}] + {offset})"


class PortableConv2d(Linear):
    """One output at a time: a sum over the taps of its window and the channels of its group."""

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

    def emit(self, group: Group, code: Code) -> str:
        op = group.op
        x_value, w_value, b_value = group.anchor.operands
        w, b = group.array(w_value), group.array(b_value)
        if op.layout is NCHW:
            w = w.transpose(0, 2, 3, 1)
        x = Image.of(group.shape(x_value), op.layout)
        y = Image.of(group.shape(group.result), op.layout)
        rows, columns = sliding(op, x, y, (w.shape[1], w.shape[2]))
        channel = "first + ic" if op.groups > 1 else "ic"
        element = f"{scalars.pointer(group, code, x_value)}[{x.at('n', 'iy', 'ix', f'({channel})')}]"
        if op.input_zero:
            folded = folded_bias(w, b, op.input_zero) if not (rows.padded or columns.padded) else None
            if folded is None:
                element = f"({element} - {code.number(op.input_zero, I32)})"
            else:
                b = folded
        dtype = group.anchor.result.type.dtype
        weight = stored_weight(code, w, "oc", Image.of(w.shape, NHWC).at("oc", "ky", "kx", "ic"))
        return code.render(
            "conv2d.c.j2",
            x=x, y=y, rows=rows, columns=columns, inputs=w.shape[3], outputs=w.shape[0] // op.groups,
            acc_type=scalar(dtype), bias=code.table("bias", b),
            products=accumulate("ic", w.shape[3], f"{element} * {weight}", dtype.is_float),
            store=scalars.store(group, code, y.position("n", "oy", "ox", "oc", op.layout), "acc"),
        )  # fmt: skip


class PortableDense(Linear):
    """One output at a time: a row of the weights times a row of the input."""

    name = "dense"
    ops = (Dense,)

    def emit(self, group: Group, code: Code) -> str:
        x_value, w_value, b_value = group.anchor.operands
        w, b = group.array(w_value), group.array(b_value)
        zero, folded = group.op.input_zero, None
        if zero and (folded := folded_bias(w, b, zero)) is not None:
            zero, b = 0, folded
        shape, inputs = group.shape(group.result), w.shape[1]
        names = variables(shape)
        row = dense_strides((*shape[:-1], inputs))[:-1]
        x = f"{scalars.pointer(group, code, x_value)}[{index((*names[:-1], 'k'), (*row, 1))}]"
        if zero:
            x = f"({x} - {code.number(zero, I32)})"
        dtype = group.anchor.result.type.dtype
        weight = stored_weight(code, w, names[-1], index((names[-1], "k"), (inputs, 1)))
        return nest(
            names,
            shape,
            f"{scalar(dtype)} acc = {code.table('bias', b)}[{names[-1]}];\n"
            + accumulate("k", inputs, f"{x} * {weight}", dtype.is_float)
            + scalars.store(group, code, position(names, shape), "acc"),
        )


class PortableMatmul(Portable):
    """One output at a time; either operand may be constant; leading axes broadcast."""

    name = "matmul"
    ops = (Matmul,)

    def emit(self, group: Group, code: Code) -> str:
        a, b = group.anchor.operands
        shape, inputs = group.shape(group.result), group.shape(a)[-1]
        names = variables(shape)
        operands = []
        for value, last in ((a, (names[-2], "k")), (b, ("k", names[-1]))):
            own = group.shape(value)
            batch = names[len(shape) - len(own) : -2]
            strides = [0 if size == 1 else s for size, s in zip(own[:-2], dense_strides(own)[:-2], strict=True)]
            at = index((*batch, *last), (*strides, *dense_strides(own)[-2:]))
            operands.append(f"{scalars.pointer(group, code, value)}[{at}]")
        dtype = group.anchor.result.type.dtype
        return nest(
            names,
            shape,
            f"{scalar(dtype)} acc = 0;\n"
            + accumulate("k", inputs, f"{operands[0]} * {operands[1]}", dtype.is_float)
            + scalars.store(group, code, position(names, shape), "acc"),
        )
