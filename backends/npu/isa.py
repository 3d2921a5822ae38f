"""The instruction set: every instruction is one class whose annotated fields are its payload, bit for bit.

Encoding, assembler, disassembler and documentation all read these classes. Semantics are in docs/npu-isa.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from ...ir.types import I8, I16, I32, U8, DType


class Engine(enum.IntEnum):
    """What executes an instruction. Each engine works in order; engines run beside each other."""

    CTRL = 0
    LD = 1
    ST = 2
    MM = 3
    PP = 4


class Space(enum.IntEnum):
    """A memory that a view can lie in. The first four are local, the others external."""

    ACT = 0
    WGT = 1
    ACC = 2
    TAB = 3
    ARENA = 4
    CONST = 5

    @property
    def is_local(self) -> bool:
        return self < Space.ARENA


class Element(enum.IntEnum):
    """The dtype of a view's elements."""

    I8 = 0
    U8 = 1
    I16 = 2
    I32 = 3

    @property
    def dtype(self) -> DType:
        return (I8, U8, I16, I32)[self]

    @property
    def bytes(self) -> int:
        return (1, 1, 2, 4)[self]


class Ew(enum.IntEnum):
    """Functions of EW."""

    ADD = 0
    SUB = 1
    MIN = 2
    MAX = 3
    SCALE = 4
    RECIP = 5
    LOOKUP = 6


class Fold(enum.IntEnum):
    """Functions of POOL and RED."""

    MAX = 0
    MIN = 1
    SUM = 2


class Stages(enum.IntFlag):
    """Stages of PP that are switched on, in the order in which they run."""

    NONE = 0
    SCALE = 1
    ADD = 2
    TABLE = 4


class Opcode(enum.IntEnum):
    """The first five bits."""

    HALT = 0
    SYNC = 1
    CFGT = 2
    CFGC = 3
    CFGP = 4
    LD = 8
    ST = 9
    MM = 12
    PP = 16
    EW = 17
    POOL = 18
    RED = 19
    MOV = 20


@dataclass(frozen=True)
class Bits:
    """How a field is stored: its width, its sign, the enumeration that names its values, or that it is a view."""

    width: int
    signed: bool = False
    names: type[enum.IntEnum] | type[enum.IntFlag] | None = None
    is_view: bool = False

    @property
    def range(self) -> tuple[int, int]:
        if self.signed:
            return -(1 << (self.width - 1)), (1 << (self.width - 1)) - 1
        return 0, (1 << self.width) - 1


ViewId = Annotated[int, Bits(4, is_view=True)]
U1 = Annotated[int, Bits(1)]
U4 = Annotated[int, Bits(4)]
U5 = Annotated[int, Bits(5)]
Byte = Annotated[int, Bits(8)]
U16 = Annotated[int, Bits(16)]
U24 = Annotated[int, Bits(24)]
U32 = Annotated[int, Bits(32)]
S16 = Annotated[int, Bits(16, signed=True)]
S24 = Annotated[int, Bits(24, signed=True)]
S32 = Annotated[int, Bits(32, signed=True)]
InSpace = Annotated[Space, Bits(3, names=Space)]
OfElement = Annotated[Element, Bits(3, names=Element)]
EwFunction = Annotated[Ew, Bits(4, names=Ew)]
FoldFunction = Annotated[Fold, Bits(2, names=Fold)]
PpStages = Annotated[Stages, Bits(3, names=Stages)]

VIEWS = 16
AXES = 4
SEMAPHORES = 15
MOST_TAG = (1 << 12) - 1


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Base of all. wait: up to two semaphores taken before it starts; signal: one given when it ends (0: none).

    tag: which source operator it works for, an index into the names that the compiler keeps; 0 is nobody's.
    """

    opcode: ClassVar[Opcode]
    form: ClassVar[int]
    mnemonic: ClassVar[str]
    engine: ClassVar[Engine]
    #: The fields of the payload in order, from the least significant bit.
    payload: ClassVar[dict[str, Bits]]
    wait: tuple[int, ...] = ()
    signal: int = 0
    tag: int = 0


I = TypeVar("I", bound=type[Instruction])  # noqa: E741
#: Every instruction by (opcode, form), and by mnemonic.
BY_CODE: dict[tuple[int, int], type[Instruction]] = {}
BY_MNEMONIC: dict[str, type[Instruction]] = {}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def _instruction(opcode: Opcode, engine: Engine, form: str = "") -> Callable[[I], I]:
    """Declare an instruction: `form` distinguishes those that share an opcode and is numbered in order."""

    def declare(cls: I) -> I:
        number = sum(other.opcode == opcode for other in BY_CODE.values())
        cls.opcode, cls.form, cls.engine = opcode, number, engine
        cls.mnemonic = opcode.name.lower() + (f".{form}" if form else "")
        made: Any = dataclass(frozen=True, kw_only=True)(cls)
        hints = get_type_hints(made, include_extras=True).items()
        made.payload = {name: hint.__metadata__[0] for name, hint in hints if hasattr(hint, "__metadata__")}
        width = sum(bits.width for bits in made.payload.values())
        if width > 96 or number > 7 or made.mnemonic in BY_MNEMONIC:
            raise TypeError(f"{cls.__name__} cannot be encoded: {width} bits, form {number}, {made.mnemonic}")
        BY_CODE[opcode, number] = BY_MNEMONIC[made.mnemonic] = made
        return made

    return declare


@_instruction(Opcode.HALT, Engine.CTRL)
class Halt(Instruction):
    """Wait until all engines are idle, then stop. The last instruction, and only the last."""


@_instruction(Opcode.SYNC, Engine.CTRL)
class Sync(Instruction):
    """Wait until all engines are idle."""


@_instruction(Opcode.SYNC, Engine.LD, "ld")
class SyncLd(Instruction):
    """Nothing but its waits and its signal, in LD's queue."""


