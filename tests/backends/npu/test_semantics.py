"""Each instruction against the `ref` of the op that it implements, as docs/npu-isa.md composes them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.npu.isa import (
    Element,
    Elementwise,
    Ew,
    Fill,
    Fold,
    Halt,
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
    Sync,
    Window,
)
from planish.backends.npu.machine import load_machine
from planish.backends.npu.program import Program, View
from planish.backends.npu.simulator import simulate
from planish.ir.arithmetic import fixed_point
from planish.ir.ops.pool import MaxPool2d, SumPool2d
from planish.ir.ops.quant import Rescale, RescaleAdd, Table, sum_factors
from planish.ir.ops.reduce import ReduceMax, ReduceSum
from planish.ir.ops.shape import DepthToSpace, Transpose
from planish.ir.ops.softmax import IntegerSoftmax, exp_table
from planish.ir.types import I8, I16, NHWC
from planish.testing import HypothesisDraw
from planish.testing.draw import composite
from tests.support.npu_programs import set_view

MACHINE = load_machine("256")
ELEMENTS = {np.dtype(e.dtype.numpy): e for e in Element}


class Bench:
    """Writes a program step by step, a `sync` after each, and runs it."""

    def __init__(self):
        self.instructions, self.constants = [], bytearray()
        self.used = dict.fromkeys(Space, 0)

    def new(self, space, dtype, shape):
        """A fresh view."""
        view = View.of(space, dtype, self.used[space], shape)
        self.used[space] += -(-view.bytes // 4) * 4
        return view

    def do(self, instruction, *extra, **views):
        """One instruction; its views by field, `extra` configuration before it."""
        numbers = {name: number for number, name in enumerate(views)}
        for name, view in views.items():
            self.instructions += set_view(numbers[name], view)
        self.instructions += [*extra, instruction(**numbers), Sync()]

    def loaded(self, array, space=Space.ACT):
        """An array in a local memory, from the constants."""
        view = self.new(space, ELEMENTS[array.dtype], array.shape)
        outer = View.of(Space.CONST, view.dtype, len(self.constants), array.shape)
        self.constants += array.tobytes() + bytes(-array.nbytes % 4)
        self.do(Load, dst=view, src=outer)
        return view

    def parameters(self, bias, multiplier, shift):
        """The `cfgp.scale` fields of a parameter block."""
        words = np.concatenate([np.asarray(bias, np.int32), multiplier]).astype(np.int32).tobytes() + shift.tobytes()
        view = self.loaded(np.frombuffer(words, np.int8), Space.TAB)
        return {"params": view.address, "channels": len(shift)}

    def result(self, view):
        """The elements of a view in `act` or `acc` at the end of the program."""
        outer = self.new(Space.ARENA, view.dtype, view.sizes)
        self.do(Store, dst=outer, src=view)
        program = Program((*self.instructions, Halt()), bytes(self.constants), self.used[Space.ARENA])
        arena, _ = simulate(program, MACHINE, np.zeros(program.arena_bytes, np.uint8))
        return outer.elements(arena)


def strided(view, sizes, strides, offset=0):
    return View(view.space, view.dtype, view.address + offset, sizes, strides)


@composite
def images(draw):
    shape = (1, draw(st.integers(3, 6)), draw(st.integers(3, 6)), draw(st.integers(1, 9)))
    return np.random.default_rng(draw(st.integers(0, 99))).integers(-128, 128, shape).astype(np.int8)


@given(st.integers(1, 5), st.integers(1, 40), st.floats(0.01, 0.5), st.integers(0, 99))
def test_softmax(n, classes, scale, seed):
    x, table = np.random.default_rng(seed).integers(-128, 128, (1, 1, n, classes)).astype(np.int8), exp_table(scale)
    bench = Bench()
    src, exp = bench.loaded(x), bench.loaded(table, Space.TAB)
    top, distance = bench.new(Space.ACT, Element.I8, (n, 1)), bench.new(Space.ACT, Element.U8, (n, classes))
    e, total, inverse = (bench.new(Space.ACC, Element.I32, (n, c)) for c in (classes, 1, 1))
    result = bench.new(Space.ACT, Element.I8, (n, classes))
    bench.do(lambda **v: Reduce(function=Fold.MAX, **v), dst=top, src=src)
    each = strided(top, distance.sizes, (0, 0, 1, 0))
    bench.do(lambda **v: Elementwise(function=Ew.SUB, **v), dst=distance, a=each, b=src)
    bench.do(lambda **v: Elementwise(function=Ew.LOOKUP, **v), dst=e, a=distance, b=exp)
    bench.do(lambda **v: Reduce(function=Fold.SUM, **v), dst=total, src=e)
    bench.do(lambda **v: Elementwise(function=Ew.RECIP, **v), dst=inverse, a=total)
    each = strided(inverse, e.sizes, (0, 0, 4, 0))
    bench.do(lambda **v: Elementwise(function=Ew.SCALE, shift=9, zero=-128, **v), dst=result, a=e, b=each)
    np.testing.assert_array_equal(bench.result(result), IntegerSoftmax().ref(x, table))


@given(images(), st.data())
def test_pools(x, data):
    draw = HypothesisDraw(data.draw)
    window, strides, zero = draw.size2(1, 3), draw.size2(1, 2), draw.integer(-128, 127)
    pads = tuple(draw.integer(0, k - 1) for k in window * 2)
    config = Window(
        kernel_h=window[0], kernel_w=window[1], stride_h=strides[0], stride_w=strides[1],
        pad_top=pads[0], pad_left=pads[1], input_zero=zero,
    )  # fmt: skip
    for function, op in (
        (Fold.MAX, MaxPool2d(window, strides, pads, layout=NHWC)),
        (Fold.SUM, SumPool2d(window, strides, pads, input_zero=zero, layout=NHWC)),
    ):
        bench, expected = Bench(), op.ref(x)
        space, element = (Space.ACC, Element.I32) if function is Fold.SUM else (Space.ACT, Element.I8)
        result = bench.new(space, element, expected.shape)
        bench.do(lambda f=function, **v: Pool(function=f, **v), config, dst=result, src=bench.loaded(x))
        np.testing.assert_array_equal(bench.result(result), expected)


@given(images(), st.integers(-128, 127))
def test_reductions_over_the_image(x, zero):
    """Axes change places by strides, so that the last one is reduced."""
    _, h, w, c = x.shape
    for function, op in ((Fold.MAX, ReduceMax((1, 2))), (Fold.SUM, ReduceSum((1, 2), input_zero=zero))):
        bench = Bench()
        space, element = (Space.ACC, Element.I32) if function is Fold.SUM else (Space.ACT, Element.I8)
        src, result = bench.loaded(x), bench.new(space, element, (c, 1))
        pixels = strided(src, (1, 1, c, h * w), (0, 0, 1, c))
        bench.do(lambda f=function, **v: Reduce(function=f, zero=zero, **v), dst=result, src=pixels)
        np.testing.assert_array_equal(bench.result(result).reshape(-1), op.ref(x).reshape(-1))


@given(images(), st.data())
def test_rescale_alone(x, data):
    draw = HypothesisDraw(data.draw)
    u8, i16 = draw.boolean(), draw.boolean()
    x = x.view(np.uint8) if u8 else x
    multiplier, shift = fixed_point([draw.real(2**-20, 3) for _ in range(x.shape[3] if draw.boolean() else 1)])
    zero, input_zero = draw.integer(-100, 100), draw.integer(-10, 10)
    lo, hi = (-3000, 2000) if i16 else (-90, 127)
    bench = Bench()
    result = bench.new(Space.ACT, Element.I16 if i16 else Element.I8, x.shape)
    block = bench.parameters([-input_zero] * len(shift), multiplier, shift)
    bench.do(Post, PostScale(**block, zero=zero, lo=lo, hi=hi), dst=result, src=bench.loaded(x))
    expected = Rescale(input_zero, zero, lo, hi, I16 if i16 else I8).ref(x, multiplier, shift)
    np.testing.assert_array_equal(bench.result(result), expected)


@given(images(), st.floats(0.01, 2), st.floats(-2, 2), st.integers(-128, 127), st.integers(0, 99))
def test_sums_and_tables(x, a, b, zero, seed):
    random = np.random.default_rng(seed)
    y, entries = random.integers(-128, 128, x.shape).astype(np.int8), random.integers(-128, 128, 256).astype(np.int8)
    factors = sum_factors((a, b), (3, -5), zero)
    bench = Bench()
    left, right, table = bench.loaded(x), bench.loaded(y), bench.loaded(entries, Space.TAB)
    config = (PostAdd(**factors), PostClamp(lo=-100, hi=101))
    summed, looked = (bench.new(Space.ACT, Element.I8, x.shape) for _ in range(2))
    bench.do(lambda **v: Post(stages=Stages.ADD, **v), *config, dst=summed, src=left, residual=right)
    both = {"dst": looked, "src": left, "residual": right, "table": table}
    bench.do(lambda **v: Post(stages=Stages.ADD | Stages.TABLE, **v), *config, **both)
    # In place: element on element.
    bench.do(lambda **v: Post(stages=Stages.TABLE, **v), dst=summed, src=summed, table=table)
    expected = Table().ref(RescaleAdd(**factors, lo=-100, hi=101).ref(x, y).astype(np.int8), entries)
    np.testing.assert_array_equal(bench.result(looked), expected)
    np.testing.assert_array_equal(bench.result(summed), expected)


@given(images(), st.sampled_from(list(Ew)[:4]), st.integers(0, 99))
def test_elementwise(x, function, seed):
    y = np.random.default_rng(seed).integers(-128, 128, x.shape).astype(np.int8)
    bench = Bench()
    result = bench.new(Space.ACT, Element.I8, x.shape)
    bench.do(lambda **v: Elementwise(function=function, **v), dst=result, a=bench.loaded(x), b=bench.loaded(y))
    wide = {Ew.ADD: np.add, Ew.SUB: np.subtract, Ew.MIN: np.minimum, Ew.MAX: np.maximum}[function]
    np.testing.assert_array_equal(bench.result(result), np.clip(wide(x.astype(int), y.astype(int)), -128, 127))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_movements_by_strides(block, h, w, c):
    """Transposes, depth-to-space, and a picture doubled, between local memories."""
    x = np.arange(h * w * c * block * block).astype(np.int8).reshape(1, h, w, -1)
    depth = x.shape[3]
    bench = Bench()
    src, turned, spread, doubled = (
        bench.loaded(x),
        *(bench.new(Space.ACT, Element.I8, (s * x.size,)) for s in (1, 1, 4)),
    )
    there = strided(turned, (1, h, w, depth), (0, 1, h, w * h))
    bench.do(Move, dst=there, src=src)
    row = w * block * c
    for i in range(block):
        dst = strided(spread, (1, h, w, block * c), (0, block * row, block * c, 1), i * row)
        bench.do(Move, dst=dst, src=strided(src, dst.sizes, (0, w * depth, depth, 1), i * block * c))
    for i in range(2):
        dst = strided(doubled, (h, w, 2, depth), (4 * w * depth, 2 * depth, depth, 1), i * 2 * w * depth)
        bench.do(Move, dst=dst, src=strided(src, dst.sizes, (w * depth, depth, 0, 1)))
    np.testing.assert_array_equal(bench.result(turned).reshape(-1), Transpose((0, 3, 2, 1)).ref(x).reshape(-1))
    np.testing.assert_array_equal(bench.result(spread).reshape(-1), DepthToSpace(block, layout=NHWC).ref(x).reshape(-1))
    np.testing.assert_array_equal(bench.result(doubled).reshape(-1), x.repeat(2, 1).repeat(2, 2).reshape(-1))


def test_fill():
    bench = Bench()
    result = bench.new(Space.ACT, Element.I16, (3, 5))
    bench.do(lambda **v: Fill(value=-300, **v), dst=result)
    assert (bench.result(result) == -300).all()
