"""Ops that only move data: reshape, transpose, concat, slice, pad, gather, expand, depth to space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from ..builder import builder
from ..channels import Kept
from ..graph import Value
from ..op import Bounds, Draw, Instance, Op, Perm, expect, invert, op
from ..types import F32, I8, NCHW, Array, Dim, Layout, Shape, Sym, TensorType, count, dtype_of
from .quantized import QuantizedOperand, QuantizedResult, Refusal, moved
from .windows import from_nhwc, to_layout


def resized_shape(shape: Shape, kept: Kept) -> Shape:
    """The shape of the (only) result when these of its slices are left."""
    left = {axis: len(indices) for (_, axis), indices in kept.results.items()}
    return tuple(left.get(axis, d) for axis, d in enumerate(shape))


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

    def resized(self, operands: Sequence[TensorType], kept: Kept) -> Self:
        return self.like(shape=resized_shape(self.shape, kept))

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


@op
class Concat(Op):
    """Operands one after another along an axis (not negative). ONNX Concat-13."""

    moves_data: ClassVar[bool] = True
    axis: int

    def infer(self, *operands: TensorType) -> TensorType:
        expect(bool(operands), "concat takes at least one operand")
        first, i = operands[0], self.axis
        expect(0 <= i < first.rank, f"{first} has no axis {i}")
        for t in operands:
            same = t.rank == first.rank and (*t.shape[:i], *t.shape[i + 1 :]) == (
                *first.shape[:i],
                *first.shape[i + 1 :],
            )
            expect(same and t.dtype == first.dtype, f"{t} and {first} do not concatenate along axis {i}")
        dims = [t.shape[i] for t in operands]
        expect(len(dims) == 1 or all(isinstance(d, int) for d in dims), "the concatenated dimensions must be known")
        return first.with_shape((*first.shape[:i], sum(dims) if len(dims) > 1 else dims[0], *first.shape[i + 1 :]))  # type: ignore[arg-type]

    def ref(self, *operands: Array) -> Array:
        return np.concatenate(operands, axis=self.axis)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        return self.like(axis=perm[self.axis]), (None, *(invert(perm) for _ in operands[1:])), perm

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape, dtype = draw.shape(1), draw.dtype(F32, I8)
        axis = draw.integer(0, len(shape) - 1)
        sizes = [draw.integer(1, 4) for _ in range(draw.integer(1, 3))]
        parts = [draw.array((*shape[:axis], n, *shape[axis + 1 :]), dtype) for n in sizes]
        return Instance.of(Concat(axis), *parts)


@op
class Slice(Op):
    """x[starts[i] : stops[i] : steps[i]] on every axis; starts and stops within [0, dim], steps >= 1. ONNX Slice-13."""

    moves_data: ClassVar[bool] = True
    starts: tuple[int, ...]
    stops: Shape
    steps: tuple[int, ...]

    def infer(self, x: TensorType) -> TensorType:
        expect(len(self.starts) == len(self.stops) == len(self.steps) == x.rank, f"slice bounds do not fit {x}")
        dims: list[Dim] = []
        for start, stop, step, dim in zip(self.starts, self.stops, self.steps, x.shape, strict=True):
            if isinstance(dim, Sym) or isinstance(stop, Sym):
                expect((start, stop, step) == (0, dim, 1), f"dimension {dim} must be known to be sliced")
                dims.append(dim)
            else:
                expect(step >= 1 and 0 <= start <= dim and 0 <= stop <= dim, f"slice {start}:{stop}:{step} of {dim}")
                dims.append(max(0, -(-(stop - start) // step)))
        return x.with_shape(tuple(dims))

    def ref(self, x: Array) -> Array:
        return x[
            tuple(
                slice(None) if isinstance(stop, Sym) else slice(start, stop, step)
                for start, stop, step in zip(self.starts, self.stops, self.steps, strict=True)
            )
        ]

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        back = invert(perm)
        moved = {k: tuple(getattr(self, k)[i] for i in back) for k in ("starts", "stops", "steps")}
        return self.like(**moved), (None,), perm

    def resized(self, operands: Sequence[TensorType], kept: Kept) -> Self | None:
        starts, stops, steps = map(list, (self.starts, self.stops, self.steps))
        for (_, axis), left in kept.operands.items():
            taken = np.searchsorted(left, starts[axis] + steps[axis] * kept.results[0, axis])
            gaps = set(np.diff(taken).tolist()) or {1}
            if len(gaps) > 1 or not taken.size:
                return None
            starts[axis], stops[axis], steps[axis] = int(taken[0]), int(taken[-1]) + 1, gaps.pop()
        return self.like(starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(1)
        starts = tuple(draw.integer(0, d - 1) for d in shape)
        stops = tuple(draw.integer(s + 1, d) for s, d in zip(starts, shape, strict=True))
        steps = tuple(draw.integer(1, 2) for _ in shape)
        return Instance.of(Slice(starts, stops, steps), draw.array(shape, draw.dtype(F32, I8)))


@op
class Pad(Op):
    """`before[i]` and `after[i]` (>= 0) elements of `value` around axis i. ONNX Pad-21, mode constant."""

    moves_data: ClassVar[bool] = True
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float = 0

    def infer(self, x: TensorType) -> TensorType:
        expect(len(self.before) == len(self.after) == x.rank, f"pads do not fit {x}")
        expect(min(*self.before, *self.after, 0) >= 0, "pads are not negative")
        dims: list[Dim] = []
        for before, after, dim in zip(self.before, self.after, x.shape, strict=True):
            expect(isinstance(dim, int) or before == after == 0, f"dimension {dim} must be known to be padded")
            dims.append(dim if isinstance(dim, Sym) else dim + before + after)
        return x.with_shape(tuple(dims))

    def ref(self, x: Array) -> Array:
        value = dtype_of(x).number(self.value)
        return np.pad(x, tuple(zip(self.before, self.after, strict=True)), constant_values=value)

    def bounds(self, x: Bounds) -> Bounds:
        moved, value = super().bounds(x), x.lo.dtype.type(x.type.dtype.number(self.value))
        if moved.lo.size > 1 or moved.hi.size > 1:
            return moved
        return Bounds(moved.type, np.minimum(moved.lo, value), np.maximum(moved.hi, value))

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        value = np.rint(self.value / result.scale) + result.zero
        return moved(self.like(value=int(np.clip(value, result.lo, result.hi))), operands, result)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        back = invert(perm)
        moved = {k: tuple(getattr(self, k)[i] for i in back) for k in ("before", "after")}
        return self.like(**moved), (None,), perm

    @staticmethod
    def examples(draw: Draw) -> Instance:
        shape = draw.shape(1)
        before, after = (tuple(draw.integer(0, 2) for _ in shape) for _ in range(2))
        return Instance.of(Pad(before, after, draw.integer(-3, 3)), draw.array(shape, draw.dtype(F32, I8)))


@op
class DepthToSpace(Op):
    """Blocks of channels become blocks of pixels. ONNX DepthToSpace-13; `column_first` is its mode CRD, else DCR."""

    moves_data: ClassVar[bool] = True
    block: int
    column_first: bool = False
    layout: Layout = NCHW

    def infer(self, x: TensorType) -> TensorType:
        expect(x.rank == 4 and self.block >= 1, "depth_to_space takes an image and a block of at least 1")
        (h, w), c = (x.shape[i] for i in self.layout.spatial), x.shape[self.layout.channel]
        expect(isinstance(c, int) and c % self.block**2 == 0, f"{c} channels are no multiple of {self.block}^2")
        assert isinstance(c, int)
        return x.with_shape(self.layout.shape(x.shape[0], c // self.block**2, h * self.block, w * self.block))

    def ref(self, x: Array) -> Array:
        image = to_layout(x, self.layout)
        (n, h, w, c), b = image.shape, self.block
        if self.column_first:
            parts = image.reshape(n, h, w, c // b**2, b, b).transpose(0, 1, 4, 2, 5, 3)
        else:
            parts = image.reshape(n, h, w, b, b, c // b**2).transpose(0, 1, 3, 2, 4, 5)
        return from_nhwc(parts.reshape(n, h * b, w * b, c // b**2), self.layout)

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        other = self.layout.other
        return (self.like(layout=other), (None,), perm) if perm == other.to(self.layout) else None

    @staticmethod
    def examples(draw: Draw) -> Instance:
        block, layout = draw.integer(1, 3), draw.layout()
        shape = layout.shape(1, draw.integer(1, 3) * block**2, draw.integer(1, 4), draw.integer(1, 4))
        return Instance.of(DepthToSpace(block, draw.boolean(), layout), draw.array(shape, draw.dtype(F32, I8)))  # type: ignore[arg-type]


reshape, transpose, concat = builder(Reshape), builder(Transpose), builder(Concat)
slice_, pad, depth_to_space = builder(Slice), builder(Pad), builder(DepthToSpace)
