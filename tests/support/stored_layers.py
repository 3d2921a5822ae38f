"""Layers of integers as files in the wild store them: any dtypes, zero points, scales, axes and forms of bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from planish.ir.arithmetic import quantize as quantized
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.conv_transpose import conv_transpose2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, clip, relu
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.ops.shape import transpose
from planish.ir.types import DTYPES, Array, DType, TensorType
from planish.testing.draw import composite

KINDS = ("conv", "depthwise", "transposed", "dense", "rows", "matmul")
#: How many scales weights have: one, one for each output, one for each input, one for each element.
SCALES = ("one", "outputs", "outputs", "inputs", "elements")


@dataclass(frozen=True)
class Stored:
    """One drawn layer between integers. samples: inputs of the graph. folds: it has an integer form, and must get it.

    exact: its bias lies on the steps of the products.
    reals: the result in float64, before it was quantized, for each sample.
    scale, zero, lo, hi: how it is quantized; None: it is not.
    """

    graph: Graph
    samples: list[dict[str, Array]]
    reals: list[Array]
    folds: bool
    exact: bool
    scale: float | None
    zero: int
    lo: int
    hi: int

    def nearest(self, sample: int) -> Array:
        """The integers nearest to the real result."""
        assert self.scale is not None
        return quantized(self.reals[sample], np.array(self.scale), np.array(self.zero), self.lo, self.hi)


class _Draft:
    """What a strategy has drawn so far."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.random = np.random.Generator(np.random.PCG64(draw(st.integers(0, 2**16))))
        self.folds = self.exact = True

    def choice(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def often(self) -> bool:
        return bool(self.choice(True, True, True, False))

    def integers(self, dtype: DType, shape: tuple[int, ...]) -> Array:
        """With the ends of the range among them."""
        array = self.random.integers(dtype.min, dtype.max, shape, endpoint=True)
        return np.where(self.random.random(shape) < 0.1, self.random.choice([dtype.min, dtype.max], shape), array)

    def zero(self, dtype: DType) -> int:
        middle = 0 if dtype.kind == "int" else (dtype.max + 1) // 2
        return int(self.choice(middle, middle, dtype.min, dtype.max, self.draw(st.integers(dtype.min, dtype.max))))

    # ---- operands

    def activation(self, shape: tuple[int, ...]) -> tuple[Value, Value, Array, Array]:
        """A graph input of integers, and dequantized; its scale, its zero point."""
        dtype = DTYPES[self.choice("i8", "i8", "u8", "u8", "i16")]
        per_channel = not self.often() and not self.often()
        axis = min(1, len(shape) - 1)
        along = tuple(d if i == axis and per_channel else 1 for i, d in enumerate(shape)) if per_channel else ()
        scale = np.asarray(self.random.uniform(0.002, 0.1, along), np.float32)
        if flipped := not self.often() and not self.often():
            scale = -scale
        self.folds &= scale.size == 1 and not flipped and dtype.bits == 8
        zero = np.full(along, self.zero(dtype), dtype.numpy)
        x = graph_input("x", TensorType(shape, dtype))
        value: Value = dequantize(x, scale, zero)
        if len(shape) == 2 and self.choice(True, False):  # as Gemm's transA leaves it
            value = transpose(transpose(value, perm=(1, 0)), perm=(1, 0))
        return x, value, scale, zero

    def weights(self, shape: tuple[int, ...], outputs: int, inputs: int) -> tuple[Value, Array, Array]:
        """Dequantized; as reals, and their scales. outputs, inputs: the axes."""
        dtype = DTYPES[self.choice("i8", "i8", "u8", "u8", "i4", "u4", "i16")]
        kind = self.choice(*SCALES)
        axes = {"one": (), "outputs": (outputs,), "inputs": (inputs,), "elements": tuple(range(len(shape)))}[kind]
        along = tuple(d if i in axes else 1 for i, d in enumerate(shape))
        scale = np.asarray(self.random.uniform(0.5, 2.0, along) / dtype.max, np.float32)
        if self.choice(True, False, False):  # as NNCF writes them
            scale *= self.random.choice([-1, 1], along).astype(np.float32)
        one_zero = self.zero(dtype)
        zero = np.full(along, one_zero) if self.often() else self.random.integers(dtype.min, dtype.max + 1, along)
        q = self.integers(dtype, shape)
        if kind == "outputs" and not self.often():  # a channel without weights, and so without a scale
            index = tuple(slice(0, 1) if i == outputs else slice(None) for i in range(len(shape)))
            q[index], scale[index] = zero[index], 0
        if kind == "one":
            scale, zero = scale.reshape(()), zero.reshape(())
        others = [d for i, d in enumerate(scale.shape) if i != outputs]
        self.folds &= all(d == 1 for d in others) and dtype.bits <= 8
        value = dequantize(q.astype(dtype.numpy), scale, zero.astype(dtype.numpy))
        return value, (q - zero.astype(np.int64)) * scale.astype(np.float64), scale

    def bias(self, outputs: int, step: Array, result: float) -> tuple[Value | Array | None, Array]:
        """A bias [outputs] as a layer has it; None: there is none, or it is added behind. And as reals."""
        form = self.choice("none", "float", "i32", "i32", "own scale", "huge")
        reals = self.random.uniform(-1, 1, outputs) * result * 40
        if form == "none" or not np.all(step):
            return np.zeros(outputs, np.float32), np.zeros(outputs)
        self.exact = form == "i32"
        if form == "float":
            floats = reals.astype(np.float32)
            return floats, floats.astype(np.float64)
        if form == "huge":
            self.folds = False
            floats = np.full(outputs, 1e30, np.float32)
            return floats, floats.astype(np.float64)
        scale = np.asarray(step if form == "i32" else np.full(outputs, result / 50), np.float32)
        q = np.clip(np.rint(reals / scale), -(2**30), 2**30).astype(np.int32)
        if scale.size > 1 and np.all(scale == scale[0]):
            scale = scale[:1].reshape(())
        return dequantize(q, scale, np.zeros(scale.shape, np.int32)), q * scale.astype(np.float64)


@composite
def stored_layers(draw: Any) -> Stored:
    """A layer of stored integers, its bias and a clip in any of the forms that files have."""
    d = _Draft(draw)
    kind = d.choice(*KINDS)
    channels, outputs = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    if kind in ("conv", "depthwise", "transposed"):
        outputs = channels if kind == "depthwise" else outputs
        size = draw(st.integers(2, 4))
        shape: tuple[int, ...] = (1, channels, size, size)
        window = (d.choice(1, 2), d.choice(1, 2))
        taken = 1 if kind == "depthwise" else channels
        w_shape = (channels, outputs, *window) if kind == "transposed" else (outputs, taken, *window)
        axes = (1, 0) if kind == "transposed" else (0, 1)
    else:
        shape = {"dense": (2, channels), "rows": (1, 3, channels), "matmul": (2, 3, channels)}[kind]
        w_shape = (2, channels, outputs) if kind == "matmul" else (outputs, channels)
        axes = (2, 1) if kind == "matmul" else (0, 1)
    x, real_x, x_scale, x_zero = d.activation(shape)
    w, real_w, w_scale = d.weights(w_shape, *axes)
    samples = [{"x": d.integers(x.type.dtype, shape).astype(x.type.dtype.numpy)} for _ in range(2)]
    largest = float(np.abs(x_scale).max()) * float(np.abs(real_w).max(initial=1e-3))
    scale, step = max(largest * float(np.sqrt(real_w.size / outputs)), 1e-6), np.zeros(outputs)
    if x_scale.size == 1 and w_scale.size in (1, outputs):
        step = np.abs(float(x_scale.reshape(-1)[0]) * np.broadcast_to(w_scale.reshape(-1), (outputs,)))
    b, real_b = d.bias(outputs, step, scale)
    if kind == "matmul":
        b, real_b = np.zeros(outputs, np.float32), np.zeros(outputs)
    behind = kind in ("dense", "rows") and b is not None and d.choice(True, False)
    y = _layer(kind, real_x, w, np.zeros(outputs, np.float32) if behind else b, outputs)
    if behind:  # as MatMul and Add, the bias [O] or [1, O]
        more = b if isinstance(b, Value) else np.asarray(b)
        y = add(y, _row(more) if d.choice(True, False) else more)
    wide = [(s["x"].astype(np.int64) - x_zero) * x_scale.astype(np.float64) for s in samples]
    d.folds &= kind != "matmul" and (d.exact or bool(np.all(step <= scale)))
    return _finished(d, x, y, samples, [_real(kind, r, real_w, real_b, outputs) for r in wide], scale)


def _row(b: Value | Array) -> Any:
    """A bias [O] as [1, O], inside of its dequantize."""
    if not isinstance(b, Value):
        return b.reshape(1, -1)
    assert b.producer is not None
    q, scale, zero = (v.const for v in b.producer.operands)
    assert q is not None
    assert scale is not None
    assert zero is not None
    one = scale.size == 1
    return dequantize(q.reshape(1, -1), scale if one else scale.reshape(1, -1), zero if one else zero.reshape(1, -1))


def _layer(kind: str, x: Value, w: Value, b: Any, outputs: int) -> Value:
    if kind == "conv":
        return conv2d(x, w, b, pads=(1, 0, 0, 1))  # type: ignore[no-any-return]
    if kind == "depthwise":
        return conv2d(x, w, b, groups=outputs)  # type: ignore[no-any-return]
    if kind == "transposed":
        return conv_transpose2d(x, w, b, strides=(2, 1))  # type: ignore[no-any-return]
    return matmul(x, w) if kind == "matmul" else dense(x, w, b)  # type: ignore[no-any-return]


def _real(kind: str, x: Array, w: Array, b: Array, outputs: int) -> Array:
    """The layer in float64."""
    w = np.asarray(w, np.float64)
    shape = [TensorType(a.shape, DTYPES["f64"]) for a in (x, w)]
    gx, gw = (graph_input(n, t) for n, t in zip("xw", shape, strict=True))
    y = _layer(kind, gx, gw, b.astype(np.float64), outputs)
    return evaluate(Graph([gx, gw], [y], ["y"]), [x, w])[0]


def _finished(
    d: _Draft, x: Value, y: Value, samples: list[dict[str, Array]], reals: list[Array], scale: float
) -> Stored:  # fmt: skip
    """With a clip before or behind, quantized or not."""
    place = d.choice("none", "relu", "relu", "integer clip", "float")
    if place == "relu":
        y, reals = relu(y), [np.maximum(r, 0) for r in reals]
    if place == "float":
        return Stored(Graph([x], [y], ["y"]), samples, reals, d.folds, d.exact, None, 0, 0, 0)
    dtype = DTYPES[d.choice("i8", "i8", "u8", "i16")]
    if dtype.bits == 16:
        scale /= 200
        d.folds &= d.exact  # else the steps of the products may be too coarse
    zero, lo, hi = d.zero(dtype), dtype.min, dtype.max
    q: Value = quantize(y, np.float32(scale), np.array(zero, dtype.numpy), dtype=dtype, lo=lo, hi=hi)
    if place == "integer clip":
        lo, hi = lo + 5, hi - 9
        q = clip(q, lo=float(lo), hi=float(hi))
    again: Value = dequantize(q, np.float32(scale), np.array(zero, dtype.numpy))
    graph = Graph([x], [q, again], ["y", "r"])
    return Stored(graph, samples, reals, d.folds, d.exact, float(np.float32(scale)), zero, lo, hi)
