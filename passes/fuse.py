"""Fuse: several ops become one. Normalizations, biases, scales and padding become part of the layer beside them.

Equal over the reals; floats are rounded in another order. Weights are computed in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.builder import Builder
from ..ir.errors import InvalidGraphError
from ..ir.graph import Graph, Value, graph_input
from ..ir.op import Draw
from ..ir.ops.conv import conv2d
from ..ir.ops.dense import dense, matmul
from ..ir.ops.elementwise import add, div, mul, sub
from ..ir.ops.norm import batch_norm
from ..ir.ops.pool import avg_pool2d
from ..ir.ops.reduce import reduce_mean
from ..ir.ops.shape import reshape
from ..ir.pattern import const, only_use
from ..ir.precision import is_finite, widened
from ..ir.rewrite import NoMatch, Rule, no_match, rewrite
from ..ir.types import F32, NCHW, Array, TensorType, broadcast, static
from ..runtime.contracts import REASSOCIATING, Contract
from .base import Changes, Context, Pass
from .moving import full_rank
from .padding import PADDING
from .parallel import merge_layers, movements_before_slices
from .recognition import RECOGNITION

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


def would_double(layer: Any, beside: Any) -> bool:
    """Whether other nodes use the layer's weights, too, and not all have the same constants beside them.

    Then scaled weights would be stored beside those that the others keep. beside: what goes into the layer, a node of
    its graph, behind it or before it.
    """
    node, gone = layer.value.producer, beside.value.producer
    before = node.operands[0] is gone.result
    constants = {v for v in gone.operands if v.const is not None}
    for user in node.operands[1].users:
        if user is node:
            continue
        twin = user.operands[0].producer if before else user.graph.only_user(user.results[0])
        if twin is None or type(twin.op) is not type(gone.op) or not constants <= set(twin.operands):
            return True
    return False


SHARED = "other layers use the same weights as they are"


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
        if not isinstance(affine, NoMatch) and would_double(m.layer, m.batch_norm):
            return no_match(SHARED)
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
        if not isinstance(affine, NoMatch) and would_double(m.layer, m.batch_norm):
            return no_match(SHARED)
        return affine if isinstance(affine, NoMatch) else affine_before(m.layer, x, w, b, *affine)


@dataclass(eq=False)
class ConstantRule(LayerRule, adds=("affine",)):
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
        if self.combine in (mul, div) and would_double(m.layer, m.combined):
            return no_match(SHARED)
        return affine_after(m.layer, x, w, b, *self.affine(vector))


class ConstantBehindSum(LayerRule):
    """A constant per output channel behind the sum of a layer and something else goes into the layer's bias."""

    def pattern(self, x: Any, w: Any, b: Any, h: Any, c: Any) -> Any:
        layer = only_use(self.layer(x, const(w), const(b), as_="layer"))
        return add(only_use(add(layer, h, as_="sum")), const(c), as_="shifted")

    def rewrite(self, m: Any, x: Value, w: Array, b: Array, h: Value, c: Array) -> Any:
        result = m.layer.value.type
        vector = along(channel_axis(m.layer), c, result)
        if vector is None or m.sum.value.type.shape != result.shape or m.shifted.value.type.shape != result.shape:
            return no_match("the constant is not one number per output channel")
        if not is_finite(vector):
            return no_match("the constant is not finite")
        moved = affine_after(m.layer, x, w, b, np.ones_like(vector), vector)
        return moved if isinstance(moved, NoMatch) else m.sum.like(moved, h)


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
        if self.combine in (mul, div) and would_double(m.layer, m.combined):
            return no_match(SHARED)
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
        if broadcast(a.shape, b.shape) not in (a.shape, b.shape):
            return no_match("each repeats the other, so one constant would be larger than both")
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


class ReshapesAroundDense(Rule):
    """A dense layer takes rows as they come: of reshapes before and behind it the latter does both."""

    whole = True

    def pattern(self, x: Any, w: Any, b: Any) -> Any:
        return reshape(dense(reshape(x, as_="before"), w, b), as_="behind")

    def rewrite(self, m: Any, x: Value, w: Value, b: Value) -> Any:
        if x.type.rank < 2 or x.type.shape[-1] != m.before.shape[-1]:
            return no_match("the reshape before makes other rows")
        rows = m.dense.like(x, w, b)
        return rows if rows.type.shape == m.behind.shape else m.behind.like(rows)


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
    BatchNormOfSignal(), MatmulOfConstant(), ReshapesAroundDense(), AddZero(), ConstantsMerge(add), ConstantsMerge(mul),
    *(rule(layer) for layer in LAYERS for rule in (BatchNormAfterLayer, BatchNormBeforeLayer, ConstantBehindSum)),
    *(rule(layer, combine) for layer in LAYERS for combine in (add, sub, mul, div)
      for rule in (ConstantAfterLayer, ConstantBeforeLayer)),
    *PADDING, AveragePoolOfWholeImage(),
)  # fmt: skip
ALONE: tuple[Rule, ...] = (BatchNormAlone(),)
#: More rounds than any graph needs: each round finishes what the one before made possible.
ROUNDS = 50


@dataclass(frozen=True)
class Fuse(Pass):
    """Recognize activations and normalizations that stand as several ops, and fold into layers what is beside them.

    Batch normalization, per-channel constants and padding go into convolutions, dense layers and poolings.
    """

    contract: ClassVar[Contract] = REASSOCIATING
    rules: ClassVar[tuple[Rule, ...]] = (*RECOGNITION, *INTO_NEIGHBOURS, *ALONE)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for _ in range(ROUNDS):
            before = changes.applied.total()
            # Recognition comes first: a constant that has gone into a neighbour is no longer where it is looked for.
            for rules in (self.joined(), RECOGNITION, INTO_NEIGHBOURS, ALONE):
                changes.add(rewrite(graph, rules))
            changes.count("layers side by side", merge_layers(graph))
            changes.count("movements side by side", movements_before_slices(graph))
            if changes.applied.total() == before:
                return changes
        raise InvalidGraphError("fusing does not come to an end", repr(graph))
