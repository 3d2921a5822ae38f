"""A signal [N,C,W] is an image [N,C,1,W] of ours, between two reshapes; ONNX has layers for it, and needs neither.

An operand that is such an image remembers its signal. Layers along the signal take that one, and their result is an
image again, by a reshape that is spare: it goes when nobody turns out to want the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...ir.types import Shape
from .site import Operand, Site


def along(op: Any, x: Operand, window: Sequence[object]) -> Operand | None:
    """The signal that x is, where the op's window slides along it alone; else None."""
    return x.signal if window[0] == 1 and op.pads[0] == op.pads[2] == 0 else None


def emit(site: Site, kind: str, op: Any, signal: Operand, *others: Operand | None, **attributes: Any) -> Operand:
    """The layer of a signal, whose result is `site.type`, an image; strides, pads and dilations are the op's."""
    n, c, _, w = site.type.shape
    y = site.emit(
        kind, signal, *others, type=site.type.with_shape((n, c, w)), strides=[op.strides[1]],
        pads=[op.pads[1], op.pads[3]], dilations=None if op.dilations[1] == 1 else [op.dilations[1]], **attributes,
    )  # fmt: skip
    return image(site, y, site.type.shape)


def image(site: Site, signal: Operand, shape: Shape) -> Operand:
    """The signal as an image, if anybody should want it."""
    y = site.emit("Reshape", signal, site.array("shape", shape_or_any(shape)), type=signal.type.with_shape(shape))
    site.spare.append(site.nodes[-1])
    return replace(y, signal=signal)


def is_image(signal: Shape, shape: Shape) -> bool:
    """Whether a reshape makes an image of a signal."""
    return len(signal) == 3 and shape == (*signal[:2], 1, signal[2])


def shape_or_any(shape: Shape) -> list[int]:
    """A shape as Reshape has it: a symbol is what is left."""
    return [d if isinstance(d, int) else -1 for d in shape]
