"""Constants and shape arithmetic; symbols stay symbols through what exporters do with shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....ir.builder import const_value
from ....ir.graph import Value
from ....ir.ops.index import expand
from ....ir.types import Array, Sym, count, dtype_of
from ..source import Adapter, Dims, SourceNode
from ..tensors import checked_shape
from .movement import positions


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
    value, shape = node.tensor("value"), node.dims(0)
    scalar = np.zeros((), np.float32) if value is None else value.reshape(())
    if shape is None or any(isinstance(d, int) and d < 0 for d in shape):
        raise node.broken(f"{shape} is no shape")
    return expand(const_value(scalar.copy()), shape=shape)


def shape(node: SourceNode) -> Dims:
    dims = node.value(0).type.shape
    rank = len(dims)
    start, end = (
        int(np.clip(i + rank if i < 0 else i, 0, rank)) for i in (node.integer("start", 0), node.integer("end", rank))
    )
    return Dims(np.array(dims[start:end], object))


def size(node: SourceNode) -> Dims:
    return Dims(np.array(count(node.value(0).type.shape), object))


def range_(node: SourceNode) -> Value:
    ends = [node.array(i) for i in range(3)]
    if any(a is None or a.size != 1 for a in ends):
        raise node.broken("start, limit and delta are single numbers")
    start, limit, delta = (a.reshape(()) for a in ends if a is not None)
    if delta == 0:
        raise node.broken("delta is zero")
    count = max(0, math.ceil((float(limit) - float(start)) / float(delta)))
    checked_shape((count,), dtype_of(start), "the result")
    return node.constant((start + np.arange(count) * delta).astype(start.dtype))


TABLE: dict[str, Adapter] = {
    "Constant": constant, "ConstantOfShape": constant_of_shape, "Shape": shape, "Size": size, "Range": range_,
}  # fmt: skip


# ---- partial evaluation: the same operators on tensors of dimensions


def _on_dims(function: Callable[[SourceNode], Any]) -> Adapter:
    def adapt(node: SourceNode) -> Dims:
        try:
            return Dims(np.asarray(function(node), object))
        except (TypeError, IndexError, ValueError) as error:
            symbols = sorted({s for v in node.operands if isinstance(v, Dims) for s in v.symbols})
            raise node.unsupported(
                f"this cannot be computed while {', '.join(symbols)} is unknown ({error})",
                fix=f"give --dim {symbols[0]}=...",
            ) from None

    return adapt


def _pairwise(function: Callable[[object, object], object]) -> Adapter:
    ufunc: Callable[..., Any] = np.frompyfunc(function, 2, 1)
    return _on_dims(lambda node: ufunc(node.elements(0), node.elements(1)))


def _sum(a: object, b: object) -> object:
    if isinstance(a, Sym) or isinstance(b, Sym):
        if 0 in (a, b):
            return b if a == 0 else a
        if isinstance(a, Sym) and isinstance(b, Sym) and a.symbol == b.symbol:
            return Sym(a.symbol, a.factor + b.factor)
        raise TypeError(f"{a} + {b} is no multiple of one symbol")
    return a + b  # type: ignore[operator]


def _difference(a: object, b: object) -> object:
    if isinstance(b, Sym):
        if isinstance(a, Sym) and a.symbol == b.symbol and a.factor >= b.factor:
            return Sym(a.symbol, a.factor - b.factor) if a.factor > b.factor else 0
        raise TypeError(f"{a} - {b} is no multiple of one symbol")
    return _sum(a, -b)  # type: ignore[operator]


def _product(a: object, b: object) -> object:
    if isinstance(a, Sym) and isinstance(b, Sym):
        raise TypeError(f"{a} * {b} is no multiple of one symbol")
    return a * b  # type: ignore[operator]


def _quotient(a: object, b: object) -> object:
    if a == b:
        return 1
    if isinstance(a, Sym) and isinstance(b, int) and b > 0 and a.factor % b == 0:
        return Sym(a.symbol, a.factor // b)
    if isinstance(a, Sym) or isinstance(b, Sym) or b == 0:
        raise TypeError(f"{a} / {b} is no multiple of one symbol")
    return int(np.trunc(a / b))  # type: ignore[operator]


def _gather(node: SourceNode) -> Array:
    elements = node.elements(0)
    indices = node.array(1)
    assert indices is not None
    return np.take(elements, indices.astype(np.int64), axis=node.axis(node.integer("axis", 0), elements.ndim))


def _concat(node: SourceNode) -> Array:
    return np.concatenate([node.elements(i) for i in range(len(node.operands))], axis=node.integer("axis", 0))


def _slice(node: SourceNode) -> Array:
    elements = node.elements(0)
    starts, ends = node.ints_of("starts", 1), node.ints_of("ends", 2)
    axes, steps = node.ints_of("axes", 3), node.ints(4)
    if starts is None or ends is None or len(starts) != 1 or elements.ndim != 1 or axes not in (None, (0,), (-1,)):
        raise node.broken("a shape is a vector: it is sliced along axis 0")
    return elements[positions(starts[0], ends[0], steps[0] if steps else 1, elements.size)]


def _squeeze(node: SourceNode) -> Array:
    node.ints_of("axes", 1)
    return node.elements(0).reshape(())


def _unsqueeze(node: SourceNode) -> Array:
    return np.expand_dims(node.elements(0), node.ints_of("axes", 1) or ())


def _reshape(node: SourceNode) -> Array:
    return node.elements(0).reshape(node.ints(1) or ())


def _cast(node: SourceNode) -> Array:
    if node.integer("to", 0) not in (6, 7):  # i32, i64
        raise TypeError("it is cast to a type that is no integer")
    node.ignore("saturate", "round_mode")
    return node.elements(0)


PARTIAL: dict[str, Adapter] = {
    "Identity": _on_dims(lambda node: node.elements(0)),
    "Cast": _on_dims(_cast),
    "Gather": _on_dims(_gather),
    "Concat": _on_dims(_concat),
    "Slice": _on_dims(_slice),
    "Squeeze": _on_dims(_squeeze),
    "Unsqueeze": _on_dims(_unsqueeze),
    "Reshape": _on_dims(_reshape),
    "Add": _pairwise(_sum),
    "Sub": _pairwise(_difference),
    "Mul": _pairwise(_product),
    "Div": _pairwise(_quotient),
}
