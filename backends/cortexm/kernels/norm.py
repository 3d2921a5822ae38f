"""Portable batch normalization."""

from __future__ import annotations

import numpy as np

from ....ir.ops.norm import BatchNorm
from ....ir.types import F32, NCHW
from ....runtime.target import Unsupported
from ...group import Group
from .. import scalars
from ..code import Code
from .loops import nest, position, variables
from .portable import Portable


class PortableBatchNorm(Portable):
    """(x - mean) * factor + shift, with factor = scale / sqrt(var + epsilon) computed beforehand."""

    name = "batch_norm"
    ops = (BatchNorm,)

    def accepts(self, group: Group) -> Unsupported | None:
        if any(group.constant(v) is None for v in group.anchor.operands[1:]):
            return Unsupported("the parameters of batch_norm are computed, not constant")
        if group.result.type.dtype.is_float and group.anchor.result.type.dtype != F32:
            return Unsupported(f"batch_norm of {group.anchor.result.type.dtype}")
        return super().accepts(group)

    def emit(self, group: Group, code: Code) -> str:
        x, *parameters = group.anchor.operands
        scale, shift, mean, var = (group.array(v) for v in parameters)
        with np.errstate(all="ignore"):  # of a negative variance, as in `ref`
            factor = scale / np.sqrt(var + var.dtype.type(group.op.epsilon))
        shape = group.shape(x)
        names = variables(shape)
        channel = names[1 if group.op.layout is NCHW else -1]
        at = position(names, shape)
        factors, shifts, means = (
            f"{code.table(label, array)}[{channel}]"
            for label, array in (("factor", factor), ("shift", shift), ("mean", mean))
        )
        acc = f"const float acc = ({scalars.pointer(group, code, x)}[{at.flat}] - {means}) * {factors} + {shifts};\n"
        return nest(names, shape, acc + scalars.store(group, code, at, "acc"))
