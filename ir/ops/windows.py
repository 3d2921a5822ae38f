"""Sliding windows over images: what convolutions and poolings share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import UnsupportedError
from ..op import expect
from ..types import NCHW, Array, Dim, Layout, Sym

Size2 = tuple[int, int]  # height, width
Pads2 = tuple[int, int, int, int]  # top, left, bottom, right: ONNX's order


class Windowed(Protocol):
    """An op with a sliding window."""

    @property
    def strides(self) -> Size2: ...
    @property
    def pads(self) -> Pads2: ...
    @property
    def dilations(self) -> Size2: ...


def pooled(spatial: Sequence[Dim], window: Size2, op: Windowed) -> tuple[int, int]:
    """Height and width of the result: floor((size + pads - extent) / stride) + 1. Raises InferenceError below 1."""
    result = []
    for i in (0, 1):
        size = spatial[i]
        if isinstance(size, Sym):
            expect(False, f"the image's height and width must be known, not {size}")
        assert isinstance(size, int)
        expect(min(op.pads) >= 0, "pads are not negative")
        extent = (window[i] - 1) * op.dilations[i] + 1
        out = (size + op.pads[i] + op.pads[i + 2] - extent) // op.strides[i] + 1
        expect(out >= 1, f"the window {list(window)} is larger than the padded image {list(spatial)}")
        result.append(out)
    return result[0], result[1]


def to_layout(image: Array, layout: Layout) -> Array:
    """An image (or convolution weights) of this layout, as a channels-last view."""
    return image.transpose(0, 2, 3, 1) if layout is NCHW else image


def from_nhwc(image: Array, layout: Layout) -> Array:
    """A channels-last image in this layout."""
    return image.transpose(0, 3, 1, 2) if layout is NCHW else image


def centred(x: Array, zero: int) -> Array:
    """X - zero, wide enough not to wrap; floats pass."""
    return x.astype(np.int64) - zero if np.issubdtype(x.dtype, np.integer) else x


#: The most elements of a padded image, and of all windows together, that are looked at: what takes minutes.
PADDED, SEEN = 1 << 30, 1 << 34


def windows(image: Array, window: Size2, op: Windowed, fill: Any) -> Array:
    """All windows of a channels-last image padded with `fill`: [N, OH, OW, C, kh, kw], a read-only view.

    Raises UnsupportedError for images and windows that are too large to be looked at.
    """
    top, left, bottom, right = op.pads
    _require_seen(image, window, op)
    padded = (
        np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill) if any(op.pads) else image
    )
    (dh, dw), (sh, sw) = op.dilations, op.strides
    extent = ((window[0] - 1) * dh + 1, (window[1] - 1) * dw + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(1, 2))
    return view[:, ::sh, ::sw, :, ::dh, ::dw]


def _require_seen(image: Array, window: Size2, op: Windowed) -> None:
    n, height, width, channels = image.shape
    padded = n * (height + op.pads[0] + op.pads[2]) * (width + op.pads[1] + op.pads[3]) * channels
    seen = n * channels * math.prod(pooled((height, width), window, op)) * math.prod(window)
    for number, most, what in ((padded, PADDED, "a padded image of"), (seen, SEEN, "windows of together")):
        if number > most:
            raise UnsupportedError(
                f"{what} {number:,} elements is too much to be evaluated: at most {most:,}",
                fix="make the image, its padding or the window smaller; compiling without --quantize evaluates nothing",
            )
