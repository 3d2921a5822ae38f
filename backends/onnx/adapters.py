"""What each op is in ONNX: one function per op, the inverse of the importer's adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...ir.extensions import Catalog
from ...ir.op import Op
from ...ir.ops.conv import Conv2d
from ...ir.ops.conv_transpose import ConvTranspose2d
from ...ir.ops.dense import Dense, Matmul
from ...ir.ops.elementwise import Add, Clip, Div, Maximum, Minimum, Mul, Pow, Sub, clip_ends
from ...ir.ops.index import Expand, Gather
from ...ir.ops.norm import BatchNorm
from ...ir.ops.pool import AvgPool2d, MaxPool2d, SumPool2d
from ...ir.ops.quant import Dequantize, Quantize, Rescale, RescaleAdd, Table
from ...ir.ops.reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from ...ir.ops.resize import ResizeLinear, ResizeNearest
from ...ir.ops.shape import Concat, DepthToSpace, Pad, Reshape, Slice, Transpose
from ...ir.ops.softmax import IntegerSoftmax, Softmax
from ...ir.ops.unary import Abs, Cast, Erf, Exp, Floor, Log, Sigmoid, Sqrt, Tanh
from ...ir.types import BOOL, I32, NCHW, NHWC, Array, Sym, TensorType, static
from . import layers, reshaped
from .layers import same
from .site import Operand, RefusedError, Site, TooOldError, element_type

Adapter = Callable[..., Operand]
#: The same, of an op that may have several results.
Form = Callable[..., Operand | tuple[Operand, ...]]

#: From this operator set on an operator has as operands what were attributes: Slice, Clip, Pad, ReduceSum, ReduceMean.
SLICE, CLIP, PAD, REDUCE_SUM, REDUCE = 10, 11, 11, 13, 18
#: From this operator set on Resize says where pixels lie; and from this, operands that are not there may be left out.
RESIZE, RESIZE_OPTIONAL = 11, 13
#: From this operator set on Gemm's bias may be left out.
GEMM_BIAS = 11


def refused(reason: str, hint: str = "") -> Adapter:
    def adapter(site: Site, op: Op, *operands: Operand) -> Operand:
        raise RefusedError(reason, hint)

    return adapter


UNFOLDED = (
    "leave fold-quantization out of the pipeline: quantize and dequantize become QuantizeLinear and DequantizeLinear"
)
integers = refused("planish's integer arithmetic is not standard ONNX", UNFOLDED)


def require_floats(op: Op, x: Operand) -> None:
    """Raise RefusedError for a sum of integers, whose accumulator ONNX does not have."""
    if x.type.dtype.is_integer and x.type.dtype.bits < 32:
        raise RefusedError(f"{op.name} of {x.type.dtype} is planish's integer arithmetic, not standard ONNX", UNFOLDED)


def channels_first(adapter: Adapter) -> Adapter:
    """The adapter of an op on images, which ONNX has channels first; others are transposed before and after."""

    def adapted(site: Site, op: Any, x: Operand, *others: Operand) -> Operand:
        if op.layout is NCHW:
            return adapter(site, op, x, *others)
        rank = x.type.rank
        image = site.transposed(x, (0, rank - 1, *range(1, rank - 1)))
        others = tuple(site.transposed(w, NHWC.to(NCHW)) if w.type.rank == 4 else w for w in others)
        inner = op.like(layout=NCHW)
        type: TensorType = inner.infer(image.type, *(w.type for w in others))
        y = adapter(site.of(type), inner, image, *others)
        return site.transposed(y, (0, *range(2, rank), 1))

    return adapted


# ---- layers


def is_zero(bias: Operand) -> bool:
    return bias.const is not None and not bias.const.any()


@channels_first
def conv2d(site: Site, op: Conv2d, x: Operand, w: Operand, b: Operand) -> Operand:
    require_floats(op, x)
    bias = None if is_zero(b) else b
    if w.const is not None and (signal := reshaped.along(op, x, w.type.shape[2:])) is not None:
        kernel = site.array("kernel", np.array(w.const[:, :, 0], order="C"))
        width = [w.const.shape[3]]
        return reshaped.windowed(site, "Conv", op, signal, kernel, bias, kernel_shape=width, group=op.groups)
    return site.emit(
        "Conv", x, w, bias,
        kernel_shape=list(w.type.shape[2:]), strides=list(op.strides), pads=list(op.pads),
        dilations=list(op.dilations), group=op.groups,
    )  # fmt: skip


def conv_transpose2d(site: Site, op: ConvTranspose2d, x: Operand, w: Operand, b: Operand) -> Operand:
    bias = None if is_zero(b) else b
    signal = reshaped.along(op, x, w.type.shape[2:]) if op.output_pads[0] == 0 else None
    if w.const is not None and signal is not None:
        kernel, width = site.array("kernel", np.array(w.const[:, :, 0], order="C")), [w.const.shape[3]]
        more = [op.output_pads[1]] if op.output_pads[1] else None
        return reshaped.windowed(
            site, "ConvTranspose", op, signal, kernel, bias, kernel_shape=width, group=op.groups, output_padding=more
        )
    return site.emit(
        "ConvTranspose", x, w, bias,
        kernel_shape=list(w.type.shape[2:]), strides=list(op.strides), pads=list(op.pads),
        dilations=list(op.dilations), group=op.groups,
        output_padding=None if op.output_pads == (0, 0) else list(op.output_pads),
    )  # fmt: skip


def dense(site: Site, op: Dense, x: Operand, w: Operand, b: Operand) -> Operand:
    require_floats(op, x)
    if x.type.rank == 2:
        bias = None if is_zero(b) and site.opset >= GEMM_BIAS else b
        return site.emit("Gemm", x, w, bias, transB=1)
    product = site.emit("MatMul", x, site.transposed(w, (1, 0)))
    return product if is_zero(b) else site.emit("Add", product, b)


def matmul(site: Site, op: Matmul, a: Operand, b: Operand) -> Operand:
    require_floats(op, a)
    return site.emit("MatMul", a, b)


@channels_first
def batch_norm(site: Site, op: BatchNorm, *operands: Operand) -> Operand:
    return site.emit("BatchNormalization", *operands, epsilon=op.epsilon)


def softmax(site: Site, op: Softmax, x: Operand) -> Operand:
    # Not -1: before opset 13 the axis splits the shape in two, which along the last one is the same.
    return site.emit("Softmax", x, axis=x.type.rank - 1)


def extremum(kind: str, logical: str) -> Adapter:
    """Of truth values ONNX has other operators."""
    return lambda site, op, a, b: site.emit(logical if a.type.dtype == BOOL else kind, a, b)


# ---- windows and reductions


def pool(kind: str) -> Adapter:
    @channels_first
    def adapter(site: Site, op: Any, x: Operand) -> Operand:
        counted = 1 if getattr(op, "count_pads", False) else None
        if (signal := reshaped.along(op, x, op.window)) is not None:
            width = [op.window[1]]
            return reshaped.windowed(site, kind, op, signal, kernel_shape=width, count_include_pad=counted)
        return site.emit(
            kind, x, kernel_shape=list(op.window), strides=list(op.strides), pads=list(op.pads),
            dilations=None if op.dilations == (1, 1) else list(op.dilations), count_include_pad=counted,
        )  # fmt: skip

    return adapter


def reduction(kind: str, since: int) -> Adapter:
    def adapter(site: Site, op: Any, x: Operand) -> Operand:
        if kind == "ReduceSum":
            require_floats(op, x)
        if not op.axes:
            return site.emit("Identity", x)
        if kind == "ReduceMean" and op.keepdims and x.type.rank == 4 and op.axes == (2, 3):
            return reshaped.averaged(site, x)
        if site.opset < since:
            return site.emit(kind, x, axes=list(op.axes), keepdims=int(op.keepdims))
        return site.emit(kind, x, site.array("axes", op.axes), keepdims=int(op.keepdims))

    return adapter


# ---- elementwise


def clip(site: Site, op: Clip, x: Operand) -> Operand:
    if (op.lo, op.hi) == (0, math.inf) and x.type.dtype.kind != "uint":
        return site.emit("Relu", x)
    if clip_ends(op, x.type.dtype) == (None, None):
        return site.emit("Identity", x)
    if site.opset < CLIP:
        return site.emit("Clip", x, min=float(op.lo), max=float(op.hi))
    return site.emit("Clip", x, *bounds(site, op, x.type))


def bounds(site: Site, op: Clip | Quantize, type: TensorType) -> list[Operand | None]:
    """The ends of a Clip; one that is infinitely far away is left out."""
    lo, hi = (np.array(type.dtype.number(v)) for v in (op.lo, op.hi))
    return [
        None if op.lo == -math.inf else site.array("min", lo),
        None if op.hi == math.inf else site.array("max", hi),
    ]


def cast(site: Site, op: Cast, x: Operand) -> Operand:
    return site.emit("Cast", x, to=element_type(op.dtype))


# ---- quantization


def parameters(site: Site, x: Operand, scale: Operand, zero: Operand) -> tuple[Operand, Operand, dict[str, Any]]:
    """Scale and zero point as ONNX has them, and the attributes that say for which elements.

    They are scalars, vectors along an axis, or there is one for every block of elements along an axis.
    """
    if scale.const is None or zero.const is None:
        raise RefusedError("a scale or zero point is computed at run time", "fold the constants: simplify")
    scales, zeros = np.broadcast_arrays(scale.const, zero.const)
    shape = (1,) * (x.type.rank - scales.ndim) + scales.shape
    axes = [i for i, d in enumerate(shape) if d != 1]
    given, where = {"scale": scales, "zero_point": zeros}, dict[str, Any]()
    if len(axes) > 1:
        whole = {role: np.broadcast_to(v.reshape(shape), static(x.type.shape)) for role, v in given.items()}
        where["axis"], where["block_size"] = _blocks(list(whole.values()))
        given = {role: v.take(range(0, v.shape[where["axis"]], where["block_size"]), where["axis"])
                 for role, v in whole.items()}  # fmt: skip
    else:
        given = {role: v.reshape((-1,) if axes else ()) for role, v in given.items()}
        where["axis"] = axes[0] if axes else None
    a, b = (site.array(role, np.array(v, order="C")) for role, v in given.items())
    return a, b, where


def _blocks(arrays: Sequence[Array]) -> tuple[int, int]:
    """The axis along which equal slices of all the arrays lie in the largest blocks, and the size of these."""
    sizes = []
    for axis, length in enumerate(arrays[0].shape):
        others = tuple(i for i in range(arrays[0].ndim) if i != axis)
        changes = np.any([(np.diff(a, axis=axis) != 0).any(others) for a in arrays], 0)
        sizes.append((math.gcd(length if not changes.any() else 0, *(np.flatnonzero(changes) + 1).tolist()), axis))
    size, axis = max(sizes)
    return axis, size


def quantize(site: Site, op: Quantize, x: Operand, scale: Operand, zero: Operand) -> Operand:
    scales, zeros, where = parameters(site, x, scale, zero)
    q = site.emit("QuantizeLinear", x, scales, zeros, **where)
    if (op.lo, op.hi) == (op.dtype.min, op.dtype.max):
        return q
    return site.emit("Clip", q, *bounds(site, op, q.type))


def dequantize(site: Site, op: Dequantize, x: Operand, scale: Operand, zero: Operand) -> Operand:
    scales, zeros, where = parameters(site, x, scale, zero)
    unshifted = x.type.dtype == I32 and is_zero(zeros)  # of 32-bit integers ONNX allows no other zero point
    return site.emit("DequantizeLinear", x, scales, None if unshifted else zeros, **where)


# ---- movements


def reshape(site: Site, op: Reshape, x: Operand) -> Operand:
    while x.made_of is not None:
        x = x.made_of
    return x if op.shape == x.type.shape else reshaped.image(site, x, op.shape)


def transpose(site: Site, op: Transpose, x: Operand) -> Operand:
    return site.emit("Transpose", x, perm=list(op.perm))


def concat(site: Site, op: Concat, *operands: Operand) -> Operand:
    return site.emit("Concat", *operands, axis=op.axis)


def slice_(site: Site, op: Slice, x: Operand) -> Operand:
    """Only the axes that are sliced; ends that are symbols are the whole axis."""
    bounds = zip(op.starts, op.stops, op.steps, x.type.shape, strict=True)
    kept = [(i, a, b, s) for i, (a, b, s, d) in enumerate(bounds) if not isinstance(b, Sym) and (a, b, s) != (0, d, 1)]
    if not kept:
        return site.emit("Identity", x)
    axes, starts, ends, steps = (list(column) for column in zip(*kept, strict=True))
    if site.opset < SLICE:
        return site.emit("Slice", x, axes=axes, starts=starts, ends=ends, steps=None if set(steps) == {1} else steps)
    given = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
    if set(steps) == {1}:
        given.pop("steps")
    return site.emit("Slice", x, *(site.array(role, v) for role, v in given.items()))


def pad(site: Site, op: Pad, x: Operand) -> Operand:
    if site.opset < PAD:
        return site.emit("Pad", x, pads=[*op.before, *op.after], value=float(op.value))
    value = site.array("value", np.array(x.type.dtype.number(op.value)))
    return site.emit("Pad", x, site.array("pads", [*op.before, *op.after]), value)


@channels_first
def depth_to_space(site: Site, op: DepthToSpace, x: Operand) -> Operand:
    return site.emit("DepthToSpace", x, blocksize=op.block, mode="CRD" if op.column_first else None)


@channels_first
def resize(site: Site, op: ResizeNearest | ResizeLinear, x: Operand) -> Operand:
    """By scales where ONNX gets the size from them, by sizes where scales are their ratios; else rows, then columns."""
    if isinstance(op, ResizeLinear):
        require_floats(op, x)
    if site.opset < RESIZE:
        raise TooOldError(f"Resize of opset {site.opset} has no coordinates")
    have, scales = np.array(x.type.shape[2:], np.float32), np.array(op.scales, np.float32)
    absent = site.array("none", np.empty(0, np.float32)) if site.opset < RESIZE_OPTIONAL else None
    attributes: dict[str, Any] = {"coordinate_transformation_mode": op.coordinates.name}
    if isinstance(op, ResizeNearest):
        attributes |= {"mode": "nearest", "nearest_mode": op.rounding.name}
    else:
        attributes["mode"] = "linear"
    if all(tuple(np.floor(have.astype(t) * scales.astype(t))) == op.size for t in (np.float32, np.float64)):
        return site.emit("Resize", x, absent, site.array("scales", np.array([1, 1, *scales], np.float32)), **attributes)
    known = [d for d in x.type.shape if isinstance(d, int)]
    if len(known) == x.type.rank and (np.array(op.size, np.float32) / have == scales).all():
        sizes = site.array("sizes", [*known[:2], *op.size])
        return site.emit("Resize", x, absent, absent, sizes, **attributes)
    if 1.0 in op.scales:
        raise RefusedError(f"ONNX has no Resize by {list(op.scales)} from {known[-2:]} to {list(op.size)} pixels")
    rows = op.like(size=(op.size[0], known[-1]), scales=(op.scales[0], 1.0))
    between = resize(site.of(rows.infer(x.type)), rows, x)
    return resize(site, op.like(scales=(1.0, op.scales[1])), between)


def gather(site: Site, op: Gather, x: Operand) -> Operand:
    return site.emit("Gather", x, site.array("indices", op.indices), axis=op.axis)


def expand(site: Site, op: Expand, x: Operand) -> Operand:
    if symbols := [d.symbol for d in op.shape if isinstance(d, Sym)]:
        raise RefusedError("the shape is not known", f"give --dim {symbols[0]}=...")
    return site.emit("Expand", x, site.array("shape", [d for d in op.shape if not isinstance(d, Sym)]))


#: Every op but those that `writer` handles itself: constants, and groups, which are written as their bodies.
ADAPTERS: dict[type[Op], Form] = {
    Conv2d: conv2d, ConvTranspose2d: conv_transpose2d, Dense: dense, Matmul: matmul, BatchNorm: batch_norm,
    Softmax: softmax,
    MaxPool2d: pool("MaxPool"), AvgPool2d: pool("AveragePool"), SumPool2d: integers,
    ReduceMean: reduction("ReduceMean", REDUCE), ReduceMax: reduction("ReduceMax", REDUCE),
    ReduceMin: reduction("ReduceMin", REDUCE),
    ReduceSum: reduction("ReduceSum", REDUCE_SUM),
    Add: same("Add"), Sub: same("Sub"), Mul: same("Mul"), Div: same("Div"), Pow: same("Pow"),
    Minimum: extremum("Min", "And"), Maximum: extremum("Max", "Or"), Clip: clip, Cast: cast,
    Exp: same("Exp"), Log: same("Log"), Sqrt: same("Sqrt"), Floor: same("Floor"), Erf: same("Erf"),
    Sigmoid: same("Sigmoid"), Tanh: same("Tanh"), Abs: same("Abs"),
    Quantize: quantize, Dequantize: dequantize,
    Rescale: integers, RescaleAdd: integers, Table: integers, IntegerSoftmax: integers,
    Reshape: reshape, Transpose: transpose, Concat: concat, Slice: slice_, Pad: pad, DepthToSpace: depth_to_space,
    ResizeNearest: resize, ResizeLinear: resize,
    Gather: gather, Expand: expand,
    **layers.ADAPTERS,
}  # fmt: skip

_catalog: Catalog[Form] = Catalog("planish.exporters", {cls.name: adapter for cls, adapter in ADAPTERS.items()})


def adapter_of(op: Op) -> Form | None:
    """The adapter that writes an op, ours or a package's; or None. Raises UsageError for a broken package."""
    return ADAPTERS.get(type(op)) or _catalog.get(op.name)
