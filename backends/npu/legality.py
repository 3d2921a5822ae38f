"""What every single instruction must fulfil: memories, dtypes, sizes, alignment, bounds (docs/npu-isa.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

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
from .program import Command, Program, View, halted

LOCAL = (Space.ACT, Space.WGT, Space.ACC, Space.TAB)
#: Elements of a view, and of all windows of an image: what an executor must be able to hold.
MOST_ELEMENTS = 1 << 24
NARROW = (Element.I8, Element.U8, Element.I16)


def space_bytes(program: Program, machine: Machine, space: Space) -> int:
    """Bytes of a memory that a program may touch."""
    if space.is_local:
        return machine.size(space)
    return len(program.constants) if space is Space.CONST else program.arena_bytes


def program_faults(program: Program, machine: Machine) -> Iterator[str]:
    """What is wrong with the program as a whole."""
    if not halted(program):
        yield "the program does not end with its only halt"
    needed = {Space.ARENA: program.arena_bytes, Space.CONST: len(program.constants)}
    regions = {machine.region_name(space): 0 for space in needed}
    for space, size in needed.items():
        regions[machine.region_name(space)] += size
    for name, size in regions.items():
        if size > machine.external[name].bytes:
            yield f"{size} bytes do not fit into {name}, which has {machine.external[name].bytes}"


def command_faults(command: Command, program: Program, machine: Machine) -> list[str]:
    """What is wrong with one command, by itself."""
    found = [
        f"{name}: {fault}" for name, view in command.views.items() for fault in _view_faults(view, program, machine)
    ]
    if command.window is not None:
        found += _window_faults(command.window, machine)
    if found:
        return found
    found = list(_form_faults(command, machine))
    dst = command.writes
    if dst is not None and not found:
        if _overlaps_itself(dst):
            found.append("dst: two elements share a place")
        found += _hazards(command, dst)
    return found


def _view_faults(view: View, program: Program, machine: Machine) -> Iterator[str]:
    width, size = view.dtype.bytes, space_bytes(program, machine, view.space)
    where = view.space.name.lower()
    if min(view.sizes) < 1:
        yield f"sizes {list(view.sizes)} are not all at least 1"
        return
    if view.size > MOST_ELEMENTS:
        yield f"{view.size} elements are more than {MOST_ELEMENTS}"
        return
    if view.address % width or any(s % width for n, s in zip(view.sizes, view.strides, strict=True) if n > 1):
        yield f"address {view.address} or strides {list(view.strides)} are not multiples of the element's {width} bytes"
    lo, hi = view.extent
    if lo < 0 or hi > size:
        yield f"bytes {lo}..{hi - 1} are outside of {where}, which has {size}"
    if view.space is Space.ACC and view.dtype is not Element.I32:
        yield f"acc holds i32, not {view.dtype.dtype}"
    if view.dtype is Element.I32 and view.space in (Space.ACT, Space.WGT):
        yield f"i32 does not lie in {where}"


def _window_faults(w: Window, machine: Machine) -> list[str]:
    found = []
    if min(w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.dilation_h, w.dilation_w) < 1:
        found.append("kernel, strides and dilations of the window are at least 1")
    if w.shape >= len(machine.array.shapes):
        found.append(f"the machine has no array shape {w.shape}; it has {len(machine.array.shapes)}")
    return found


def _lies(view: View, name: str, spaces: Sequence[Space], dtypes: Sequence[Element] = tuple(Element)) -> Iterator[str]:
    if view.space not in spaces:
        yield f"{name} lies in {view.space.name.lower()}, not in {' or '.join(s.name.lower() for s in spaces)}"
    if view.dtype not in dtypes:
        yield f"{name} is {view.dtype.dtype}, not {' or '.join(str(d.dtype) for d in dtypes)}"


def _same(a: View, b: View, dtypes: bool = False) -> Iterator[str]:
    if a.sizes != b.sizes:
        yield f"sizes {list(a.sizes)} and {list(b.sizes)} differ"
    if dtypes and a.dtype != b.dtype:
        yield f"dtypes {a.dtype.dtype} and {b.dtype.dtype} differ"


def _form_faults(command: Command, machine: Machine) -> Iterator[str]:
    """Memories, dtypes and sizes that the instruction asks for."""
    i, views = command.instruction, command.views
    match i:
        case Load():
            yield from _lies(views["dst"], "dst", LOCAL)
            yield from _lies(views["src"], "src", (Space.ARENA, Space.CONST))
            yield from _same(views["dst"], views["src"], dtypes=True)
        case Store():
            yield from _lies(views["dst"], "dst", (Space.ARENA,))
            yield from _lies(views["src"], "src", (Space.ACT, Space.ACC))
            yield from _same(views["dst"], views["src"], dtypes=True)
        case Move():
            yield from _lies(views["dst"], "dst", LOCAL)
            yield from _lies(views["src"], "src", LOCAL)
            yield from _same(views["dst"], views["src"], dtypes=True)
        case Fill():
            yield from _lies(views["dst"], "dst", LOCAL)
            dtype = views["dst"].dtype.dtype
            if not dtype.min <= i.value <= dtype.max:
                yield f"{i.value} is no {dtype}"
        case Conv() | Depthwise():
            yield from _product_faults(command, machine)
        case Post():
            yield from _post_faults(command, i, machine)
        case Elementwise():
            yield from _elementwise_faults(command, i)
        case Pool() | Reduce():
            yield from _fold_faults(command, i)


def _product_faults(command: Command, machine: Machine) -> Iterator[str]:
    x, w, y, window = command.views["src"], command.views["weights"], command.views["dst"], command.window
    assert window is not None
    yield from _lies(x, "src", (Space.ACT,), (Element.I8, Element.I16))
    yield from _lies(w, "weights", (Space.WGT,), (Element.I8,))
    yield from _lies(y, "dst", (Space.ACC,))
    if f"a{8 * x.dtype.bytes}w8" not in machine.array.precisions:
        yield f"the machine does not multiply {x.dtype.dtype} by i8"
    if x.sizes[0] != 1 or y.sizes[0] != 1:
        yield "axis 0 of an image has size 1"
    taps, c = (window.kernel_h, window.kernel_w), x.sizes[3]
    yield from _too_wide(y, window, c)
    depthwise = isinstance(command.instruction, Depthwise)
    wanted = (1, *taps, c) if depthwise else (y.sizes[3], *taps, c)
    if w.sizes != wanted:
        yield f"weights have sizes {list(w.sizes)}, not {list(wanted)}"
    if depthwise and y.sizes[3] != c:
        yield f"dst has {y.sizes[3]} channels, src {c}"


def _post_faults(command: Command, i: Post, machine: Machine) -> Iterator[str]:
    dst, src, scale, clamp = command.views["dst"], command.views["src"], command.scale, command.clamp
    yield from _lies(dst, "dst", (Space.ACT, Space.ACC))
    yield from _lies(src, "src", (Space.ACT, Space.ACC))
    yield from _same(dst, src)
    if scale is not None:
        if scale.channels not in (1, src.sizes[3]):
            yield f"parameters for {scale.channels} channels do not fit {src.sizes[3]}"
        if scale.params % 4:
            yield f"the parameters' address {scale.params} is no multiple of 4"
    if scale is not None and (end := 9 * scale.channels + scale.params) > machine.size(Space.TAB):
        yield f"parameter bytes {scale.params}..{end - 1} are outside of tab, which has {machine.size(Space.TAB)}"
    for stage in (scale, clamp):
        if stage is not None and stage.lo > stage.hi:
            yield f"clamp [{stage.lo}, {stage.hi}] is empty"
    if Stages.ADD in i.stages:
        yield from _lies(command.views["residual"], "residual", (Space.ACT,), NARROW)
        yield from _same(command.views["residual"], src)
        if scale is None and src.dtype is Element.I32:
            yield "the add stage takes up to 16 bits, not i32"
    if Stages.TABLE in i.stages:
        table, last = command.views["table"], clamp or scale
        yield from _lies(table, "table", (Space.TAB,), (dst.dtype,))
        if table.size != 256:
            yield f"the table has {table.size} entries, not 256"
        if not (last.lo >= -128 and last.hi <= 127 if last else src.dtype is Element.I8):
            yield "what enters the table is not kept within [-128, 127]"


def _elementwise_faults(command: Command, i: Elementwise) -> Iterator[str]:
    dst, a = command.views["dst"], command.views["a"]
    yield from _lies(dst, "dst", (Space.ACT, Space.ACC))
    yield from _lies(a, "a", (Space.ACT, Space.ACC))
    yield from _same(dst, a)
    if i.function is Ew.RECIP:
        yield from _lies(a, "a", (Space.ACC,))
        yield from _lies(dst, "dst", (Space.ACC,))
        return
    b = command.views["b"]
    if i.function is Ew.LOOKUP:
        yield from _lies(a, "a", (Space.ACT,), (Element.I8, Element.U8))
        yield from _lies(b, "b", (Space.TAB,), (dst.dtype,))
        if b.size != 256:
            yield f"the table has {b.size} entries, not 256"
        return
    yield from _lies(b, "b", (Space.ACC,) if i.function is Ew.SCALE else (Space.ACT, Space.ACC))
    yield from _same(dst, b)
    if i.lo > i.hi:
        yield f"clamp [{i.lo}, {i.hi}] is empty"


def _fold_faults(command: Command, i: Pool | Reduce) -> Iterator[str]:
    dst, src = command.views["dst"], command.views["src"]
    yield from _lies(src, "src", (Space.ACT,) if isinstance(i, Pool) else (Space.ACT, Space.ACC))
    if i.function is Fold.SUM:
        yield from _lies(dst, "dst", (Space.ACC,))
    else:
        yield from _lies(dst, "dst", (Space.ACT, Space.ACC), (src.dtype,))
    if isinstance(i, Reduce):
        if dst.sizes != (*src.sizes[:3], 1):
            yield f"dst has sizes {list(dst.sizes)}, not {[*src.sizes[:3], 1]}"
        return
    w = command.window
    assert w is not None
    if src.sizes[0] != 1 or dst.sizes[0] != 1 or src.sizes[3] != dst.sizes[3]:
        yield f"sizes {list(src.sizes)} and {list(dst.sizes)} are no images of the same channels"
        return
    if wide := list(_too_wide(dst, w, src.sizes[3])):
        yield wide[0]
        return
    rows = _taps(dst.sizes[1], src.sizes[1], w.kernel_h, w.stride_h, w.dilation_h, w.pad_top)
    columns = _taps(dst.sizes[2], src.sizes[2], w.kernel_w, w.stride_w, w.dilation_w, w.pad_left)
    if i.function is not Fold.SUM and not (rows.any(1).all() and columns.any(1).all()):
        yield "a window does not meet the image, so it has no maximum"


def _too_wide(dst: View, w: Window, channels: int) -> Iterator[str]:
    elements = dst.sizes[1] * dst.sizes[2] * w.kernel_h * w.kernel_w * channels
    reach = (dst.sizes[1] * w.stride_h + w.kernel_h * w.dilation_h) * (
        dst.sizes[2] * w.stride_w + w.kernel_w * w.dilation_w
    )
    if max(elements, reach * channels) > MOST_ELEMENTS:
        yield f"the windows of the image have more than {MOST_ELEMENTS} elements"


def _taps(outputs: int, inputs: int, kernel: int, stride: int, dilation: int, pad: int) -> np.ndarray:
    """[outputs, kernel]: whether a tap of a window is inside of the image, along one axis."""
    at = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - pad
    return (at >= 0) & (at < inputs)


def _overlaps_itself(view: View) -> bool:
    lo, hi = view.extent
    if view.bytes > hi - lo:
        return True
    covered = view.dtype.bytes
    for n, stride in sorted(zip(view.sizes, view.strides, strict=True), key=lambda axis: abs(axis[1])):
        if n > 1:
            if abs(stride) < covered:
                # Interleaved axes may still be disjoint: count.
                return len(np.unique(view.footprint())) < view.bytes
            covered += (n - 1) * abs(stride)
    return False


def _hazards(command: Command, dst: View) -> Iterator[str]:
    """Elementwise instructions may write over an operand, element on element; nothing else over what it reads."""
    streams = isinstance(command.instruction, (Post, Elementwise))
    for name, view in command.views.items():
        if name == "dst" or view.space != dst.space:
            continue
        (a, b), (c, d) = view.extent, dst.extent
        in_place = streams and view.dtype.bytes == dst.dtype.bytes and _places(view) == _places(dst)
        if not in_place and a < d and c < b and len(np.intersect1d(view.footprint(), dst.footprint())):
            yield f"dst overlaps {name}"


def _places(view: View) -> tuple[object, ...]:
    """Where elements lie; strides of single elements say nothing."""
    return view.address, view.sizes, tuple(s for n, s in zip(view.sizes, view.strides, strict=True) if n > 1)
