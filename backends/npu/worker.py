"""One job of a group on local memories: its constants, and the instructions that compute rectangles of its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any

import numpy as np

from ...ir.graph import Value
from ...ir.types import Array
from .bands import Area, source
from .isa import (
    Conv,
    Depthwise,
    Element,
    Elementwise,
    Ew,
    Fold,
    Instruction,
    Load,
    Move,
    Pool,
    Post,
    PostAdd,
    PostClamp,
    PostScale,
    Reduce,
    Space,
    Stages,
    Store,
    Window,
)
from .jobs import Finish, Job, Product, Softmax, kind, needs_scale
from .jobs import View as Image
from .machine import ArrayShape, Machine
from .memory import Constants, NoRoomError, Ring, aligned
from .program import View
from .schedule import Step, Tile
from .timing import conv_steps, move_cycles, product_cycles, transfer_cycles, vector_cycles

#: Bytes of one channel's bias, multiplier and shift.
CHANNEL = 9
#: Bytes of the table of a softmax.
EXPONENTIALS = 1024
#: What sizes and strides of views can say, and the pads and windows of an instruction.
LARGEST, FARTHEST, WIDEST = (1 << 16) - 1, 1 << 23, 255

#: A stretch of channels or rows: the first, and how many.
Part = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """How one job's channels are cut: `block` output channels per instruction.

    channels: depthwise jobs and pools work on so many channels after one another. resident: all weights stay for the
    whole group; else every band loads them anew. shape: of the array. depth, taps: a sum is accumulated over so many
    input channels and rows of the window at a time, which are loaded for each block (0: over all at once).
    """

    block: int
    channels: int = 0
    resident: bool = True
    shape: int = 0
    depth: int = 0
    taps: int = 0

    @property
    def split(self) -> bool:
        """Whether sums are accumulated piece by piece."""
        return bool(self.depth or self.taps)


@dataclass
class Place:
    """Where a program puts things. kept: addresses in `act` of values that stay there as a whole."""

    machine: Machine
    addresses: Mapping[Value, tuple[Space, int]]
    constants: Constants
    rings: dict[Space, Ring] = field(default_factory=dict)
    kept: dict[Value, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rings:
            local = (Space.ACT, Space.WGT, Space.ACC, Space.TAB)
            self.rings = {s: Ring(s, self.machine.memories[s]) for s in local}

    def external(self, image: Image, area: Area, channels: Part | None = None) -> View:
        """A rectangle of an image in its external memory."""
        space, address = self.addresses[image.value]
        first, count = channels if channels is not None else (0, image.channels)
        address += image.offset + area.row * image.row + area.column * image.pixel + first
        return View(space, Element.I8, address, (1, area.rows, area.columns, count), (0, image.row, image.pixel, 1))

    def local(self, image: Image) -> Held:
        """An image of a value that is kept."""
        address, sizes = self.kept[image.value] + image.offset, (1, image.height, image.width, image.channels)
        view = View(Space.ACT, Element.I8, address, sizes, (0, image.row, image.pixel, 1))
        return Held(view, Area(0, 0, image.height, image.width))


@dataclass(frozen=True)
class Held:
    """A rectangle of an image in `act`."""

    view: View
    area: Area

    def part(self, area: Area, channels: Part | None = None) -> View:
        """A smaller rectangle, and some channels."""
        first, count = channels if channels is not None else (0, self.view.sizes[3])
        _, row, pixel, element = self.view.strides
        offset = (area.row - self.area.row) * row + (area.column - self.area.column) * pixel + first * element
        return replace(self.view, address=self.view.address + offset, sizes=(1, area.rows, area.columns, count))


def parameters(bias: Array, finish: Finish) -> bytes:
    """The block of channel parameters: biases, multipliers, shifts."""
    parts = (bias.astype("<i4"), finish.multiplier.astype("<i4"), finish.shift.astype("i1"))
    return b"".join(p.tobytes() for p in parts)


def pieces(size: int, most: int) -> list[Part]:
    """`size` cut into pieces of `most` (0: one piece)."""
    most = most or size
    return [(first, min(most, size - first)) for first in range(0, size, most)]


def uniform_weights(job: Job) -> bool:
    """Whether all weights are one number, as those of an average are."""
    return kind(job) == "depthwise" and isinstance(job, Product) and bool(np.all(job.weights == job.weights.flat[0]))


def uniform_channels(job: Job) -> bool:
    """Whether every channel has the same parameters."""
    if not isinstance(job, Product):
        return False
    return all(bool(np.all(a == a[:1])) for a in (job.bias, job.finish.multiplier, job.finish.shift))


def constant_bytes(job: Job) -> int:
    """What a job needs of weights and channel parameters."""
    if not isinstance(job, Product):
        return 0
    weights = job.weights.size if kind(job) in ("conv", "depthwise") else 0
    return (1 if uniform_weights(job) else weights) + CHANNEL * (1 if uniform_channels(job) else job.y.channels)


def lines_at_once(machine: Machine, columns: int, channels: int) -> int:
    """Rows whose sums fit into half of the accumulators, or, if none does, into all."""
    line = aligned(4 * columns * channels)
    return machine.memories.acc // 2 // line or machine.memories.acc // line


def array_steps(job: Job, cut: Cut, machine: Machine) -> tuple[ArrayShape, int]:
    """The array's shape, and its steps per pixel where the columns of x have no gaps."""
    if kind(job) == "depthwise":
        return machine.array.depthwise, ceil(prod(job.window) / machine.array.depthwise.c)
    shape = machine.array.shapes[cut.shape]
    return shape, conv_steps(shape, job.window, job.x.channels, job.dilations[1] == 1)


