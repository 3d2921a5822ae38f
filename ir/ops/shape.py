"""Ops that only move data: reshape, transpose, concat, slice, pad, gather, expand, depth to space."""

from __future__ import annotations

from typing import ClassVar

from ..builder import builder
from ..op import Draw, Instance, Op, Perm, expect, op
from ..types import F32, I8, Array, Shape, Sym, TensorType, count


@op
class Reshape(Op):
    """The same elements, in row-major order, in another shape. ONNX Reshape-21, Flatten, Squeeze, Unsqueeze."""

    moves_data: ClassVar[bool] = True
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        expect(count(x.shape) == count(self.shape), f"{x} does not have the elements of {list(self.shape)}")
        return x.with_shape(self.shape)

    def ref(self, x: Array) -> Array:
        # A symbol is whatever makes the sizes agree.
        return x.reshape([-1 if isinstance(d, Sym) else d for d in self.shape])

    @staticmethod
    def examples(draw: Draw) -> Instance:
        a, b, c = (draw.integer(1, 4) for _ in range(3))
        shape = draw.choice([(a * b, c), (a, b * c), (a * b * c,), (c, b, a), (1, a, b, c)])
        return Instance.of(Reshape(shape), draw.array((a, b, c), draw.dtype(F32, I8)))


@op
class Transpose(Op):
    """Result axis i is operand axis perm[i]. ONNX Transpose-21."""

    moves_data: ClassVar[bool] = True
    perm: Perm

    def infer(self, x: TensorType) -> TensorType:
        expect(sorted(self.perm) == list(range(x.rank)), f"{list(self.perm)} is no permutation of {x}'s axes")
        return x.with_shape(tuple(x.shape[i] for i in self.perm))

    def ref(self, x: Array) -> Array:
        return x.transpose(self.perm)

    @staticmethod
    def examples(draw: Draw) -> Instance:
        perm = draw.choice([(1, 0), (0, 2, 1), (2, 0, 1), (0, 3, 1, 2), (0, 2, 3, 1)])
        shape = tuple(draw.integer(1, 4) for _ in perm)
        return Instance.of(Transpose(perm), draw.array(shape, draw.dtype(F32, I8)))


reshape, transpose = builder(Reshape), builder(Transpose)