@_instruction(Opcode.SYNC, Engine.ST, "st")
class SyncSt(Instruction):
    """Nothing but its waits and its signal, in ST's queue."""


@_instruction(Opcode.SYNC, Engine.MM, "mm")
class SyncMm(Instruction):
    """Nothing but its waits and its signal, in MM's queue."""


@_instruction(Opcode.SYNC, Engine.PP, "pp")
class SyncPp(Instruction):
    """Nothing but its waits and its signal, in PP's queue."""


@_instruction(Opcode.CFGT, Engine.CTRL, "base")
class ViewBase(Instruction):
    """Set memory, dtype and address (bytes) of a view; sizes and strides stay."""

    view: ViewId
    space: InSpace
    dtype: OfElement
    address: U32


@_instruction(Opcode.CFGT, Engine.CTRL, "axes")
class ViewAxes(Instruction):
    """Set sizes (elements) and strides (bytes) of axes 0 and 1 (pair 0) or 2 and 3 (pair 1) of a view."""

    view: ViewId
    pair: U1
    size_a: U16
    stride_a: S24
    size_b: U16
    stride_b: S24


@_instruction(Opcode.CFGT, Engine.CTRL, "flat")
class ViewFlat(Instruction):
    """Set a whole view to [1, 1, 1, size] contiguous elements."""

    view: ViewId
    space: InSpace
    dtype: OfElement
    address: U32
    size: U24


@_instruction(Opcode.CFGC, Engine.CTRL)
class Window(Instruction):
    """Set the sliding window of MM and POOL. shape: which of the machine's array shapes MM takes."""

    kernel_h: Byte = 1
    kernel_w: Byte = 1
    stride_h: Byte = 1
    stride_w: Byte = 1
    dilation_h: Byte = 1
    dilation_w: Byte = 1
    pad_top: Byte = 0
    pad_left: Byte = 0
    input_zero: S16 = 0
    shape: U4 = 0


@_instruction(Opcode.CFGP, Engine.CTRL, "scale")
class PostScale(Instruction):
    """Set the SCALE stage: a parameter block at `params` in TAB for `channels` channels (1: the same for all)."""

    params: U24
    channels: U16
    zero: S16 = 0
    lo: S16 = -128
    hi: S16 = 127


@_instruction(Opcode.CFGP, Engine.CTRL, "add")
class PostAdd(Instruction):
    """Set the ADD stage: clamp((t * a_multiplier + residual * b_multiplier + bias) >> shift)."""

    a_multiplier: S16
    b_multiplier: S16
    bias: S32
    shift: U5


@_instruction(Opcode.CFGP, Engine.CTRL, "clamp")
class PostClamp(Instruction):
    """Set the clamp of the ADD stage."""

    lo: S16 = -128
    hi: S16 = 127


@_instruction(Opcode.LD, Engine.LD)
class Load(Instruction):
    """Copy a view of an external memory to one of a local memory."""

    dst: ViewId
    src: ViewId


@_instruction(Opcode.ST, Engine.ST)
class Store(Instruction):
    """Copy a view of a local memory to one of ARENA."""

    dst: ViewId
    src: ViewId


@_instruction(Opcode.MM, Engine.MM, "conv")
class Conv(Instruction):
    """Sums of products over windows and all channels. accumulate: add to what dst holds."""

    dst: ViewId
    src: ViewId
    weights: ViewId
    accumulate: U1 = 0


@_instruction(Opcode.MM, Engine.MM, "depthwise")
class Depthwise(Instruction):
    """Sums of products over windows, channel by channel. accumulate: add to what dst holds."""

    dst: ViewId
    src: ViewId
    weights: ViewId
    accumulate: U1 = 0


@_instruction(Opcode.PP, Engine.PP)
class Post(Instruction):
    """The post-process pipeline: SCALE, ADD, TABLE, each where switched on; the result saturates to dst's dtype."""

    dst: ViewId
    src: ViewId
    residual: ViewId = 0
    table: ViewId = 0
    stages: PpStages = Stages.SCALE


@_instruction(Opcode.EW, Engine.PP)
class Elementwise(Instruction):
    """A function of one or two tensors, element by element. shift, zero, lo and hi are SCALE's."""

    function: EwFunction
    dst: ViewId
    a: ViewId
    b: ViewId = 0
    shift: U5 = 0
    zero: S16 = 0
    lo: S16 = -128
    hi: S16 = 127


@_instruction(Opcode.POOL, Engine.PP)
class Pool(Instruction):
    """Maximum, minimum, or sum of (x - input_zero), over the windows that CFGC sets."""

    function: FoldFunction
    dst: ViewId
    src: ViewId


@_instruction(Opcode.RED, Engine.PP)
class Reduce(Instruction):
    """Maximum, minimum, or sum of (x - zero), along the last axis."""

    function: FoldFunction
    dst: ViewId
    src: ViewId
    zero: S16 = 0


@_instruction(Opcode.MOV, Engine.PP, "copy")
class Move(Instruction):
    """Copy between local memories."""

    dst: ViewId
    src: ViewId


@_instruction(Opcode.MOV, Engine.PP, "fill")
class Fill(Instruction):
    """Set every element of a local view."""

    dst: ViewId
    value: S32
