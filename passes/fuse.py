"""Fuse: normalizations, biases, scales and padding become part of the layer beside them.

Equal over the reals; floats are rounded in another order. Weights are computed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.builder import Builder
from ..ir.graph import Graph, Value, graph_input
from ..ir.op import Bounds, Draw
from ..ir.ops.conv import conv2d
from ..ir.ops.dense import dense, matmul
from ..ir.ops.elementwise import add, div, mul, relu, sub
from ..ir.ops.norm import batch_norm
from ..ir.ops.pool import avg_pool2d, max_pool2d, sum_pool2d
from ..ir.ops.reduce import reduce_mean
from ..ir.ops.shape import pad, reshape
from ..ir.pattern import const, only_use
from ..ir.precision import is_finite, widened
from ..ir.rewrite import NoMatch, Rule, no_match, rewrite
from ..ir.types import F32, I8, NCHW, Array, TensorType, static
from ..runtime.contracts import REASSOCIATING, Contract
from .base import Changes, Context, Pass
from .moving import full_rank

# ---- a layer is conv2d or dense: weights [O, ...], bias [O]


def channel_axis(layer: Any) -> int:
    """The axis of the channels in a matched layer's input and in its result."""
    return layer.layout.channel if "layout" in layer.op.attributes() else layer.value.type.rank - 1


def along(axis: int, constant: Array, type: TensorType) -> Array | None:
    """What broadcasts to `type`, as one float64 number per index of `axis`; None where it varies otherwise."""
    if constant.ndim > type.rank:
        return None
    full = widened(constant.reshape(static(full_rank(constant.shape, type.rank))))
    if any(d != 1 for i, d in enumerate(full.shape) if i != axis):
        return None
    return np.broadcast_to(full.ravel(), (int(type.shape[axis]),))  # type: ignore[arg-type]


def per_output(vector: Array, w: Array) -> Array:
    """[O] such that it multiplies weights [O, ...]."""
    return vector.reshape(-1, *(1,) * (w.ndim - 1))


def per_input(vector: Array, w: Array, layer: Any) -> Array:
    """[C] such that it multiplies weights whose input channels are on the layer's axis; groups see their own part."""
    if w.ndim == 2:
        return vector.reshape(1, -1)
    groups, axis = layer.groups, layer.layout.channel
    rows = np.repeat(vector.reshape(groups, -1), w.shape[0] // groups, axis=0)  # [O, C/groups]
    return rows[:, :, None, None] if axis == 1 else rows[:, None, None, :]


def scale_and_shift(m: Any, scale: Array, shift: Array, mean: Array, var: Array) -> tuple[Array, Array] | NoMatch:
    """batch_norm as x * k + t, in float64."""
    wide = [widened(v) for v in (scale, shift, mean, var)]
    with np.errstate(all="ignore"):
        k = wide[0] / np.sqrt(wide[3] + m.batch_norm.epsilon)
        t = wide[1] - wide[2] * k
    return (k, t) if is_finite(k) and is_finite(t) else no_match("parameters are not finite")


def normalized_axis(m: Any) -> int:
    """The axis of the channels that batch_norm normalizes."""
    return 1 if m.batch_norm.layout is NCHW else m.batch_norm.value.type.rank - 1


def affine_after(layer: Any, x: Value, w: Array, b: Array, k: Array, t: Array) -> Value | NoMatch:
    """The layer whose result is k * layer(x) + t."""
    if layer.dtype.is_integer:
        return no_match("the layer computes integers")
    weights = (w * per_output(k, w)).astype(w.dtype)
    return layer.like(x, weights, (b * k + t).astype(b.dtype))


def affine_before(layer: Any, x: Value, w: Array, b: Array, k: Array, t: Array) -> Value | NoMatch:
    """The layer that takes x where it took k * x + t."""
    if layer.dtype.is_integer:
        return no_match("the layer computes integers")
    if np.any(t != 0) and any(layer.op.attributes().get("pads", ())):
        return no_match("padding is zero behind the addition, so it cannot move past it")
    terms = (w * per_input(np.asarray(t), w, layer)).reshape(w.shape[0], -1)
    weights = (w * per_input(k, w, layer)).astype(w.dtype)
    return layer.like(x, weights, (b + terms.sum(1)).astype(b.dtype))


@dataclass(eq=False)
class LayerRule(Rule):
    """A rule for a layer: conv2d or dense."""

    layer: Builder[Any]

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.layer.op.name})"


