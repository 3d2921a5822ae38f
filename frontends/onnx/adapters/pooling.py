"""Pooling and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ....ir.graph import Value
from ....ir.ops.elementwise import sub
from ....ir.ops.pool import avg_pool2d, max_pool2d
from ....ir.ops.reduce import reduce_max, reduce_mean, reduce_sum
from ....ir.ops.shape import pad, reshape, transpose
from ....ir.ops.softmax import softmax
from ....ir.ops.unary import exp, log
from ....ir.types import count
from ..source import Adapter, SourceNode
from .linear import as_image, as_signal, pads_of, sizes_of, spatial_rank


def pool(node: SourceNode, x: Value, build: Callable[..., Any], **attributes: Any) -> Value:
    """The pooling that the attributes describe; `ceil_mode` becomes padding at the end."""
    rank = spatial_rank(node, x)
    window = node.integers("kernel_shape")
    if window is None or len(window) != rank or min(window) < 1:
        raise node.broken(f"kernel_shape is {window}; it needs {rank} sizes of at least 1")
    strides, dilations = sizes_of(node, "strides", rank), sizes_of(node, "dilations", rank)
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    sizes = node.static(x.type.shape[2:])
    pads = pads_of(node, sizes, extents, strides)
    if node.integer("ceil_mode", 0) and node.text("auto_pad", "NOTSET") == "NOTSET":
        extra = [_ceil_pad(n, k, s, pads[i], pads[i + rank])
                 for i, (n, k, s) in enumerate(zip(sizes, extents, strides, strict=True))]  # fmt: skip
        if any(extra) and attributes.get("count_pads") and any(pads):
            # The pads that are given count, those that ceil_mode needs do not: the former become part of the image.
            x = pad(x, before=(0, 0, *pads[:rank]), after=(0, 0, *pads[rank:]))
            pads, attributes = [0] * 2 * rank, {**attributes, "count_pads": False}
        elif any(extra):
            attributes = {name: value for name, value in attributes.items() if name != "count_pads"}
        pads = pads[:rank] + [p + more for p, more in zip(pads[rank:], extra, strict=True)]
    if any(p >= k for p, k in zip(pads, extents * 2, strict=True)):
        raise node.unsupported(
            f"pads {pads} are not smaller than the window's extent {extents}", fix="use smaller pads"
        )
    if rank == 1:
        x, window = as_image(x), (1, *window)
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    y = build(x, window=window, strides=tuple(strides), pads=tuple(pads), dilations=tuple(dilations), **attributes)
    return as_signal(y) if rank == 1 else y


def _ceil_pad(size: int, extent: int, stride: int, before: int, after: int) -> int:
    """Padding at the end that the last window needs when sizes round up; no window starts inside it."""
    padded = size + before + after
    windows = -(-(padded - extent) // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    return max((windows - 1) * stride + extent - padded, 0)


def max_pool(node: SourceNode) -> Value:
    node.ignore("storage_order")  # the order of Indices, which is not computed
    return pool(node, node.value(0), max_pool2d)


def average_pool(node: SourceNode) -> Value:
    return pool(node, node.value(0), avg_pool2d, count_pads=bool(node.integer("count_include_pad", 0)))


def over_image(build: Callable[..., Any]) -> Adapter:
    """A reduction of all axes but the first two."""

    def adapt(node: SourceNode) -> Value:
        x = node.value(0)
        if x.type.rank < 3:
            raise node.broken(f"an image has rank 3 or more, not {x.type}")
        return build(x, axes=tuple(range(2, x.type.rank)))

    return adapt


def along(node: SourceNode, x: Value, axis: int | None, function: Callable[[Value], Value]) -> Value:
    """A function of the last axis, applied along `axis`.

    Before opset 13 softmax flattened its operand to a matrix, whose rows began at `axis` (default 1).
    """
    rank = x.type.rank
    if node.opset < 13 and node.domain == "":
        first = node.axis(1 if axis is None else axis, rank)
        if first != rank - 1:
            shape = x.type.shape
            return reshape(function(reshape(x, shape=(count(shape[:first]), count(shape[first:])))), shape=shape)
    last = node.axis(-1 if axis is None else axis, rank)
    if last == rank - 1:
        return function(x)
    perm = tuple(rank - 1 if i == last else last if i == rank - 1 else i for i in range(rank))
    return transpose(function(transpose(x, perm=perm)), perm=perm)


def softmax_along(node: SourceNode, x: Value) -> Value:
    axis = node.integer("axis", 0) if node.has("axis") else None
    return along(node, x, axis, softmax)


def log_softmax(node: SourceNode) -> Value:
    def function(x: Value) -> Value:
        last = (x.type.rank - 1,)
        shifted = sub(x, reduce_max(x, axes=last))
        return sub(shifted, log(reduce_sum(exp(shifted), axes=last)))

    axis = node.integer("axis", 0) if node.has("axis") else None
    return along(node, node.value(0), axis, function)


TABLE: dict[str, Adapter] = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": over_image(reduce_mean),
    "GlobalMaxPool": over_image(reduce_max),
    "Softmax": lambda node: softmax_along(node, node.value(0)),
    "LogSoftmax": log_softmax,
}
