"""A program, and what each of its instructions means once the registers are known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...ir.errors import ModelError
from ...ir.types import Array
from .isa import (
    AXES,
    VIEWS,
    Conv,
    Depthwise,
    Element,
    Elementwise,
    Engine,
    Ew,
    Halt,
    Instruction,
    Pool,
    Post,
    PostAdd,
    PostClamp,
    PostScale,
    Space,
    Stages,
    ViewAxes,
    ViewBase,
    ViewFlat,
    Window,
)


@dataclass(frozen=True)
class View:
    """Elements of a memory: [i0, i1, i2, i3] lies at address + sum(i * strides), in bytes."""

    space: Space
    dtype: Element
    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(space: Space, dtype: Element, address: int, sizes: Sequence[int]) -> View:
        """Contiguous, the last axis innermost; up to four sizes."""
        full = (1,) * (AXES - len(sizes)) + tuple(sizes)
        inner = dtype.bytes
        third = inner * full[3]
        second = third * full[2]
        return View(space, dtype, address, full, (second * full[1], second, third, inner))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.sizes)

    @property
    def bytes(self) -> int:
        return self.size * self.dtype.bytes

    @cached_property
    def extent(self) -> tuple[int, int]:
        """The first byte, and the one after the last."""
        first = last = self.address
        for n, stride in zip(self.sizes, self.strides, strict=True):
            reach = (n - 1) * stride
            if reach > 0:
                last += reach
            else:
                first += reach
        return first, last + self.dtype.bytes

    @cached_property
    def rows(self) -> tuple[int, int]:
        """How many rows of how many contiguous bytes."""
        length, count = self.dtype.bytes, 1
        inner = True
        for n, stride in sorted(zip(self.sizes, self.strides, strict=True), key=lambda axis: abs(axis[1])):
            if n == 1:
                continue
            inner = inner and stride == length
            length, count = (length * n, count) if inner else (length, count * n)
        return count, length

    def over(self, shadow: Array) -> Array:
        """Entries of an array with one entry per byte of the memory, as a writable strided array [sizes, bytes]."""
        self._require_inside(shadow)
        item = shadow.itemsize
        strides = (*(item * s for s in self.strides), item)
        return np.lib.stride_tricks.as_strided(shadow[self.address :], (*self.sizes, self.dtype.bytes), strides)

    def elements(self, memory: Array) -> Array:
        """The elements in `memory` (bytes, u8), as a writable strided array [sizes]."""
        self._require_inside(memory)
        base = memory[self.address : self.address + self.dtype.bytes].view(self.dtype.dtype.numpy)
        return np.lib.stride_tricks.as_strided(base, self.sizes, self.strides)

    def _require_inside(self, memory: Array) -> None:
        # NumPy's strided views reach anywhere; programs that nobody has proven must not.
        lo, hi = self.extent
        if lo < 0 or hi > memory.size:
            raise ModelError(f"bytes {lo}..{hi - 1} are outside of {self.space.name.lower()}, which has {memory.size}")

    def footprint(self) -> Array:
        """Addresses of all its bytes, each row sorted: [size * bytes], i64."""
        offsets = np.zeros(1, np.int64) + self.address
        for n, stride in zip(self.sizes, self.strides, strict=True):
            if n > 1 and stride:
                offsets = (offsets[:, None] + np.arange(n, dtype=np.int64) * stride).reshape(-1)
        return (offsets[:, None] + np.arange(self.dtype.bytes)).reshape(-1)


@dataclass(eq=False)
class UnsetError(ModelError):
    """An instruction uses a register that nothing has set."""

    position: int = 0


@dataclass(frozen=True)
class Program:
    """Instructions, the constants that `const` holds, and how many bytes of `arena` they use."""

    instructions: tuple[Instruction, ...]
    constants: bytes = b""
    arena_bytes: int = 0

    @cached_property
    def commands(self) -> tuple[Command, ...]:
        """The instructions that engines execute, with their registers. Raises UnsetError."""
        return tuple(_resolve(self.instructions))


@dataclass(frozen=True)
class Command:
    """An instruction other than CFG*, with the registers as they stood. position: its place in the program.

    views: the views that it really uses, by field. window, scale, add, clamp: where it uses them.
    """

    position: int
    instruction: Instruction
    views: dict[str, View] = field(default_factory=dict)
    window: Window | None = None
    scale: PostScale | None = None
    add: PostAdd | None = None
    clamp: PostClamp | None = None

    @property
    def engine(self) -> Engine:
        return self.instruction.engine

    @property
    def reads(self) -> Iterator[View]:
        """Views that it reads, parameter blocks and accumulated sums included."""
        yield from (view for name, view in self.views.items() if name != "dst")
        if self.scale is not None:
            yield View.of(Space.TAB, Element.I8, self.scale.params, (9 * self.scale.channels,))
        if getattr(self.instruction, "accumulate", 0):
            yield self.views["dst"]

    @property
    def writes(self) -> View | None:
        return self.views.get("dst")

    def __str__(self) -> str:
        return f"instruction {self.position} ({self.instruction.mnemonic})"


class _Registers:
    """The control unit's registers."""

    def __init__(self) -> None:
        self.bases: list[ViewBase | None] = [None] * VIEWS
        self.axes: list[list[tuple[int, int] | None]] = [[None] * AXES for _ in range(VIEWS)]
        self.window: Window | None = None
        self.scale: PostScale | None = None
        self.add: PostAdd | None = None
        self.clamp: PostClamp | None = None

    def change(self, i: Instruction) -> bool:
        """Whether the instruction only changes registers; if so, it does."""
        match i:
            case ViewBase():
                self.bases[i.view] = i
            case ViewAxes():
                self.axes[i.view][2 * i.pair : 2 * i.pair + 2] = (i.size_a, i.stride_a), (i.size_b, i.stride_b)
            case ViewFlat():
                self.bases[i.view] = ViewBase(view=i.view, space=i.space, dtype=i.dtype, address=i.address)
                width = i.dtype.bytes
                self.axes[i.view] = [*[(1, width * i.size)] * (AXES - 1), (i.size, width)]
            case Window():
                self.window = i
            case PostScale():
                self.scale = i
            case PostAdd():
                self.add = i
            case PostClamp():
                self.clamp = i
            case _:
                return False
        return True

    def view(self, number: int) -> View | None:
        base, axes = self.bases[number], [axis for axis in self.axes[number] if axis is not None]
        if base is None or len(axes) < AXES:
            return None
        sizes, strides = zip(*axes, strict=True)
        return View(base.space, base.dtype, base.address, sizes, strides)


