"""What the NPU computes, without tiles or addresses: products and pools over strided views of tensors.

Every node that the NPU takes is a few of these. Sums and averages are depthwise products with weights of one, movements
and elementwise ops are depthwise products with a single weight of one: so three kinds of job are all that is scheduled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...ir.graph import Node, Value
from ...ir.types import Array

#: Multiplier and shift of the rescale that changes nothing: (acc * 2^2 * 2^30 + 2^31) >> 32 = acc.
IDENTITY = (1 << 30, 2)


@dataclass(frozen=True, eq=False)
class View:
    """Height x width x channels bytes of a value: element (h, w, c) is at offset + h * row + w * pixel + c."""

    value: Value
    offset: int
    height: int
    width: int
    channels: int
    row: int
    pixel: int

    @staticmethod
    def whole(value: Value, shape: tuple[int, int, int], offset: int = 0) -> View:
        """A dense image of (height, width, channels)."""
        height, width, channels = shape
        return View(value, offset, height, width, channels, width * channels, channels)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for views of the same bytes in the same order."""
        return (self.value, self.offset, self.height, self.width, self.channels, self.row, self.pixel)

    def sliced(self, first: int, count: int) -> View:
        """Some of the channels."""
        return replace(self, offset=self.offset + first, channels=count)

    @property
    def size(self) -> int:
        """Elements."""
        return self.height * self.width * self.channels


@dataclass(frozen=True)
class Sum:
    """What `rescale_add` does with a residual: clamp((q * own + residual * other + bias) >> shift, lo, hi)."""

    own: int
    other: int
    bias: int
    shift: int
    lo: int
    hi: int


@dataclass(frozen=True, eq=False)
class Finish:
    """From a 32-bit sum to i8: rescale by channel, perhaps add a residual, perhaps look up in a table.

    multiplier: i32[K], shift: i8[K]. table: i8[256], indexed by q + 128.
    """

    multiplier: Array
    shift: Array
    zero: int = 0
    lo: int = -128
    hi: int = 127
    residual: View | None = None
    sum: Sum | None = None
    table: Array | None = None

    @staticmethod
    def identity(channels: int) -> Finish:
        """Keeps sums that are in the range of i8."""
        multiplier, shift = IDENTITY
        return Finish(np.full(channels, multiplier, np.int32), np.full(channels, shift, np.int8))

    def sliced(self, first: int, count: int) -> Finish:
        """Of some output channels."""
        residual = self.residual.sliced(first, count) if self.residual is not None else None
        part = slice(first, first + count)
        return replace(self, multiplier=self.multiplier[part], shift=self.shift[part], residual=residual)


@dataclass(frozen=True, eq=False)
class Product:
    """y = finish(sum((x - input_zero) * weights) + bias); outside of x the image is input_zero.

    weights: i8[K, kh, kw, C]; depthwise: i8[C, kh, kw, 1], channel c from channel c. bias: i32[K]. pads: top, left.
    tag: of the layer that it belongs to, as of all jobs.
    """

    node: Node
    x: View
    y: View
    weights: Array
    bias: Array
    finish: Finish
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    input_zero: int = 0
    depthwise: bool = False
    tag: int = 0

    @property
    def window(self) -> tuple[int, int]:
        return self.weights.shape[1], self.weights.shape[2]

    @property
    def residual(self) -> View | None:
        return self.finish.residual

    @property
    def macs(self) -> int:
        """Multiply-accumulates that the model asks for, padding included."""
        return self.y.height * self.y.width * self.weights.size


@dataclass(frozen=True, eq=False)
class MaxPool:
    """y = the largest of each window; padding never wins. pads: top, left."""

    node: Node
    x: View
    y: View
    window: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]

    depthwise: bool = True
    residual: None = None
    macs: int = 0
    tag: int = 0


@dataclass(frozen=True, eq=False)
class Softmax:
    """Y = integer softmax of each row of channels. table: i32[256], the exponentials (`ir/ops/softmax.py`)."""

    node: Node
    x: View
    y: View
    table: Array

    window: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)
    depthwise: bool = False
    residual: None = None
    macs: int = 0
    tag: int = 0


Job = Product | MaxPool | Softmax


def inputs(job: Job) -> tuple[View, ...]:
    """What a job reads."""
    return (job.x,) if job.residual is None else (job.x, job.residual)


def sliced(job: Product | MaxPool, first: int, count: int) -> Product | MaxPool:
    """Some output channels of a job."""
    x, y = job.x.sliced(first, count) if job.depthwise else job.x, job.y.sliced(first, count)
    if isinstance(job, MaxPool):
        return replace(job, x=x, y=y)
    some = slice(first, first + count)
    return replace(
        job, x=x, y=y, weights=job.weights[some], bias=job.bias[some], finish=job.finish.sliced(first, count)
    )


def placed(job: Job, tag: int, root: Callable[[Value], Value]) -> Job:
    """A job as part of a program: with its layer's tag, on the values whose bytes its own are."""

    def moved(view: View) -> View:
        return replace(view, value=root(view.value))

    x, y = moved(job.x), moved(job.y)
    if isinstance(job, Product) and job.finish.residual is not None:
        finish = replace(job.finish, residual=moved(job.finish.residual))
        return replace(job, tag=tag, finish=finish, x=x, y=y)
    return replace(job, tag=tag, x=x, y=y)


def kind(job: Job) -> str:
    """Which engines compute a job: `copy` (none), `vector` (PP alone), `pool`, `softmax`, `depthwise`, `conv`."""
    if isinstance(job, MaxPool | Softmax):
        return "pool" if isinstance(job, MaxPool) else "softmax"
    plain = (
        job.depthwise and job.window == job.strides == (1, 1) and not any(job.pads) and bool(np.all(job.weights == 1))
    )
    same_size = (job.x.height, job.x.width) == (job.y.height, job.y.width)
    if not plain or not same_size:
        return "depthwise" if job.depthwise else "conv"
    identical = not needs_scale(job) and job.finish.sum is None and job.finish.table is None
    return "copy" if identical else "vector"


def needs_scale(job: Product) -> bool:
    """Whether the rescale does anything to an i8 that is multiplied by one."""
    f = job.finish
    same = bool(np.all(f.multiplier == IDENTITY[0]) and np.all(f.shift == IDENTITY[1]))
    return not same or job.input_zero != 0 or bool(np.any(job.bias)) or (f.zero, f.lo, f.hi) != (0, -128, 127)


def copy(node: Node, x: View, y: View) -> Product:
    """X to y as it is: a product with ones."""
    ones, zeros = np.ones((y.channels, 1, 1, 1), np.int8), np.zeros(y.channels, np.int32)
    return Product(node, x, y, ones, zeros, Finish.identity(y.channels), depthwise=True)
