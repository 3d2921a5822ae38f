"""Float networks in which rounding is amplified, cancels, or adds up; drawn from a generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.attention import attention
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, mul, relu
from planish.ir.ops.logic import equal
from planish.ir.ops.norm import layer_norm
from planish.ir.ops.reduce import reduce_max, reduce_mean
from planish.ir.ops.shape import reshape
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import cast, gelu, log, silu
from planish.ir.types import F32, I32, Array, TensorType

FLOAT = np.float32
Random = np.random.Generator


def normal(random: Random, *shape: int) -> Array:
    return random.normal(size=shape).astype(FLOAT)


def sample_of(graph: Graph, random: Random, scale: float = 1.0) -> dict[str, Array]:
    """Inputs: normal numbers, and bytes where the input is of integers."""
    return {
        v.name: (scale * normal(random, *v.type.shape)).astype(FLOAT)
        if v.type.dtype.is_float
        else random.integers(0, 256, v.type.shape).astype(v.type.dtype.numpy)
        for v in graph.inputs
    }


def _normalized(x: Value) -> Value:
    size = x.type.shape[-1]
    return layer_norm(x, np.ones(size, FLOAT), np.zeros(size, FLOAT), epsilon=1e-5)


def perceptron(random: Random) -> Graph:
    x = graph_input("x", TensorType((4, 64), F32))
    h = x
    for _ in range(6):
        h = relu(dense(h, normal(random, 64, 64) / FLOAT(6), normal(random, 64)))
    logits = dense(h, normal(random, 10, 64) / FLOAT(6), normal(random, 10))
    return Graph([x], [softmax(mul(logits, FLOAT(0.1))), logits], ["y", "logits"])


def transformer(random: Random) -> Graph:
    """Normalization, attention and gelu: what amplifies rounding."""
    x = graph_input("x", TensorType((8, 32), F32))
    h, zeros = x, np.zeros(32, FLOAT)
    for _ in range(2):
        n = _normalized(h)
        q, k, v = (dense(n, normal(random, 32, 32), zeros) for _ in "qkv")
        h = add(h, attention(q, k, v, scale=0.2))
        hidden = gelu(dense(_normalized(h), normal(random, 64, 32), normal(random, 64)))
        h = add(h, dense(hidden, normal(random, 32, 64), zeros))
    logits = dense(reduce_mean(h, axes=(0,), keepdims=True), normal(random, 20, 32), normal(random, 20))
    return Graph([x], [softmax(mul(logits, FLOAT(0.01))), logits], ["y", "logits"])


def cancelling(random: Random) -> Graph:
    """Small differences of large sums, under a logarithm."""
    x = graph_input("x", TensorType((2, 100), F32))
    w = normal(random, 4, 100)
    left, right = (dense(x, w + FLOAT(d), np.zeros(4, FLOAT)) for d in (0.01, 0.0))
    gap = add(left, mul(right, FLOAT(-1)))
    return Graph([x], [log(add(mul(gap, gap), FLOAT(1e-3))), silu(gap)], ["y", "z"])


def convolutions(random: Random) -> Graph:
    """Deep, with a sum over all pixels at the end."""
    x = graph_input("x", TensorType((1, 3, 16, 16), F32))
    h = x
    for channels in (8, 8, 16, 16):
        w = normal(random, channels, h.type.shape[1], 3, 3) / FLOAT(np.sqrt(4.5 * h.type.shape[1]))
        h = relu(conv2d(h, w, normal(random, channels), pads=(1, 1, 1, 1)))
    pooled = reduce_mean(h, axes=(2, 3), keepdims=False)
    return Graph([x], [dense(pooled, normal(random, 10, 16), normal(random, 10))], ["logits"])


def bytes_model(random: Random) -> Graph:
    """What kind of file some bytes are from: embedded, four at a time, mixed, normalized twice, the largest of each."""
    count, width = 1024, 16
    x = graph_input("bytes", TensorType((count,), I32))
    which = equal(reshape(x, shape=(count, 1)), np.arange(256, dtype=np.int32))
    embedded = dense(cast(which, dtype=F32), normal(random, width, 256), np.zeros(width, FLOAT))
    h = gelu(_normalized(reshape(embedded, shape=(count // 4, 4 * width))))
    h = gelu(dense(h, normal(random, 64, 4 * width) / FLOAT(8), normal(random, 64)))
    largest = reduce_max(_normalized(h), axes=(0,), keepdims=True)
    logits = dense(_normalized(largest), normal(random, 40, 64), normal(random, 40))
    return Graph([x], [softmax(logits), logits], ["y", "logits"])


NETWORKS: dict[str, Callable[[Random], Graph]] = {
    "perceptron": perceptron, "transformer": transformer, "cancelling": cancelling, "convolutions": convolutions,
    "bytes": bytes_model,
}  # fmt: skip
