"""Bit-exact execution, in the order of the program, which is what the rules of the ISA make it mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir import arithmetic
from ...ir.errors import ModelError
from ...ir.types import Array
from .isa import (
    Conv,
    Depthwise,
    Element,
    Elementwise,
    Ew,
    Fill,
    Fold,
    Load,
    Move,
    Pool,
    Post,
    Reduce,
    Space,
    Stages,
    Store,
    Window,
)
from .machine import Machine
from .program import Command, Program, View

INT32 = np.iinfo(np.int32)
Memories = dict[Space, Array]


def execute(program: Program, machine: Machine, arena: Array) -> Array:
    """The arena (u8[arena_bytes]) after the program, which the linter has accepted."""
    memories: Memories = {space: np.zeros(machine.size(space), np.uint8) for space in Space if space.is_local}
    memories[Space.CONST] = np.frombuffer(program.constants, np.uint8)
    memories[Space.ARENA] = np.array(arena, np.uint8)
    if arena.shape != (program.arena_bytes,):
        raise ModelError(f"the arena has {arena.size} bytes, the program needs {program.arena_bytes}")
    for command in program.commands:
        perform(command, memories)
    return memories[Space.ARENA]


def perform(command: Command, memories: Memories) -> None:
    """Execute one command."""
    compute = _SEMANTICS.get(type(command.instruction))
    if compute is None:  # halt and sync change nothing
        return
    operands = {name: view.elements(memories[view.space]) for name, view in command.views.items()}
    result = compute(command, operands, memories)
    operands["dst"][...] = result.astype(command.views["dst"].dtype.dtype.numpy)


def _saturated(x: Array, view: View) -> Array:
    return np.clip(x, view.dtype.dtype.min, view.dtype.dtype.max)


def _copy(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    return np.array(x["src"])


def _fill(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    value: Any = command.instruction
    return np.full(x["dst"].shape, value.value, np.int64)


def patches(x: Array, w: Window, rows: int, columns: int, fill: int) -> Array:
    """Windows of an image [1,H,W,C], padded with `fill`: [rows, columns, kernel_h, kernel_w, C], a view."""
    _, height, width, channels = x.shape
    reach_h = (rows - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1
    reach_w = (columns - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1
    padded = np.full((max(reach_h, height + w.pad_top), max(reach_w, width + w.pad_left), channels), fill, x.dtype)
    padded[w.pad_top : w.pad_top + height, w.pad_left : w.pad_left + width] = x[0]
    down, right, channel = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (rows, columns, w.kernel_h, w.kernel_w, channels),
        (down * w.stride_h, right * w.stride_w, down * w.dilation_h, right * w.dilation_w, channel),
    )


def _product(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    instruction: Any = command.instruction
    w, (_, rows, columns, outputs) = command.window, x["dst"].shape
    assert w is not None
    # Products of integers in float64 are exact, and use BLAS.
    image = x["src"].astype(np.float64) - w.input_zero
    windows, weights = patches(image, w, rows, columns, 0), x["weights"].astype(np.float64)
    if isinstance(instruction, Depthwise):
        total = np.einsum("rsijc,ijc->rsc", windows, weights[0])
    else:
        total = windows.reshape(rows * columns, -1) @ weights.reshape(outputs, -1).T
    result = total.reshape(1, rows, columns, outputs).astype(np.int64)
    return result + x["dst"] if instruction.accumulate else result


def parameters(tab: Array, address: int, channels: int) -> tuple[Array, Array, Array]:
    """Biases, multipliers and shifts of a parameter block, i64 each."""
    block = tab[address : address + 9 * channels]
    words = block[: 8 * channels].copy().view(np.int32).astype(np.int64)
    return words[:channels], words[channels:], block[8 * channels :].view(np.int8).astype(np.int64)


def _post(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    t = x["src"].astype(np.int64)
    if (scale := command.scale) is not None:
        bias, multiplier, shift = parameters(memories[Space.TAB], scale.params, scale.channels)
        t = np.clip(scale.zero + arithmetic.rescale(t + bias, multiplier, shift & 31), scale.lo, scale.hi)
    if (add := command.add) is not None and (clamp := command.clamp) is not None:
        t = t * add.a_multiplier + x["residual"].astype(np.int64) * add.b_multiplier + add.bias
        t = np.clip(t >> add.shift, clamp.lo, clamp.hi)
    if isinstance(command.instruction, Post) and Stages.TABLE in command.instruction.stages:
        t = x["table"].reshape(-1)[t + 128]
    return _saturated(t, command.views["dst"])


def _elementwise(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    i: Any = command.instruction
    a = x["a"].astype(np.int64)
    if i.function is Ew.RECIP:
        return np.asarray((2**31 - 1) // np.maximum(a, 1))
    if i.function is Ew.LOOKUP:
        return x["b"].reshape(-1)[a - command.views["a"].dtype.dtype.min]
    b = x["b"].astype(np.int64)
    match i.function:
        case Ew.ADD:
            result = a + b
        case Ew.SUB:
            result = a - b
        case Ew.MIN:
            result = np.minimum(a, b)
        case Ew.MAX:
            result = np.maximum(a, b)
        case _:
            result = np.clip(i.zero + arithmetic.rescale(a, b, np.array(i.shift)), i.lo, i.hi)
    if command.views["dst"].dtype is Element.I32:
        return result
    return _saturated(result, command.views["dst"])


def _pool(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    i: Any = command.instruction
    w, image = command.window, x["src"].astype(np.int64)
    assert w is not None
    rows, columns = x["dst"].shape[1:3]
    if i.function is Fold.SUM:
        return patches(image - w.input_zero, w, rows, columns, 0).sum((2, 3))[None]
    if i.function is Fold.MAX:
        return np.asarray(patches(image, w, rows, columns, INT32.min).max((2, 3))[None])
    return np.asarray(patches(image, w, rows, columns, INT32.max).min((2, 3))[None])


def _reduce(command: Command, x: dict[str, Array], memories: Memories) -> Array:
    i: Any = command.instruction
    src = x["src"].astype(np.int64)
    if i.function is Fold.SUM:
        return np.asarray((src - i.zero).sum(3, keepdims=True))
    return np.asarray(src.max(3, keepdims=True) if i.function is Fold.MAX else src.min(3, keepdims=True))


_SEMANTICS: dict[type, Callable[[Command, dict[str, Array], Memories], Array]] = {
    Load: _copy,
    Store: _copy,
    Move: _copy,
    Fill: _fill,
    Conv: _product,
    Depthwise: _product,
    Post: _post,
    Elementwise: _elementwise,
    Pool: _pool,
    Reduce: _reduce,
}
