"""Constants, and the shapes of tensors."""

from __future__ import annotations

import math

import numpy as np

from ....ir.builder import const_value
from ....ir.graph import Value
from ....ir.ops.index import expand
from ....ir.types import count, dtype_of
from ..source import Adapter, Dims, SourceNode


def constant(node: SourceNode) -> Value:
    array = node.tensor("value")
    for name, dtype in (("value_int", np.int64), ("value_float", np.float32)):
        if node.has(name):
            array = np.array(node.integer(name, 0) if dtype == np.int64 else node.real(name, 0), dtype)
    if node.has("value_ints"):
        array = np.array(node.integers("value_ints"), np.int64)
    if node.has("value_floats"):
        array = np.array(node.reals("value_floats"), np.float32)
    if array is None:
        raise node.unsupported("only numeric dense constants are supported")
    return node.constant(array)


def constant_of_shape(node: SourceNode) -> Value:
    value, shape = node.single(node.tensor("value"), "attribute value"), node.dims(0)
    scalar = np.zeros((), np.float32) if value is None else value
    if shape is None or any(isinstance(d, int) and d < 0 for d in shape):
        raise node.broken(f"{shape} is no shape")
    return expand(const_value(scalar.copy()), shape=shape)


def shape(node: SourceNode) -> Dims:
    dims = node.shape(0)
    rank = len(dims)
    start, end = (
        int(np.clip(i + rank if i < 0 else i, 0, rank)) for i in (node.integer("start", 0), node.integer("end", rank))
    )
    return Dims(np.array(dims[start:end], object))


def size(node: SourceNode) -> Dims:
    return Dims(np.array(count(node.shape(0)), object))


def range_(node: SourceNode) -> Value:
    start, limit, delta = (node.number(i) for i in range(3))
    if start is None or limit is None or delta is None:
        raise node.broken("start, limit and delta are not all there")
    if not {start.dtype} == {limit.dtype} == {delta.dtype}:
        raise node.broken(f"start, limit and delta are {start.dtype}, {limit.dtype} and {delta.dtype}")
    if delta == 0 or not np.isfinite([float(start), float(limit), float(delta)]).all():
        raise node.broken(f"there are no numbers from {start} to {limit} by {delta}")
    distance = limit.item() - start.item()  # of Python's numbers: integers do not wrap
    whole = dtype_of(start).is_integer
    count = -(-distance // delta.item()) if whole else math.ceil(min(distance / delta.item(), 2.0**62))
    count = max(0, count)
    return node.made((count,), dtype_of(start), lambda: (start + np.arange(count) * delta).astype(start.dtype))


TABLE: dict[str, Adapter] = {
    "Constant": constant, "ConstantOfShape": constant_of_shape, "Shape": shape, "Size": size, "Range": range_,
}  # fmt: skip
