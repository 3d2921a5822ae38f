"""Windows that slide over images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...group import Group
from ..code import Code
from ..expressions import Expr, both


@dataclass(frozen=True)
class Sliding:
    """Along one axis: where windows begin, and which of their taps are inside the image."""

    size: int
    window: int
    stride: int
    before: int
    dilation: int
    windows: int

    @staticmethod
    def of(group: Group, window: tuple[int, int]) -> tuple[Sliding, Sliding]:
        """The rows and the columns of the windows of a group's anchor."""
        op, x, y = group.op, group.shape(group.anchor.operands[0]), group.shape(group.anchor.result)
        rows, columns = (
            Sliding(x[dim], window[i], op.strides[i], op.pads[i], op.dilations[i], y[dim])
            for i, dim in enumerate(op.layout.spatial)
        )
        return rows, columns

    @property
    def padded(self) -> bool:
        """Whether any window hangs over an edge."""
        last = (self.windows - 1) * self.stride - self.before + (self.window - 1) * self.dilation
        return self.before > 0 or last >= self.size

    @contextmanager
    def taps(self, code: Code, window: Expr) -> Iterator[tuple[Expr, Expr]]:
        """A loop over the taps of a window that are inside: the tap's number, and its coordinate in the image."""
        with code.loop(self.window) as k:
            at = window * self.stride + k * self.dilation - self.before
            if self.padded:
                at = code.let(at)
                with code.when(both(at >= 0, at < self.size)):
                    yield k, at
            else:
                yield k, at
