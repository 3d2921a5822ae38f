"""Ops that pick or repeat elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from ..builder import builder
from ..channels import Kept
from ..op import Bounds, Draw, Instance, Op, Perm, expect, expect_dtype, invert, op
from ..roles import ACTIVATION, PARAMETER, Role
from ..types import F32, I8, I32, I64, Array, Shape, Sym, TensorType, broadcast, static
from .shape import resized_shape


@op
class Gather(Op):
    """Result index j along `axis` is operand index indices[j]; indices are not negative. ONNX Gather-13, constant."""

    moves_data: ClassVar[bool] = True
    axis: int
    indices: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        expect(0 <= self.axis < x.rank, f"{x} has no axis {self.axis}")
        size = x.shape[self.axis]
        if isinstance(size, Sym):
            expect(False, f"dimension {size} must be known to be gathered")
        low, high = min(self.indices, default=0), max(self.indices, default=-1)
        expect(low >= 0 and high < size, f"indices {low}..{high} of axis {self.axis} of {x}")  # type: ignore[operator]
        return x.with_shape((*x.shape[: self.axis], len(self.indices), *x.shape[self.axis + 1 :]))

    def ref(self, x: Array) -> Array:
        return x.take(np.asarray(self.indices, np.int64), axis=self.axis)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return self.like(axis=perm[self.axis]), (None,), perm

    def resized(self, operands: Sequence[TensorType], kept: Kept) -> Self:
        if (0, self.axis) not in kept.operands:
            return self
        left = np.asarray(self.indices, np.int64)[kept.results[0, self.axis]]
        return self.like(indices=tuple(np.searchsorted(kept.operands[0, self.axis], left).tolist()))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(1)
        axis = draw.integer(0, len(shape) - 1)
        indices = tuple(draw.integer(0, shape[axis] - 1) for _ in range(draw.integer(1, 5)))
        return Instance.of(Gather(axis, indices), draw.array(shape, draw.dtype(F32, I8)))


@op
class Expand(Op):
    """Repeat along dimensions of size 1, and along new leading ones, up to `shape`. ONNX Expand-13."""

    moves_data: ClassVar[bool] = True
    shape: Shape

    def infer(self, x: TensorType) -> TensorType:
        expect(broadcast(x.shape, self.shape) == self.shape, f"{x} does not expand to {list(self.shape)}")
        return x.with_shape(self.shape)

    def ref(self, x: Array) -> Array:
        return np.broadcast_to(x, static(self.shape))

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        if len(self.shape) != len(perm):
            return None
        return self.like(shape=tuple(self.shape[i] for i in invert(perm))), (None,), perm

    def resized(self, operands: Sequence[TensorType], kept: Kept) -> Self:
        return self.like(shape=resized_shape(self.shape, kept))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape()
        source = tuple(d if draw.boolean() else 1 for d in shape)
        return Instance.of(Expand(shape), draw.array(source, draw.dtype(F32, I8)))


@op
class Take(Op):
    """As gather, with indices that are computed: i32 or i64 of any rank, negative ones from the end. ONNX Gather-13.

    x: [..., K, ...] with K on `axis`, indices: [I...] -> [..., I..., ...]. What an index beyond K gives is not defined.
    """

    ulps: ClassVar[float] = 0
    axis: int

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        expect(0 <= self.axis < x.rank, f"{x} has no axis {self.axis}")
        expect_dtype(indices.dtype in (I32, I64), f"indices are i32 or i64, not {indices}")
        return x.with_shape((*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :]))

    def ref(self, x: Array, indices: Array) -> Array:
        return x.take(indices, axis=self.axis, mode="wrap")

    def error(self, x: Array, indices: Array) -> Array:
        return np.zeros((*x.shape[: self.axis], *indices.shape, *x.shape[self.axis + 1 :]))

    def bounds(self, x: Bounds, indices: Bounds) -> Bounds:
        return Bounds(self.infer(x.type, indices.type), x.lo.min(), x.hi.max())

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return ACTIVATION, PARAMETER

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(1, 3)
        axis = draw.integer(0, len(shape) - 1)
        indices = draw.array(draw.shape(0, 2), draw.dtype(I64, I32), -shape[axis], shape[axis] - 1)
        return Instance.of(Take(axis), draw.array(shape, draw.dtype(F32, I8)), indices)


gather, expand, take = builder(Gather), builder(Expand), builder(Take)
