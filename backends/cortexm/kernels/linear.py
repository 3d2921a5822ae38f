"""Portable convolutions and products: any layout, strides, pads, dilations and groups, float and integer."""

from __future__ import annotations

from ....ir.ops.conv import Conv2d
from ....ir.types import I32, NCHW, NHWC
from ....runtime.target import Unsupported
from .. import scalars
from ..code import Code, scalar
from ..group import Group
from ..kernel import Kernel
from .image import Image, sliding


class PortableConv2d(Kernel):
    """One output at a time: a sum over the taps of its window and the channels of its group."""

    name = "conv2d"
    ops = (Conv2d,)

    def accepts(self, group: Group) -> Unsupported | None:
        w, b = (group.constant(v) for v in group.anchor.operands[1:])
        if w is None or b is None:
            return Unsupported("weights or bias are computed, not constant")
        return scalars.refusal(group)

    def emit(self, group: Group, code: Code) -> str:
        op = group.op
        x_value, w_value, b_value = group.anchor.operands
        w, b = group.array(w_value), group.array(b_value)
        if op.layout is NCHW:
            w = w.transpose(0, 2, 3, 1)
        x = Image.of(group.shape(x_value), op.layout)
        y = Image.of(group.shape(group.result), op.layout)
        rows, columns = sliding(op, x, y, (w.shape[1], w.shape[2]))
        dtype = group.anchor.result.type.dtype
        channel = "first + ic" if op.groups > 1 else "ic"
        element = f"{group.parameter(x_value)}[{x.at('n', 'iy', 'ix', f'({channel})')}]"
        if dtype == I32 and op.input_zero:
            element = f"({element} - {code.number(op.input_zero, I32)})"
        kernel = Image.of(w.shape, NHWC)
        return code.render(
            "conv2d.c.j2",
            x=x, y=y, rows=rows, columns=columns, inputs=w.shape[3], outputs=w.shape[0] // op.groups,
            acc_type=scalar(dtype), element=element, w_index=kernel.at("oc", "ky", "kx", "ic"),
            weights=code.table("weights", w), bias=code.table("bias", b),
            store=scalars.store(group, code, y.position("n", "oy", "ox", "oc", op.layout), "acc"),
        )  # fmt: skip
