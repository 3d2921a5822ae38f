"""Every layer that a quantized CNN is made of runs on the NPU: the host only turns floats into integers, and back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from planish.backends.npu.compiler import compile_graph
from planish.backends.npu.machine import load_machine
from planish.backends.npu.partition import partition
from planish.backends.npu.target import NpuTarget
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, mul, relu
from planish.ir.ops.pool import avg_pool2d, max_pool2d
from planish.ir.ops.reduce import reduce_mean
from planish.ir.ops.resize import resize_linear, resize_nearest
from planish.ir.ops.shape import concat, depth_to_space, reshape
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import hard_swish, sigmoid, tanh
from planish.ir.types import F32, Array, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline

RNG = np.random.default_rng(0)
#: Of the images. Where nothing is tight, larger ones only take the mapper longer.
SIDE = 4
#: At the ends of the model, where images have floats and their channels first.
BORDERS = {"quantize", "dequantize", "transpose"}


def weights(*shape: int) -> Array:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def conv(x: Value, channels: int = 8, window: int = 3, groups: int = 1) -> Value:
    taken = int(x.type.shape[1]) // groups  # type: ignore[arg-type]
    pads = (window // 2,) * 4
    return conv2d(x, weights(channels, taken, window, window), weights(channels), pads=pads, groups=groups)


def dense_of(x: Value, outputs: int = 10) -> Value:
    size = 8 * SIDE * SIDE
    return dense(reshape(x, shape=(1, size)), weights(outputs, size), weights(outputs))


LAYERS: dict[str, Callable[[Value], Value]] = {
    "conv": lambda x: conv(x, 16),
    "conv + relu": lambda x: relu(conv(x, 16)),
    "pointwise": lambda x: conv(x, 24, window=1),
    "depthwise": lambda x: conv(x, 8, groups=8),
    "grouped": lambda x: conv(x, 8, groups=2),
    "dense": dense_of,
    "max pooling": lambda x: max_pool2d(x, window=(2, 2), strides=(2, 2)),
    "average pooling": lambda x: avg_pool2d(x, window=(2, 2), strides=(2, 2)),
    "global average": lambda x: reduce_mean(x, axes=(2, 3), keepdims=True),
    "add": lambda x: add(x, conv(x)),
    "concat": lambda x: concat(x, conv(x, 4), axis=1),
    "softmax": lambda x: softmax(dense_of(x)),
    "table: sigmoid": lambda x: sigmoid(conv(x)),
    "table: tanh": tanh,
    "table: hard swish": lambda x: hard_swish(conv(x)),
    "table: scaled": lambda x: mul(x, np.float32(0.3)),
    "resize, nearest": lambda x: resize_nearest(x, size=(2 * SIDE, 2 * SIDE), scales=(2.0, 2.0)),
    "resize, linear": lambda x: resize_linear(x, size=(2 * SIDE, 2 * SIDE), scales=(2.0, 2.0)),
    "depth to space": lambda x: depth_to_space(conv(x, 12), block=2),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_npu_takes_it(layer: str) -> None:
    x = graph_input("x", TensorType((1, 8, SIDE, SIDE), F32))
    y = LAYERS[layer](conv(x))
    graph = lowered(Graph([x], [conv(y) if y.type.rank == 4 else y], ["y"]), NpuTarget("npu:64"))
    placements = partition(graph).placements
    for placement in placements:
        types = [v.type for v in (*placement.node.operands, *placement.node.results)]
        assert placement.on_host == any(t.dtype.is_float for t in types), placement.node
        assert placement.refusal is None or (placement.refusal.reason and placement.node.op.name in BORDERS)
    for macs in (32, 256):
        compiled = compile_graph(graph, load_machine(str(macs)))
        assert len(compiled.layers) == sum(not p.on_host for p in placements) > 0


def lowered(graph: Graph, target: NpuTarget) -> Graph:
    """Quantized as `planish compile --quantize int8` does it, in the form that the target takes."""
    samples = [{"x": RNG.normal(0, 1, (1, 8, SIDE, SIDE)).astype(np.float32)} for _ in range(4)]
    pipeline = f"simplify,fuse,quantize{{calibration=minmax}},fold-quantization,simplify,{target.lowering}"
    return run_pipeline(graph, pipeline, Context(lambda: iter(samples), target)).graph
