"""How each op may follow a given value: drawn attributes, and the operands beside that value.

One entry per op that stands in patterns and random networks. An op without an entry is used as its own `examples` say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from ..ir.graph import Value, graph_input
from ..ir.op import Op
from ..ir.ops.conv import Conv2d
from ..ir.ops.dense import Dense, Matmul
from ..ir.ops.elementwise import Add, Clip, Div, Maximum, Minimum, Mul, Pow, Sub
from ..ir.ops.index import Expand, Gather
from ..ir.ops.logic import Where
from ..ir.ops.norm import BatchNorm
from ..ir.ops.pool import AvgPool2d, MaxPool2d
from ..ir.ops.quant import Quantize
from ..ir.ops.reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from ..ir.ops.shape import Concat, Pad, Reshape, Slice, Transpose
from ..ir.ops.softmax import Softmax
from ..ir.ops.unary import Cast
from ..ir.types import BOOL, F32, I8, NCHW, U8, Array, Layout, Sym, TensorType, static, type_of
from .draw import HypothesisDraw

#: Attributes, and the other operands: arrays become constants.
Use = tuple[dict[str, Any], list[Value | Array]]
Fixed = Mapping[str, Any]


class Source:
    """What is drawn from while a graph grows: numbers, weights, earlier values, new inputs."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = HypothesisDraw(draw)
        self.values: list[Value] = []
        self.inputs: list[Value] = []

    def input(self, type: TensorType) -> Value:
        """A new input of the graph."""
        value = graph_input(f"x{len(self.inputs)}" if self.inputs else "x", type)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def weights(self, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Array:
        """Random weights of about unit gain: a seed, not element by element."""
        random = np.random.Generator(np.random.PCG64(self.draw.integer(0, 2**16)))
        fan_in = max(1, int(np.prod(shape[1:])))
        return (random.uniform(low, high, shape) / (fan_in**0.5 if low < 0 else 1)).astype(np.float32)

    def use(self, op: type[Op], x: Value, fixed: Fixed, constants: bool = False) -> Use:
        """A way to apply the op to x and the other operands; `fixed` attributes are given.

        constants: other operands of + - * / are not values that are there already, and those of products are weights.
        """
        attributes, others = USES.get(op, _by_example(op))(self, x, fixed)
        earlier = [v for v in self.values if v.type == x.type]
        if USES.get(op) is arithmetic and earlier and not constants and self.draw.boolean():
            others = [self.draw.choice(earlier)]
        if op is Matmul and not constants and self.draw.boolean():
            others = [self.input(type_of(v)) if isinstance(v, np.ndarray) else v for v in others]
        return {**attributes, **fixed}, others


def _by_example(op: type[Op]) -> Callable[[Source, Value, Fixed], Use]:
    """The op's own example, where its first operand is of x's type, or the op takes any."""

    def use(s: Source, x: Value, fixed: Fixed) -> Use:
        instance = op.examples(s.draw)
        suits = instance.operands and type_of(instance.operands[0]) == x.type.bare
        if not suits and not (op.elementwise and len(instance.operands) == 1):
            reject()
        return instance.op.attributes(), list(instance.operands[1:])

    return use


def _plain(s: Source, x: Value, fixed: Fixed) -> Use:
    return {}, []


def _image(x: Value, fixed: Fixed) -> tuple[Layout, int, int, int]:
    """Layout, channels, height and width of an image."""
    layout: Layout = fixed.get("layout", NCHW)
    if x.type.rank != 4 or 0 in x.type.shape:
        reject()
    sizes = (x.type.shape[i] for i in (layout.channel, *layout.spatial))
    channels, height, width = static(tuple(sizes))
    return layout, channels, height, width


def _window(s: Source, height: int, width: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    window = (s.draw.integer(1, min(3, height)), s.draw.integer(1, min(3, width)))
    return window, tuple(s.draw.integer(0, window[i % 2] - 1) for i in range(4))


def conv2d(s: Source, x: Value, fixed: Fixed) -> Use:
    """A window of up to 3 x 3, now and then depthwise or in two groups."""
    layout, channels, height, width = _image(x, fixed)
    groups = fixed.get("groups") or s.draw.choice([g for g in (1, 2, channels) if channels % g == 0])
    outputs = groups * s.draw.integer(1, 2) if groups > 1 else s.draw.integer(1, 4)
    window, pads = _window(s, height, width)
    kernel = static(layout.shape(outputs, channels // groups, *window))
    operands: list[Value | Array] = [s.weights(kernel), s.weights((outputs,))]
    return {"strides": s.draw.size2(1, 2), "pads": pads, "groups": groups, "layout": layout}, operands


def dense(s: Source, x: Value, fixed: Fixed) -> Use:
    """Up to five outputs."""
    (inputs,) = static(x.type.shape[-1:])
    outputs = s.draw.integer(1, 5)
    return {}, [s.weights((outputs, inputs)), s.weights((outputs,))]


def matmul(s: Source, x: Value, fixed: Fixed) -> Use:
    """Weights, or as many of them as there are matrices."""
    if x.type.rank < 2:
        reject()
    *batch, _, inner = x.type.shape
    leading = tuple(batch) if s.draw.boolean() else ()
    return {}, [s.weights(static((*leading, inner, s.draw.integer(1, 4))))]


def where(s: Source, x: Value, fixed: Fixed) -> Use:
    """A condition for each element, and a number where it does not hold; to a condition, two choices."""
    shape = static(x.type.shape)
    if x.type.dtype == BOOL:
        return {}, [s.weights(shape), s.weights(shape)]
    holds = s.weights(shape, -1, 2) > 0
    return {}, [holds, np.array(s.draw.choice([-8.0, 0.0]), np.float32)]


def batch_norm(s: Source, x: Value, fixed: Fixed) -> Use:
    """Means and scales of either sign, variances away from zero."""
    if x.type.rank < 2:
        reject()
    c = static((x.type.shape[-1 if fixed.get("layout", NCHW) is not NCHW else 1],))
    epsilon = s.draw.choice([1e-5, 1e-3, 0.25])
    return {"epsilon": epsilon}, [s.weights(c), s.weights(c), s.weights(c), s.weights(c, 0.2, 2)]


def arithmetic(s: Source, x: Value, fixed: Fixed) -> Use:
    """Another operand of + - * / and the like: a constant that broadcasts, perhaps a neutral one."""
    fixed_dims = [d if isinstance(d, int) else 1 for d in x.type.shape]
    kinds = [tuple(d if i == axis else 1 for i, d in enumerate(fixed_dims)) for axis in range(x.type.rank)]
    trimmed = [kind[axis:] for axis, kind in enumerate(kinds)]  # broadcasting restores the leading ones
    shape = s.draw.choice([(), *kinds, *trimmed, (1, *fixed_dims), tuple(fixed_dims)])
    value = s.draw.choice([None, -0.0, 1.0, 0.0])
    return {}, [s.weights(shape, 0.25, 2) if value is None else np.full(shape, value, np.float32)]


#: Relu, Relu6, bounds on both sides, on one and on none.
CLIPS = ((0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, math.inf), (1.0, 6.0), (-6.0, -1.0), (-math.inf, -1.0))


def clip(s: Source, x: Value, fixed: Fixed) -> Use:
    """Any of `CLIPS`."""
    return dict(zip(("lo", "hi"), s.draw.choice(CLIPS), strict=True)), []


def pool(s: Source, x: Value, fixed: Fixed) -> Use:
    """A window of up to 3 x 3, or the whole image."""
    layout, _, height, width = _image(x, fixed)
    window, pads = _window(s, height, width)
    if s.draw.boolean():
        window, pads = (height, width), (0, 0, 0, 0)
    return {"window": window, "pads": pads, "strides": s.draw.size2(1, 2), "layout": layout}, []


def avg_pool2d(s: Source, x: Value, fixed: Fixed) -> Use:
    """As others, with padding counted or not."""
    attributes, _ = pool(s, x, fixed)
    return {**attributes, "count_pads": s.draw.boolean()}, []


def pad(s: Source, x: Value, fixed: Fixed) -> Use:
    """Up to one element on each side, of images mostly around the pixels; or nothing at all."""
    known = [i for i, d in enumerate(x.type.shape) if isinstance(d, int)]
    axes = s.draw.choice([(2, 3), (2, 3), (1, 2), known, ()]) if x.type.rank == 4 else s.draw.choice([known, known, ()])
    before, after = (tuple(s.draw.integer(0, 1) if i in axes else 0 for i in range(x.type.rank)) for _ in range(2))
    return {"before": before, "after": after, "value": s.draw.choice([0.0, 0.0, 1.0])}, []


def reshape(s: Source, x: Value, fixed: Fixed) -> Use:
    """To the same shape, flattened, or with axes of length 1 put in or taken away."""
    first, *rest = x.type.shape or (1,)
    flat = math.prod(static(tuple(rest)))
    without = tuple(d for d in rest if d != 1)
    return {"shape": s.draw.choice([x.type.shape, (first, flat), (first, *rest, 1), (first, *without)])}, []


def transpose(s: Source, x: Value, fixed: Fixed) -> Use:
    """Any permutation; of images mostly those between the two layouts."""
    if x.type.rank == 4 and s.draw.boolean():
        return {"perm": s.draw.choice([(0, 2, 3, 1), (0, 3, 1, 2)])}, []
    return {"perm": s.draw.choice(list(itertools.permutations(range(x.type.rank))))}, []


def slice_(s: Source, x: Value, fixed: Fixed) -> Use:
    """All or some of each axis, now and then every other element."""
    starts, stops, steps = [], [], []
    for d in x.type.shape:
        size = d if isinstance(d, int) else 1
        whole = isinstance(d, Sym) or s.draw.boolean()
        start = 0 if whole else s.draw.integer(0, size - 1)
        starts.append(start)
        stops.append(d if whole else s.draw.integer(start + 1, size))
        steps.append(1 if whole else s.draw.integer(1, 2))
    return {"starts": tuple(starts), "stops": tuple(stops), "steps": tuple(steps)}, []


def expand(s: Source, x: Value, fixed: Fixed) -> Use:
    """Axes of length 1 repeated, or the shape as it is."""
    return {"shape": tuple(s.draw.choice([d, 2]) if d == 1 else d for d in x.type.shape)}, []


def concat(s: Source, x: Value, fixed: Fixed) -> Use:
    """Channels of this and of an earlier value of the same size."""
    axis = fixed.get("axis", 1 if x.type.rank > 1 else 0)

    def others(v: Value) -> list[Any]:
        return [d for i, d in enumerate(v.type.shape) if i != axis]

    fitting = [v for v in s.values if v.type.rank == x.type.rank and others(v) == others(x) and v.type.dtype == F32]
    return {"axis": axis}, [s.draw.choice([x, *fitting])] if s.draw.choice([True, True, False]) else []


def reduction(s: Source, x: Value, fixed: Fixed) -> Use:
    """Over the image, or the last axis, or over any axes that are known."""
    known = isinstance(x.type.shape[-1], int) if x.type.rank else False
    usual = [(2, 3)] if x.type.rank == 4 else [(x.type.rank - 1,)] if known else []
    axes: tuple[int, ...] | None = usual[0] if usual and s.draw.boolean() else None
    if axes is None:
        axes = tuple(i for i, d in enumerate(x.type.shape) if isinstance(d, int) and s.draw.boolean())
    return {"axes": axes, "keepdims": s.draw.boolean()}, []


def gather(s: Source, x: Value, fixed: Fixed) -> Use:
    """Up to three indices."""
    axis = x.type.rank - 1
    (size,) = static(x.type.shape[-1:])
    return {"axis": axis, "indices": tuple(s.draw.integer(0, size - 1) for _ in range(s.draw.integer(1, 3)))}, []


def cast(s: Source, x: Value, fixed: Fixed) -> Use:
    """To the dtype that is there."""
    return {"dtype": x.type.dtype}, []


def quantization(s: Source, x: Value, fixed: Fixed) -> Use:
    """One scale and zero point, int8 or uint8."""
    dtype, zero = s.draw.choice([(I8, -8), (U8, 0)])
    constants: list[Value | Array] = [np.array(s.draw.choice([0.0625, 0.1]), np.float32)]
    constants.append(np.array(s.draw.integer(zero, zero + 16), dtype.numpy))
    return {"dtype": dtype, "lo": dtype.min, "hi": dtype.max}, constants


USES: dict[type[Op], Callable[[Source, Value, Fixed], Use]] = {
    Conv2d: conv2d, Dense: dense, Matmul: matmul, BatchNorm: batch_norm,
    Add: arithmetic, Sub: arithmetic, Mul: arithmetic, Div: arithmetic,
    Minimum: arithmetic, Maximum: arithmetic, Pow: arithmetic, Clip: clip,
    MaxPool2d: pool, AvgPool2d: avg_pool2d, Pad: pad,
    Reshape: reshape, Transpose: transpose, Slice: slice_, Expand: expand, Concat: concat,
    ReduceMean: reduction, ReduceSum: reduction, ReduceMax: reduction, ReduceMin: reduction, Gather: gather,
    Where: where, Softmax: _plain, Cast: cast, Quantize: quantization,
}  # fmt: skip
