"""A machine as data: array shapes, memories, regions, DMA, post-process unit, energy and area. See `machines/*.toml`.

Sizes are bytes, rates bytes (or elements) per cycle, times cycles, energies pJ, areas square micrometres.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from ...ir.errors import UsageError
from ..cortexm.cores import CORES
from .isa import Space

FOLDER = Path(__file__).parent / "machines"
#: Operands that instructions have: activations of 8 or 16 bits, weights of 8.
PRECISIONS = ("a8w8", "a16w8")
#: A machine description is a page; more is refused unread.
MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class ArrayShape:
    """One arrangement of the multipliers: `k` output channels x `c` products per sum x `p` pixels, each cycle.

    Depthwise: `k` channels x `c` taps x `p` pixels.
    """

    k: int
    c: int
    p: int

    @property
    def macs(self) -> int:
        return self.k * self.c * self.p

    def __str__(self) -> str:
        return f"{self.k}x{self.c}x{self.p}"


@dataclass(frozen=True)
class MacArray:
    """The multipliers. precisions: cycles per step by operand widths (`a8w8`: 1). fill: cycles until sums come out.

    weight_port: bytes of weights that enter the array per cycle; a block stays while all pixels of a tile pass.
    """

    macs: int
    shapes: tuple[ArrayShape, ...]
    depthwise: ArrayShape
    weight_port: int
    fill: int
    precisions: Mapping[str, int]


@dataclass(frozen=True)
class PostProcess:
    """The vector unit: elements per cycle, pipeline depth, bytes per cycle of MOV, cycles of one division."""

    width: int
    fill: int
    move_width: int
    divide: int


@dataclass(frozen=True)
class Memories:
    """Bytes of the local memories: activations, weights, 32-bit accumulators, tables and parameters."""

    act: int
    wgt: int
    acc: int
    tab: int

    def __getitem__(self, space: Space) -> int:
        return (self.act, self.wgt, self.acc, self.tab)[space]


@dataclass(frozen=True)
class Region:
    """An external memory. Every contiguous row of a transfer is rounded up to whole bursts (bytes)."""

    bytes: int
    bytes_per_cycle: float
    latency: int
    burst: int


@dataclass(frozen=True)
class Mode:
    """Which region holds the arena, and which the constants."""

    arena: str
    constants: str


@dataclass(frozen=True)
class Dma:
    """Transfers: how many of an engine are under way at once, and the share of the bandwidth that they reach."""

    channels: int
    efficiency: float


@dataclass(frozen=True)
class Control:
    """The control unit: cycles per instruction, and how many instructions wait before each engine."""

    dispatch: int
    queue: int


@dataclass(frozen=True)
class Host:
    """The processor beside the NPU, which computes what the NPU does not take.

    core: a key of `cortexm.cores.CORES`. cycles_per_instruction: what its counted instructions take, an assumption.
    """

    core: str
    clock_mhz: float
    cycles_per_instruction: float

    def cycles(self, instructions: int) -> int:
        """Cycles of the core."""
        return round(instructions * self.cycles_per_instruction)

    def microseconds(self, instructions: int) -> float:
        return round(instructions * self.cycles_per_instruction / self.clock_mhz, 3)


@dataclass(frozen=True)
class Energy:
    """PJ per int8 MAC, per post-processed element, per byte of each local memory and region, per idle cycle."""

    mac: float
    post: float
    local: Mapping[str, float]
    external: Mapping[str, float]
    static: float


@dataclass(frozen=True)
class Area:
    """Square micrometres per MAC, per post-process lane, per byte of local memory, and of everything else."""

    mac: float
    post_lane: float
    local_byte: float
    control: float


@dataclass(frozen=True)
class Machine:
    """An NPU. `source` says where the figures come from; `mode` is the memory mode that is used."""

    name: str
    source: str
    clock_mhz: float
    mode: str
    array: MacArray
    post: PostProcess
    memories: Memories
    external: Mapping[str, Region]
    modes: Mapping[str, Mode]
    dma: Dma
    control: Control
    host: Host
    energy: Energy
    area: Area

    def region_name(self, space: Space) -> str:
        """The external memory that ARENA or CONST lies in."""
        mode = self.modes[self.mode]
        return mode.arena if space is Space.ARENA else mode.constants

    def region(self, space: Space) -> Region:
        return self.external[self.region_name(space)]

    def size(self, space: Space) -> int:
        """Bytes of a memory, local or not."""
        return self.memories[space] if space.is_local else self.region(space).bytes

    def with_mode(self, mode: str) -> Machine:
        if mode not in self.modes:
            raise UsageError(f"{self.name} has no memory mode {mode!r}", fix=f"choose from {', '.join(self.modes)}")
        return replace(self, mode=mode)

    @property
    def square_mm(self) -> float:
        """Estimated area, mm2."""
        local = self.memories.act + self.memories.wgt + self.memories.acc + self.memories.tab
        lanes = self.post.width * self.area.post_lane
        return (self.array.macs * self.area.mac + lanes + local * self.area.local_byte + self.area.control) * 1e-6


def load_machine(text: str) -> Machine:
    """`256`, or the path of a `.toml`, with `@mode` for another memory mode. Raises UsageError with the reasons."""
    name, _, mode = (text, "", "") if Path(text).is_file() else text.partition("@")
    path = FOLDER / f"npu{name}.toml" if name.isdecimal() else Path(name)
    if not path.is_file() or path.suffix != ".toml":
        known = ", ".join(sorted(p.stem.removeprefix("npu") for p in FOLDER.glob("*.toml")))
        raise UsageError(f"there is no machine {name!r}", fix=f"give one of {known}, or the path of a .toml file")
    if path.stat().st_size > MOST_BYTES:
        raise UsageError(f"the machine description is larger than {MOST_BYTES} bytes", where=str(path))
    machine = parse_machine(path.read_bytes().decode("utf-8", errors="replace"), str(path))
    return machine.with_mode(mode) if mode else machine


def parse_machine(text: str, where: str = "") -> Machine:
    """A machine from TOML. Raises UsageError naming everything that is malformed or cannot work."""
    try:
        data = tomllib.loads(text)
    except ValueError as error:  # of the syntax, or of a number with thousands of digits
        raise UsageError(f"the machine description is not TOML: {error}", where=where) from error
    except RecursionError:
        raise UsageError("the machine description is nested too deeply", where=where) from None
    try:
        machine: Machine = _build(Machine, data, "")
    except _MalformedError as error:
        raise UsageError(f"the machine description is malformed: {error}", where=where) from error
    faults = tuple(_faults(machine))
    if faults:
        raise UsageError("the machine cannot work", where=where, details=faults)
    return machine


class _MalformedError(Exception):
    """A key is missing, unknown, or of the wrong kind."""


def _build(kind: Any, value: Any, place: str) -> Any:
    """`value` as `kind`: a dataclass from a table (or a list, in order), a mapping, a tuple, a number or a string."""
    if is_dataclass(kind):
        if isinstance(value, list):
            value = dict(zip([f.name for f in fields(kind)], value, strict=False)) if len(value) == 3 else None
        if not isinstance(value, dict):
            raise _MalformedError(f"{place} is not a table")
        return _build_dataclass(kind, value, place)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _MalformedError(f"{place} is not a list")
        return tuple(_build(get_args(kind)[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    if get_origin(kind) is not None:
        if not isinstance(value, dict):
            raise _MalformedError(f"{place} is not a table")
        return {key: _build(get_args(kind)[1], item, f"{place}.{key}") for key, item in value.items()}
    accepted = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise _MalformedError(f"{place} is {value!r}, which is not {kind.__name__}")
    return value


def _build_dataclass(kind: Any, value: dict[str, Any], place: str) -> Any:
    known = _kinds(kind)
    if unknown := [key for key in value if key not in known]:
        raise _MalformedError(f"unknown key {place + '.' if place else ''}{unknown[0]}; known: {', '.join(known)}")
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in value]:
        raise _MalformedError(f"{place + '.' if place else ''}{missing[0]} is missing")
    return kind(**{key: _build(known[key], item, f"{place}.{key}" if place else key) for key, item in value.items()})


@cache
def _kinds(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _positive(thing: Any, place: str, least: float = 1e-6) -> Iterator[str]:
    """Every number below `thing` that is not a sensible size or rate; latencies and fills may be 0."""
    for f in fields(thing):
        value, here = getattr(thing, f.name), f"{place}.{f.name}"
        lowest = 0 if f.name in ("latency", "fill") else least
        if is_dataclass(value):
            yield from _positive(value, here, least)
        elif isinstance(value, Mapping):
            yield from (f"{here}.{k} is {v}; it is out of range" for k, v in value.items() if not lowest <= v < 2**32)
        elif isinstance(value, (int, float)) and not lowest <= value < 2**32:
            yield f"{here} is {value}; it is out of range"


def _faults(m: Machine) -> Iterator[str]:
    """Why the machine cannot work."""
    for part in ("array", "post", "memories", "dma", "control", "host"):
        yield from _positive(getattr(m, part), part)
    for part in ("energy", "area"):
        yield from _positive(getattr(m, part), part, least=0)
    if not m.array.shapes:
        yield "array.shapes is empty: there is no way to multiply"
    if len(m.array.shapes) > 16:
        yield f"array.shapes has {len(m.array.shapes)} entries; an instruction can name 16"
    for shape in (*m.array.shapes, m.array.depthwise):
        yield from _positive(shape, f"array shape {shape}")
        if shape.macs != m.array.macs:
            yield f"array shape {shape} multiplies {shape.macs} pairs per cycle, not the {m.array.macs} of array.macs"
        if 4 * shape.k * shape.p > m.memories.acc:
            yield f"array shape {shape} needs {4 * shape.k * shape.p} bytes of sums at once; memories.acc is smaller"
        if shape.k * shape.c > m.memories.wgt:
            yield f"array shape {shape} needs {shape.k * shape.c} bytes of weights at once; memories.wgt is smaller"
    if "a8w8" not in m.array.precisions:
        yield "array.precisions has no a8w8"
    for name in m.array.precisions:
        if name not in PRECISIONS:
            yield f"array.precisions has {name!r}; operands are {' or '.join(PRECISIONS)}"
    for name, size in vars(m.memories).items():
        if size % 4 or size > 1 << 24:
            yield f"memories.{name} is {size}; it must be a multiple of 4 bytes, at most 16 MiB"
    if m.memories.tab < 1024 + 9:
        yield f"memories.tab is {m.memories.tab}; a table of 256 words and the parameters of a channel need 1033 bytes"
    if not 0 < m.dma.efficiency <= 1:
        yield f"dma.efficiency is {m.dma.efficiency}; it is a share, above 0 and at most 1"
    if not 0 < m.clock_mhz < 2**32:
        yield f"clock_mhz is {m.clock_mhz}; it is out of range"
    if m.host.core not in CORES:
        yield f"host.core is {m.host.core!r}, which is none of {', '.join(CORES)}"
    yield from _region_faults(m)


def _region_faults(m: Machine) -> Iterator[str]:
    for name, region in m.external.items():
        yield from _positive(region, f"external.{name}")
    for name, mode in m.modes.items():
        for what in ("arena", "constants"):
            if getattr(mode, what) not in m.external:
                yield f"modes.{name}.{what} is {getattr(mode, what)!r}, which is no external memory"
    if m.mode not in m.modes:
        yield f"mode is {m.mode!r}, which is none of modes: {', '.join(m.modes)}"
    for place, has, wanted in (
        ("energy.local", m.energy.local, vars(m.memories)),
        ("energy.external", m.energy.external, m.external),
    ):
        yield from (f"{place} has no {name}" for name in wanted if name not in has)
        yield from (f"{place} has {name!r}, which is no memory" for name in has if name not in wanted)
