"""What `Op.quantized` works with: operands and result of one node in terms of integers.

`fold-quantization` finds dequantize -> op -> quantize and asks the op for the integer graph that replaces it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arithmetic import fixed_point
from .graph import Value, apply
from .op import Op
from .types import Array, DType, Quant, TensorType


@dataclass(frozen=True)
class Refusal:
    """The op cannot be computed on integers here; the node stays float, and the reason is reported."""

    reason: str


@dataclass(frozen=True)
class QuantizedOperand:
    """One operand: integers (`value`, real = scale * (value - zero)) or a float constant (`value` None).

    type: the operand as the float op sees it. scale: float64, zero: int64; both scalars ([]) or broadcastable to the
    operand's shape. real: the float array, where the operand is a constant, quantized or not.
    """

    type: TensorType
    value: Value | None
    scale: Array
    zero: Array
    real: Array | None = None

    @property
    def is_integer(self) -> bool:
        return self.value is not None

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1 and self.zero.size == 1


@dataclass(frozen=True)
class QuantizedResult:
    """The result that is wanted: dtype, scale and zero point (per tensor), and the clamp [lo, hi] on the integers."""

    type: TensorType
    dtype: DType
    scale: float
    zero: int
    lo: int
    hi: int

    @property
    def quant(self) -> Quant:
        return Quant.of(self.scale, self.zero)

    @property
    def clamps(self) -> bool:
        """Whether [lo, hi] is narrower than the dtype."""
        return self.lo > self.dtype.min or self.hi < self.dtype.max

    def rescaled(self, acc: Value, factor: Array | float, input_zero: int = 0) -> Value:
        """`rescale` of an integer value whose real value is proportional: result = zero + (acc - input_zero) * factor.

        factor: real multiplier(s), a scalar or broadcastable to acc.
        """
        from .ops.quant import rescale

        multiplier, shift = (
            part.reshape(np.shape(factor) or (1,) * bool(acc.type.rank)) for part in fixed_point(factor)
        )
        value: Value = rescale(
            acc, multiplier, shift, input_zero=input_zero, zero=self.zero, lo=self.lo, hi=self.hi, dtype=self.dtype
        )
        value.type = value.type.with_quant(self.quant)
        return value


def moved(op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
    """Integer form of a data movement: rescale what has another scale, then move the integers."""
    values = []
    for operand in operands:
        if operand.value is None or not operand.per_tensor:
            return Refusal("an operand is not quantized per tensor")
        scale, zero = float(operand.scale.item()), int(operand.zero.item())
        same = operand.value.type.dtype == result.dtype and np.float32(scale) == np.float32(result.scale)
        if same and zero == result.zero and not result.clamps:
            values.append(operand.value)
        else:
            values.append(result.rescaled(operand.value, scale / result.scale, input_zero=zero))
    return apply(op, *values).result
