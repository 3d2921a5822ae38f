"""Views as instructions take them: a memory, a dtype, an address, and sizes and strides of four axes."""

from __future__ import annotations

from dataclasses import dataclass

from .isa import Element, Instruction, Space, ViewAxes, ViewBase


@dataclass(frozen=True)
class Tensor:
    """Element [i0,i1,i2,i3] is at address + sum(i * stride) in bytes."""

    space: Space
    address: int
    sizes: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    dtype: Element = Element.I8

    @staticmethod
    def dense(space: Space, address: int, sizes: tuple[int, int, int, int], dtype: Element = Element.I8) -> Tensor:
        """Contiguous, row by row."""
        strides, step = [0, 0, 0, 0], dtype.bytes
        for axis in (3, 2, 1, 0):
            strides[axis] = step
            step *= sizes[axis]
        return Tensor(space, address, sizes, (strides[0], strides[1], strides[2], strides[3]), dtype)

    @staticmethod
    def flat(space: Space, address: int, size: int, dtype: Element = Element.I8) -> Tensor:
        """A row of elements."""
        return Tensor.dense(space, address, (1, 1, 1, size), dtype)

    @property
    def footprint(self) -> tuple[Space, int, int]:
        """Bytes from the first to the last that is touched; strides are not negative."""
        last = sum((n - 1) * s for n, s in zip(self.sizes, self.strides, strict=True))
        return self.space, self.address, self.address + last + self.dtype.bytes

    def settings(self, view: int, known: Tensor | None) -> list[Instruction]:
        """What brings the register `view` from `known` to this."""
        if known == self:
            return []
        result: list[Instruction] = []
        if known is None or (known.space, known.dtype, known.address) != (self.space, self.dtype, self.address):
            result.append(ViewBase(view=view, space=self.space, dtype=self.dtype, address=self.address))
        for pair in (0, 1):
            a, b = 2 * pair, 2 * pair + 1
            mine = (self.sizes[a], self.strides[a], self.sizes[b], self.strides[b])
            if known is None or mine != (known.sizes[a], known.strides[a], known.sizes[b], known.strides[b]):
                size_a, stride_a, size_b, stride_b = mine
                result.append(
                    ViewAxes(view=view, pair=pair, size_a=size_a, stride_a=stride_a, size_b=size_b, stride_b=stride_b)
                )
        return result
