"""Random small networks: float graphs of the kinds that are deployed on small machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from ..ir.builder import Builder
from ..ir.errors import InferenceError
from ..ir.graph import Graph, Node, Value, infer
from ..ir.graph import apply as graph_apply
from ..ir.op import Op
from ..ir.ops.conv import Conv2d
from ..ir.ops.dense import Dense, dense
from ..ir.ops.elementwise import add, clip, relu, sub
from ..ir.ops.norm import BatchNorm
from ..ir.ops.pool import AvgPool2d, MaxPool2d
from ..ir.ops.reduce import reduce_mean
from ..ir.ops.shape import concat, pad, reshape, slice_, transpose
from ..ir.ops.softmax import softmax
from ..ir.types import F32, Dim, Sym, TensorType, static
from .draw import HypothesisDraw, composite
from .uses import Source

Layer = Callable[["Network", Value], Value]


class Network(Source):
    """A network being drawn: layers take a value and give the next one. Images are NCHW."""

    def apply(self, op: type[Op], x: Value, **fixed: Any) -> Value:
        """The op, used on x in some way."""
        attributes, others = self.use(op, x, fixed)
        return _value(Builder(op)(x, *others, **attributes))

    def shared(self, op: type[Op], x: Value) -> Value:
        """The op with the weights of an earlier layer, where one fits; else with its own."""
        layers = [v.producer for v in self.values if v.producer is not None and type(v.producer.op) is op]
        twins = [layer for layer in layers if _fits(layer, x)]
        return _again(self.draw.choice(twins), x) if twins and self.draw.boolean() else self.apply(op, x)

    def siblings(self, x: Value) -> Value:
        """A layer, and the same one on something made of x; both results joined."""
        first = self.draw.choice([self.convolution, self.normalization])(x)
        assert first.producer is not None
        second = _again(first.producer, self.activation(x))
        return _value(add(first, second) if self.draw.boolean() else concat(first, second, axis=1))

    def convolution(self, x: Value) -> Value:
        return self.shared(Conv2d, x)

    def depthwise(self, x: Value) -> Value:
        return self.apply(Conv2d, x, groups=x.type.shape[1])

    def normalization(self, x: Value) -> Value:
        return self.shared(BatchNorm, x)

    def activation(self, x: Value) -> Value:
        return _value(
            self.draw.choice([relu, lambda v: clip(v, lo=0.0, hi=6.0), lambda v: clip(v, lo=-1.0, hi=1.0)])(x)
        )

    def pooling(self, x: Value) -> Value:
        return self.apply(self.draw.choice([MaxPool2d, AvgPool2d]), x)

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
        n, c, h, w = x.type.shape
        starts = (0, 0, *(self.draw.integer(0, d - 1) for d in static((h, w))))
        return _value(slice_(x, starts=starts, stops=(n, c, h, w), steps=(1, 1, 1, 1)))

    def halves(self, x: Value) -> Value:
        """Channels split in two and joined again, perhaps with something done to one part."""
        channels = x.type.shape[1]
        at = self.draw.integer(0, int(channels) - 1) if isinstance(channels, int) else 0
        ends = [(0, at), (at, channels)] if at else [(0, channels)]
        cut: list[Value] = []
        for start, stop in ends:
            starts, stops = (
                tuple(e if i == 1 else d for i, d in enumerate(whole))
                for e, whole in ((start, (0,) * x.type.rank), (stop, x.type.shape))
            )
            cut.append(_value(slice_(x, starts=starts, stops=stops, steps=(1,) * x.type.rank)))
        if self.draw.boolean():
            cut[0] = self.activation(cut[0])
        return _value(concat(*cut, axis=1))

    def there_and_back(self, x: Value) -> Value:
        """Transposes as importers leave them."""
        last = _value(transpose(x, perm=(0, 2, 3, 1)))
        return _value(transpose(self.activation(last) if self.draw.boolean() else last, perm=(0, 3, 1, 2)))

    def dense(self, x: Value) -> Value:
        return self.shared(Dense, x)

    def heads(self, x: Value) -> Value:
        """Layers side by side whose columns are split into heads, some of them activated, and all put together."""
        n, inputs = x.type.shape
        size = self.draw.integer(1, 2)
        parts = []
        for count in [self.draw.integer(1, 2) for _ in range(self.draw.integer(2, 3))]:
            (wide,) = static((inputs,))
            layer = dense(x, self.weights((count * size, wide)), self.weights((count * size,)))
            part = _value(transpose(reshape(layer, shape=(n, count, size)), perm=(1, 0, 2)))
            parts.append(self.activation(part) if self.draw.boolean() else part)
        together = concat(*parts, axis=0)
        whole = sum(static(tuple(part.type.shape[0] for part in parts))) * size
        return _value(reshape(transpose(together, perm=(1, 0, 2)), shape=(n, whole)))

    def flattened(self, x: Value) -> Value:
        n, *image = x.type.shape
        if self.draw.boolean():
            return _value(reduce_mean(x, axes=(2, 3), keepdims=False))
        return _value(reshape(x, shape=(n, math.prod(static(tuple(image))))))

    def grow(self, x: Value, layers: Sequence[Layer]) -> Value:
        """Layers one after another."""
        for layer in layers:
            x = layer(self, x)
            self.values.append(x)
        return x

    def graph(self, last: Value) -> Graph:
        """The graph of the last value, and now and then of another one."""
        outputs = [last]
        if self.draw.choice([False, False, False, True]):
            outputs.append(self.draw.choice([v for v in self.values if v.producer is not None] or outputs))
        if outputs[0] is outputs[-1]:
            outputs = outputs[:1]
        return Graph(self.inputs, outputs, [f"y{i}" for i in range(len(outputs))], "drawn")


#: What is met more often stands here twice.
IMAGE_LAYERS: tuple[Layer, ...] = (
    Network.convolution, Network.activation, Network.convolution, Network.activation,
    Network.depthwise, Network.pooling, Network.residual, Network.normalization, Network.joined,
    Network.padding, Network.cropping, Network.there_and_back, Network.halves, Network.siblings,
)  # fmt: skip
VECTOR_LAYERS: tuple[Layer, ...] = (Network.dense, Network.activation, Network.residual, Network.heads)


@composite
def types(
    draw: st.DrawFn, rank: int | None = None, max_dim: int = 6, max_batch: int = 1, symbolic: bool = False
) -> TensorType:
    """Types of float tensors: an image where the rank is 4. symbolic: the batch may be the symbol N."""
    d = HypothesisDraw(draw)
    axes: int = d.choice([4, 2, 3]) if rank is None else rank
    batch: Dim = Sym("N") if symbolic and d.boolean() else d.integer(1, max_batch)
    sizes = [d.integer(1, max_dim if i else min(4, max_dim)) for i in range(axes - 1)]
    return TensorType((batch, *sizes), F32)


@composite
def graphs(draw: st.DrawFn, max_layers: int = 6, max_dim: int = 6, symbolic: bool = False) -> Graph:
    """Float networks over one small image: up to `max_layers` layers, then perhaps a classifier; 1 or 2 outputs.

    Branches, residuals and concats of earlier values, layers that share their weights; symbolic: perhaps any batch.
    """
    network = Network(draw)
    d = network.draw
    x = network.input(draw(types(4, max_dim, symbolic=symbolic)))
    value = network.grow(x, [d.choice(IMAGE_LAYERS) for _ in range(d.integer(1, max_layers))])
    if d.boolean():
        layers = [Network.flattened, Network.dense, *(d.choice(VECTOR_LAYERS) for _ in range(d.integer(0, 2)))]
        value = network.grow(value, layers)
        if d.boolean():
            value = network.grow(value, [lambda _, v: _value(softmax(v))])
    return network.graph(value)


def _fits(layer: Node, x: Value) -> bool:
    """Whether x could be the layer's input as well."""
    try:
        infer(layer.op, [x.type, *(v.type for v in layer.operands[1:])])
    except InferenceError:
        return False
    return True


def _again(layer: Node, x: Value) -> Value:
    """The layer, with its weights, applied to x."""
    return graph_apply(layer.op, x, *layer.operands[1:]).result


def _value(built: Value) -> Value:
    """What a builder gives for values, in the eyes of the type checker."""
    return built
