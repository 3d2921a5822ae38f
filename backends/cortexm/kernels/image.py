"""Images in either layout, and windows that slide over them, for portable kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ....ir.types import NCHW, Layout
from ...loops.kernels import windows


@dataclass(frozen=True)
class Image:
    """Sizes of an image, and the distances in memory between neighbours along n, y, x, c."""

    n: int
    h: int
    w: int
    c: int
    strides: tuple[int, int, int, int]

    @staticmethod
    def of(shape: tuple[int, ...], layout: Layout) -> Image:
        if layout is NCHW:
            n, c, h, w = shape
            return Image(n, h, w, c, (c * h * w, w, 1, h * w))
        n, h, w, c = shape
        return Image(n, h, w, c, (h * w * c, w * c, c, 1))

    def at(self, n: str, y: str, x: str, c: str) -> str:
        """C index of an element. A single image needs no `n`."""
        batch = [f"{n} * {self.strides[0]}"] if self.n > 1 else []
        others = zip((y, x, c), self.strides[1:], strict=True)
        return " + ".join([*batch, *(v if stride == 1 else f"{v} * {stride}" for v, stride in others)])


@dataclass(frozen=True)
class Sliding(windows.Sliding):
    """Along one axis, as C text."""

    def origin(self, i: str) -> str:
        """C: coordinate of the first tap of window i."""
        start = i if self.stride == 1 else f"{i} * {self.stride}"
        return f"{start} - {self.before}" if self.before else start

    def tap(self, k: str) -> str:
        """C: offset of tap k."""
        return k if self.dilation == 1 else f"{k} * {self.dilation}"


def sliding(op: Any, image: Image, result: Image, window: tuple[int, int]) -> tuple[Sliding, Sliding]:
    """The rows and the columns of an op's windows."""
    return (
        Sliding(image.h, window[0], op.strides[0], op.pads[0], op.dilations[0], result.h),
        Sliding(image.w, window[1], op.strides[1], op.pads[1], op.dilations[1], result.w),
    )