class BatchNormAfterLayer(LayerRule):
    """batch_norm of a layer is a layer."""

    def pattern(self, x: Any, w: Any, b: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
        layer = only_use(self.layer(x, const(w), const(b), as_="layer"))
        return batch_norm(layer, const(scale), const(shift), const(mean), const(var))

    def rewrite(self, m: Any, x: Value, w: Array, b: Array, **parameters: Array) -> Any:
        if normalized_axis(m) != channel_axis(m.layer):
            return no_match("another axis is normalized than that of the output channels")
        affine = scale_and_shift(m, **parameters)
        return affine if isinstance(affine, NoMatch) else affine_after(m.layer, x, w, b, *affine)


class BatchNormBeforeLayer(LayerRule):
    """A layer of batch_norm is a layer, where no padding lies between."""

    def pattern(self, x: Any, w: Any, b: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
        normalized = only_use(batch_norm(x, const(scale), const(shift), const(mean), const(var)))
        return self.layer(normalized, const(w), const(b), as_="layer")

    def rewrite(self, m: Any, x: Value, w: Array, b: Array, **parameters: Array) -> Any:
        if normalized_axis(m) != channel_axis(m.layer):
            return no_match("another axis is normalized than that of the input channels")
        affine = scale_and_shift(m, **parameters)
        return affine if isinstance(affine, NoMatch) else affine_before(m.layer, x, w, b, *affine)


@dataclass(eq=False)
class ConstantRule(LayerRule):
    """A rule for a layer beside one of + - * / with a constant."""

    combine: Builder[Any] = add

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.layer.op.name}, {self.combine.op.name})"

    def affine(self, constant: Array) -> tuple[Array, Array]:
        """`x combine constant` as x * k + t."""
        ones, zeros = np.ones_like(constant), np.zeros_like(constant)
        if self.combine in (add, sub):
            return ones, constant if self.combine is add else -constant
        return constant if self.combine is mul else ones / constant, zeros


class ConstantAfterLayer(ConstantRule):
    """A constant per output channel that follows a layer goes into its bias or weights."""

    def pattern(self, x: Any, w: Any, b: Any, c: Any) -> Any:
        return self.combine(only_use(self.layer(x, const(w), const(b), as_="layer")), const(c), as_="combined")

    def rewrite(self, m: Any, x: Value, w: Array, b: Array, c: Array) -> Any:
        result = m.layer.value.type
        vector = along(channel_axis(m.layer), c, result)
        if vector is None or m.combined.value.type.shape != result.shape:
            return no_match("the constant is not one number per output channel")
        if not usable(self.combine, vector):
            return no_match("the constant is not finite, or divides by zero")
        return affine_after(m.layer, x, w, b, *self.affine(vector))


class ConstantBeforeLayer(ConstantRule):
    """A constant per input channel before a layer goes into its bias or weights."""

    def pattern(self, x: Any, w: Any, b: Any, c: Any) -> Any:
        return self.layer(only_use(self.combine(x, const(c), as_="combined")), const(w), const(b), as_="layer")

    def rewrite(self, m: Any, x: Value, w: Array, b: Array, c: Array) -> Any:
        vector = along(channel_axis(m.layer), c, x.type)
        if vector is None or m.combined.value.type.shape != x.type.shape:
            return no_match("the constant is not one number per input channel")
        if not usable(self.combine, vector):
            return no_match("the constant is not finite, or divides by zero")
        return affine_before(m.layer, x, w, b, *self.affine(vector))


def usable(combine: Builder[Any], constant: Array) -> bool:
    """Whether a constant can go into weights: finite, and no divisor is zero."""
    return is_finite(constant) and (combine is not div or bool(np.all(constant != 0)))


@dataclass(eq=False)
class ConstantsMerge(Rule):
    """Two constants that are added (or multiplied) one after the other are one."""

    combine: Builder[Any]

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.combine.op.name})"

    def pattern(self, x: Any, a: Any, b: Any) -> Any:
        return self.combine(only_use(self.combine(x, const(a), as_="inner")), const(b), as_="outer")

    def rewrite(self, m: Any, x: Value, a: Array, b: Array) -> Any:
        if m.outer.dtype.is_integer:
            return no_match("integers could wrap")
        return m.outer.like(x, m.outer.op.ref(a, b))


class AddZero(Rule):
    """X + 0, where -0.0 need not become 0.0."""

    def pattern(self, x: Any, c: Any) -> Any:
        return add(x, const(c))

    def rewrite(self, m: Any, x: Value, c: Array) -> Any:
        if np.any(c != 0) or m.add.value.type.shape != x.type.shape:
            return no_match("the constant is not zero, or broadcasts the operand")
        return x