def used_views(i: Instruction) -> list[str]:
    """The fields that name a view which the instruction really reads or writes."""
    unused = set()
    if isinstance(i, Post):
        unused = {name for name, stage in (("residual", Stages.ADD), ("table", Stages.TABLE)) if stage not in i.stages}
    if isinstance(i, Elementwise) and i.function is Ew.RECIP:
        unused = {"b"}
    return [name for name, bits in i.payload.items() if bits.is_view and name not in unused]


def _resolve(instructions: Sequence[Instruction]) -> Iterator[Command]:
    registers = _Registers()
    for position, i in enumerate(instructions):
        if registers.change(i):
            continue
        stages = i.stages if isinstance(i, Post) else Stages.NONE
        scales, adds, windows = (
            Stages.SCALE in stages,
            Stages.ADD in stages,
            isinstance(i, Conv | Depthwise | Pool),
        )
        views = {f"view v{getattr(i, name)}": registers.view(getattr(i, name)) for name in used_views(i)}
        needed = views | {
            "cfgc": registers.window if windows else (),
            "cfgp.scale": registers.scale if scales else (),
            "cfgp.add": registers.add if adds else (),
            "cfgp.clamp": registers.clamp if adds else (),
        }
        if missing := [what for what, value in needed.items() if value is None]:
            what = f"{missing[0]} was not set before it is used"
            raise UnsetError(what, where=str(Command(position, i)), position=position)
        yield Command(
            position,
            i,
            {name: view for name in used_views(i) if (view := registers.view(getattr(i, name)))},
            registers.window if windows else None,
            registers.scale if scales else None,
            registers.add if adds else None,
            registers.clamp if adds else None,
        )


def halted(program: Program) -> bool:
    """Whether it ends with its only `halt`."""
    halts = [isinstance(i, Halt) for i in program.instructions]
    return bool(halts) and halts[-1] and sum(halts) == 1
