"""Random legal NPU programs: a chain of convolutions, double-buffered, with what the interpreter would compute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from planish.backends.npu.isa import (
    Conv,
    Depthwise,
    Element,
    Halt,
    Instruction,
    Load,
    Post,
    PostAdd,
    PostClamp,
    PostScale,
    Space,
    Stages,
    Store,
    Sync,
    SyncPp,
    ViewAxes,
    ViewBase,
    ViewFlat,
    Window,
)
from planish.backends.npu.machine import Machine
from planish.backends.npu.program import Program, View
from planish.ir.arithmetic import fixed_point
from planish.ir.op import Bounds
from planish.ir.ops.conv import Conv2d
from planish.ir.ops.quant import Rescale, RescaleAdd, sum_factors
from planish.ir.types import NHWC, Array, type_of
from planish.testing.draw import composite

#: Semaphores: what is full, and what may be filled again.
IMAGE, SUMS, RESULT, IMAGE_FREE, SUMS_FREE, RESULT_FREE = range(1, 7)


def set_view(number: int, view: View) -> list[Instruction]:
    """The instructions that make register `number` this view: one where it is flat, else three."""
    base: dict[str, Any] = {"view": number, "space": view.space, "dtype": view.dtype, "address": view.address}
    if view == View.of(view.space, view.dtype, view.address, view.sizes[3:]) and view.size < 1 << 24:
        return [ViewFlat(**base, size=view.size)]
    (a, b, c, d), (i, j, k, m) = view.sizes, view.strides
    return [
        ViewBase(**base),
        ViewAxes(view=number, pair=0, size_a=a, stride_a=i, size_b=b, stride_b=j),
        ViewAxes(view=number, pair=1, size_a=c, stride_a=k, size_b=d, stride_b=m),
    ]


@dataclass(frozen=True)
class Case:
    """A legal program, the arena before it, what the ops' own `ref` leaves at each result's place, and their bounds.

    bounds: of the sums without bias, lowest and highest, for every layer.
    """

    program: Program
    arena: Array
    results: tuple[tuple[int, Array], ...]
    bounds: tuple[tuple[Array, Array], ...]


@dataclass(frozen=True)
class _Layer:
    op: Conv2d
    window: Window
    x: Array
    w: Array
    bias: Array
    factor: tuple[Array, Array]
    residual: dict[str, Any] | None
    clamp: tuple[int, int, int]

    @property
    def depthwise(self) -> bool:
        return self.op.groups == self.x.shape[3] == self.w.shape[0]

    @property
    def packed(self) -> Array:
        """Weights as MM takes them."""
        return np.ascontiguousarray(self.w.transpose(3, 1, 2, 0)) if self.depthwise else self.w

    @property
    def expected(self) -> Array:
        zero, lo, hi = self.clamp
        acc = self.op.ref(self.x, self.w, self.bias)
        y = Rescale(0, zero, lo, hi).ref(acc, *self.factor)
        if self.residual:
            y = RescaleAdd(**self.residual).ref(y.astype(np.int8), self.x[:, : y.shape[1], : y.shape[2]])
        return y.astype(np.int8)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Of the sums without bias, for every input."""
        known = Bounds.exactly(self.w), Bounds.exactly(np.zeros_like(self.bias, np.int32))
        bounds = self.op.bounds(Bounds.top(type_of(self.x)), *known)
        return bounds.lo, bounds.hi

    @property
    def parameters(self) -> bytes:
        multiplier, shift = self.factor
        return self.bias.astype(np.int32).tobytes() + multiplier.tobytes() + shift.tobytes()


