"""From nodes of the lowered graph to jobs, or the reason why a node stays on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ...ir.graph import Node, Value
from ...ir.ops.conv import Conv2d
from ...ir.ops.dense import Dense
from ...ir.ops.elementwise import Clip
from ...ir.ops.pool import MaxPool2d, SumPool2d
from ...ir.ops.quant import Rescale, RescaleAdd, Table
from ...ir.ops.reduce import ReduceSum
from ...ir.ops.resize import WEIGHT_BITS, ResizeLinear, ResizeNearest
from ...ir.ops.shape import Concat, DepthToSpace, Pad, Slice, Transpose
from ...ir.ops.softmax import IntegerSoftmax
from ...ir.types import I8, I32, NHWC, Array, static
from ...runtime.target import Unsupported
from .jobs import Finish, Job, MaxPool, Product, Softmax, Sum, View, copy
from .phases import phases, resizing

FLOAT = "the NPU computes on i8"
#: Sizes of windows and their steps have eight bits.
LARGEST = 255
#: Of a rescale.
LARGEST_SHIFT = 31
#: A movement that takes more jobs than these stays on the host; and a resizing.
MOST_PARTS, MOST_PHASES = 64, 256
QUANTIZE = "quantize the model (--quantize int8)"


class Refused(Exception):
    """The NPU does not take the nodes; args: reason, hint."""


def translate(nodes: Sequence[Node], top: Callable[[Value], Value] = lambda v: v) -> tuple[Job, ...] | Unsupported:
    """The jobs of a chain of nodes, each the only user of the one before.

    top: from a value as the nodes know it to the value of the graph.
    """
    try:
        jobs = tuple(_Chain(nodes, top).jobs())
    except Refused as refusal:
        return Unsupported(*refusal.args)
    for job in jobs:
        if max(*job.window, *job.strides, *job.dilations, *job.pads) > LARGEST:
            return Unsupported(f"the window {list(job.window)} or its steps are larger than {LARGEST}")
    return jobs


class _Chain:
    def __init__(self, nodes: Sequence[Node], top: Callable[[Value], Value]) -> None:
        self.nodes = nodes
        self.anchor = nodes[0]
        self.top = top
        self.result = top(nodes[-1].results[0])

    def jobs(self) -> list[Job]:
        translators: dict[type, Callable[[], list[Job]]] = {
            Conv2d: self.conv, Dense: self.dense, ReduceSum: self.reduce_sum, SumPool2d: self.sum_pool,
            MaxPool2d: self.max_pool, Concat: self.concat, Slice: self.slice, Pad: self.pad,
            Transpose: self.transpose, IntegerSoftmax: self.softmax, DepthToSpace: self.depth_to_space,
            ResizeNearest: self.resize, ResizeLinear: self.resize,
            Rescale: self.elementwise, RescaleAdd: self.elementwise, Table: self.elementwise, Clip: self.elementwise,
        }  # fmt: skip
        op = self.anchor.op
        if type(op) not in translators:
            raise Refused(f"the NPU has no {op.name}" if self._is_i8(self.anchor) else FLOAT, QUANTIZE)
        if not self._is_i8(self.anchor):
            raise Refused(
                f"{FLOAT}: {op.name} of {', '.join(str(v.type.bare) for v in self.anchor.operands)}", QUANTIZE
            )
        if self.anchor.operands[0].type.dtype != I8:
            raise Refused(f"{FLOAT}, not on the constant {self.anchor.operands[0].type.bare}")
        if self.nodes[-1].result.type.dtype != I8:
            raise Refused(f"the result is {self.nodes[-1].result.type.bare}, the NPU stores i8")
        if any(v.type.size == 0 for n in self.nodes for v in (*n.operands, *n.results)):
            raise Refused("a tensor is empty")
        return translators[type(op)]()

    def _is_i8(self, node: Node) -> bool:
        return bool(node.operands) and all(v.type.dtype == I8 for v in node.operands if self.top(v).const is None)

    def const(self, value: Value, what: str) -> Array:
        array = self.top(value).const
        if array is None:
            raise Refused(f"{what} are computed, not constant")
        return array

    # ---- products

    def conv(self) -> list[Job]:
        op: Conv2d = self.anchor.op  # type: ignore[assignment]
        x, w, b = self.anchor.operands
        weights, bias = self.const(w, "weights"), self.const(b, "biases")
        if op.layout is not NHWC:
            raise Refused("the image is not channels last")
        if weights.dtype != np.int8:
            raise Refused(f"weights are {w.type.bare}, the NPU takes i8")
        outputs, _, _, taken = weights.shape
        groups, per_group = op.groups, outputs // op.groups
        jobs: list[Job] = []
        for index, (image, result) in enumerate(self.images(x)):
            finish = self.finish(outputs, index)
            if groups == 1 or taken == per_group == 1:
                parts = [(image, result, slice(0, outputs))]
            else:
                parts = [
                    (image.sliced(g * taken, taken), result.sliced(g * per_group, per_group),
                     slice(g * per_group, (g + 1) * per_group))
                    for g in range(groups)
                ]  # fmt: skip
            depthwise = taken == per_group == 1 < groups
            for taking, giving, part in parts:
                own = finish.sliced(part.start, part.stop - part.start)
                jobs.append(
                    Product(
                        self.anchor,
                        taking,
                        giving,
                        weights[part],
                        bias[part],
                        own,
                        op.strides,
                        op.dilations,
                        op.pads[:2],
                        op.input_zero,
                        depthwise,
                    )
                )
        return jobs

    def images(self, x: Value) -> list[tuple[View, View]]:
        """Each image of the batch, and its result."""
        (n, h, w, c), (_, oh, ow, oc) = static(x.type.shape), static(self.anchor.result.type.shape)
        x = self.top(x)
        return [
            (View.whole(x, (h, w, c), i * h * w * c), View.whole(self.result, (oh, ow, oc), i * oh * ow * oc))
            for i in range(n)
        ]

    def dense(self) -> list[Job]:
        x, w, b = self.anchor.operands
        weights, bias = self.const(w, "weights"), self.const(b, "biases")
        if weights.dtype != np.int8:
            raise Refused(f"weights are {w.type.bare}, the NPU takes i8")
        outputs, depth = weights.shape
        rows = x.type.size // depth
        views = View.whole(self.top(x), (rows, 1, depth)), View.whole(self.result, (rows, 1, outputs))
        op: Any = self.anchor.op
        finish, zero = self.finish(outputs, 0), op.input_zero
        return [Product(self.anchor, *views, weights.reshape(outputs, 1, 1, depth), bias, finish, input_zero=zero)]

    def reduce_sum(self) -> list[Job]:
        """A sum over leading axes is a window as large as the image."""
        op: Any = self.anchor.op
        x = self.anchor.operands[0]
        shape = static(x.type.shape)
        inner = [i for i, d in enumerate(shape) if d > 1]
        axes = [i for i in inner if i in op.axes]
        if axes != inner[: len(axes)]:
            raise Refused(f"a sum over axes {list(op.axes)} of {list(shape)}: the NPU sums over leading ones")
        channels = prod(shape[i] for i in inner[len(axes) :])
        window = shape[axes[0]] if axes else 1, prod(shape[i] for i in axes[1:])
        image, result = View.whole(self.top(x), (*window, channels)), View.whole(self.result, (1, 1, channels))
        return [self.ones(image, result, window, (1, 1), (1, 1), (0, 0), 0)]

    def sum_pool(self) -> list[Job]:
        op: SumPool2d = self.anchor.op  # type: ignore[assignment]
        if op.layout is not NHWC:
            raise Refused("the image is not channels last")
        return [
            self.ones(image, result, op.window, op.strides, op.dilations, op.pads[:2], i)
            for i, (image, result) in enumerate(self.images(self.anchor.operands[0]))
        ]

    def ones(
        self, x: View, y: View, window: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int],
        pads: tuple[int, int], index: int,
    ) -> Product:  # fmt: skip
        weights, bias = np.ones((y.channels, *window, 1), np.int8), np.zeros(y.channels, np.int32)
        op: Any = self.anchor.op
        finish, zero = self.finish(y.channels, index), op.input_zero
        return Product(self.anchor, x, y, weights, bias, finish, strides, dilations, pads, zero, depthwise=True)

    def elementwise(self) -> list[Job]:
        """The first operand times one, and the rest in the finish."""
        first = self.anchor.operands[0]
        if first.type.bare.shape != self.anchor.result.type.shape:
            raise Refused(f"operand {first.type.bare} is broadcast to {self.anchor.result.type.bare}")
        shape = _image(static(first.type.shape))
        product = copy(self.anchor, View.whole(self.top(first), shape), View.whole(self.result, shape))
        zero = self.anchor.op.input_zero if isinstance(self.anchor.op, Rescale) else 0
        finish = self.finish(shape[2], 0, self.nodes, first)
        return [replace(product, input_zero=zero, finish=finish)]

    def finish(
        self, channels: int, index: int, nodes: Sequence[Node] | None = None, value: Value | None = None
    ) -> Finish:
        """What follows the sums. index: of the image in the batch, for residuals."""
        rest = list(self.nodes[1:] if nodes is None else nodes)
        value = self.anchor.result if value is None else value
        if value.type.dtype == I32 and not (rest and isinstance(rest[0].op, Rescale)):
            raise Refused("the sums are not rescaled to i8")
        result = Finish.identity(channels)
        for position, node in enumerate(rest):
            op = node.op
            if isinstance(op, Rescale) and position == 0:
                if op.dtype != I8 or (op.input_zero and node is not self.anchor):
                    raise Refused("the rescale has an input zero point of its own, or does not give i8")
                multiplier, shift = (_channels(self.const(v, "factors"), channels) for v in node.operands[1:])
                result = replace(result, multiplier=multiplier, shift=shift, zero=op.zero, lo=op.lo, hi=op.hi)
            elif isinstance(op, RescaleAdd) and result.sum is None and result.table is None and op.dtype == I8:
                own = 0 if node.operands[0] is value else 1
                other = node.operands[1 - own]
                if other.type.dtype != I8 or other.type.shape != node.result.type.shape:
                    raise Refused(f"the summand {other.type.bare} is broadcast, or not i8")
                factors = (op.a_multiplier, op.b_multiplier)
                total = Sum(factors[own], factors[1 - own], op.bias, op.shift, op.lo, op.hi)
                result = replace(result, sum=total, residual=self.beside(other, channels, index))
            elif isinstance(op, Table) and result.table is None and node.result.type.dtype == I8:
                result = replace(result, table=self.const(node.operands[1], "table entries"))
            elif isinstance(op, Clip) and result.table is None:
                lo, hi = (int(np.clip(x, -128, 127)) for x in (np.ceil(op.lo), np.floor(op.hi)))
                if lo != max(op.lo, -128) or hi != min(op.hi, 127) or lo > hi:
                    raise Refused("the clip's bounds are no integers")
                if result.sum is not None:
                    s = result.sum
                    result = replace(
                        result, sum=replace(s, lo=int(np.clip(s.lo, lo, hi)), hi=int(np.clip(s.hi, lo, hi)))
                    )
                else:
                    low, high = (int(np.clip(x, lo, hi)) for x in (result.lo, result.hi))
                    result = replace(result, lo=low, hi=high)
            else:
                raise Refused(f"{op.name} cannot follow in the post-process unit")
            value = node.result
        return result

    def beside(self, residual: Value, channels: int, index: int) -> View:
        """The residual, in the shape of image `index` of the result."""
        shape = static(residual.type.shape)
        if isinstance(self.anchor.op, Conv2d | SumPool2d | ResizeLinear):
            height, width = shape[1], shape[2]
            return View.whole(self.top(residual), (height, width, channels), index * height * width * channels)
        if isinstance(self.anchor.op, Dense | ReduceSum):
            return View.whole(self.top(residual), (residual.type.size // channels, 1, channels))
        return View.whole(self.top(residual), _image(shape))

    # ---- pools and movements

    def alone(self) -> None:
        if len(self.nodes) > 1:
            raise Refused(f"{self.nodes[1].op.name} cannot follow {self.anchor.op.name} in one group")

    def max_pool(self) -> list[Job]:
        self.alone()
        op: MaxPool2d = self.anchor.op  # type: ignore[assignment]
        if op.layout is not NHWC:
            raise Refused("the image is not channels last")
        return [
            MaxPool(self.anchor, image, result, op.window, op.strides, op.dilations, op.pads[:2])
            for image, result in self.images(self.anchor.operands[0])
        ]

    def softmax(self) -> list[Job]:
        self.alone()
        x, table = self.anchor.operands
        channels = static(x.type.shape)[-1]
        shape = (x.type.size // channels, 1, channels)
        source, result = View.whole(self.top(x), shape), View.whole(self.result, shape)
        return [Softmax(self.anchor, source, result, self.const(table, "exponentials"))]

    def concat(self) -> list[Job]:
        self.alone()
        axis, first = self.anchor.op.axis, 0  # type: ignore[attr-defined]
        outer = prod(static(self.result.type.shape)[:axis])
        row = self.result.type.size // outer
        jobs: list[Job] = []
        for operand in self.anchor.operands:
            part = operand.type.size // outer
            x = View.whole(self.top(operand), (outer, 1, part))
            jobs.append(copy(self.anchor, x, View(self.result, first, outer, 1, part, row, part)))
            first += part
        return jobs

    def slice(self) -> list[Job]:
        self.alone()
        op: Slice = self.anchor.op  # type: ignore[assignment]
        steps = _strides(static(self.anchor.operands[0].type.shape))
        shape = static(self.result.type.shape)
        offset = sum(start * step for start, step in zip(op.starts, steps, strict=True))
        steps = tuple(a * b for a, b in zip(steps, op.steps, strict=True))
        return self.strided(shape, steps, offset, _strides(shape), 0)

    def transpose(self) -> list[Job]:
        self.alone()
        perm = self.anchor.op.perm  # type: ignore[attr-defined]
        steps = _strides(static(self.anchor.operands[0].type.shape))
        shape = static(self.result.type.shape)
        return self.strided(shape, tuple(steps[i] for i in perm), 0, _strides(shape), 0)

    def depth_to_space(self) -> list[Job]:
        self.alone()
        op: DepthToSpace = self.anchor.op  # type: ignore[assignment]
        n, h, w, c = static(self.anchor.operands[0].type.shape)
        b, oc = op.block, c // op.block**2
        if op.layout is not NHWC:
            raise Refused("the image is not channels last")
        block, channel = ((b, 1), b * b) if op.column_first else ((b * oc, oc), 1)
        shape = (n, h, b, w, b, oc)
        return self.strided(shape, (h * w * c, w * c, block[0], c, block[1], channel), 0, _strides(shape), 0)

    def resize(self) -> list[Job]:
        """Nearest: a copy for each part of the result whose pixels are equally far apart; linear: a product for it."""
        op: ResizeNearest | ResizeLinear = self.anchor.op  # type: ignore[assignment]
        if op.layout is not NHWC:
            raise Refused("the image is not channels last")
        _, height, width, channels = static(self.anchor.operands[0].type.shape)
        (rows, row_bits), (columns, column_bits) = phases(op, 0, height), phases(op, 1, width)
        if len(rows) * len(columns) > MOST_PHASES:
            raise Refused(f"the pixels lie in {len(rows)} x {len(columns)} ways between those of the operand")
        jobs: list[Job] = []
        for index, (image, result) in enumerate(self.images(self.anchor.operands[0])):
            finish = None
            if isinstance(op, ResizeLinear):
                finish = self.finish(channels, index)
                finish = replace(finish, shift=finish.shift + (2 * WEIGHT_BITS - row_bits - column_bits))
                if finish.shift.max() > LARGEST_SHIFT:
                    raise Refused("the rescale behind it shifts too far")
            else:
                self.alone()
            jobs += [resizing(self.anchor, image, result, r, c, finish) for r in rows for c in columns]
        if any(job.weights.dtype != np.int8 for job in jobs if isinstance(job, Product)):
            raise Refused("its weights need more than 8 bits")
        return jobs

    def pad(self) -> list[Job]:
        """One product per image: spatial padding by the window, channels by weights that are mostly zero."""
        self.alone()
        op: Pad = self.anchor.op  # type: ignore[assignment]
        shape = static(self.anchor.operands[0].type.shape)
        if len(shape) != 4 or op.before[0] or op.after[0]:
            raise Refused("only images are padded, and not along the batch")
        value = int(op.value)
        taken, (front, back) = shape[3], (op.before[3], op.after[3])
        outputs = front + taken + back
        weights = np.zeros((outputs, 1, 1, taken), np.int8)
        weights[front + np.arange(taken), 0, 0, np.arange(taken)] = 1
        depthwise = outputs == taken
        if depthwise:
            weights = np.ones((taken, 1, 1, 1), np.int8)
        finish, bias = Finish.identity(outputs), np.full(outputs, value, np.int32)
        return [
            Product(self.anchor, x, y, weights, bias, finish, pads=(op.before[1], op.before[2]), input_zero=value,
                    depthwise=depthwise)
            for x, y in self.images(self.anchor.operands[0])
        ]  # fmt: skip

    def strided(
        self, shape: tuple[int, ...], x_steps: tuple[int, ...], x_first: int, y_steps: tuple[int, ...], y_first: int
    ) -> list[Job]:
        """Copies between two strided arrays: the innermost three axes that a view can express at once."""
        axes = [(d, a, b) for d, a, b in zip(shape, x_steps, y_steps, strict=True) if d > 1]
        merged: list[tuple[int, int, int]] = []
        for d, a, b in axes:  # neighbours that are one axis in both
            if merged and merged[-1][1] == d * a and merged[-1][2] == d * b:
                merged[-1] = (merged[-1][0] * d, a, b)
            else:
                merged.append((d, a, b))
        channels = 1
        if merged and merged[-1][1] == merged[-1][2] == 1:
            channels = merged.pop()[0]
        # The longest axes go into the view; the others are loops of jobs.
        by_size = sorted(range(len(merged)), key=lambda i: -merged[i][0])[:2]
        inside = [merged[i] for i in sorted(by_size)]
        loops = [m for i, m in enumerate(merged) if i not in by_size]
        if prod(d for d, _, _ in loops) > MOST_PARTS:
            raise Refused(f"the movement takes more than {MOST_PARTS} steps")
        (h, xr, yr), (w, xp, yp) = [*[(1, 0, 0)] * (2 - len(inside)), *inside]
        source = self.top(self.anchor.operands[0])
        jobs: list[Job] = []
        for index in np.ndindex(*(d for d, _, _ in loops)):
            a = x_first + sum(i * m[1] for i, m in zip(index, loops, strict=True))
            b = y_first + sum(i * m[2] for i, m in zip(index, loops, strict=True))
            x, y = View(source, a, h, w, channels, xr, xp), View(self.result, b, h, w, channels, yr, yp)
            jobs.append(copy(self.anchor, x, y))
        return jobs


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width, channels of any dense tensor."""
    if len(shape) == 4:
        return shape[0] * shape[1], shape[2], shape[3]
    return prod(shape[:-1]), 1, shape[-1] if shape else 1


def _channels(array: Array, channels: int) -> Array:
    """A constant operand of `rescale` as one number per channel."""
    if array.size not in (1, channels) or (array.size > 1 and array.shape[-1] != channels):
        raise Refused("the rescale has another factor at each position")
    return np.broadcast_to(array.reshape(-1), (channels,))