class MatmulOfConstant(Rule):
    """A matrix product with stored weights is a dense layer."""

    def pattern(self, x: Any, w: Any) -> Any:
        return matmul(x, const(w))

    def rewrite(self, m: Any, x: Value, w: Array) -> Any:
        if w.ndim != 2:
            return no_match("the weights are a batch of matrices")
        return dense(x, np.ascontiguousarray(w.T), np.zeros(w.shape[1], m.matmul.dtype.numpy))


class BatchNormAlone(Rule):
    """batch_norm that no layer took: of an image a depthwise convolution of one pixel, else a product and a sum."""

    def pattern(self, x: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
        return batch_norm(x, const(scale), const(shift), const(mean), const(var))

    def rewrite(self, m: Any, x: Value, **parameters: Array) -> Any:
        affine = scale_and_shift(m, **parameters)
        if isinstance(affine, NoMatch):
            return affine
        k, t = (v.astype(m.batch_norm.dtype.numpy) for v in affine)
        if x.type.rank == 4:
            return conv2d(x, k.reshape(-1, 1, 1, 1), t, groups=len(k), layout=m.batch_norm.layout)
        trailing = (1,) * (x.type.rank - 1 - normalized_axis(m))
        return add(mul(x, k.reshape(-1, *trailing)), t.reshape(-1, *trailing))


class BatchNormOfSignal(Rule):
    """batch_norm of a convolution along a signal, an image that was reshaped, comes before the reshape."""

    def pattern(self, x: Any, w: Any, b: Any, scale: Any, shift: Any, mean: Any, var: Any) -> Any:
        signal = only_use(reshape(only_use(conv2d(x, w, b)), as_="signal"))
        return batch_norm(signal, const(scale), const(shift), const(mean), const(var))

    def rewrite(self, m: Any, x: Value, w: Value, b: Value, **parameters: Array) -> Any:
        image, shape = m.conv2d.value, m.signal.value.type.shape
        if m.conv2d.layout is not NCHW or m.batch_norm.layout is not NCHW or image.type.shape[:2] != shape[:2]:
            return no_match("the reshape moves channels")
        return m.signal.like(m.batch_norm.like(image, *parameters.values()))

    def examples(self, draw: Draw) -> Value:
        """A window of up to 3 along up to 4 steps."""
        n, channels, outputs, steps = 1, draw.integer(1, 3), draw.integer(1, 3), draw.integer(1, 4)
        x = graph_input("x", TensorType((n, channels, 1, steps), F32))
        w = draw.array((outputs, channels, 1, draw.integer(1, steps)), F32)
        y = conv2d(x, w, draw.array((outputs,), F32))
        parameters = [draw.array((outputs,), F32, *ends) for ends in ((-2, 2), (-2, 2), (-2, 2), (0.25, 2))]
        value: Value = batch_norm(reshape(y, shape=(n, outputs, y.type.shape[3])), *parameters)
        return value


# ---- padding


def spatial_pads(m: Any) -> tuple[int, int, int, int] | None:
    """The window's pads with those of the matched pad added; None where it pads batch or channels too."""
    window, before, after = m.window, m.pad.before, m.pad.after
    if any(before[i] or after[i] for i in range(4) if i not in window.layout.spatial):
        return None
    outer = [side[i] for side in (before, after) for i in window.layout.spatial]
    top, left, bottom, right = (a + b for a, b in zip(window.pads, outer, strict=True))
    return top, left, bottom, right


class PadIntoConv(Rule):
    """Padding with zero (on integers: with the zero point) is what a convolution does itself."""

    def pattern(self, x: Any, w: Any, b: Any) -> Any:
        return conv2d(pad(x), w, b, as_="window")

    def rewrite(self, m: Any, x: Value, w: Value, b: Value) -> Any:
        pads = spatial_pads(m)
        if pads is None:
            return no_match("batch or channels are padded")
        if m.pad.op.value != m.window.input_zero:
            return no_match(f"the padding is {m.pad.op.value}, the convolution pads with {m.window.input_zero}")
        return m.window.like(x, w, b, pads=pads)


@dataclass(eq=False)
class PadIntoPool(Rule):
    """Padding that a pooling can do itself."""

    pool: Builder[Any]

    @property
    def title(self) -> str:
        """The rule and what it is for."""
        return f"{type(self).__name__}({self.pool.op.name})"

    def pattern(self, x: Any) -> Any:
        return self.pool(pad(x), as_="window")

    def rewrite(self, m: Any, x: Value) -> Any:
        pads = spatial_pads(m)
        if pads is None:
            return no_match("batch or channels are padded")
        if any(p >= size for p, size in zip(pads, m.window.window * 2, strict=True)):
            return no_match("a window would see padding alone")
        reason, changes = self.padded_alike(m.window, m.pad.op.value, x)
        return no_match(reason) if reason else m.window.like(x, pads=pads, **changes)

    def padded_alike(self, window: Any, value: float, x: Value) -> tuple[str, dict[str, Any]]:
        """Why the pooling would pad with something else than `value`, or "" and the attributes that make it pad so."""
        match self.pool:
            case pool if pool is avg_pool2d:
                counts = window.count_pads or not any(window.pads)
                return ("" if value == 0 and counts else "the mean would count other padding"), {"count_pads": True}
            case pool if pool is sum_pool2d:
                return ("" if value == window.input_zero else "the sum would count other padding"), {}
            case _:
                return ("" if value <= least(x) else "the padding could be the maximum"), {}

    def examples(self, draw: Draw) -> Value | None:
        """Padding of the maximum is zero around what is not negative; of the sum, an integer's zero."""
        if self.pool is avg_pool2d:
            return None
        layout, (height, width) = draw.layout(), draw.size2(1, 3)
        integers = self.pool is sum_pool2d
        x = graph_input("x", TensorType(layout.shape(1, draw.integer(1, 2), height, width), I8 if integers else F32))
        before, after = (layout.shape(0, 0, *draw.size2(0, 1)) for _ in range(2))
        zero = draw.integer(-8, 8) if integers else 0
        padded = pad(relu(x) if self.pool is max_pool2d else x, before=before, after=after, value=float(zero))
        window = (draw.integer(1, height), draw.integer(1, width))
        attributes: dict[str, Any] = {"input_zero": zero} if integers else {}
        value: Value = self.pool(padded, window=window, strides=draw.size2(1, 2), layout=layout, **attributes)
        return value


def least(x: Value) -> float:
    """A lower bound of a value, from the op that computes it alone."""
    if x.producer is None:
        return float(Bounds.top(x.type).lo)
    bounds = x.producer.op.bounds(*(Bounds.top(v.type) for v in x.producer.operands))
    return float(np.min((bounds if isinstance(bounds, Bounds) else bounds[x.index]).lo))


class AveragePoolOfWholeImage(Rule):
    """The mean over one window that is the whole image is the mean over the image's axes."""

    def pattern(self, x: Any) -> Any:
        return avg_pool2d(x, pads=(0, 0, 0, 0), dilations=(1, 1))

    def rewrite(self, m: Any, x: Value) -> Any:
        spatial = m.avg_pool2d.layout.spatial
        if tuple(x.type.shape[i] for i in spatial) != m.avg_pool2d.window:
            return no_match("the window is not the whole image")
        return reduce_mean(x, axes=spatial, keepdims=True)


LAYERS = (conv2d, dense)
INTO_NEIGHBOURS: tuple[Rule, ...] = (
    BatchNormOfSignal(), MatmulOfConstant(), AddZero(), ConstantsMerge(add), ConstantsMerge(mul),
    *(rule(layer) for layer in LAYERS for rule in (BatchNormAfterLayer, BatchNormBeforeLayer)),
    *(rule(layer, combine) for layer in LAYERS for combine in (add, sub, mul, div)
      for rule in (ConstantAfterLayer, ConstantBeforeLayer)),
    PadIntoConv(), PadIntoPool(avg_pool2d), PadIntoPool(sum_pool2d), PadIntoPool(max_pool2d), AveragePoolOfWholeImage(),
)  # fmt: skip
ALONE: tuple[Rule, ...] = (BatchNormAlone(),)


@dataclass(frozen=True)
class Fuse(Pass):
    """Fold batch normalization, per-channel constants and padding into convolutions, dense layers and poolings."""

    contract: ClassVar[Contract] = REASSOCIATING
    rules: ClassVar[tuple[Rule, ...]] = (*INTO_NEIGHBOURS, *ALONE)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        changes.add(rewrite(graph, INTO_NEIGHBOURS))
        changes.add(rewrite(graph, ALONE))  # what no neighbour took
        changes.add(rewrite(graph, INTO_NEIGHBOURS))  # and what that makes possible
        return changes
