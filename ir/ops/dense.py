"""Fully connected layers and matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from ..builder import builder
from ..channels import Channels, summed, tied
from ..graph import Value
from ..op import Bounds, Cost, Draw, Instance, Op, Perm, expect, last_axis_permuted, op, traffic
from ..roles import ACTIVATION, BIAS, SYMMETRIC, Role, weight
from ..types import F32, I8, I32, Array, Sym, TensorType, broadcast, static
from .contraction import accumulated, contract, dequantized_linear, linear_bounds, quantized_linear
from .quantized import NOT_PROVEN, QuantizedOperand, QuantizedResult, Refusal, overflow, symmetric
from .windows import centred


@op
class Dense(Op):
    """Fully connected layer. x: [..., K], w: [O, K], b: [O] -> [..., O]. ONNX Gemm-13 with transB and a bias.

    Floats give their own dtype; integers give i32: sum((x - input_zero) * w) + b.
    """

    input_zero: int = 0

    def infer(self, x: TensorType, w: TensorType, b: TensorType) -> TensorType:
        expect(x.rank >= 1 and w.rank == 2 and x.shape[-1] == w.shape[1], f"weights {w} do not fit {x}")
        expect(b.shape == w.shape[:1], f"bias {b} is not [{w.shape[0]}]")
        return TensorType((*x.shape[:-1], w.shape[0]), accumulated(x, w, b))

    def ref(self, x: Array, w: Array, b: Array) -> Array:
        return contract(centred(x, self.input_zero), w.T) + b

    def cost(self, x: TensorType, w: TensorType, b: TensorType) -> Cost:
        return traffic(self, (x, w, b), macs=x.size * b.size)

    def bounds(self, x: Bounds, w: Bounds, b: Bounds) -> Bounds:
        result = self.infer(x.type, w.type, b.type)
        lo, hi = (end.reshape(1, -1) - self.input_zero for end in x.over(range(x.type.rank - 1)))
        return Bounds(result, *linear_bounds((lo, hi), w, b))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return ACTIVATION, weight(0, (1,)), BIAS

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        return quantized_linear(self, operands, result, None)

    def dequantized(self, operands: Sequence[QuantizedOperand]) -> Value | Refusal:
        return dequantized_linear(self, operands, None)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return last_axis_permuted(self, perm, 3)

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        last, (outputs, inputs) = operands[0].rank - 1, static(operands[1].shape)
        return tied([(1, 0), (2, 0)], [(0, last)], outputs), summed([(0, last), (1, 1)], inputs, bias=2)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        k, outputs, integer = draw.integer(1, 9), draw.integer(1, 7), draw.boolean()
        dtype = I8 if integer else F32
        x = draw.array((*draw.shape(0, 2, 3), k), dtype)
        w, b = draw.array((outputs, k), dtype), draw.array((outputs,), I32 if integer else F32, -1000, 1000)
        return Instance.of(Dense(draw.integer(-128, 127) if integer else 0), x, w, b, constants=(1, 2))


dense = builder(Dense)


@op
class Matmul(Op):
    """Matrix product of two activations, batched by broadcasting. a: [..., M, K], b: [..., K, N]. ONNX MatMul-13.

    Floats give their own dtype; integers (symmetric) give i32.
    """

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        expect(a.rank >= 2 and b.rank >= 2 and a.shape[-1] == b.shape[-2], f"{a} and {b} do not multiply")
        batch = broadcast(a.shape[:-2], b.shape[:-2])
        return TensorType((*batch, a.shape[-2], b.shape[-1]), accumulated(a, b))

    def ref(self, a: Array, b: Array) -> Array:
        return contract(a, b)

    def cost(self, a: TensorType, b: TensorType) -> Cost:
        return traffic(self, (a, b), macs=self.infer(a, b).size * int(a.shape[-1]))  # type: ignore[arg-type]

    def bounds(self, a: Bounds, b: Bounds) -> Bounds:
        result, terms = self.infer(a.type, b.type), a.type.shape[-1]
        products = [x * y for x in (a.lo.min(), a.hi.max()) for y in (b.lo.min(), b.hi.max())]
        if isinstance(terms, Sym) or not np.all(np.isfinite(products)):
            return Bounds.top(result)
        return Bounds(result, np.asarray(min(products) * terms), np.asarray(max(products) * terms))

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return SYMMETRIC, SYMMETRIC

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        if any(v.value is None or not v.per_tensor for v in operands):
            return Refusal("an operand is not quantized per tensor")
        a, b = (symmetric(v) if v.real is not None else v for v in operands)
        if isinstance(a, Refusal) or isinstance(b, Refusal):
            return a if isinstance(a, Refusal) else b  # type: ignore[return-value]
        if a.zero.item() or b.zero.item():
            return Refusal("a product of two tensors needs both symmetric (zero point 0)")
        acc = matmul(a.value, b.value)
        if overflow(acc) > 1:
            return Refusal(NOT_PROVEN)
        return result.rescaled(acc, float(a.scale.item() * b.scale.item()) / result.scale)

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        a, b = operands
        rank, (rows, terms), columns = self.infer(a, b).rank, a.shape[-2:], b.shape[-1]
        found = [tied([(0, a.rank - 2)], [(0, rank - 2)], rows)] if isinstance(rows, int) else []
        if isinstance(columns, int):
            found.append(tied([(1, b.rank - 1)], [(0, rank - 1)], columns))
        if isinstance(terms, int):
            found.append(summed([(0, a.rank - 1), (1, b.rank - 2)], terms))
        return tuple(found)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        batch, (m, n), k = draw.shape(0, 2, 3), draw.size2(1, 5), draw.integer(1, 6)
        dtype = draw.dtype(F32, I8)
        return Instance.of(Matmul(), draw.array((*batch, m, k), dtype), draw.array((*batch, k, n), dtype))


matmul = builder(Matmul)
