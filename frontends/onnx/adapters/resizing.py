"""Resize and Upsample of images: rows and columns, nearest or linear."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....ir.graph import Value
from ....ir.ops.resize import Coordinates, Rounding, resize_linear, resize_nearest
from ....ir.types import NCHW, NHWC, Array, Layout
from ..source import Adapter, SourceNode
from .movement import MOST_PICKED

#: Of each axis its size in the result, None where it stays.
Sizes = list[int | None]

#: From this operator set on Resize has coordinates, sizes, and a region of interest before the scales.
COORDINATES = 11


def resize(node: SourceNode) -> Value:
    if node.opset < COORDINATES:
        return upsample(node)
    node.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value")  # of cubic and of cropping
    node.optional(1)
    mode, coordinates = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    nearest, policy = node.text("nearest_mode", "round_prefer_floor"), node.text("keep_aspect_ratio_policy", "stretch")
    if coordinates not in Coordinates.__members__:
        known = ", ".join(Coordinates.__members__)
        raise node.unsupported(f"coordinate_transformation_mode is {coordinates!r}", fix=f"export with one of {known}")
    if nearest not in Rounding.__members__:
        raise node.broken(f"nearest_mode is {nearest!r}")
    if node.integer("antialias", 0):
        raise node.unsupported("antialias is not supported", fix="export without it")
    if policy != "stretch":
        raise node.unsupported(f"keep_aspect_ratio_policy is {policy!r}", fix="give the sizes that come out of it")
    return _resized(node, node.value(0), *_sizes(node), mode, Coordinates[coordinates], Rounding[nearest])


def upsample(node: SourceNode) -> Value:
    """Upsample, and Resize before it had coordinates."""
    mode = node.text("mode", "nearest")
    scales = node.reals("scales") if node.opset < 9 else node.array(1)
    if scales is None:
        raise node.broken("scales are missing")
    x, given = node.value(0), np.asarray(scales, np.float32).reshape(-1)
    if len(given) != x.type.rank:
        raise node.broken(f"{len(given)} scales for {x.type}")
    if (given < 1).any() and node.proto.op_type == "Upsample":
        raise node.broken(f"scales {given.tolist()} are not at least 1")
    # Which pixel is the nearest the specification leaves open; in ONNX Runtime it is another one where an axis shrinks.
    for part, rounding in ((np.maximum(given, 1), Rounding.floor), (np.where(given < 1, given, 1), Rounding.ceil)):
        x = _resized(node, x, *_by_scales(node, x, part), mode, Coordinates.asymmetric, rounding)
    return x


def _sizes(node: SourceNode) -> tuple[Sizes, list[float]]:
    """Sizes and scales of all axes."""
    x, scales, axes = node.value(0), node.array(2), node.integers("axes")
    axes = tuple(node.axis(a, x.type.rank) for a in (range(x.type.rank) if axes is None else axes))
    made: Sizes = [None] * x.type.rank
    if scales is not None and scales.size:
        if len(scales.reshape(-1)) != len(axes) or node.given(3):
            raise node.broken(f"{scales.size} scales for axes {list(axes)}, beside sizes or not for each")
        spread = np.ones(x.type.rank, np.float32)
        spread[list(axes)] = scales.reshape(-1)
        sizes_made = _by_scales(node, x, spread)
        if node.text("coordinate_transformation_mode", "") == "align_corners":
            _require_whole(node, x, spread)
        return sizes_made
    sizes = node.dims(3)
    if sizes is None or len(sizes) != len(axes):
        raise node.broken("neither scales nor sizes fit the operand")
    factors = [1.0] * x.type.rank
    for axis, size in zip(axes, sizes, strict=True):
        have = x.type.shape[axis]
        if size != have:
            made[axis] = node.known(size)
            factors[axis] = float(np.float32(node.known(size)) / np.float32(max(1, node.known(have))))
    return made, factors


def _require_whole(node: SourceNode, x: Value, scales: Array) -> None:
    """Raise UnsupportedError where the sizes of the result are no products of size and scale.

    Where corners are aligned, the specification's text divides by the former, its own test by the latter.
    """
    for scale, dim in zip(scales, x.type.shape, strict=True):
        if scale != 1 and not (scale * np.float32(node.known(dim))).is_integer():
            raise node.unsupported(
                f"align_corners with a scale of {scale}, which makes {scale * node.known(dim):g} of {dim} pixels: "
                "ONNX does not say which of two places are meant",
                fix="give sizes instead of scales",
            )


def _by_scales(node: SourceNode, x: Value, scales: Array) -> tuple[Sizes, list[float]]:
    made: Sizes = []
    for scale, dim in zip(scales, x.type.shape, strict=True):
        if not math.isfinite(scale) or scale <= 0:
            raise node.broken(f"a scale is {scale}")
        made.append(None if scale == 1 else int(np.floor(scale * np.float32(node.known(dim)))))
    return made, [float(s) for s in scales]


def _resized(
    node: SourceNode, x: Value, made: Sizes, scales: list[float], mode: str, coordinates: Coordinates,
    rounding: Rounding,
) -> Value:  # fmt: skip
    axes = [axis for axis, size in enumerate(made) if size is not None]
    if not axes:
        return x
    layout = _layout(axes) if x.type.rank == 4 else None
    if layout is None:
        raise node.unsupported(
            f"axes {axes} of {x.type} are resized", fix="the rows and columns of an image can be: of a tensor of rank 4"
        )
    spatial = [node.known(x.type.shape[i]) for i in layout.spatial]
    size = [have if (new := made[i]) is None else new for i, have in zip(layout.spatial, spatial, strict=True)]
    if min(*size, *spatial) < 1:
        raise node.broken(f"{spatial} pixels become {size}")
    if max(size) > MOST_PICKED:  # each row and column of the result has an entry in a table
        raise node.unsupported(f"{spatial} pixels become {size}", fix=f"at most {MOST_PICKED} in a row or column")
    given: dict[str, Any] = {"size": tuple(size), "scales": tuple(scales[i] for i in layout.spatial), "layout": layout}
    if mode == "nearest":
        return resize_nearest(x, coordinates=coordinates, rounding=rounding, **given)
    if mode in ("linear", "bilinear"):
        if not x.type.dtype.is_float:
            raise node.unsupported(f"linear interpolation of {x.type.dtype}", fix="dequantize before it")
        return resize_linear(x, coordinates=coordinates, **given)
    if mode == "cubic":
        raise node.unsupported("cubic interpolation is not supported", fix="export with mode linear")
    raise node.broken(f"mode is {mode!r}")


def _layout(axes: list[int]) -> Layout | None:
    """Where the resized axes are rows and columns."""
    return next((layout for layout in (NCHW, NHWC) if set(axes) <= set(layout.spatial)), None)


TABLE: dict[str, Adapter] = {"Resize": resize, "Upsample": upsample}
