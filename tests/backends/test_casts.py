"""Casts of floats that an integer dtype cannot hold: one answer of the interpreter, of C and of TVM."""

import math

import numpy as np
import pytest

from planish.ir.graph import Graph, graph_input
from planish.ir.ops.unary import Cast, cast
from planish.ir.types import BOOL, F32, I4, I8, I16, I32, I64, U4, U8, U16, U32, U64, TensorType
from tests.support.emitted import run_for

ENDS = [2.0**n for n in (7, 8, 15, 16, 31, 32, 63, 64)]
NEAR = [float(np.nextafter(np.float32(e), np.float32(to))) for e in ENDS for to in (0, math.inf)]
VALUES = np.array(
    [
        s * v
        for v in [0.0, 0.5, 1.9, 127.5, 200.0, 300.0, 4e4, 7e4, 3e9, 5e9, 1e19, 3e38, math.inf, *ENDS, *NEAR]
        for s in (1, -1)
    ]
    + [math.nan],
    np.float32,
)
WIDE = (U32, I64, U64)
NARROW = (I8, U8, I16, U16, I32)


def meant(value, dtype):
    """What the documentation of operators says, in Python's integers."""
    if dtype == BOOL:
        return value != 0
    lo, hi = (-(2**63), 2**64 - 1 if dtype == U64 else 2**63 - 1) if dtype in WIDE else (-(2**31), 2**31 - 1)
    whole = 0 if math.isnan(value) else lo if value < lo else hi if value > hi else int(value)
    return (whole - dtype.min) % 2**dtype.bits + dtype.min


@pytest.mark.parametrize("dtype", [*NARROW, *WIDE, I4, U4, BOOL], ids=str)
def test_the_interpreter_says_what_the_documentation_says(dtype):
    got = Cast(dtype).ref(VALUES)
    assert got.dtype == dtype.numpy
    assert got.astype(object).tolist() == [meant(float(v), dtype) for v in VALUES]


@pytest.mark.parametrize("target", ["c", "tvm"])
def test_programs_say_the_same(target, require_tool, request):
    require_tool("cc")
    if target == "tvm":
        request.getfixturevalue("tvm")
    dtypes = [*NARROW, U32, BOOL, *([I64, U64] if target == "tvm" else [])]
    x = graph_input("x", TensorType(VALUES.shape, F32))
    graph = Graph([x], [cast(x, dtype=d) for d in dtypes], [f"y{i}" for i in range(len(dtypes))])
    found = run_for(target, graph, {"x": VALUES})
    for dtype, got in zip(dtypes, found.values(), strict=True):
        assert got.dtype == dtype.numpy
        assert got.tolist() == [meant(float(v), dtype) for v in VALUES], dtype
