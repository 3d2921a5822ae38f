"""Images with their padding around them, as convolutions read them."""

from __future__ import annotations

from dataclasses import dataclass

from ....ir.types import DType
from .. import tir as tirx
from ..code import Code, Expr, tir_type

#: Kernels that read 8-bit elements by fours may read so many bytes beyond the last.
SLACK = 4
_VECTOR_BYTES = 64


@dataclass(frozen=True)
class Image:
    """One image of a batch, [h, w, c], and the pads (top, left, bottom, right) that belong around it."""

    h: int
    w: int
    c: int
    pads: tuple[int, int, int, int]
    copied: bool

    @property
    def height(self) -> int:
        return self.h + self.pads[0] + self.pads[2]

    @property
    def width(self) -> int:
        return self.w + self.pads[1] + self.pads[3]

    def scratch_bytes(self, dtype: DType) -> int:
        """Working memory for a copy with its padding; 0 where the image is read where it lies."""
        return self.height * self.width * self.c * dtype.bits // 8 + SLACK if self.copied else 0

    def prepare(
        self, code: Code, source: Expr, scratch: Expr | None, n: Expr, dtype: DType, zero: int
    ) -> tuple[Expr, Expr]:
        """Copy image `n`, with padding of `zero`, where that is needed; the buffer to be read, and where it begins."""
        if scratch is None:
            return source, n * (self.h * self.w * self.c)
        top, left, bottom, right = (p * self.c for p in self.pads)
        fill = tirx.const(zero, tir_type(dtype))
        lanes = _VECTOR_BYTES * 8 // dtype.bits
        row, own = self.width * self.c, self.w * self.c

        def filled(start: Expr, count: int) -> None:
            code.lanes(count, lanes, lambda i: code.store(scratch, fill, start + i))

        filled(0, top * self.width)
        with code.loop(self.h) as y:
            start = top * self.width + y * row
            origin = n * (self.h * own) + y * own
            filled(start, left)
            code.lanes(own, lanes, lambda i: code.store(scratch, code.load(source, origin + i), start + left + i))
            filled(start + left + own, right)
        slack = SLACK * 8 // dtype.bits
        filled((self.pads[0] + self.h) * row, bottom * self.width + slack)
        return scratch, tirx.const(0, "int32")
