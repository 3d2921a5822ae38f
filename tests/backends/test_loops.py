"""The loop language: what its expressions mean, rendered as C; and that nothing stands in two languages."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from planish.backends.c import cflags
from planish.backends.c.code import CTYPES, Code, Module
from planish.backends.c.render import CRenderer
from planish.backends.c.target import KERNELS as PLAIN_C
from planish.backends.loops.elements import ELEMENTS, clamped, larger
from planish.backends.loops.expressions import (
    Buffer,
    Expr,
    Load,
    Variable,
    binary,
    choose,
    convert,
    define,
    equal,
    number,
    wrapping,
)  # fmt: skip
from planish.backends.loops.kernel import LoopKernel
from planish.backends.loops.kernels import SHARED
from planish.backends.loops.statements import Loop, Store
from planish.backends.loops.walk import diverges
from planish.ir.ops.conv import Conv2d
from planish.ir.ops.dense import Dense, Matmul
from planish.ir.types import BOOL, F32, I8, I16, I32, I64, U8, U16, U32, U64, Array, DType

INTEGERS = (I8, U8, I16, U16, I32, U32, I64, U64)
SIZE = 16
#: Compiling takes long: so many expressions are one program.
IN_ONE_PROGRAM = 20
PROGRAMS = max(4, hypothesis.settings().max_examples // 10)  # the first is the simplest that there is

#: An expression, and what it is of arrays of elements by dtype.
Meaning = tuple[Expr, Callable[[dict[DType, Array]], Array]]


def of(dtype: DType) -> Meaning:
    """An element of the input of this dtype."""
    load = Load(dtype, Buffer(f"x_{dtype}", dtype, SIZE), Variable(I32, "i"))
    return load, lambda x: x[dtype]


def constant(value: Any, dtype: DType) -> Meaning:
    return number(value, dtype), lambda x: np.full(SIZE, value, dtype.numpy)


#: Comparisons stand in definitions: of one that a type decides compilers warn.
NAMES = {"<": "less", "<=": "less_equal", ">": "more"}
NUMPY = {"+": np.add, "-": np.subtract, "*": np.multiply, "<": np.less, "<=": np.less_equal, ">": np.greater}


def both(build: Callable[..., Expr], means: Callable[..., Array], *parts: Meaning) -> Meaning:
    return build(*(e for e, _ in parts)), lambda x: means(*(f(x) for _, f in parts))


@st.composite
def meanings(draw: Any, dtype: DType, depth: int = 3) -> Meaning:
    """An expression of integers in which nothing but `wrapping` may overflow."""
    kind = draw(st.sampled_from(["leaf", "wrap", "choose", "convert", "larger", "clamp"] if depth else ["leaf"]))
    part = meanings(dtype, depth - 1)
    if kind == "leaf":
        return draw(st.just(of(dtype)) | st.integers(dtype.min, dtype.max).map(lambda v: constant(v, dtype)))
    if kind == "wrap":
        op = draw(st.sampled_from("+-*"))
        return both(lambda a, b: wrapping(op, a, b), NUMPY[op], draw(part), draw(part))
    if kind == "choose":
        op, compared = draw(st.sampled_from(["<", "<=", ">"])), meanings(draw(st.sampled_from(INTEGERS)), depth - 1)
        left, right, then, other = draw(compared), draw(compared), draw(part), draw(part)
        return both(
            lambda a, b, c, d: choose(define(NAMES[op], partial(binary, op), a, b), c, d),
            lambda a, b, c, d: np.where(NUMPY[op](a, b), c, d),
            left, right, then, other,
        )  # fmt: skip
    if kind == "convert":
        source = draw(st.sampled_from(INTEGERS))
        return both(lambda a: convert(a, dtype), lambda a: a.astype(dtype.numpy), draw(meanings(source, depth - 1)))
    if kind == "larger":
        greater = draw(st.booleans())
        means = np.maximum if greater else np.minimum
        return both(lambda a, b: larger(a, b, greater), means, draw(part), draw(part))
    lo, hi = sorted(draw(st.tuples(*[st.integers(dtype.min, dtype.max)] * 2)))
    return both(
        lambda a: clamped(a, lo, hi), lambda a: np.clip(a, dtype.numpy.type(lo), dtype.numpy.type(hi)), draw(part)
    )


def program(expressions: list[Expr], folder: Path) -> Callable[[dict[DType, Array]], list[Array]]:
    """The expressions as a C function on all elements, under the sanitizer of undefined behaviour."""
    code = Code(Module("m"), "layer")
    results = [Buffer(f"y{i}", e.dtype, SIZE) for i, e in enumerate(expressions)]
    i = Variable(I32, "i")
    body = CRenderer(code).statements(
        [Loop(i, SIZE, [Store(y, i, e) for y, e in zip(results, expressions, strict=True)])]
    )
    parameters = [f"const {CTYPES[d]} *x_{d}" for d in INTEGERS] + [f"{CTYPES[y.dtype]} *{y.name}" for y in results]
    unused = "".join(f"(void)x_{d};" for d in INTEGERS)
    text = "#include <stdint.h>\n" + "".join(code.module.helpers.values())
    text += f"void f({', '.join(parameters)});\nvoid f({', '.join(parameters)})\n{{\n{unused}\n{body}}}\n"
    (folder / "f.c").write_text(code.module.named(text))
    flags = [*cflags.MODEL_FLAGS, "-O1", *cflags.WARNINGS, "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run(["cc", *flags, "-shared", "-fPIC", "f.c", "-o", "f.so"], cwd=folder, check=True)
    function = ctypes.CDLL(str(folder / "f.so")).f

    def run(x: dict[DType, Array]) -> list[Array]:
        found = [np.zeros(SIZE, y.dtype.numpy) for y in results]
        function(*(a.ctypes.data_as(ctypes.c_void_p) for a in (*(x[d] for d in INTEGERS), *found)))
        return found

    return run


@hypothesis.settings(max_examples=PROGRAMS, phases=[hypothesis.Phase.generate])
@given(st.data(), st.integers(0, 2**32 - 1))
def test_c_computes_what_an_expression_means(tmp_path_factory: Any, require_tool: Any, data: Any, seed: int) -> None:
    require_tool("cc")
    drawn = [data.draw(meanings(data.draw(st.sampled_from(INTEGERS)))) for _ in range(IN_ONE_PROGRAM)]
    random = np.random.default_rng(seed)
    x = {d: random.integers(d.min, d.max, SIZE, d.numpy, endpoint=True) for d in INTEGERS}
    with np.errstate(all="ignore"):
        expected = [np.broadcast_to(means(x), SIZE) for _, means in drawn]
    found = program([e for e, _ in drawn], tmp_path_factory.mktemp("c"))(x)
    for (e, _), want, got in zip(drawn, expected, found, strict=True):
        assert got.tolist() == want.astype(e.dtype.numpy).tolist()


def test_an_expression_is_no_truth_value() -> None:
    with pytest.raises(TypeError, match="use choose"):
        bool(of(I32)[0] < 3)


def test_operands_have_one_dtype() -> None:
    with pytest.raises(TypeError, match="of i8 and i32"):
        of(I8)[0] + of(I32)[0]


def test_turns_go_different_ways_where_a_condition_depends_on_them() -> None:
    i, y = Variable(I32, "i"), Buffer("y", F32, SIZE)
    guards = {True: i < 3, False: equal(Variable(I32, "j"), 3)}
    for differ, condition in guards.items():
        read = Load(F32, Buffer("x0", F32, SIZE), i)
        guarded = Store(y, i, choose(condition, read, 0.0))
        lazy = Store(y, i, type(guarded.value)(F32, condition, read, number(0.0, F32), lazy=True))
        assert not diverges(Loop(i, SIZE, [guarded]))
        assert diverges(Loop(i, SIZE, [lazy])) == differ


def test_no_kernel_stands_in_two_languages() -> None:
    """C for any machine is the loop language; what mobile processors have of their own are tiles of products."""
    tvm = pytest.importorskip("planish.backends.tvm.kernels").KERNELS
    assert all(isinstance(kernel, LoopKernel) for kernel in PLAIN_C)
    own = [kernel for kernel in tvm if not isinstance(kernel, LoopKernel)]
    assert {op for kernel in own for op in kernel.ops} <= {Conv2d, Dense, Matmul}
    assert [kernel for kernel in tvm if isinstance(kernel, LoopKernel)] == list(SHARED)


def test_elementwise_ops_have_one_expression_each() -> None:
    taken = {op for kernel in SHARED for op in kernel.ops if op.elementwise}
    assert taken == set(ELEMENTS)
    assert BOOL not in INTEGERS