class Worker:
    """One job (or a slice of its channels): what it puts into tiles."""

    def __init__(self, job: Job, cut: Cut, place: Place) -> None:
        self.job, self.cut, self.place = job, cut, place
        self.machine, self.tag = place.machine, job.tag
        self.kind = kind(job)
        self.blocks = pieces(job.y.channels, min(cut.block, job.y.channels))
        depth = job.x.channels if self.kind == "conv" else 1
        self.reduction = [(t, d) for t in pieces(job.window[0], cut.taps) for d in pieces(depth, cut.depth)]
        self.weights: dict[tuple[Part, Part, Part], int] = {}
        self.params: dict[int, int] = {}
        self.table: int | None = None
        self.taken: list[tuple[Ring, int]] = []
        self.prepared = False
        self.uniform, self.alike = uniform_weights(job), uniform_channels(job)

    def take(self, space: Space, nbytes: int) -> int:
        """A chunk that is in use until `release`."""
        ring = self.place.rings[space]
        address = ring.take(nbytes)
        self.taken.append((ring, address))
        return address

    def release(self) -> None:
        """Give back the constants' chunks."""
        for ring, address in self.taken:
            ring.release(address)
        self.taken.clear()

    # ---- transfers

    def transfer(self, make: type[Instruction], dst: View, src: View) -> Step:
        external = src if make is Load else dst
        if max(*dst.sizes, *src.sizes) > LARGEST or max(*dst.strides, *src.strides) >= FARTHEST:
            raise NoRoomError("a size or stride that no instruction can hold")
        work = transfer_cycles(self.machine, external.space, *external.rows)
        region = self.machine.region_name(external.space)
        return Step(make, {"dst": dst, "src": src}, work.cycles, self.tag, work.latency, region)

    def load(self, tile: Tile, dst: View, src: View) -> None:
        tile.loads.append(self.transfer(Load, dst, src))

    def store(self, tile: Tile, dst: View, src: View) -> None:
        tile.body.append(self.transfer(Store, dst, src))

    def move(self, tile: Tile, dst: View, src: View) -> None:
        cycles = move_cycles(self.machine, dst.bytes).cycles
        tile.body.append(Step(Move, {"dst": dst, "src": src}, cycles, self.tag))

    def load_bytes(self, tile: Tile, space: Space, address: int, nbytes: int, constant: int) -> None:
        data = View.of(Space.CONST, Element.I8, constant, (nbytes,))
        self.load(tile, View.of(space, Element.I8, address, (nbytes,)), data)

    # ---- constants

    def prepare(self, tile: Tile) -> None:
        """Load, once, what stays for the whole group: parameters, tables, and weights that are not streamed."""
        if self.prepared:
            return
        self.prepared = True
        if isinstance(self.job, Softmax):
            self.table = self.take(Space.TAB, EXPONENTIALS)
            constant = self.place.constants.place(EXPONENTIALS, self.job.table.astype("<i4").tobytes)
            self.load_bytes(tile, Space.TAB, self.table, EXPONENTIALS, constant)
        elif isinstance(self.job, Product) and self.cut.resident:
            self.load_weights(tile, self.blocks, self.reduction)
            self.load_parameters(tile, self.blocks)

    def load_weights(self, tile: Tile, blocks: list[Part], reduction: list[tuple[Part, Part]]) -> None:
        """Those of some output channels and parts of the sum, in one chunk."""
        job = self.job
        if self.kind not in ("conv", "depthwise"):
            return
        assert isinstance(job, Product)
        wanted = [(b, t, d, b[1] * t[1] * d[1] * job.window[1]) for b in blocks for t, d in reduction]
        if self.uniform:  # one byte, which views read again and again
            address, constant = (
                self.take(Space.WGT, 1),
                self.place.constants.place(1, job.weights.reshape(-1)[:1].tobytes),
            )
            self.weights |= {(b, t, d): address for b, t, d, _ in wanted}
            self.load_bytes(tile, Space.WGT, address, 1, constant)
            return
        address = self.take(Space.WGT, sum(aligned(nbytes) for *_, nbytes in wanted))
        for block, taps, depth, nbytes in wanted:

            def pack(block: Part = block, taps: Part = taps, depth: Part = depth) -> bytes:
                # [K, kh, kw, C] as it is; depthwise [1, kh, kw, C]: the channels of a tap side by side.
                (k, n), (i, m), (c, d) = block, taps, depth
                some = job.weights[k : k + n, i : i + m, :, c : c + d]
                order = (3, 1, 2, 0) if self.kind == "depthwise" else (0, 1, 2, 3)
                return np.ascontiguousarray(some.transpose(order)).astype(np.int8).tobytes()

            self.weights[block, taps, depth] = address
            self.load_bytes(tile, Space.WGT, address, nbytes, self.place.constants.place(nbytes, pack))
            address += aligned(nbytes)

    def load_parameters(self, tile: Tile, blocks: list[Part]) -> None:
        """Channel parameters of some output channels, and the table."""
        job = self.job
        assert isinstance(job, Product)
        table = job.finish.table
        scaled = self.kind != "copy" and (self.kind != "vector" or needs_scale(job))
        nbytes = sum(aligned(CHANNEL * self.described(n)) for _, n in blocks) * scaled
        nbytes += 256 if table is not None else 0
        address = self.take(Space.TAB, nbytes) if nbytes else 0
        if table is not None:
            self.table, address = address, address + 256
            constant = self.place.constants.place(256, table.astype(np.int8).tobytes)
            self.load_bytes(tile, Space.TAB, self.table, 256, constant)
        bias = job.bias if self.kind != "vector" else job.bias - job.input_zero
        for first, count in blocks if scaled else []:
            count = self.described(count)

            def pack(first: int = first, count: int = count) -> bytes:
                finish = replace(job.finish, residual=None).sliced(first, count)
                return parameters(bias[first : first + count], finish)

            self.params[first] = address
            constant = self.place.constants.place(CHANNEL * count, pack)
            self.load_bytes(tile, Space.TAB, address, CHANNEL * count, constant)
            address += aligned(CHANNEL * count)

    def described(self, channels: int) -> int:
        """For how many channels there are parameters: for one, where they are all alike."""
        return 1 if self.alike else channels

    # ---- results

    def compute(self, tile: Tile, area: Area, x: Held | None, residual: Held | None, y: Held) -> Iterator[Tile]:
        """Tiles, the first of them `tile`, after which the rectangle is in y. x: None where it is loaded in pieces."""
        self.prepare(tile)
        if self.kind in ("pool", "softmax"):
            assert x is not None
            self.pool(tile, area, x, y) if self.kind == "pool" else self.softmax(tile, area, x, y)
            yield tile
            return
        streamed = self.kind in ("conv", "depthwise") and not self.cut.resident
        held = len(self.taken)
        for i, block in enumerate(self.blocks):
            if streamed and i:
                yield tile
                tile = Tile()
            if streamed:
                self.load_parameters(tile, [block])
            if self.cut.split:
                *before, tile = self.accumulate(tile, area, block, x, residual, y)
                yield from before
            else:
                if streamed:
                    self.load_weights(tile, [block], self.reduction)
                self.finish_passes(tile, area, block, x, residual, y)
            if streamed:
                self.drop(held)
        yield tile

    def drop(self, held: int) -> None:
        """Give back all chunks but the first `held`."""
        while len(self.taken) > held:
            ring, address = self.taken.pop()
            ring.release(address)

    def finish_passes(
        self, tile: Tile, area: Area, block: Part, x: Held | None, residual: Held | None, y: Held
    ) -> None:
        """One block of channels of a rectangle, so many rows at once that two of them fit into the accumulators."""
        assert x is not None
        for lines in self.passes(area, block[1]):
            if self.kind == "vector":
                self.post(tile, block[0], x.part(lines, block), y.part(lines, block), _part(residual, lines, block))
                continue
            sums = self.sums(lines, block[1])
            self.product(tile, lines, block, self.reduction[0], x, sums)
            self.post(tile, block[0], sums, y.part(lines, block), _part(residual, lines, block))
            self.place.rings[Space.ACC].release(sums.address)

    def accumulate(
        self, tile: Tile, area: Area, block: Part, x: Held | None, residual: Held | None, y: Held
    ) -> Iterator[Tile]:
        """One block of channels of a rectangle, its sums piece by piece, with their weights, and x where it is None."""
        job = self.job
        sums = self.sums(area, block[1])
        for i, (taps, depth) in enumerate(self.reduction):
            if i:
                yield tile
                tile = Tile()
            held = len(self.taken)
            self.load_weights(tile, [block], [(taps, depth)])
            mine = x
            if mine is None:
                part, _ = source(job, area, taps)
                channels = depth if self.kind == "conv" else block
                view = View.of(Space.ACT, Element.I8, 0, (1, part.rows, part.columns, channels[1]))
                view = replace(view, address=self.take(Space.ACT, view.bytes))
                self.load(tile, view, self.place.external(job.x, part, channels))
                mine = Held(view, part)
            self.product(tile, area, block, (taps, depth), mine, sums, accumulate=i > 0, loaded=x is None)
            self.drop(held)
        self.post(tile, block[0], sums, y.part(area, block), _part(residual, area, block))
        self.place.rings[Space.ACC].release(sums.address)
        yield tile

    def passes(self, area: Area, count: int) -> Iterator[Area]:
        """Rows of the rectangle that are computed at once: their sums take at most half of the accumulators."""
        if self.kind == "vector":
            yield area
            return
        rows = lines_at_once(self.machine, area.columns, count)
        if not rows:
            needed, there = 4 * area.columns * count, self.machine.memories.acc
            raise NoRoomError(f"{needed} bytes of sums in acc, which has {there}", Space.ACC, needed, there)
        number = -(-area.rows // rows)
        for first, lines in pieces(area.rows, -(-area.rows // number)):
            yield area.between(area.row + first, area.row + first + lines)

    def sums(self, area: Area, count: int) -> View:
        """A chunk of accumulators."""
        sizes = (1, area.rows, area.columns, count)
        return View.of(Space.ACC, Element.I32, self.place.rings[Space.ACC].take(4 * prod(sizes)), sizes)

    def window(self, pads: tuple[int, int], zero: int, rows: int) -> Window:
        """rows: of the window that take part."""
        job = self.job
        if max(pads) > WIDEST:
            raise NoRoomError("more padding than an instruction can hold")
        return Window(
            kernel_h=rows, kernel_w=job.window[1], stride_h=job.strides[0], stride_w=job.strides[1],
            dilation_h=job.dilations[0], dilation_w=job.dilations[1], pad_top=pads[0], pad_left=pads[1],
            input_zero=zero, shape=self.cut.shape if self.kind == "conv" else 0,
        )  # fmt: skip

    def product(
        self, tile: Tile, area: Area, block: Part, part: tuple[Part, Part], x: Held, sums: View,
        accumulate: bool = False, loaded: bool = False,
    ) -> None:  # fmt: skip
        """MM: the part of the window's rows and of the input channels. loaded: x has those channels alone."""
        job, (taps, depth) = self.job, part
        assert isinstance(job, Product)
        needed, pads = source(job, area, taps)
        channels = block if self.kind == "depthwise" else depth
        src = x.part(needed, None if loaded else channels)
        window = self.window(pads, job.input_zero, taps[1])
        address, pixels = self.weights[block, taps, depth], area.rows * area.columns
        if self.kind == "depthwise":
            weights = View.of(Space.WGT, Element.I8, address, (1, *window_size(window), block[1]))
            shape = self.machine.array.depthwise
            steps = ceil(prod(window_size(window)) / shape.c)
        else:
            weights = View.of(Space.WGT, Element.I8, address, (block[1], *window_size(window), depth[1]))
            shape = self.machine.array.shapes[self.cut.shape]
            seamless = job.dilations[1] == 1 and src.strides[2:] == (depth[1], 1)
            steps = conv_steps(shape, window_size(window), depth[1], seamless)
        if self.uniform:
            weights = replace(weights, strides=(0,) * 4)
        cycles = product_cycles(self.machine, shape, block[1], pixels, steps, 0).cycles
        make = Depthwise if self.kind == "depthwise" else Conv
        views = {"dst": sums, "src": src, "weights": weights}
        fields = {"accumulate": 1} if accumulate else {}
        tile.body.append(Step(make, views, cycles, self.tag, fields=fields, window=window))

    def post(self, tile: Tile, first: int, src: View, dst: View, residual: View | None) -> None:
        """PP: rescale, residual and table, as far as the job has them."""
        job = self.job
        assert isinstance(job, Product)
        finish, stages = job.finish, Stages.NONE
        views = {"dst": dst, "src": src}
        settings: list[PostScale | PostAdd | PostClamp] = []
        extra: tuple[tuple[Space, int, int], ...] = ()
        if first in self.params:
            stages |= Stages.SCALE
            address, count = self.params[first], self.described(src.sizes[3])
            settings.append(PostScale(params=address, channels=count, zero=finish.zero, lo=finish.lo, hi=finish.hi))
            extra = ((Space.TAB, address, address + CHANNEL * count),)
        if finish.sum is not None and residual is not None:
            stages |= Stages.ADD
            views["residual"] = residual
            s = finish.sum
            settings += [
                PostAdd(a_multiplier=s.own, b_multiplier=s.other, bias=s.bias, shift=s.shift),
                PostClamp(lo=s.lo, hi=s.hi),
            ]
        if self.table is not None:
            stages |= Stages.TABLE
            views["table"] = View.of(Space.TAB, Element.I8, self.table, (256,))
        cycles = vector_cycles(self.machine, dst.size).cycles
        fields = {"stages": stages}
        tile.body.append(Step(Post, views, cycles, self.tag, fields=fields, post=tuple(settings), extra=extra))

    def pool(self, tile: Tile, area: Area, x: Held, y: Held) -> None:
        """POOL over all channels of the rectangle."""
        needed, pads = source(self.job, area)
        dst, window = y.part(area), self.window(pads, 0, self.job.window[0])
        cycles = vector_cycles(self.machine, dst.size * prod(self.job.window)).cycles
        views = {"dst": dst, "src": x.part(needed)}
        tile.body.append(Step(Pool, views, cycles, self.tag, fields={"function": Fold.MAX}, window=window))

    def softmax(self, tile: Tile, area: Area, held: Held, result: Held) -> None:
        """As docs/npu-isa.md writes it: max, distances, exponentials, their sum, its reciprocal, products."""
        x, y = held.part(area), result.part(area)
        rows, channels = x.sizes[1], x.sizes[3]
        assert self.table is not None
        scratch = self.place.rings[Space.ACT].take(aligned(rows) + x.size)
        greatest = View.of(Space.ACT, Element.I8, scratch, (1, rows, 1, 1))
        distance = View.of(Space.ACT, Element.U8, scratch + aligned(rows), x.sizes)
        table = View.of(Space.TAB, Element.I32, self.table, (256,))
        words = self.place.rings[Space.ACC].take(4 * rows * (channels + 2))
        e = View.of(Space.ACC, Element.I32, words, x.sizes)
        total = View.of(Space.ACC, Element.I32, words + e.bytes, (1, rows, 1, 1))
        inverse = replace(total, address=total.address + total.bytes)

        def along(view: View) -> View:
            return replace(view, sizes=x.sizes, strides=(*view.strides[:3], 0))

        def put(make: type[Instruction], function: Ew | Fold, elements: int, each: int = 1, **more: Any) -> None:
            views = {name: v for name, v in more.items() if isinstance(v, View)}
            fields = {name: v for name, v in more.items() if not isinstance(v, View)}
            cycles = vector_cycles(self.machine, elements, each).cycles
            tile.body.append(Step(make, views, cycles, self.tag, fields=fields | {"function": function}))

        put(Reduce, Fold.MAX, x.size, dst=greatest, src=x)
        put(Elementwise, Ew.SUB, x.size, dst=distance, a=along(greatest), b=x)
        put(Elementwise, Ew.LOOKUP, x.size, dst=e, a=distance, b=table)
        put(Reduce, Fold.SUM, x.size, dst=total, src=e)
        put(Elementwise, Ew.RECIP, rows, self.machine.post.divide, dst=inverse, a=total)
        put(Elementwise, Ew.SCALE, x.size, dst=y, a=e, b=along(inverse), shift=9, zero=-128, lo=-128, hi=127)
        self.place.rings[Space.ACC].release(words)
        self.place.rings[Space.ACT].release(scratch)


def window_size(window: Window) -> tuple[int, int]:
    """Rows and columns."""
    return window.kernel_h, window.kernel_w


def _part(held: Held | None, area: Area, block: Part) -> View | None:
    return None if held is None else held.part(area, block)
