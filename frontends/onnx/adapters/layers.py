"""Layers of their own: normalizations of rows and across channels, recurrent layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....ir.builder import Builder
from ....ir.graph import Value
from ....ir.ops.elementwise import add, mul
from ....ir.ops.index import expand
from ....ir.ops.norm import layer_norm, lrn
from ....ir.ops.recurrent import Recurrent, Rnn, gru, lstm, rnn
from ....ir.ops.shape import reshape
from ....ir.types import Shape, broadcast, symbols_in
from ..source import Adapter, SourceNode


def layer_normalization(node: SourceNode) -> Value:
    x = node.value(0)
    node.ignore("stash_type")  # the precision inside; float32 is all that planish computes in
    if any(node.proto.output[1:]):
        raise node.unsupported("only the normalized result is computed, not its mean and deviation")
    axis = node.axis(node.integer("axis", -1), x.type.rank)
    rows, columns = x.type.shape[:axis], node.static(x.type.shape[axis:])
    size = int(np.prod(columns))
    scale, shift = _parameters(node, 1, columns, 1.0), _parameters(node, 2, columns, 0.0)
    flat = x if len(columns) == 1 else reshape(x, shape=(*rows, size))
    y: Value = layer_norm(flat, scale, shift, epsilon=node.real("epsilon", 1e-5))
    return y if len(columns) == 1 else reshape(y, shape=x.type.shape)


def _parameters(node: SourceNode, index: int, columns: tuple[int, ...], default: float) -> Value:
    """Scale or shift as a vector over all normalized axes."""
    size, given = int(np.prod(columns)), node.optional(index)
    if given is None:
        return _full(node, size, default, node.value(0))
    if given.type.shape == (size,) == columns:
        return given
    if (array := given.const) is not None and given.type.rank <= len(columns):
        if broadcast(given.type.shape, columns) != columns:
            raise node.broken(f"operand {index} is {given.type}, for columns of {list(columns)}")
        return node.made((size,), given.type.dtype, lambda: np.broadcast_to(array, columns).reshape(-1).copy())
    if given.type.shape != columns:
        raise node.unsupported(f"operand {index} broadcasts over {list(columns)}")
    return given if len(columns) == 1 else reshape(given, shape=(size,))


def _full(node: SourceNode, size: int, value: float, like: Value) -> Value:
    """A vector of one number."""
    return node.made((size,), like.type.dtype, lambda: np.full(size, value, like.type.dtype.numpy))


def grouped(node: SourceNode, x: Value, groups: int) -> Value:
    """Each group of channels of each image, normalized over its channels and its pixels. x: [N,C,...]."""
    channels, *pixels = node.static(x.type.shape[1:])
    if groups < 1 or channels % groups:
        raise node.broken(f"{channels} channels in {groups} groups")
    size = math.prod((channels // groups, *pixels))
    ones, zeros = _full(node, size, 1, x), _full(node, size, 0, x)
    rows = reshape(x, shape=(x.type.shape[0], groups, size))
    y = layer_norm(rows, ones, zeros, epsilon=node.real("epsilon", 1e-5))
    return reshape(y, shape=x.type.shape)


def per_channel(node: SourceNode, y: Value, repeats: int) -> Value:
    """Y times operand 1 plus operand 2, vectors over the channels, of which so many in a row have the same element."""
    for index, combine, neutral in ((1, mul, 1.0), (2, add, 0.0)):
        vector = node.array(index)
        if vector is None or vector.size * repeats != y.type.shape[1]:
            raise node.broken(f"operand {index} is no constant vector over the channels of {y.type}")
        if np.any(vector != neutral):
            y = combine(y, node.constant(np.repeat(vector, repeats).reshape(-1, *(1,) * (y.type.rank - 2))))
    return y


def instance_normalization(node: SourceNode) -> Value:
    x = node.value(0)
    if x.type.rank < 3:
        raise node.broken(f"images have rank 3 or more, not {x.type}")
    return per_channel(node, grouped(node, x, node.known(x.type.shape[1])), 1)


def group_normalization(node: SourceNode) -> Value:
    x, groups = node.value(0), node.integer("num_groups", 0)
    node.ignore("stash_type")
    if x.type.rank < 3:
        raise node.broken(f"images have rank 3 or more, not {x.type}")
    y = grouped(node, x, groups)
    return per_channel(node, y, node.known(x.type.shape[1]) // groups if node.opset < 21 else 1)


def local_response(node: SourceNode) -> Value:
    x = node.value(0)
    if x.type.rank != 4:
        raise node.unsupported(f"only images [N,C,H,W] are supported, not rank {x.type.rank}")
    return lrn(
        x, size=node.integer("size", 0), alpha=node.real("alpha", 1e-4), beta=node.real("beta", 0.75),
        bias=node.real("bias", 1.0),
    )  # fmt: skip


DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


def long_short_term(node: SourceNode) -> list[Value]:
    if node.integer("input_forget", 0) or node.given(7):
        raise node.unsupported("input_forget and peepholes are not supported", fix="export the model without them")
    return _recurrent(node, lstm)


def gated(node: SourceNode) -> list[Value]:
    return _recurrent(node, gru, reset_after=node.integer("linear_before_reset", 0) != 0)


def plain(node: SourceNode) -> list[Value]:
    activations = {a.lower() for a in node.texts("activations")}
    return _recurrent(node, rnn, relu=activations == {"relu"})


def _recurrent(node: SourceNode, build: Builder[Any], **attributes: Any) -> list[Value]:
    """What recurrent operators have in common: directions, and zeros where bias and states are not given."""
    op: type[Recurrent] = build.op
    x, w, r = node.value(0), node.value(1), node.value(2)
    mode = node.text("direction", "forward")
    if mode not in DIRECTIONS or x.type.rank != 3 or r.type.rank != 3:
        raise node.broken(f"direction {mode!r}, x {x.type}, recurrent weights {r.type}")
    _activated(node, op, DIRECTIONS[mode])
    steps, batch = x.type.shape[:2]
    directions, hidden = DIRECTIONS[mode], node.known(r.type.shape[2])
    if node.integer("hidden_size", hidden) != hidden:
        raise node.broken(f"the hidden size is not {hidden}")
    lengths = node.array(4) if node.given(4) else None
    if lengths is not None and np.any(lengths != steps):
        raise node.unsupported("sequences of different lengths are not supported")
    bias = node.optional(3) or _zeros(node, (directions, 2 * op.gates * hidden), x)
    states = [node.optional(5 + i) or _zeros(node, (directions, batch, hidden), x) for i in range(op.states)]
    results: tuple[Value, ...] = build(x, w, r, bias, *states, reverse=mode == "reverse", **attributes)
    return list(results[: len(node.proto.output)])


def _activated(node: SourceNode, op: type[Recurrent], directions: int) -> None:
    """Raise UnsupportedError for what no recurrent op has."""
    activations = [a.lower() for a in node.texts("activations")]
    known = [["tanh"], ["relu"]] if op is Rnn else [["sigmoid", *["tanh"] * op.states]]
    if activations and activations not in [each * directions for each in known]:
        raise node.unsupported(f"activations {', '.join(activations)}", fix="use the default activations")
    if node.has("clip") or node.integer("layout", 0):
        raise node.unsupported("clip and layout=1 are not supported", fix="export the model without them")


def _zeros(node: SourceNode, shape: Shape, like: Value) -> Value:
    """Zeros, also for a batch that is not known."""
    if symbols_in([shape]):
        return expand(np.zeros((), like.type.dtype.numpy), shape=shape)
    known = node.static(shape)
    return node.made(known, like.type.dtype, lambda: np.zeros(known, like.type.dtype.numpy))


TABLE: dict[str, Adapter] = {
    "LayerNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LRN": local_response,
    "LSTM": long_short_term,
    "GRU": gated,
    "RNN": plain,
}
