"""Normalizations of rows, recurrent layers, comparisons: what `adapters` says for other ops."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir.op import Op
from ...ir.ops.activations import Elu, Mish, Softplus
from ...ir.ops.attention import Attention
from ...ir.ops.index import Take
from ...ir.ops.logic import Equal, Less, LessEqual, Not, Where
from ...ir.ops.norm import LayerNorm, Lrn
from ...ir.ops.recurrent import Gru, Lstm, Recurrent, Rnn
from ...ir.ops.unary import Gelu, HardSigmoid, HardSwish, Silu
from ...ir.types import BOOL, Array, Shape, static
from .compact import shrunk
from .site import Operand, RefusedError, Site

#: From this operator set on there is LayerNormalization.
LAYERS = 17


def same(kind: str) -> Any:
    """The operator of the same meaning, without attributes. It repeats constants by itself."""

    def emitted(site: Site, op: Op, *operands: Operand) -> Operand:
        given = list(operands)
        for i, x in enumerate(operands):
            if x.const is not None and len(operands) > 1:
                others = [y.type.shape for k, y in enumerate(given) if k != i]
                small = shrunk(x.const, others, site.type.shape)
                given[i] = x if small is x.const else site.array("constant", small)
        return site.emit(kind, *given)

    return emitted


def layer_norm(site: Site, op: LayerNorm, x: Operand, scale: Operand, shift: Operand) -> Operand:
    """A shift of zeros is left out. Before LayerNormalization, rows that share one scale are channels of a signal."""
    if site.opset < LAYERS and x.type.rank == 3 and isinstance(channels := x.type.shape[1], int):
        numbers = [v.const.flat[0] for v in (scale, shift) if v.const is not None and _is_uniform(v.const)]
        if len(numbers) == 2:
            vectors = (site.array("parameter", np.full(channels, number)) for number in numbers)
            return site.emit("InstanceNormalization", x, *vectors, epsilon=op.epsilon)
    given = None if shift.const is not None and not shift.const.any() else shift
    return site.emit("LayerNormalization", x, scale, given, axis=-1, epsilon=op.epsilon)


def _is_uniform(array: Array) -> bool:
    """Whether it holds one number, once or more often."""
    return bool(array.size) and bool((array == array.flat[0]).all())


def lrn(site: Site, op: Lrn, x: Operand) -> Operand:
    """The operator of the same meaning."""
    return site.emit("LRN", x, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)


def gelu(site: Site, op: Gelu, x: Operand) -> Operand:
    """The operator of the same meaning."""
    return site.emit("Gelu", x, approximate="tanh" if op.tanh else None)


def elu(site: Site, op: Elu, x: Operand) -> Operand:
    """Elu, Selu or Celu."""
    if op.width == 1:
        scale = None if op.scale == 1 else op.scale
        return site.emit("Elu" if scale is None else "Selu", x, alpha=op.alpha, gamma=scale)
    if op.scale != 1 or op.width != op.alpha:
        raise RefusedError(f"elu of alpha {op.alpha}, scale {op.scale} and width {op.width} in one operator")
    return site.emit("Celu", x, alpha=op.alpha)


def attention(site: Site, op: Attention, q: Operand, k: Operand, v: Operand, mask: Operand | None = None) -> Operand:
    """The operator of the same meaning: heads on axis 1, or one head for each of a batch.

    Where a mask lets nothing of a row through, its result is no number here and zero in ONNX.
    """
    if q.type.rank not in (3, 4):
        raise RefusedError(f"attention of rank {q.type.rank}", "heads stand on axis 1 in ONNX")
    if mask is not None and mask.type.dtype == BOOL and op.fill != -math.inf:
        raise RefusedError(f"where the mask is false the scores are {op.fill}", "in ONNX they are -inf")
    if mask is not None and mask.type.rank == q.type.rank == 3:
        raise RefusedError("a mask for each of a batch of single heads", "heads stand on axis 1 in ONNX")
    heads = 1 if q.type.rank == 3 else None
    if mask is not None:
        mask = _whole(site, mask, (q.type.shape[-2], k.type.shape[-2]))
    return site.emit("Attention", q, k, v, mask, scale=op.scale, q_num_heads=heads, kv_num_heads=heads)


def _whole(site: Site, mask: Operand, scores: Shape) -> Operand:
    """The mask with a row for every query and a column for every key: ONNX Runtime repeats neither.

    The standard lets a mask broadcast; how far is said in no other place than its type.
    """
    if mask.type.shape[-2:] == scores:
        return mask
    if not all(isinstance(d, int) for d in scores):
        raise RefusedError(
            f"a mask {mask.type} for scores {list(scores)}", "give the unknown dimensions numbers (--dim)"
        )
    shape = (*mask.type.shape[:-2], *scores)
    if mask.const is not None:
        return site.array("mask", np.broadcast_to(mask.const, static(shape)))
    repeated = (1,) * (len(shape) - 2) + static(scores)
    return site.emit("Expand", mask, site.array("shape", repeated), type=mask.type.with_shape(shape))


def recurrent(kind: str, more: Callable[[Any], dict[str, Any]] = lambda op: {}) -> Any:
    """The operator of the same meaning; bias and states of zeros are left out. more: attributes, by the op."""

    def emitted(site: Site, op: Recurrent, *operands: Operand) -> tuple[Operand, ...]:
        x, w, r, b, *states = operands
        mode = "bidirectional" if w.type.shape[0] == 2 else "reverse" if op.reverse else None
        bias, *given = (None if v.const is not None and not v.const.any() else v for v in (b, *states))
        return site.emit_all(
            kind, x, w, r, bias, None, *given, types=op.infer(*(v.type for v in operands)),
            hidden_size=r.type.shape[2], direction=mode, **more(op),
        )  # fmt: skip

    return emitted


def rnn(site: Site, op: Rnn, *operands: Operand) -> tuple[Operand, ...]:
    """The operator of the same meaning; it wants the name of its function for every direction."""
    (directions,) = static(operands[1].type.shape[:1])
    emitted = recurrent("RNN", lambda op: {"activations": ["Relu"] * directions} if op.relu else {})
    return emitted(site, op, *operands)


ADAPTERS: dict[Any, Any] = {
    Attention: attention, LayerNorm: layer_norm, Lrn: lrn, Lstm: recurrent("LSTM"),
    Gru: recurrent("GRU", lambda op: {"linear_before_reset": 1} if op.reset_after else {}),
    Rnn: rnn,
    Elu: elu, Softplus: same("Softplus"), Mish: same("Mish"),
    Gelu: gelu, HardSwish: same("HardSwish"), Silu: same("Swish"),
    HardSigmoid: lambda site, op, x: site.emit("HardSigmoid", x, alpha=op.alpha, beta=op.beta),
    Take: lambda site, op, x, indices: site.emit("Gather", x, indices, axis=op.axis),
    Equal: lambda site, op, a, b: site.emit("Equal", a, b),
    Less: lambda site, op, a, b: site.emit("Less", a, b),
    LessEqual: lambda site, op, a, b: site.emit("LessOrEqual", a, b),
    Not: lambda site, op, x: site.emit("Not", x),
    Where: lambda site, op, condition, a, b: site.emit("Where", condition, a, b),
}  # fmt: skip
