"""Int8 convolutions and dense layers for cores with the DSP extension (docs/kernels.md, "Products with SMLAD")."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ....ir.ops.conv import Conv2d
from ....ir.ops.dense import Dense
from ....ir.types import I8, I16, NHWC, Array
from ....runtime.target import Unsupported
from ...c.code import Code
from ...group import Group
from ...kernel import Kernel
from . import assembly
from .image import Image, sliding
from .requantize import Requantize, accumulator_bounds, around, requantize
from .templates import render
from .tile import ACCUMULATORS, LIMIT, SCALE_BITS, Tile, groups_of, halfwords, stream

EXPAND = """\
/* Bytes y0..y3 as two words of two halfwords: y0 - 127, y2 - 127; 256 * y1 - (y0 - 127), 256 * y3 - (y2 - 127). */
static inline void @expand_word(uint32_t *low, uint32_t *high, const int8_t *from)
{
    uint32_t y;
    memcpy(&y, from, 4);
    *low = (uint32_t)__ssub16(__sxtb16((int32_t)y), 0x007f007f);
    *high = y ^ UINT32_C(0x007f007f);
}
"""

EXPAND_LANE = """\
static inline void @expand(uint32_t *to, const int8_t *from, int32_t words)
{
    for (int32_t i = 0; i < words; ++i) {
        @expand_word(to + 8 * i, to + 8 * i + 4, from + 4 * i);
    }
}
"""

EXPAND_PIXELS = """\
/* Four pixels of `bytes` bytes. */
static inline void @expand_pixels(uint32_t *to, const int8_t *from, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i += 4) {
        for (int32_t lane = 0; lane < 4; ++lane) {
            @expand_word(to + 2 * i + lane, to + 2 * i + lane + 4, from + lane * bytes + i);
        }
    }
}
"""

EXPAND_VECTOR = """\
static inline void @expand_vector(uint32_t *to, const int8_t *from, int32_t words)
{
    for (int32_t i = 0; i < words; ++i) {
        @expand_word(to + 2 * i, to + 2 * i + 1, from + 4 * i);
    }
}
"""

FILL = """\
static inline void @fill(uint32_t *to, uint32_t low, uint32_t high, int32_t words)
{
    for (int32_t i = 0; i < words; ++i) {
        to[8 * i] = low;
        to[8 * i + 4] = high;
    }
}
"""


class Smlad(Kernel, adds=("tiles",)):
    """Base: rows of weights [O, K] times columns of expanded inputs, in tiles (tile.py)."""

    @abstractmethod
    def shape_problem(self, group: Group) -> Unsupported | None:
        """Why this kind of anchor is not taken; asked first."""

    def accepts(self, group: Group) -> Unsupported | None:
        x, w, b = group.anchor.operands
        if x.type.dtype != I8 or w.type.dtype != I8:
            helps = "quantize the weights symmetrically" if w.type.dtype == I16 else ""
            return Unsupported(f"operands are {x.type.dtype} and {w.type.dtype}, not i8", helps)
        if group.parameter(x) is None or group.constant(w) is None or group.constant(b) is None:
            return Unsupported("the input is, or weights or bias are not, constant")
        problem = self.shape_problem(group)
        if problem is not None:
            return problem
        found = requantize(group)
        if isinstance(found, Unsupported):
            return found
        if found.shift.max() > SCALE_BITS:
            return Unsupported(f"accumulators are multiplied by more than 2^{SCALE_BITS}")
        if halfwords(rows_of(group), 4 * groups_of(rows_of(group).shape[1])[0]) is None:
            return Unsupported("a weight of -128 stands beside a negative one", "quantize weights to [-127, 127]")
        lo, hi = accumulator_bounds(group, found)
        if lo.min() < -LIMIT or hi.max() >= LIMIT:
            return Unsupported(f"sums may leave [-2^{31 - SCALE_BITS}, 2^{31 - SCALE_BITS})")
        if 4 * len(rows_of(group)) >= 4096:
            return Unsupported("there are more than 1,023 output channels")
        return None

    def tiles(self, group: Group, code: Code) -> Mapping[int, str]:
        """C for a tile of so many pixels, with the results at out + at; the weights become a table."""
        found = requantize(group)
        assert isinstance(found, Requantize)
        b = group.anchor.operands[2]
        w = rows_of(group)
        bias = group.array(b).astype(np.int64) - found.input_zero - group.op.input_zero * w.astype(np.int64).sum(1)
        pixels = pixels_of(group)
        lanes = self._lanes(group)
        block = len(ACCUMULATORS) if lanes == 1 else 2
        done, parts = 0, []
        words: list[int] = []
        while done < len(w):
            channels = min(block, len(w) - done)
            blocks = (len(w) - done) // channels
            rows = slice(done, done + blocks * channels)
            own = replace(found, multiplier=found.multiplier[rows], shift=found.shift[rows])
            parts.append((done, len(words), blocks, channels, own))
            words += stream(w[rows], bias[rows], own, channels)
            done += blocks * channels
        table = code.table("weights", np.array(words, np.int64).astype(np.int32))
        residual = group.parameter(found.residual.value) if found.residual is not None else None
        result = {}
        for count in {min(pixels, 4), pixels % 4} - {0}:
            result[count] = "".join(
                Tile(
                    blocks,
                    channels,
                    count,
                    lanes,
                    w.shape[1],
                    len(w),
                    own,
                    rare=_is_rare(count, pixels, blocks, len(parts)),
                ).statement(
                    _offset(table, start),
                    "columns",
                    f"out + at{_plus(first)}",
                    f"{residual} + at{_plus(first)}" if residual else "",
                )
                for first, start, blocks, channels, own in parts
            )
        return result

    @abstractmethod
    def products(self, group: Group, code: Code) -> str:
        """Statements that make all int8 results, at `out`."""

    def emit(self, group: Group, code: Code) -> str:
        assembly.require_dsp(code)
        code.header("string.h")
        code.helper("expand_word", EXPAND)
        found = requantize(group)
        assert isinstance(found, Requantize)
        return around(group, code, found, self.products(group, code))

    def _lanes(self, group: Group) -> int:
        """Pixels that the scratch is laid out for."""
        return 1 if pixels_of(group) == 1 and _as_rows(group) else 4

    def scratch(self, group: Group) -> int:
        return 8 * self._lanes(group) * groups_of(rows_of(group).shape[1])[0]

    def in_place(self, group: Group) -> tuple[int, ...]:
        found = requantize(group)
        assert isinstance(found, Requantize)
        if found.rest:
            return ()
        image = group.top(group.anchor.operands[0])
        legal = [image] if self._reads_before_writing(group) else []
        if found.residual is not None:
            other = group.top(found.residual.value)
            legal += [other] if other is not image else []
        return tuple(i for i, v in enumerate(group.parameters) if v in legal)

    def _reads_before_writing(self, group: Group) -> bool:
        """Whether no input is needed once a result at its place or before it is written."""
        return pixels_of(group) == 1 or rows_of(group).shape[0] <= rows_of(group).shape[1]


class SmladDense(Smlad):
    """8 output channels x 1 row; for several rows 2 output channels x 4 rows."""

    name = "dense_smlad"
    ops = (Dense,)

    def shape_problem(self, group: Group) -> Unsupported | None:
        if not _as_rows(group):
            return Unsupported(f"{rows_of(group).shape[1]} inputs per row are not a multiple of 4")
        return None

    def products(self, group: Group, code: Code) -> str:
        return _emit_rows(self, group, code)


class SmladConv2d(Smlad):
    """2 output channels x 4 pixels; the windows of four pixels are expanded to scratch."""

    name = "conv2d_smlad"
    ops = (Conv2d,)

    def shape_problem(self, group: Group) -> Unsupported | None:
        if group.op.layout is not NHWC:
            return Unsupported("the image is not NHWC")
        if group.op.groups != 1:
            return Unsupported(f"the convolution has {group.op.groups} groups")
        return None

    def scratch(self, group: Group) -> int:
        patch = 0 if _direct(group) or _as_rows(group) else -(-rows_of(group).shape[1] // 8) * 8
        return super().scratch(group) + patch

    def _reads_before_writing(self, group: Group) -> bool:
        return _is_pointwise(group) and super()._reads_before_writing(group)

    def products(self, group: Group, code: Code) -> str:
        if _as_rows(group):
            return _emit_rows(self, group, code)
        x, w, _ = group.anchor.operands
        code.helper("expand", EXPAND_LANE)
        image, result = (Image.of(group.shape(v), NHWC) for v in (x, group.result))
        _, height, width, _ = group.shape(w)
        rows, columns = sliding(group.op, image, result, (height, width))
        direct = _direct(group)
        if direct and (rows.padded or columns.padded):
            code.helper("fill", FILL)
        zero = group.op.input_zero
        low, high = (zero - 127) & 0xFFFF, (256 * zero - (zero - 127)) & 0xFFFF
        return render(
            "smlad_image.c.j2",
            x=group.parameter(x), rows=rows, columns=columns, images=image.n, channels=image.c, outputs=result.c,
            direct=direct, zero=zero, zero_low=f"UINT32_C({low | low << 16:#x})",
            zero_high=f"UINT32_C({high | high << 16:#x})",
            depth=rows_of(group).shape[1], pixels=pixels_of(group), tiles=self.tiles(group, code),
            column_bytes=super().scratch(group),
        )  # fmt: skip


def _emit_rows(kernel: Smlad, group: Group, code: Code) -> str:
    pixels = pixels_of(group)
    for needed, name, text in (
        (pixels == 1, "expand_vector", EXPAND_VECTOR),
        (pixels >= 4, "expand_pixels", EXPAND_PIXELS),
        (pixels > 1 and pixels % 4, "expand", EXPAND_LANE),
    ):
        if needed:
            code.helper(name, text)
    outputs, depth = rows_of(group).shape
    return render(
        "smlad_vector.c.j2" if pixels == 1 else "smlad_pixels.c.j2",
        x=group.parameter(group.anchor.operands[0]), depth=depth, outputs=outputs, pixels=pixels,
        tiles=kernel.tiles(group, code),
    )  # fmt: skip


def _as_rows(group: Group) -> bool:
    """Whether the inputs of a pixel are one after another in memory, and pixels begin with whole words."""
    flat = isinstance(group.op, Dense) or _is_pointwise(group)
    return flat and (pixels_of(group) == 1 or rows_of(group).shape[1] % 4 == 0)


def _is_pointwise(group: Group) -> bool:
    op, window = group.op, group.shape(group.anchor.operands[1])[1:3]
    return window == (1, 1) and op.strides == (1, 1) and not any(op.pads)


def _direct(group: Group) -> bool:
    return group.shape(group.anchor.operands[0])[3] % 4 == 0


def rows_of(group: Group) -> Array:
    """The weights as [O, K]; K in the order of the window's bytes."""
    w = group.array(group.anchor.operands[1])
    return w.reshape(len(w), -1)


def pixels_of(group: Group) -> int:
    """Columns that the weights are multiplied by."""
    return math.prod(group.shape(group.anchor.result)[:-1])


def _is_rare(count: int, pixels: int, blocks: int, parts: int) -> bool:
    """Whether a tile of `count` pixels is the rest of many, or a single block beside others."""
    return (count < 4 <= pixels) or (blocks == 1 and parts > 1)


def _plus(number: int) -> str:
    return f" + {number}" if number else ""


def _offset(table: str, words: int) -> str:
    return f"{table}{_plus(words)}"
