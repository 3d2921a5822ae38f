"""What `Op.quantized` works with: operands and result of one node in terms of integers; and its answers for most ops.

`fold-quantization` finds dequantize -> op -> quantize and asks for the integer graph that replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .. import arithmetic
from ..arithmetic import fixed_point
from ..builder import const_value
from ..graph import Value, apply
from ..op import Bounds, Op
from ..types import I8, I16, Array, DType, Quant, TensorType
from .quant import rescale, table


@dataclass(frozen=True)
class Refusal:
    """The op cannot be computed on integers here; the node stays float, and the reason is reported.

    excess: where only the weights' scales are too small, how many times too large each output channel's integers are.
    rounded: where only constants lie between the steps of the integers, the nearest ones that do not, by operand.
    """

    reason: str
    excess: Array | None = None
    rounded: Mapping[int, Array] = field(default_factory=dict)


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


def symmetric(x: QuantizedOperand) -> QuantizedOperand | Refusal:
    """The same constant with zero point 0 and positive scales: the integers less their zero points, in 8 bits or 16.

    Exact. An operand that is no constant is itself, where its zero point is 0 already. Scales that are 0, as those of
    channels without weights, become the largest one.
    """
    assert x.value is not None
    if not np.any(x.zero) and np.all(x.scale > 0):
        return replace(x, scale=squeezed(x.scale), zero=np.array(0))
    if x.value.const is None:
        return Refusal("weights that are computed have a zero point; symmetric ones are needed")
    centred = (x.value.const.astype(np.int64) - x.zero) * np.sign(x.scale).astype(np.int64)
    dtype = next((d for d in (I8, I16) if d.min <= centred.min(initial=0) and centred.max(initial=0) <= d.max), None)
    if dtype is None:
        return Refusal("the weights less their zero point do not fit 16 bits")
    scale = np.where(x.scale == 0, np.abs(x.scale).max() or 1.0, np.abs(x.scale))
    return replace(x, value=const_value(centred.astype(dtype.numpy)), scale=squeezed(scale), zero=np.array(0))


def squeezed(array: Array) -> Array:
    """The smallest array that broadcasts to this one: axes along which nothing changes have size 1; [] if none does."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if np.all(array == first):
            array = first
    return array.reshape(()) if array.size == 1 else array


#: Times it, every integer but 0 is beyond 16 bits, and saturates: so it does times anything larger.
LARGEST_FACTOR = 2.0**28


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

        factor: real multiplier(s), a scalar or broadcastable to acc. Above `LARGEST_FACTOR` they make no difference.
        """
        shape = np.shape(factor) or (1,) * bool(acc.type.rank)
        multiplier, shift = (part.reshape(shape) for part in fixed_point(np.minimum(factor, LARGEST_FACTOR)))
        value: Value = rescale(
            acc, multiplier, shift, input_zero=input_zero, zero=self.zero, lo=self.lo, hi=self.hi, dtype=self.dtype
        )
        value.type = value.type.with_quant(self.quant)
        return value

    def requantized(self, operand: QuantizedOperand) -> Value:
        """An operand (per tensor) in the result's scale, zero point and clamp; itself where it has them already."""
        assert operand.value is not None
        scale, zero = float(operand.scale.item()), int(operand.zero.item())
        same = operand.value.type.dtype == self.dtype and np.float32(scale) == np.float32(self.scale)
        if same and zero == self.zero and not self.clamps:
            return operand.value
        return self.rescaled(operand.value, scale / self.scale, input_zero=zero)

    def of_reals(self, x: Array) -> Array:
        """Reals as integers of this result."""
        return arithmetic.quantize(x, np.array(self.scale), np.array(self.zero), self.lo, self.hi).astype(
            self.dtype.numpy
        )


def overflow(acc: Value) -> Array:
    """How many times too large for i32 an accumulator of integers (and constants) may become: at most 1 is proven."""
    node = acc.producer
    assert node is not None
    known = [Bounds.top(v.type) if v.const is None else Bounds.exactly(v.const) for v in node.operands]
    bounds = node.op.accumulator(*known)
    assert bounds is not None
    return np.maximum(np.abs(bounds.lo), np.abs(bounds.hi)) / np.iinfo(np.int32).max


NOT_PROVEN = "the sum is not proven to fit 32 bits"


def integer_form(op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
    """The integer graph that replaces dequantize -> op -> quantize, or why there is none.

    What the op's own `quantized` says. By default an op that keeps the scale is applied to the integers, and an
    elementwise one becomes a table of its own results; others are refused and stay float.
    """
    own = op.quantized(operands, result)
    if own is not None:
        return own
    if op.keeps_scale:
        return moved(op, operands, result)
    return tabulated(op, operands, result) if op.elementwise else Refusal(f"{op.name} has no integer form")


def integer_sum(op: Op, operands: Sequence[QuantizedOperand]) -> Value | Refusal:
    """The float result of an integer sum that replaces dequantize -> op: `Op.dequantized`; by default there is none."""
    own = op.dequantized(operands)
    return Refusal(f"{op.name} has no integer sum") if own is None else own


def moved(op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
    """Integer form of an op that keeps the scale: rescale operands that have another, then apply it to the integers.

    Exact but for the rescaling: movements and comparisons commute with a monotone change of scale.
    """
    values = []
    for operand in operands:
        if operand.real is not None:
            values.append(const_value(result.of_reals(operand.real)))
        elif operand.value is not None and operand.per_tensor:
            values.append(result.requantized(operand))
        else:
            return Refusal("an operand is not quantized per tensor")
    value = apply(op, *values).result
    value.type = value.type.with_quant(result.quant)
    return value


def tabulated(op: Op, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
    """Integer form of an elementwise op on one 8-bit tensor and scalar constants: a table of its 256 results.

    Exact: each entry is what dequantize, the op and quantize give.
    """
    varying = [i for i, operand in enumerate(operands) if operand.real is None]
    if len(varying) != 1:
        return Refusal(f"{op.name} of {len(varying)} tensors has no integer form")
    if any(i not in varying and operand.type.size != 1 for i, operand in enumerate(operands)):
        return Refusal(f"{op.name} with a constant that is no scalar has no integer form")
    x = operands[varying[0]]
    if x.value is None or not x.per_tensor or x.value.type.dtype.bits != 8:
        return Refusal("the operand is not an 8-bit tensor with one scale")
    dtype = x.value.type.dtype
    codes = np.arange(dtype.min, dtype.max + 1) - x.zero.item()
    reals = codes.astype(np.float32) * np.float32(x.scale.item())
    with np.errstate(all="ignore"):
        outputs = op.ref(
            *(reals if o.real is None else o.real.reshape(()).astype(o.type.dtype.numpy) for o in operands)
        )
    entries = result.of_reals(np.broadcast_to(outputs, (256,)))
    value: Value = table(x.value, entries)
    if value.type.shape != result.type.shape:
        return Refusal(f"{op.name} broadcasts its operand")
    value.type = value.type.with_quant(result.quant)
    return value
