"""Random small networks: float graphs of the kinds that are deployed on small machines."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from ..ir.graph import Graph, Value, graph_input
from ..ir.ops.conv import conv2d
from ..ir.ops.dense import dense
from ..ir.ops.elementwise import add, clip, relu, sub
from ..ir.ops.norm import batch_norm
from ..ir.ops.pool import avg_pool2d, max_pool2d
from ..ir.ops.reduce import reduce_mean
from ..ir.ops.shape import concat, pad, reshape, slice_, transpose
from ..ir.ops.softmax import softmax
from ..ir.types import F32, NCHW, Array, TensorType, static
from .draw import HypothesisDraw

Layer = Callable[["Network", Value], Value]


class Network:
    """A network being drawn: layers take a value and give the next one. Images are NCHW."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = HypothesisDraw(draw)
        self.values: list[Value] = []

    def weights(self, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Array:
        """Random weights of about unit gain: a seed, not element by element."""
        random = np.random.Generator(np.random.PCG64(self.draw.integer(0, 2**16)))
        fan_in = max(1, int(np.prod(shape[1:])))
        return (random.uniform(low, high, shape) / (fan_in**0.5 if low < 0 else 1)).astype(np.float32)

    def convolution(self, x: Value, depthwise: bool = False) -> Value:
        _, channels, height, width = static(x.type.shape)
        groups = channels if depthwise else self.draw.choice([g for g in (1, 2) if channels % g == 0])
        outputs = groups * self.draw.integer(1, 2) if depthwise or groups > 1 else self.draw.integer(1, 4)
        window = (self.draw.integer(1, min(3, height)), self.draw.integer(1, min(3, width)))
        pads = tuple(self.draw.integer(0, window[i % 2] - 1) for i in range(4))
        w, b = self.weights((outputs, channels // groups, *window)), self.weights((outputs,))
        strides = self.draw.size2(1, 2)
        return _value(conv2d(x, w, b, strides=strides, pads=pads, groups=groups))

    def depthwise(self, x: Value) -> Value:
        return self.convolution(x, depthwise=True)

    def normalization(self, x: Value) -> Value:
        c = (static(x.type.shape)[1],)
        parameters = [self.weights(c), self.weights(c), self.weights(c), self.weights(c, 0.2, 2)]
        return _value(batch_norm(x, *parameters))

    def activation(self, x: Value) -> Value:
        return _value(
            self.draw.choice([relu, lambda v: clip(v, lo=0.0, hi=6.0), lambda v: clip(v, lo=-1.0, hi=1.0)])(x)
        )

    def pooling(self, x: Value) -> Value:
        _, _, height, width = static(x.type.shape)
        window = (self.draw.integer(1, min(3, height)), self.draw.integer(1, min(3, width)))
        strides = self.draw.size2(1, 2)
        pads = tuple(self.draw.integer(0, window[i % 2] - 1) for i in range(4))
        if self.draw.boolean():
            return _value(max_pool2d(x, window=window, strides=strides, pads=pads))
        return _value(avg_pool2d(x, window=window, strides=strides, pads=pads, count_pads=self.draw.boolean()))

    def residual(self, x: Value) -> Value:
        """The sum or difference with an earlier value of the same type, or with itself."""
        earlier = [v for v in self.values if v.type == x.type]
        return _value(self.draw.choice([add, sub])(self.draw.choice(earlier), x))

    def joined(self, x: Value) -> Value:
        """Channels of this and of an earlier value of the same size."""
        fitting = [v for v in self.values if v.type.rank == 4 and v.type.shape[2:] == x.type.shape[2:]]
        return _value(concat(self.draw.choice(fitting), x, axis=1))

    def padding(self, x: Value) -> Value:
        before, after = ((0, 0, *self.draw.size2(0, 1)) for _ in range(2))
        return _value(pad(x, before=before, after=after, value=0.0))

    def cropping(self, x: Value) -> Value:
        n, c, h, w = static(x.type.shape)
        starts = (0, 0, self.draw.integer(0, h - 1), self.draw.integer(0, w - 1))
        return _value(slice_(x, starts=starts, stops=(n, c, h, w), steps=(1, 1, 1, 1)))

    def there_and_back(self, x: Value) -> Value:
        """Transposes as importers leave them."""
        last = _value(transpose(x, perm=(0, 2, 3, 1)))
        return _value(transpose(self.activation(last) if self.draw.boolean() else last, perm=(0, 3, 1, 2)))

    def dense(self, x: Value) -> Value:
        outputs, inputs = self.draw.integer(1, 5), static(x.type.shape)[-1]
        return _value(dense(x, self.weights((outputs, inputs)), self.weights((outputs,))))

    def flattened(self, x: Value) -> Value:
        n, c, h, w = static(x.type.shape)
        if self.draw.boolean():
            return _value(reduce_mean(x, axes=(2, 3), keepdims=False))
        return _value(reshape(x, shape=(n, c * h * w)))


IMAGE_LAYERS: tuple[Layer, ...] = (
    Network.convolution, Network.depthwise, Network.activation, Network.pooling, Network.residual,
    Network.normalization, Network.joined, Network.padding, Network.cropping, Network.there_and_back,
)  # fmt: skip
VECTOR_LAYERS: tuple[Layer, ...] = (Network.dense, Network.activation, Network.residual)


@st.composite
def graphs(draw: st.DrawFn, max_layers: int = 6) -> Graph:
    """Float networks over one small image: up to `max_layers` layers, then perhaps a classifier; 1 or 2 outputs."""
    network = Network(draw)
    d = network.draw
    shape = NCHW.shape(1, d.integer(1, 4), d.integer(1, 6), d.integer(1, 6))
    x = value = graph_input("x", TensorType(shape, F32))
    network.values.append(x)
    layers = [d.choice(IMAGE_LAYERS) for _ in range(d.integer(1, max_layers))]
    if d.boolean():
        layers += [Network.flattened, *(d.choice(VECTOR_LAYERS) for _ in range(d.integer(0, 3)))]
    for layer in layers:
        value = layer(network, value)
        network.values.append(value)
    if value.type.rank == 2 and d.boolean():
        value = _value(softmax(value))
    outputs = [value]
    if d.choice([False, False, False, True]):
        outputs.append(d.choice(network.values[1:]))
    if outputs[0] is outputs[-1]:
        outputs = outputs[:1]
    return Graph([x], outputs, [f"y{i}" for i in range(len(outputs))], "drawn")


def _value(built: Value) -> Value:
    """What a builder gives for values, in the eyes of the type checker."""
    return built
