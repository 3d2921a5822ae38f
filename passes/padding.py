"""Padding that stands before a convolution or a pooling becomes part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.builder import Builder
from ..ir.graph import Value, graph_input
from ..ir.op import Bounds, Draw
from ..ir.ops.conv import conv2d
from ..ir.ops.elementwise import relu
from ..ir.ops.pool import avg_pool2d, max_pool2d, sum_pool2d
from ..ir.ops.shape import pad
from ..ir.rewrite import Rule, no_match
from ..ir.types import F32, I8, TensorType


def spatial_pads(m: Any) -> tuple[int, int, int, int] | None:
    """The window's pads with those of the matched pad added; None where it pads batch or channels too."""
    window, before, after = m.window, m.pad.before, m.pad.after
    if any(before[i] or after[i] for i in range(4) if i not in window.layout.spatial):
        return None
    outer = [side[i] for side in (before, after) for i in window.layout.spatial]
    top, left, bottom, right = (a + b for a, b in zip(window.pads, outer, strict=True))
    return top, left, bottom, right


class PadIntoConv(Rule):
    """Padding with zero (on integers: with the zero point) is what a convolution does itself."""

    def pattern(self, x: Any, w: Any, b: Any) -> Any:
        return conv2d(pad(x), w, b, as_="window")

    def rewrite(self, m: Any, x: Value, w: Value, b: Value) -> Any:
        pads = spatial_pads(m)
        if pads is None:
            return no_match("batch or channels are padded")
        if m.pad.op.value != m.window.input_zero:
            return no_match(f"the padding is {m.pad.op.value}, the convolution pads with {m.window.input_zero}")
        return m.window.like(x, w, b, pads=pads)


@dataclass(eq=False)
class PadIntoPool(Rule):
    """Padding that a pooling can do itself."""

    pool: Builder[Any]

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.pool.op.name})"

    def pattern(self, x: Any) -> Any:
        return self.pool(pad(x), as_="window")

    def rewrite(self, m: Any, x: Value) -> Any:
        pads = spatial_pads(m)
        if pads is None:
            return no_match("batch or channels are padded")
        if any(p >= size for p, size in zip(pads, m.window.window * 2, strict=True)):
            return no_match("a window would see padding alone")
        reason, changes = self._padded_alike(m.window, m.pad.op.value, x)
        return no_match(reason) if reason else m.window.like(x, pads=pads, **changes)

    def _padded_alike(self, window: Any, value: float, x: Value) -> tuple[str, dict[str, Any]]:
        """Why the pooling would pad with something else than `value`, or "" and the attributes that make it pad so."""
        match self.pool:
            case pool if pool is avg_pool2d:
                counts = window.count_pads or not any(window.pads)
                return ("" if value == 0 and counts else "the mean would count other padding"), {"count_pads": True}
            case pool if pool is sum_pool2d:
                return ("" if value == window.input_zero else "the sum would count other padding"), {}
            case _:
                return ("" if value <= least(x) else "the padding could be the maximum"), {}

    def examples(self, draw: Draw) -> Value | None:
        """Padding of the maximum is zero around what is not negative; of the sum, an integer's zero."""
        if self.pool is avg_pool2d:
            return None
        layout, (height, width) = draw.layout(), draw.size2(1, 3)
        integers = self.pool is sum_pool2d
        x = graph_input("x", TensorType(layout.shape(1, draw.integer(1, 2), height, width), I8 if integers else F32))
        before, after = (layout.shape(0, 0, *draw.size2(0, 1)) for _ in range(2))
        zero = draw.integer(-8, 8) if integers else 0
        padded = pad(relu(x) if self.pool is max_pool2d else x, before=before, after=after, value=float(zero))
        window = (draw.integer(1, height), draw.integer(1, width))
        attributes: dict[str, Any] = {"input_zero": zero} if integers else {}
        value: Value = self.pool(padded, window=window, strides=draw.size2(1, 2), layout=layout, **attributes)
        return value


def least(x: Value) -> float:
    """A lower bound of a value, from the op that computes it alone."""
    if x.producer is None:
        return float(Bounds.top(x.type).lo)
    bounds = x.producer.op.bounds(*(Bounds.top(v.type) for v in x.producer.operands))
    return float(np.min((bounds if isinstance(bounds, Bounds) else bounds[x.index]).lo))


PADDING: tuple[Rule, ...] = (PadIntoConv(), *(PadIntoPool(pool) for pool in (avg_pool2d, sum_pool2d, max_pool2d)))
