"""Transfers of a job, and its constants in local memory: weights, channel parameters, tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.types import Array
from .isa import Element, Instruction, Load, Move, Space, Store
from .jobs import Finish, Job, Product, Softmax, kind, needs_scale
from .memory import NoRoomError, Ring, aligned
from .places import Cut, Part, Place, pieces
from .program import View
from .schedule import Step, Tile
from .timing import move_cycles, transfer_cycles

#: Bytes of one channel's bias, multiplier and shift.
CHANNEL = 9
#: Bytes of the table of a softmax.
EXPONENTIALS = 1024
#: What sizes and strides of views can say.
LARGEST, FARTHEST = (1 << 16) - 1, 1 << 23


def parameters(bias: Array, finish: Finish) -> bytes:
    """The block of channel parameters: biases, multipliers, shifts."""
    parts = (bias.astype("<i4"), finish.multiplier.astype("<i4"), finish.shift.astype("i1"))
    return b"".join(p.tobytes() for p in parts)


def uniform_weights(job: Job) -> bool:
    """Whether all weights are one number, as those of an average are."""
    return kind(job) == "depthwise" and isinstance(job, Product) and bool(np.all(job.weights == job.weights.flat[0]))


def uniform_channels(job: Job) -> bool:
    """Whether every channel has the same parameters."""
    if not isinstance(job, Product):
        return False
    return all(bool(np.all(a == a[:1])) for a in (job.bias, job.finish.multiplier, job.finish.shift))


def constant_bytes(job: Job) -> tuple[int, int]:
    """What a job needs of weights, and of channel parameters and tables."""
    if not isinstance(job, Product):
        return 0, EXPONENTIALS if isinstance(job, Softmax) else 0
    if kind(job) == "copy":
        return 0, 0
    weights = job.weights.size if kind(job) in ("conv", "depthwise") else 0
    parameters = CHANNEL * (1 if uniform_channels(job) else job.y.channels)
    table = 0 if job.finish.table is None else job.finish.table.size
    return 1 if uniform_weights(job) else weights, parameters + table


class Loader:
    """One job (or a slice of its channels): what it moves, and where its constants are."""

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
            raise NoRoomError("a size or stride that no instruction can hold", needed=1 << 62)
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
