"""Intervals of all 32-bit sums, from the constants that a program loads: an abstract execution in program order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...ir.types import Array
from .functional import INT32, parameters
from .isa import Depthwise, Element, Elementwise, Engine, Ew, Fill, Fold, Pool, Post, Reduce, Space, Stages
from .machine import Machine
from .program import Command, Program, View

Interval = tuple[Array, Array]


class Sums:
    """What is known of local memories: bytes that are constants, and an interval for every word of `acc`."""

    def __init__(self, program: Program, machine: Machine) -> None:
        self.bytes = {space: np.zeros(machine.size(space), np.uint8) for space in Space if space.is_local}
        self.known = {space: np.zeros(machine.size(space), np.bool_) for space in Space if space.is_local}
        self.bytes[Space.CONST] = np.frombuffer(program.constants, np.uint8)
        self.known[Space.CONST] = np.ones(len(program.constants), np.bool_)
        words = machine.size(Space.ACC) // 4
        self.lo, self.hi = np.full(words, INT32.min, np.int64), np.full(words, INT32.max, np.int64)

    def interval(self, view: View) -> Interval:
        """Bounds of each element of a view: [sizes], broadcastable."""
        if view.space is Space.ACC:
            return _words(view, self.lo).copy(), _words(view, self.hi).copy()
        if view.space is not Space.ARENA and view.over(self.known[view.space]).all():
            exact = view.elements(self.bytes[view.space]).astype(np.int64)
            return exact, exact
        dtype = view.dtype.dtype
        return np.full((1,) * 4, dtype.min, np.int64), np.full((1,) * 4, dtype.max, np.int64)

    def step(self, command: Command) -> Iterator[str]:
        """Execute a command on intervals; yields why a sum may leave 32 bits."""
        dst = command.writes
        if dst is None or command.engine is Engine.ST:
            return
        lo, hi, fault = _result(self, command)
        if fault is None and dst.dtype is Element.I32 and (lo.min() < INT32.min or hi.max() > INT32.max):
            fault = f"32-bit sums may reach {_worst(lo, hi)}"
        if fault is not None:
            yield fault
        if dst.space is Space.ACC:
            _words(dst, self.lo)[...] = np.clip(lo, INT32.min, INT32.max)
            _words(dst, self.hi)[...] = np.clip(hi, INT32.min, INT32.max)
        else:
            # As a whole: single known bytes inside of a vector are of no use to anyone.
            exact = bool(np.array_equal(lo, hi))
            dst.over(self.known[dst.space])[...] = exact
            if exact:
                dst.elements(self.bytes[dst.space])[...] = lo


def _words(view: View, words: Array) -> Array:
    """The entries, one per 32-bit word, of a view in `acc`."""
    strides = tuple(words.itemsize * (s // 4) for s in view.strides)
    return np.lib.stride_tricks.as_strided(words[view.address // 4 :], view.sizes, strides)


def _worst(lo: Array, hi: Array) -> int:
    return int(lo.min()) if -lo.min() > hi.max() else int(hi.max())


def _result(sums: Sums, command: Command) -> tuple[Array, Array, str | None]:
    """Interval of what a command writes, and why a sum inside of it may overflow."""
    i: Any = command.instruction
    match i:
        case Post():
            return _post(sums, command)
        case Fill():
            value = np.full((1,) * 4, i.value, np.int64)
            return value, value, None
        case Elementwise():
            return (*_elementwise(sums, command, i), None)
        case Pool() | Reduce():
            return (*_fold(sums, command, i), None)
    if command.engine is Engine.MM:
        return (*_product(sums, command), None)
    return (*sums.interval(command.views["src"]), None)


def _product(sums: Sums, command: Command) -> Interval:
    x, window, i = command.views["src"].dtype.dtype, command.window, command.instruction
    assert window is not None
    # Padding is a zero, whatever input_zero is.
    low, high = min(x.min - window.input_zero, 0), max(x.max - window.input_zero, 0)
    weights = command.views["weights"]
    w_lo, w_hi = (np.broadcast_to(w, weights.sizes) for w in sums.interval(weights))
    corners = [w * end for w in (w_lo, w_hi) for end in (low, high)]
    axes = (0, 1, 2) if isinstance(i, Depthwise) else (1, 2, 3)
    lo, hi = (
        np.broadcast_to(extreme.reduce(corners).sum(axes), command.views["dst"].sizes)
        for extreme in (np.minimum, np.maximum)
    )
    if getattr(i, "accumulate", 0):
        before = sums.interval(command.views["dst"])
        return lo + before[0], hi + before[1]
    return lo, hi


def _post(sums: Sums, command: Command) -> tuple[Array, Array, str | None]:
    i: Any = command.instruction
    lo, hi = sums.interval(command.views["src"])
    fault = None
    if (scale := command.scale) is not None:
        block = View.of(Space.TAB, Element.I8, scale.params, (9 * scale.channels,))
        if not block.over(sums.known[Space.TAB]).all():
            fault = "the channel parameters are no constants"
        else:
            bias, multiplier, shift = parameters(sums.bytes[Space.TAB], scale.params, scale.channels)
            lo, hi = lo + bias, hi + bias
            if multiplier.min() < 0 or shift.min() < 0 or shift.max() > 31:
                fault = "a multiplier is negative, or a shift is not in 0..31"
            elif lo.min() < INT32.min or hi.max() > INT32.max:
                fault = f"sums with their biases may reach {_worst(lo, hi)}"
        lo, hi = np.full((1,) * 4, scale.lo, np.int64), np.full((1,) * 4, scale.hi, np.int64)
    if (add := command.add) is not None and (clamp := command.clamp) is not None:
        r_lo, r_hi = sums.interval(command.views["residual"])
        a, b = (sorted((lo.min() * add.a_multiplier, lo.max() * add.a_multiplier, hi.max() * add.a_multiplier)),
                sorted((r_lo.min() * add.b_multiplier, r_hi.max() * add.b_multiplier)))  # fmt: skip
        low, high = int(a[0] + b[0]) + add.bias, int(a[-1] + b[-1]) + add.bias
        if low < INT32.min or high > INT32.max:
            fault = f"the sum with the residual may reach {low if -low > high else high}"
        lo, hi = np.full((1,) * 4, clamp.lo, np.int64), np.full((1,) * 4, clamp.hi, np.int64)
    if Stages.TABLE in i.stages:
        t_lo, t_hi = sums.interval(command.views["table"])
        lo, hi = t_lo.min().reshape((1,) * 4), t_hi.max().reshape((1,) * 4)
    dtype = command.views["dst"].dtype.dtype
    return np.clip(lo, dtype.min, dtype.max), np.clip(hi, dtype.min, dtype.max), fault


def _elementwise(sums: Sums, command: Command, i: Elementwise) -> Interval:
    a_lo, a_hi = sums.interval(command.views["a"])
    if i.function is Ew.RECIP:
        return (2**31 - 1) // np.maximum(a_hi, 1), (2**31 - 1) // np.maximum(a_lo, 1)
    lo, hi = sums.interval(command.views["b"])
    match i.function:
        case Ew.LOOKUP:
            result = lo.min().reshape((1,) * 4), hi.max().reshape((1,) * 4)
        case Ew.ADD:
            result = a_lo + lo, a_hi + hi
        case Ew.SUB:
            result = a_lo - hi, a_hi - lo
        case Ew.MIN:
            result = np.minimum(a_lo, lo), np.minimum(a_hi, hi)
        case Ew.MAX:
            result = np.maximum(a_lo, lo), np.maximum(a_hi, hi)
        case _:
            result = np.full((1,) * 4, i.lo, np.int64), np.full((1,) * 4, i.hi, np.int64)
    dtype = command.views["dst"].dtype
    if dtype is Element.I32:
        return result
    return np.clip(result[0], dtype.dtype.min, dtype.dtype.max), np.clip(result[1], dtype.dtype.min, dtype.dtype.max)


def _fold(sums: Sums, command: Command, i: Pool | Reduce) -> Interval:
    src = command.views["src"]
    lo, hi = (np.broadcast_to(end, src.sizes) for end in sums.interval(src))
    if i.function is not Fold.SUM:
        return lo.min().reshape((1,) * 4), hi.max().reshape((1,) * 4)
    if isinstance(i, Reduce):
        return (lo - i.zero).sum(3, keepdims=True), (hi - i.zero).sum(3, keepdims=True)
    w = command.window
    assert w is not None
    taps = w.kernel_h * w.kernel_w
    return (
        taps * np.minimum(lo.min() - w.input_zero, 0).reshape((1,) * 4),
        taps * np.maximum(hi.max() - w.input_zero, 0).reshape((1,) * 4),
    )
