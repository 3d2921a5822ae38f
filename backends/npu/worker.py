"""One job of a group on local memories: the instructions that compute rectangles of its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, prod
from typing import Any

from .bands import Area, source
from .isa import (
    Conv,
    Depthwise,
    Element,
    Elementwise,
    Ew,
    Fold,
    Instruction,
    Pool,
    Post,
    PostAdd,
    PostClamp,
    PostScale,
    Reduce,
    Space,
    Stages,
    Window,
)
from .jobs import Job, Product, kind
from .loading import CHANNEL, Loader
from .machine import ArrayShape, Machine
from .memory import NoRoomError, aligned
from .places import Cut, Held, Part, pieces
from .program import View
from .schedule import Step, Tile
from .timing import conv_steps, product_cycles, vector_cycles

#: Padding that an instruction can say.
WIDEST = 255


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


class Worker(Loader):
    """What a job computes, put into tiles."""

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
            raise NoRoomError("more padding than an instruction can hold", needed=1 << 62)
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
