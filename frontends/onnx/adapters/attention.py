"""Attention, which has a file of its own for its heads and masks."""

from __future__ import annotations

import math

import numpy as np

from ....ir.graph import Value
from ....ir.ops.attention import attention as attend
from ....ir.ops.elementwise import add, minimum
from ....ir.ops.logic import less, where
from ....ir.ops.reduce import reduce_max
from ....ir.ops.shape import reshape, transpose
from ....ir.ops.unary import cast
from ....ir.types import BOOL, F32
from ..source import Adapter, SourceNode


def attention(node: SourceNode) -> Value:
    """Attention without a cache, heads on axis 1 or side by side in the columns; causal is a mask."""
    if any(node.proto.output[1:]) or any(node.given(i) for i in range(4, len(node.operands))):
        raise node.unsupported("keys and values of earlier steps, and results beside the first")
    if node.real("softcap", 0.0):
        raise node.unsupported("a cap on the scores (softcap)")
    if node.value(0).type.dtype != F32:
        raise node.unsupported(f"attention of {node.value(0).type.dtype}, with a softmax in another precision")
    node.ignore("softmax_precision", "qk_matmul_output_mode")  # float32 it is; the scores are no result
    counts = (node.integer("q_num_heads", 0), *(node.integer("kv_num_heads", 0),) * 2)
    given = node.optional(3)
    if set(counts) == {1} and (given is None or given.type.rank == 2):
        q, k, v = (node.value(i) for i in range(3))
    else:
        q, k, v = (_heads(node, node.value(i), count) for i, count in enumerate(counts))
    if q.type.rank == 4 and q.type.shape[1] != k.type.shape[1]:
        raise node.unsupported("several heads of queries share one of keys", fix="repeat the keys and values")
    scale = node.real("scale", 1 / math.sqrt(node.known(q.type.shape[-1])))
    mask = _mask(node, given, q, k)
    y: Value = attend(q, k, v, scale=scale)
    if mask is not None:
        y = _zero_where_closed(attend(q, k, v, mask, scale=scale), mask)
    if node.value(0).type.rank == y.type.rank:
        return y
    batch, heads, rows, columns = y.type.shape
    return reshape(transpose(y, perm=(0, 2, 1, 3)), shape=(batch, rows, node.known(heads) * columns))


def _heads(node: SourceNode, x: Value, count: int) -> Value:
    """[batch, heads, rows, columns], where heads may stand side by side in the columns."""
    if x.type.rank == 4:
        return x
    if x.type.rank != 3 or count < 1 or node.known(x.type.shape[-1]) % count:
        raise node.broken(f"{x.type} is no operand of {count} heads")
    batch, rows, columns = x.type.shape
    return transpose(reshape(x, shape=(batch, rows, count, node.known(columns) // count)), perm=(0, 2, 1, 3))


def _mask(node: SourceNode, given: Value | None, q: Value, k: Value) -> Value | None:
    """The mask that is given and the causal one, as one."""
    if given is not None and given.type.dtype not in (BOOL, q.type.dtype):
        raise node.unsupported(f"a mask of {given.type.dtype}")
    if not node.integer("is_causal", 0):
        return given
    rows, columns = node.static((q.type.shape[-2], k.type.shape[-2]))
    if given is None or given.type.dtype == BOOL:
        causal = node.made((rows, columns), BOOL, lambda: np.tri(rows, columns, dtype=np.bool_))
        return causal if given is None else minimum(given, causal)
    dtype = q.type.dtype
    closed = node.made((rows, columns), dtype, lambda: np.triu(np.full((rows, columns), -np.inf, dtype.numpy), 1))
    return add(given, closed)


def _zero_where_closed(y: Value, mask: Value) -> Value:
    """Rows whose mask lets nothing through are zeros in ONNX; a softmax of nothing is none."""
    zero, last = np.float32(0), mask.type.rank - 1
    if mask.const is None:
        passing = mask if mask.type.dtype == BOOL else less(np.float32(-np.inf), mask)
        some: Value = less(zero, reduce_max(cast(passing, dtype=F32), axes=(last,), keepdims=True))
        return where(some, y, zero)
    open_ = mask.const if mask.type.dtype == BOOL else mask.const > -np.inf
    rows = open_.any(axis=-1, keepdims=True)
    return y if rows.all() else where(rows, y, zero)


TABLE: dict[str, Adapter] = {"Attention": attention}
