"""Integer networks with channels planted in them that are constant, or that nobody reads, beside the same without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from ..ir.arithmetic import fixed_point
from ..ir.graph import Graph, Value, graph_input
from ..ir.ops.conv import conv2d
from ..ir.ops.dense import dense
from ..ir.ops.index import gather
from ..ir.ops.pool import max_pool2d, sum_pool2d
from ..ir.ops.quant import rescale, rescale_add, sum_factors, table
from ..ir.ops.shape import concat, reshape, slice_
from ..ir.ranges import ranges
from ..ir.types import I8, Array, TensorType, static
from .draw import HypothesisDraw, composite


@dataclass(frozen=True)
class Planted:
    """Two networks that compute the same bits: without dead channels, and with some.

    tempting: the planted channels are not dead after all, for some sum is in need of them; then `lean` is `fat`.
    """

    lean: Graph
    fat: Graph
    tempting: bool = False


@dataclass(frozen=True)
class Image:
    """One tensor of both networks, channels on axis 1.

    live: which of fat's channels (bool) are lean's, in their order. values: what the others hold. zero: its zero point.
    """

    lean: Value
    fat: Value
    live: Array
    values: Array
    zero: int

    @property
    def size(self) -> tuple[int, ...]:
        return static(self.fat.type.shape[2:])


@composite
def planted_graphs(draw: st.DrawFn, tempting: bool = False, max_layers: int = 5) -> Planted:
    """Convolutions, depthwise too, residual sums, concats, pools, tables, shuffles and a dense head, in int8, NCHW."""
    planter = _Planter(draw, tempting)
    d = planter.draw
    shape = (1, d.integer(1, 3), d.choice([2, 3, 1]), d.choice([2, 3, 1]))
    lean, fat = (graph_input("x", TensorType(shape, I8)) for _ in range(2))
    x = Image(lean, fat, np.ones(shape[1], bool), np.zeros(shape[1], np.int64), d.integer(-128, 0))
    layers = [
        _Planter.convolution,
        *(d.choice(TEMPTING if tempting else LAYERS) for _ in range(d.integer(1, max_layers))),
    ]
    for layer in layers:
        x = layer(planter, x)
        planter.images.append(x)
    y = planter.head(x)
    whole = Graph([fat], [y.fat], ["y"], "planted")
    if tempting:
        return Planted(whole, whole, tempting)
    planted = Planted(Graph([lean], [y.lean], ["y"], "planted"), whole)
    if not _is_live(planted.lean):
        reject()
    return planted


def graphs_with_dead_channels() -> st.SearchStrategy[Graph]:
    """Networks of which some channels are dead, or only seem to be."""
    return st.one_of(planted_graphs(), planted_graphs(tempting=True, max_layers=3)).map(lambda planted: planted.fat)


def _is_live(graph: Graph) -> bool:
    """Whether nothing that is computed is known before it is."""
    computed = (b for value, b in ranges(graph).items() if value.const is None)
    return not any(np.any(b.lo == b.hi) for b in computed)


class _Planter:
    """Draws layers in pairs. Where it is tempting, there is one network only, and `lean` is `fat` everywhere."""

    def __init__(self, draw: st.DrawFn, tempting: bool) -> None:
        self.draw, self.tempting = HypothesisDraw(draw), tempting
        self.images: list[Image] = []

    def both(self, build: Callable[[bool], Value], live: Array, values: Array, zero: int) -> Image:
        """build(whether it is for `lean`)."""
        fat = build(False)
        return Image(fat if self.tempting else build(True), fat, live, np.where(live, 0, values).astype(int), zero)

    def random(self) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(self.draw.integer(0, 2**16)))

    def arrangement(self, count: int) -> Array:
        """So many live channels, and up to three dead ones between them."""
        dead = self.draw.choice([1, 2, 3, 0])
        return self.random().permutation(np.repeat([True, False], [count, dead]))

    # ---- layers

    def convolution(self, x: Image, live: Array | None = None) -> Image:
        """Any window, or, where the channels of the result are given, of one pixel."""
        if live is None:
            return self.rescaled(*self.sums(x, self.arrangement(self.draw.integer(1, 3)), *self.window(x)))
        return self.rescaled(*self.sums(x, live, (1, 1), (0, 0, 0, 0)))

    def sums(
        self, x: Image, live: Array, window: tuple[int, int], pads: tuple[int, ...]
    ) -> tuple[Callable[[bool], Value], Array, Array, Array]:
        """A convolution: how to build it, its live channels, what the others hold, and how far its weights reach."""
        w = self.weights((len(live), len(x.live), *window))
        w[:, self.kept_out(x, pads)] = 0
        constant = self.draw.boolean()
        w[~live] *= not constant
        room = 255 * np.abs(w).sum((1, 2, 3)) + 1
        # Beyond the reach of the weights: the lowest result, whatever the inputs are.
        b = np.where(live | constant, self.bias(room), -2 * room)
        share = (w * (x.values - x.zero).reshape(-1, 1, 1))[:, ~x.live].sum((1, 2, 3))

        def build(lean: bool) -> Value:
            kept, bias = (w[live][:, x.live], (b + share)[live]) if lean else (w, b)
            operands = kept.astype(np.int8), bias.astype(np.int32)
            return self.of_both(x, lean, conv2d, *operands, pads=pads, input_zero=x.zero)

        return build, live, b, room

    def depthwise(self, x: Image) -> Image:
        window, pads = self.window(x)
        w = self.weights((len(x.live), 1, *window))
        w[self.kept_out(x, pads)] = 0
        room = 255 * np.abs(w).sum((1, 2, 3)) + 1
        b = self.bias(room)

        def build(lean: bool) -> Value:
            kept = x.live if lean else np.ones_like(x.live)
            operands = w[kept].astype(np.int8), b[kept].astype(np.int32)
            groups = int(kept.sum())
            return self.of_both(x, lean, conv2d, *operands, pads=pads, groups=groups, input_zero=x.zero)

        return self.rescaled(build, x.live, b + (x.values - x.zero) * w.sum((1, 2, 3)), room)

    def residual(self, x: Image) -> Image:
        """The sum with an earlier image of this size, this one brought to its channels; if tempting, to others."""
        a = self.draw.choice([i for i in [*self.images, x] if i.size == x.size])
        b = self.convolution(x, self.random().permutation(a.live) if self.tempting else a.live)
        zero = self.draw.choice([-128, 0, 17])
        attributes = sum_factors([0.5, 0.75], (a.zero, b.zero), zero)
        assert attributes is not None
        return self.both(
            lambda lean: rescale_add(*((i.lean if lean else i.fat) for i in (a, b)), **attributes),
            a.live | b.live, rescale_add.op(**attributes).ref(a.values, b.values), zero,
        )  # fmt: skip

    def joined(self, x: Image) -> Image:
        other = self.draw.choice([i for i in [*self.images, x] if i.size == x.size])
        parts = [other, x] if self.draw.boolean() else [x, other]
        return self.both(
            lambda lean: concat(*((i.lean if lean else i.fat) for i in parts), axis=1),
            np.concatenate([i.live for i in parts]), np.concatenate([i.values for i in parts]), x.zero,
        )  # fmt: skip

    def pooling(self, x: Image) -> Image:
        window, pads = self.window(x)
        attributes = {"window": window, "pads": pads, "strides": self.draw.size2(1, 2)}
        return self.both(lambda lean: self.of_both(x, lean, max_pool2d, **attributes), x.live, x.values, x.zero)

    def average(self, x: Image) -> Image:
        window, _ = self.window(x)
        area = window[0] * window[1]
        attributes = {"window": window, "input_zero": x.zero}
        return self.rescaled(
            lambda lean: self.of_both(x, lean, sum_pool2d, **attributes),
            x.live, area * (x.values - x.zero), np.full(1, 255 * area),
        )  # fmt: skip

    def table(self, x: Image) -> Image:
        entries = self.random().permutation(256).astype(np.int8)
        return self.both(lambda lean: self.of_both(x, lean, table, entries), x.live, entries[x.values + 128], x.zero)

    def shuffle(self, x: Image) -> Image:
        order = self.random().permutation(len(x.live))
        numbers = np.cumsum(x.live) - 1
        lean_order = numbers[order[x.live[order]]]
        return self.both(
            lambda lean: self.of_both(x, lean, gather, axis=1, indices=tuple((lean_order if lean else order).tolist())),
            x.live[order], x.values[order], x.zero,
        )  # fmt: skip

    def halves(self, x: Image) -> Image:
        """Channels split in two, exchanged, and joined again."""
        cut = self.draw.integer(1, int(x.live.sum()))
        numbers = np.cumsum(x.live)
        if cut == numbers[-1]:
            return x
        at = self.draw.integer(int(np.flatnonzero(numbers == cut)[0]), int(np.flatnonzero(numbers == cut)[-1])) + 1

        def build(lean: bool) -> Value:
            v, place = (x.lean, cut) if lean and not self.tempting else (x.fat, at)
            n, c, *image = static(v.type.shape)
            parts = [
                slice_(v, starts=(0, start, 0, 0), stops=(n, stop, *image), steps=(1,) * 4)
                for start, stop in ((place, c), (0, place))
            ]
            return concat(*parts, axis=1)

        return self.both(build, np.roll(x.live, -at), np.roll(x.values, -at), x.zero)

    def head(self, x: Image) -> Image:
        """Sums, all of which are live: a convolution, or a dense layer on the flattened image."""
        outputs = np.ones(self.draw.integer(1, 2), bool)
        if self.tempting or self.draw.boolean():
            build, _, b, _ = self.sums(x, outputs, *self.window(x))
            return self.both(build, outputs, b, 0)
        pixels = int(np.prod(x.size))
        live, values = x.live.repeat(pixels), x.values.repeat(pixels)
        flat = self.both(
            lambda lean: self.of_both(x, lean, reshape, shape=(1, pixels * int(x.live.sum() if lean else len(x.live)))),
            live, values, x.zero,
        )  # fmt: skip
        w = self.weights((len(outputs), len(live)))
        b = self.bias(255 * np.abs(w).sum(1))
        share = (w * (values - x.zero))[:, ~live].sum(1)

        def dense_of(lean: bool) -> Value:
            kept, bias = (w[:, live], b + share) if lean else (w, b)
            return self.of_both(flat, lean, dense, kept.astype(np.int8), bias.astype(np.int32), input_zero=x.zero)

        return self.both(dense_of, outputs, b, 0)

    # ---- parts

    def of_both(self, x: Image, lean: bool, builder: Any, *operands: Any, **attributes: Any) -> Value:
        result: Value = builder(x.lean if lean else x.fat, *operands, **attributes)
        return result

    def window(self, x: Image) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        height, width = (self.draw.choice([min(2, d), 1]) for d in x.size)
        top, left, bottom, right = (self.draw.integer(0, k - 1) for k in (height, width) * 2)
        return (height, width), (top, left, bottom, right)

    def weights(self, shape: tuple[int, ...]) -> Array:
        """None of them is zero."""
        random = self.random()
        return random.integers(1, 100, shape) * random.choice([-1, 1], shape)

    def bias(self, room: Array) -> Array:
        """Small beside what the weights can reach."""
        return np.rint(self.random().uniform(-0.2, 0.2, room.shape) * room).astype(np.int64)

    def kept_out(self, x: Image, pads: tuple[int, ...]) -> Array:
        """Dead channels (bool) that a sum must not read, for it would see something else at the border."""
        return ~x.live & (x.values != x.zero) & (any(pads) and not self.tempting)

    def rescaled(self, build: Callable[[bool], Value], live: Array, sums: Array, room: Array) -> Image:
        """The result of a layer of sums in 8 bits; sums: what the dead channels hold."""
        zero = self.draw.choice([-128, 0])
        multiplier, shift = fixed_point(400 / room)
        op = rescale.op(zero=zero)
        values = op.ref(sums, multiplier, shift)

        def both(lean: bool) -> Value:
            kept = live if lean else np.ones_like(live)
            factors = [f if f.size == 1 else f[kept].reshape(-1, 1, 1) for f in (multiplier, shift)]
            result: Value = rescale(build(lean), *factors, zero=zero)
            return result

        return self.both(both, live, values, zero)


LAYERS = (
    _Planter.convolution, _Planter.convolution, _Planter.depthwise, _Planter.residual, _Planter.joined,
    _Planter.pooling, _Planter.average, _Planter.table, _Planter.shuffle, _Planter.halves,
)  # fmt: skip
TEMPTING = (_Planter.convolution, _Planter.residual, _Planter.joined, _Planter.table, _Planter.shuffle)
