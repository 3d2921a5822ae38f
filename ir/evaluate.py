"""Evaluate a graph with the ops' own reference semantics: folding, bodies and the interpreter use this one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .constant import Const
from .errors import InferenceError, UnsupportedError
from .graph import Graph, Node, Value
from .op import Op
from .types import BF16, F16, Array, DType, Shape, Sym, converted, dtype_of

Listener = Callable[[Node, tuple[Array, ...]], None]
#: Elements of large operands that an elementwise op computes at once.
PART = 1 << 20
NO_SIZES: Mapping[str, int] = {}


def symbol_sizes(shapes: Iterable[Shape], given: Iterable[tuple[int, ...]]) -> dict[str, int]:
    """What the symbols of these shapes stand for, where arrays have the given ones."""
    pairs = (pair for shape, sizes in zip(shapes, given, strict=True) for pair in zip(shape, sizes, strict=False))
    return {dim.symbol: size // dim.factor for dim, size in pairs if isinstance(dim, Sym)}


def evaluate_node(node: Node, operands: Sequence[Array], sizes: Mapping[str, int] = NO_SIZES) -> tuple[Array, ...]:
    """Result arrays of one node, in the dtypes that inference promised, in row-major order.

    sizes: what the symbols in the op's attributes stand for.
    The order of elements in memory decides how NumPy and BLAS sum; fixed, results depend on values alone. Elementwise
    ops compute floats of 16 bits in float32, and round the result once, as processors and ONNX Runtime do it.
    """
    with np.errstate(all="ignore"):
        op = node.op.sized(sizes) if sizes else node.op
        if op.elementwise and len(node.results) == 1 and (largest := _separable(operands)) is not None:
            return (_in_parts(op, operands, largest, node.result.type.dtype),)
        out = _computed(op, operands)
        results = out if isinstance(out, tuple) else (out,)
        return tuple(converted(r, v.type.dtype) for r, v in zip(results, node.results, strict=True))


def _computed(op: Op, operands: Sequence[Array]) -> Any:
    halves = (F16, BF16) if op.elementwise else ()
    return op.ref(*(x.astype(np.float32) if dtype_of(x) in halves else x for x in operands))


def _separable(operands: Sequence[Array]) -> Array | None:
    """The largest operand of an elementwise op, where it is worth computing a part at a time, and can be."""
    largest = max(operands, key=lambda x: x.size)
    if largest.size <= PART or any(x.shape != largest.shape and (x.size != 1 or x.ndim > 1) for x in operands):
        return None
    return largest


def _in_parts(op: Op, operands: Sequence[Array], largest: Array, dtype: DType) -> Array:
    """The result of an elementwise op on operands of one shape or of one element; what it needs meanwhile is small."""
    result = np.empty(largest.size, dtype.numpy)
    flat = [x if x.size == 1 else x.reshape(-1) for x in operands]
    for start in range(0, largest.size, PART):
        parts = [x if x.size == 1 else x[start : start + PART] for x in flat]
        result[start : start + PART] = converted(_computed(op, parts), dtype)
    return result.reshape(largest.shape)


def _within_reach(node: Node, operands: Sequence[Array], sizes: Mapping[str, int]) -> tuple[Array, ...]:
    """As `evaluate_node`; UnsupportedError names a node that takes more memory or time than there is."""
    try:
        return evaluate_node(node, operands, sizes)
    except MemoryError:
        what, fix = "there is not enough memory to evaluate a node", "make its sizes smaller (--dim, or another export)"
        raise UnsupportedError(what, node.describe(), fix) from None
    except UnsupportedError as error:
        error.where = error.where or node.describe()
        raise


def evaluate(graph: Graph, inputs: Sequence[Array], listener: Listener | None = None) -> list[Array]:
    """Output arrays for input arrays given in order. Arrays are dropped after their last use.

    `listener(node, results)` sees every node that is not a constant. Raises InferenceError for a wrong count of inputs,
    UnsupportedError for a node that takes more memory or time than there is.
    """
    if len(inputs) != len(graph.inputs):
        raise InferenceError(f"{graph.name} has {len(graph.inputs)} inputs, {len(inputs)} were given")
    live: dict[Value, Array] = {v: np.asarray(x, order="C") for v, x in zip(graph.inputs, inputs, strict=True)}
    sizes = symbol_sizes((v.type.shape for v in live), (x.shape for x in live.values()))
    remaining = {v: len(v.uses) for n in graph.nodes for v in n.results}
    kept = set(graph.outputs)
    for node in graph.nodes:
        if isinstance(node.op, Const):
            live[node.results[0]] = node.op.data
            continue
        results = _within_reach(node, [live[v] for v in node.operands], sizes)
        if listener is not None:
            listener(node, results)
        live.update(zip(node.results, results, strict=True))
        for v in node.operands:
            if v in remaining:
                remaining[v] -= 1
                if not remaining[v] and v not in kept:
                    del live[v]
    return [live[v] for v in graph.outputs]


def evaluate_by_name(graph: Graph, inputs: Mapping[str, Array], listener: Listener | None = None) -> dict[str, Array]:
    """As `evaluate`, keyed by input and output names."""
    outputs = evaluate(graph, [inputs[v.name] for v in graph.inputs], listener)
    return dict(zip(graph.output_names, outputs, strict=True))
