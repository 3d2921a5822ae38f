"""Graphs in double precision or exact numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .constant import Const
from .graph import Graph, Value, apply
from .op import Op
from .types import EXACT, F64, Array, DType, TensorType, converted, dtype_of


def float64_twin(graph: Graph) -> Graph:
    """The same graph with every float in f64: inputs, constants, attributes that name a dtype, and bodies."""
    return float_twin(graph, F64)


def exact_twin(graph: Graph) -> Graph:
    """The same graph over the rationals: every float, as it is, becomes an exact number.

    Raises Undefined where a constant is no number. Some ops have no meaning there (those that round to integers): then
    evaluation raises TypeError.
    """
    return float_twin(graph, EXACT)


def float_twin(graph: Graph, dtype: DType) -> Graph:
    """The same graph with every float in this dtype."""
    values: dict[Value, Value] = {v: Value(_type(v.type, dtype), v.name) for v in graph.inputs}
    inputs = list(values.values())
    for node in graph.nodes:
        twin = apply(_op(node.op, dtype), *(values[v] for v in node.operands), loc=node.loc)
        for old, new in zip(node.results, twin.results, strict=True):
            new.name = old.name
            values[old] = new
    return Graph(inputs, [values[v] for v in graph.outputs], graph.output_names, graph.name)


def widened(array: Array) -> Array:
    """A float array in f64; exact numbers, and anything else, as they are."""
    dtype = dtype_of(array)
    return array.astype(np.float64) if dtype.is_float and dtype is not EXACT else array


def scalar(array: Array) -> Any:
    """The element of an array that has one, as an attribute: a Python float; an exact number as it is."""
    element = array.reshape(()).item()
    return element if dtype_of(array) is EXACT else float(element)


def is_finite(array: Array) -> bool:
    """Whether all elements are numbers, neither NaN nor infinite; exact ones always are."""
    return dtype_of(array) is EXACT or bool(np.all(np.isfinite(array)))


def _type(type: TensorType, dtype: DType) -> TensorType:
    return type.with_dtype(dtype) if type.dtype.is_float else type


def _op(op: Op, dtype: DType) -> Op:
    if isinstance(op, Const):
        return Const(converted(op.data, dtype)) if dtype_of(op.data).is_float else op
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if isinstance(value, DType) and value.is_float:
            changes[field.name] = dtype
        elif isinstance(value, Graph):
            changes[field.name] = float_twin(value, dtype)
    return op.like(**changes) if changes else op
