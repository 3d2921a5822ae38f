"""From a job and its tiling to instructions on tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any

import numpy as np

from ...ir.graph import Value
from ...ir.types import Array
from .isa import (
    Conv,
    Depthwise,
    Element,
    Elementwise,
    Ew,
    Fold,
    Instruction,
    Load,
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
from .jobs import IDENTITY, Finish, Job, MaxPool, Product, Softmax
from .jobs import View as Image
from .machine import Machine
from .memory import Constants, NoRoomError, Ring, aligned
from .program import View
from .schedule import Step, Tile
from .timing import conv_steps, product_cycles, transfer_cycles, vector_cycles

#: Bytes of one channel's bias, multiplier and shift.
CHANNEL = 9
#: Bytes of the table of a softmax.
EXPONENTIALS = 1024
#: What sizes and strides of views can say.
LARGEST, FARTHEST = (1 << 16) - 1, 1 << 23


@dataclass(frozen=True)
class Tiling:
    """How a job is cut: rows x columns of the result at a time, `block` output channels per instruction.

    channels: depthwise jobs and pools work on so many channels after one another. resident: all weights stay for the
    whole job; else every tile loads them anew. shape: of the array.
    """

    rows: int
    columns: int
    block: int
    channels: int
    resident: bool = True
    shape: int = 0


@dataclass
class Place:
    """Where a program puts things."""

    machine: Machine
    addresses: Mapping[Value, tuple[Space, int]]
    constants: Constants
    rings: dict[Space, Ring] = field(default_factory=dict)
    tag: int = 0

    def __post_init__(self) -> None:
        self.rings = {s: Ring(self.machine.memories[s]) for s in (Space.ACT, Space.WGT, Space.ACC, Space.TAB)}

    def external(self, image: Image, row: int, column: int, rows: int, columns: int) -> View:
        """A rectangle of an image in its external memory."""
        space, address = self.addresses[image.value]
        address += image.offset + row * image.row + column * image.pixel
        sizes = (1, rows, columns, image.channels)
        return View(space, Element.I8, address, sizes, (0, image.row, image.pixel, 1))


def lower(job: Job, tiling: Tiling, place: Place) -> list[Tile]:
    """The tiles of a job. Raises NoRoomError where the tiling does not fit the local memories."""
    tiles: list[Tile] = []
    if isinstance(job, Softmax) or not job.depthwise or tiling.channels >= job.y.channels:
        return _Lowering(job, tiling, place).tiles()
    for first in range(0, job.y.channels, tiling.channels):
        count = min(tiling.channels, job.y.channels - first)
        part = replace(job, x=job.x.sliced(first, count), y=job.y.sliced(first, count))
        if isinstance(part, Product):
            some = slice(first, first + count)
            assert isinstance(job, Product)
            part = replace(part, weights=job.weights[some], bias=job.bias[some], finish=job.finish.sliced(first, count))
        tiles += _Lowering(part, tiling, place).tiles()
    return tiles


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


def parameters(bias: Array, finish: Finish) -> bytes:
    """The block of channel parameters: biases, multipliers, shifts."""
    parts = (bias.astype("<i4"), finish.multiplier.astype("<i4"), finish.shift.astype("i1"))
    return b"".join(p.tobytes() for p in parts)


@dataclass(frozen=True)
class _Area:
    """A rectangle of the result, and what of x it needs. pads: rows above and columns left that lie outside of x."""

    row: int
    column: int
    rows: int
    columns: int
    x_row: int
    x_column: int
    x_rows: int
    x_columns: int
    pads: tuple[int, int]


class _Lowering:
    """One job (or a slice of its channels) on its way to tiles."""

    def __init__(self, job: Job, tiling: Tiling, place: Place) -> None:
        self.job = job
        self.tiling = tiling
        self.place = place
        self.machine = place.machine
        self.kind = kind(job)
        self.outputs = job.y.channels
        self.block = min(tiling.block, self.outputs)
        self.blocks = [(k, min(self.block, self.outputs - k)) for k in range(0, self.outputs, self.block)]
        self.weights: dict[int, int] = {}
        self.params: dict[int, int] = {}
        self.table: int | None = None
        self.scratch = 0

    # ---- the rectangles of the result

    def areas(self) -> Iterator[_Area]:
        y = self.job.y
        for row in range(0, y.height, self.tiling.rows):
            for column in range(0, y.width, self.tiling.columns):
                rows, columns = min(self.tiling.rows, y.height - row), min(self.tiling.columns, y.width - column)
                (x_row, x_rows, top), (x_column, x_columns, left) = (
                    self.needed(0, row, rows),
                    self.needed(1, column, columns),
                )
                yield _Area(row, column, rows, columns, x_row, x_column, x_rows, x_columns, (top, left))

    def needed(self, axis: int, first: int, count: int) -> tuple[int, int, int]:
        """Where x starts, how much of it, and how much padding comes before, for `count` results from `first` on.

        At least one element, even where all that is needed is padding.
        """
        job, size = self.job, (self.job.x.height, self.job.x.width)[axis]
        start = first * job.strides[axis] - job.pads[axis]
        stop = start + (count - 1) * job.strides[axis] + (job.window[axis] - 1) * job.dilations[axis] + 1
        begin = min(max(start, 0), size - 1)
        return begin, max(1, min(stop, size) - begin), begin - start

    # ---- tiles

    def tiles(self) -> list[Tile]:
        tiles: list[Tile] = []
        streamed = self.kind == "conv" and not self.tiling.resident
        for area in self.areas():
            tile = Tile()
            if not streamed:
                self.load_constants(tile, self.blocks if not tiles else ())
            x, residual, y = self.take_activations(area)
            if streamed:
                self.load_constants(tile, self.blocks[:1])
            self.load(tile, x, self.place.external(self.job.x, area.x_row, area.x_column, area.x_rows, area.x_columns))
            if residual is not None:
                assert self.job.residual is not None
                source = self.place.external(self.job.residual, area.row, area.column, area.rows, area.columns)
                self.load(tile, residual, source)
            for i, (first, count) in enumerate(self.blocks):
                if streamed and i:
                    tiles.append(tile)
                    tile = Tile()
                    self.load_constants(tile, [(first, count)])
                for row, rows in self.passes(area, count):
                    self.compute(tile, area, (first, count), (row, rows), (x, residual, y))
            target = self.place.external(self.job.y, area.row, area.column, area.rows, area.columns)
            source = y if self.kind != "copy" else x
            tile.body.append(self.transfer(Store, target, source, target))
            tiles.append(tile)
        return tiles

    def take_activations(self, area: _Area) -> tuple[View, View | None, View]:
        """Local places of the tile's part of x, of the residual and of the result: one chunk."""
        inputs = (1, area.x_rows, area.x_columns, self.job.x.channels)
        results = (1, area.rows, area.columns, self.outputs)
        sizes = [aligned(_count(inputs)), aligned(_count(results)) if self.job.residual else 0]
        total = sum(sizes) + (_count(results) if self.kind != "copy" else 0)
        # Of softmax: the largest of each row, and the distances from it.
        wanted = aligned(area.rows) + _count(results) if self.kind == "softmax" else 0
        address = self.place.rings[Space.ACT].take(aligned(total) + wanted)
        self.scratch = address + aligned(total)
        x = View.of(Space.ACT, Element.I8, address, inputs)
        residual = View.of(Space.ACT, Element.I8, address + sizes[0], results) if self.job.residual else None
        return x, residual, View.of(Space.ACT, Element.I8, address + sum(sizes), results)

    def load(self, tile: Tile, dst: View, src: View) -> None:
        tile.loads.append(self.transfer(Load, dst, src, src))

    def transfer(self, make: type[Instruction], dst: View, src: View, external: View) -> Step:
        if max(*dst.sizes, *src.sizes) > LARGEST or max(*dst.strides, *src.strides) >= FARTHEST:
            raise NoRoomError("a size or stride that no instruction can hold")
        work = transfer_cycles(self.machine, external.space, *external.rows)
        return Step(make, {"dst": dst, "src": src}, work.cycles, self.place.tag, work.latency)

    def load_bytes(self, tile: Tile, space: Space, address: int, nbytes: int, constant: int) -> None:
        self.load(
            tile,
            View.of(space, Element.I8, address, (nbytes,)),
            View.of(Space.CONST, Element.I8, constant, (nbytes,)),
        )

    def load_constants(self, tile: Tile, blocks: list[tuple[int, int]] | tuple[()]) -> None:
        """Weights, channel parameters and the table for some blocks of output channels; chunks that stay together."""
        job = self.job
        if blocks and isinstance(job, Softmax):
            self.table = self.place.rings[Space.TAB].take(EXPONENTIALS)
            constant = self.place.constants.place(EXPONENTIALS, job.table.astype("<i4").tobytes)
            self.load_bytes(tile, Space.TAB, self.table, EXPONENTIALS, constant)
        if not blocks or not isinstance(job, Product):
            return
        per_output = job.weights[0].size
        if self.kind in ("conv", "depthwise"):
            base = self.place.rings[Space.WGT].take(sum(aligned(n * per_output) for _, n in blocks))
            for first, count in blocks:
                self.weights[first] = base
                base += aligned(count * per_output)
        scaled = self.kind not in ("copy",) and (self.kind != "vector" or needs_scale(job))
        wanted = sum(aligned(CHANNEL * n) for _, n in blocks) * scaled + (256 if job.finish.table is not None else 0)
        base = self.place.rings[Space.TAB].take(wanted) if wanted else 0
        if job.finish.table is not None:
            table = job.finish.table.astype(np.int8)
            self.table, base = base, base + 256
            self.load_bytes(tile, Space.TAB, self.table, 256, self.place.constants.place(256, table.tobytes))
        for first, count in blocks:
            part = slice(first, first + count)
            if first in self.weights:
                # [K, kh, kw, C] as it is; depthwise [1, kh, kw, C]: the channels of a tap side by side.
                order = (3, 1, 2, 0) if self.kind == "depthwise" else (0, 1, 2, 3)

                def pack(part: slice = part, order: tuple[int, int, int, int] = order) -> bytes:
                    return np.ascontiguousarray(job.weights[part].transpose(order)).astype(np.int8).tobytes()

                constant = self.place.constants.place(count * per_output, pack)
                self.load_bytes(tile, Space.WGT, self.weights[first], count * per_output, constant)
            if scaled:
                bias = job.bias if self.kind != "vector" else job.bias - job.input_zero

                def block(part: slice = part, bias: Array = bias) -> bytes:
                    finish = replace(job.finish, multiplier=job.finish.multiplier[part], shift=job.finish.shift[part])
                    return parameters(bias[part], finish)

                self.params[first] = base
                base += aligned(CHANNEL * count)
                constant = self.place.constants.place(CHANNEL * count, block)
                self.load_bytes(tile, Space.TAB, self.params[first], CHANNEL * count, constant)

    def passes(self, area: _Area, count: int) -> Iterator[tuple[int, int]]:
        """Rows of the tile that are computed at once: their sums take at most half of the accumulators."""
        if self.kind in ("copy", "pool", "vector", "softmax"):
            yield 0, area.rows
            return
        line = aligned(4 * area.columns * count)
        there = self.machine.memories[Space.ACC]
        rows = there // 2 // line or there // line
        if not rows:
            raise NoRoomError("a row of sums")
        number = -(-area.rows // rows)
        rows = -(-area.rows // number)
        for row in range(0, area.rows, rows):
            yield row, min(rows, area.rows - row)

    def compute(
        self, tile: Tile, area: _Area, part: tuple[int, int], lines: tuple[int, int],
        places: tuple[View, View | None, View],
    ) -> None:  # fmt: skip
        """One block of channels of some lines of a tile: sums, then what becomes of them."""
        x, residual, y = places
        if self.kind == "copy":
            return
        dst = _cut(y, lines, part)
        if self.kind in ("pool", "softmax"):
            self.pool(tile, area, x, y) if self.kind == "pool" else self.softmax(tile, x, y)
            return
        assert isinstance(self.job, Product)
        src = _cut(x, lines, part) if self.kind == "vector" else self.product(tile, area, part, lines, x)
        self.post(tile, part[0], src, dst, None if residual is None else _cut(residual, lines, part))

    def window(self, pads: tuple[int, int], zero: int) -> Window:
        job = self.job
        return Window(
            kernel_h=job.window[0], kernel_w=job.window[1], stride_h=job.strides[0], stride_w=job.strides[1],
            dilation_h=job.dilations[0], dilation_w=job.dilations[1], pad_top=pads[0], pad_left=pads[1],
            input_zero=zero, shape=self.tiling.shape if self.kind == "conv" else 0,
        )  # fmt: skip

    def pool(self, tile: Tile, area: _Area, x: View, y: View) -> None:
        cycles = vector_cycles(self.machine, y.size * _count(self.job.window)).cycles
        window = self.window(area.pads, 0)
        tile.body.append(
            Step(Pool, {"dst": y, "src": x}, cycles, self.place.tag, fields={"function": Fold.MAX}, window=window)
        )

    def softmax(self, tile: Tile, x: View, y: View) -> None:
        """As docs/npu-isa.md writes it: max, distances, exponentials, their sum, its reciprocal, products."""
        rows, channels = x.sizes[1], x.sizes[3]
        assert self.table is not None
        greatest = View.of(Space.ACT, Element.I8, self.scratch, (1, rows, 1, 1))
        distance = View.of(Space.ACT, Element.U8, self.scratch + aligned(rows), x.sizes)
        table = View.of(Space.TAB, Element.I32, self.table, (256,))
        sums = self.place.rings[Space.ACC].take(4 * rows * (channels + 2))
        e = View.of(Space.ACC, Element.I32, sums, x.sizes)
        total = View.of(Space.ACC, Element.I32, sums + e.bytes, (1, rows, 1, 1))
        inverse = replace(total, address=total.address + total.bytes)

        def along(view: View) -> View:
            return replace(view, sizes=x.sizes, strides=(*view.strides[:3], 0))

        def put(make: type[Instruction], function: Ew | Fold, elements: int, each: int = 1, **more: Any) -> None:
            views = {name: v for name, v in more.items() if isinstance(v, View)}
            fields = {name: v for name, v in more.items() if not isinstance(v, View)}
            cycles = vector_cycles(self.machine, elements, each).cycles
            tile.body.append(Step(make, views, cycles, self.place.tag, fields=fields | {"function": function}))

        put(Reduce, Fold.MAX, x.size, dst=greatest, src=x)
        put(Elementwise, Ew.SUB, x.size, dst=distance, a=along(greatest), b=x)
        put(Elementwise, Ew.LOOKUP, x.size, dst=e, a=distance, b=table)
        put(Reduce, Fold.SUM, x.size, dst=total, src=e)
        put(Elementwise, Ew.RECIP, rows, self.machine.post.divide, dst=inverse, a=total)
        put(Elementwise, Ew.SCALE, x.size, dst=y, a=e, b=along(inverse), shift=9, zero=-128, lo=-128, hi=127)

    def product(self, tile: Tile, area: _Area, part: tuple[int, int], lines: tuple[int, int], x: View) -> View:
        """MM; returns where the sums are."""
        job = self.job
        assert isinstance(job, Product)
        (first, count), (row, rows) = part, lines
        sizes = (1, rows, area.columns, count)
        address = self.place.rings[Space.ACC].take(4 * _count(sizes))
        sums = View.of(Space.ACC, Element.I32, address, sizes)
        # The lines of x that these lines of the result need, and the padding above them.
        start = row * job.strides[0] - area.pads[0]
        begin = min(max(start, 0), x.sizes[1] - 1)
        stop = start + (rows - 1) * job.strides[0] + (job.window[0] - 1) * job.dilations[0] + 1
        src = _cut(x, (begin, max(1, min(stop, x.sizes[1]) - begin)), part if self.kind == "depthwise" else None)
        window = self.window((begin - start, area.pads[1]), job.input_zero)
        shape, channels = self.machine.array.depthwise, job.x.channels
        if self.kind == "depthwise":
            weights = View.of(Space.WGT, Element.I8, self.weights[first], (1, *job.window, count))
            steps = ceil(prod(job.window) / shape.c)
        else:
            weights = View.of(Space.WGT, Element.I8, self.weights[first], (count, *job.window, channels))
            shape = self.machine.array.shapes[self.tiling.shape]
            steps = conv_steps(shape, job.window, channels, job.dilations[1] == 1)
        cycles = product_cycles(self.machine, shape, count, rows * area.columns, steps, 0).cycles
        make = Depthwise if self.kind == "depthwise" else Conv
        views = {"dst": sums, "src": src, "weights": weights}
        tile.body.append(Step(make, views, cycles, self.place.tag, window=window))
        return sums

    def post(self, tile: Tile, first: int, src: View, dst: View, residual: View | None) -> None:
        job = self.job
        assert isinstance(job, Product)
        finish, stages = job.finish, Stages.NONE
        views = {"dst": dst, "src": src}
        settings: list[PostScale | PostAdd | PostClamp] = []
        extra: tuple[tuple[Space, int, int], ...] = ()
        if first in self.params:
            stages |= Stages.SCALE
            address, count = self.params[first], src.sizes[3]
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
        tile.body.append(Step(Post, views, cycles, self.place.tag, fields=fields, post=tuple(settings), extra=extra))


def _count(sizes: tuple[int, ...]) -> int:
    return prod(sizes)


def _cut(view: View, lines: tuple[int, int], part: tuple[int, int] | None) -> View:
    """Some lines of a local image, and some of its channels."""
    first, count = part if part is not None else (0, view.sizes[3])
    address = view.address + lines[0] * view.strides[1] + first * view.strides[3]
    return replace(view, address=address, sizes=(1, lines[1], view.sizes[2], count))