@composite
def _layers(draw: Any) -> _Layer:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depthwise = draw(st.booleans())
    channels, window = draw(st.integers(1, 20)), (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    outputs = channels if depthwise else draw(st.integers(1, 20))
    strides, dilations = ((draw(st.integers(1, 2)), draw(st.integers(1, 2))) for _ in range(2))
    pads = tuple(draw(st.integers(0, k - 1)) for k in window * 2)
    most = 5 if outputs <= 12 else 3  # sums take at most half of the accumulators: (most + 4)^2 * outputs * 4 bytes
    height, width = (d * (k - 1) + draw(st.integers(1, most)) for k, d in zip(window, dilations, strict=True))
    zero, added = draw(st.sampled_from([-128, 0, 7, 127])), draw(st.booleans())
    op = Conv2d(strides, pads, dilations, channels if depthwise else 1, zero, NHWC)  # type: ignore[arg-type]
    x = random.integers(-128, 128, (1, height, width, channels)).astype(np.int8)
    w = random.integers(-128, 128, (outputs, *window, 1 if depthwise else channels)).astype(np.int8)
    residual = None
    rows, columns = op.ref(x, w, np.zeros(outputs, np.int64)).shape[1:3]
    if added and outputs == channels and rows <= height and columns <= width:
        residual = sum_factors((0.7, draw(st.floats(-1.5, 1.5))), (3, -4), 5)
    configured = Window(
        kernel_h=window[0], kernel_w=window[1], stride_h=strides[0], stride_w=strides[1],
        dilation_h=dilations[0], dilation_w=dilations[1], pad_top=pads[0], pad_left=pads[1], input_zero=zero,
        shape=draw(st.integers(0, 1)),
    )  # fmt: skip
    factor = fixed_point(random.uniform(1e-4, draw(st.sampled_from([0.02, 3.0])), outputs))
    bias = random.integers(-5000, 5000, outputs)
    lo, hi = draw(st.sampled_from([(-128, 127), (-20, 30)]))
    return _Layer(op, configured, x, w, bias, factor, residual, (draw(st.integers(-128, 127)), lo, hi))


@composite
def cases(draw: Any, machine: Machine) -> Case:
    """Up to four layers, each with buffers of its own parity; a `sync` here and there."""
    layers = draw(st.lists(_layers(), min_size=1, max_size=4))
    synced = draw(st.booleans())
    instructions: list[Instruction] = []
    constants, arena, results = bytearray(), bytearray(), []

    def place(data: bytes, blob: bytearray) -> int:
        blob.extend(b"\0" * (-len(blob) % 4))
        at = len(blob)
        blob.extend(data)
        return at

    for n, layer in enumerate(layers):
        _, rows, columns, outputs = layer.expected.shape
        x_at, w_at = place(layer.x.tobytes(), arena), place(layer.packed.tobytes(), constants)
        p_at, y_at = place(layer.parameters, constants), place(bytes(layer.expected.size), arena)
        results.append((y_at, layer.expected))
        half = {space: machine.size(space) // 2 // 4 * 4 * (n % 2) for space in Space if space.is_local}
        x_local = View.of(Space.ACT, Element.I8, half[Space.ACT], layer.x.shape)
        y_local = View.of(Space.ACT, Element.I8, half[Space.ACT] + 3000, layer.expected.shape)
        w_local = View.of(Space.WGT, Element.I8, half[Space.WGT], layer.packed.shape)
        p_local = View.of(Space.TAB, Element.I8, half[Space.TAB], (9 * outputs,))
        acc = View.of(Space.ACC, Element.I32, half[Space.ACC], (1, rows, columns, outputs))
        residual = replace(x_local, sizes=layer.expected.shape)
        # Until a sync, buffers of the layer before the last are waited for; after it nothing has to be.
        reused, reuses = n + 2 < len(layers) and not synced, n >= 2 and not synced
        steps: list[tuple[dict[int, View], list[Instruction]]] = [
            ({0: x_local, 1: replace(x_local, space=Space.ARENA, address=x_at)},
             [Load(dst=0, src=1, wait=(IMAGE_FREE,) if reuses else ())]),
            ({0: w_local, 1: replace(w_local, space=Space.CONST, address=w_at)}, [Load(dst=0, src=1)]),
            ({0: p_local, 1: replace(p_local, space=Space.CONST, address=p_at)}, [Load(dst=0, src=1, signal=IMAGE)]),
            ({2: acc, 3: x_local, 4: w_local},
             [layer.window, (Depthwise if layer.depthwise else Conv)(
                 dst=2, src=3, weights=4, wait=(IMAGE, SUMS_FREE) if reuses else (IMAGE,), signal=SUMS)]),
            ({5: y_local, 6: residual}, [*_post(layer, p_local.address, outputs, reuses, reused)]),
            ({7: replace(y_local, space=Space.ARENA, address=y_at)},
             [Store(dst=7, src=5, wait=(RESULT,), signal=RESULT_FREE if reused else 0)]),
        ]  # fmt: skip
        for views, made in steps:
            instructions += [i for number, view in views.items() for i in set_view(number, view)]
            instructions += [replace(i, tag=n + 1) for i in made]
        instructions += [Sync()] if synced else []
    return Case(
        Program((*instructions, Halt()), bytes(constants), len(arena)),
        np.frombuffer(bytes(arena), np.uint8),
        tuple(results),
        tuple(layer.bounds for layer in layers),
    )


def _post(layer: _Layer, params: int, outputs: int, reuses: bool, reused: bool) -> list[Instruction]:
    """The sums are free once PP is done, and so is the image, which the residual reads."""
    zero, lo, hi = layer.clamp
    made: list[Instruction] = [PostScale(params=params, channels=outputs, zero=zero, lo=lo, hi=hi)]
    stages = Stages.SCALE
    if layer.residual:
        made += [PostAdd(**layer.residual), PostClamp()]
        stages |= Stages.ADD
    post = Post(dst=5, src=2, residual=6, stages=stages, wait=(SUMS, RESULT_FREE) if reuses else (SUMS,), signal=RESULT)
    free: list[Instruction] = [SyncPp(signal=IMAGE_FREE), SyncPp(signal=SUMS_FREE)] if reused else []
    return [*made, post, *free]
