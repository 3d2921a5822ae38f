"""Every op at the limits of its types as C: it builds without a warning, with every compiler here, and is right."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from planish.backends.c import cflags
from planish.backends.c.target import CTarget
from planish.backends.cortexm import cores
from planish.backends.cortexm.target import CortexMTarget
from planish.ir.arithmetic import fixed_point
from planish.ir.builder import const_value
from planish.ir.graph import Graph, graph_input
from planish.ir.op import Op
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, clip, maximum, minimum
from planish.ir.ops.logic import equal, less, less_equal, where
from planish.ir.ops.quant import dequantize, quantize, rescale
from planish.ir.ops.unary import gelu
from planish.ir.types import BOOL, F32, I8, I16, I32, I64, NHWC, U8, U16, U32, U64, Array, DType, TensorType
from planish.registry import target_named
from planish.runtime.target import Limits
from planish.testing.limits import check_at_limits, limits
from tests.support.kernels import TESTED
from tests.support.quantized_layers import fused

PROGRAMS = max(1, hypothesis.settings().max_examples // 25)
CHUNKS = [TESTED[i::3] for i in range(3)]

#: What is said on the command line beside the warnings: by compiler, where it is installed.
COMPILERS: Mapping[str, Sequence[str]] = {
    "cc": ("-std=c11",),
    "clang": ("-std=c99", "-Wno-unused-command-line-argument"),
    "arm-none-eabi-gcc": ("-std=c99", *cores.CORES["cortex-m4"].flags),
}


def require_no_warning(folder: Path, name: str) -> None:
    """AssertionError unless each compiler here takes the C without a warning."""
    for compiler, flags in COMPILERS.items():
        if shutil.which(compiler):
            command = [compiler, *flags, *cflags.WARNINGS, "-fsyntax-only", f"{name}.c"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.parametrize("ops", CHUNKS, ids=lambda ops: "-".join(op.name for op in ops[:3]))
def test_ops_at_their_limits_build_and_are_right(ops: list[type[Op]], require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    assert check_at_limits(target_named("c"), ops, PROGRAMS, require_no_warning) > len(ops)


def test_every_comparison_with_every_limit_builds(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    """Each dtype's limits on either side, and a tensor with itself; what is constant becomes a literal, or a table."""
    require_tool("cc")
    inputs, outputs = [], []
    for dtype in (F32, I8, U8, I16, U16, I32, U32, I64, U64, BOOL):
        x = graph_input(f"x_{dtype}", TensorType((2, 3), dtype))
        inputs.append(x)
        for build in (equal, less, less_equal, minimum, maximum):
            outputs.append(build(x, x))
            for constant in literals(dtype):
                outputs += [build(x, const_value(constant)), build(const_value(constant), x)]
        if dtype != BOOL:
            ends = [float(v) for v in limits(dtype)[:3]]
            outputs += [clip(x, lo=lo, hi=hi) for lo in ends for hi in ends]
    graph = Graph(inputs, outputs, [f"y{i}" for i in range(len(outputs))], "compared")
    CTarget("c").emit(graph, tmp_path, "compared", Limits())
    require_no_warning(tmp_path, "compared")


def literals(dtype: DType) -> list[Array]:
    """The ends, and limits as one row."""
    every = [np.array(v, dtype.numpy) for v in limits(dtype)]
    return [*every[:2], np.stack(every[:3]) if len(every) > 2 else every[0]]


SPECIAL = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-45, 3.4028235e38], np.float32)


def test_constants_that_are_no_numbers_build(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    """A table of them, alone in its file: the header that says what INFINITY is comes with the table."""
    require_tool("cc")
    x = graph_input("x", TensorType((6,), F32))
    CTarget("c").emit(Graph([x], [add(x, const_value(SPECIAL))], ["y"], "special"), tmp_path, "special", Limits())
    require_no_warning(tmp_path, "special")


def with_helpers() -> Graph:
    """A graph whose C has functions and tables that its layers share."""
    x = graph_input("x", TensorType((1, 5, 5, 4), F32))
    y = conv2d(x, np.ones((4, 3, 3, 4), np.float32), SPECIAL[3:4].repeat(4), layout=NHWC)
    q = clip(quantize(y, np.float32(0.1), np.uint8(3), dtype=U8, lo=0, hi=255), lo=0, hi=15)
    z = dequantize(q, np.float32(0.1), np.uint8(3))
    return Graph([x], [where(less(y, z), gelu(y), maximum(y, z))], ["y"], "helped")


def int8_layers() -> Graph:
    """Layers that cores with the DSP extension have kernels for."""
    x = graph_input("x", TensorType((1, 6, 6, 4), I8))
    w, b = np.ones((4, 3, 3, 4), np.int8), np.zeros(4, np.int32)

    def layer(w: Any, **how: Any) -> Any:
        def build(v: Any, c: Any) -> Any:
            return rescale(conv2d(v[0], c[0], c[1], layout=NHWC, **how), c[2], c[3])

        return build

    y = fused([x], [w, b, *fixed_point(np.full(4, 0.01))], layer(w, pads=(1, 1, 1, 1)))
    z = fused([y], [w[..., :1], b, *fixed_point(np.full(4, 0.1))], layer(w, groups=4, strides=(2, 2)))
    return Graph([x], [z], ["z"], "layers")


TWO_MODELS = """
#include "one/one.{0}"
#include "two/two.{0}"
#include <unistd.h>
static union { double align; unsigned char bytes[ONE_ARENA_BYTES + TWO_ARENA_BYTES + 16]; } arena;
int main(void)
{
    static const float x[ONE_INPUT0_SIZE];
    static float y[ONE_OUTPUT0_SIZE], z[TWO_OUTPUT0_SIZE];
    one_context first;
    two_context second;
    int status = one_init(&first, arena.bytes, ONE_ARENA_BYTES) + two_init(&second, arena.bytes, TWO_ARENA_BYTES);
    status += one_run(&first, x, y) + two_run(&second, x, z);
    for (int i = 0; i < ONE_OUTPUT0_SIZE; ++i) {
        status += y[i] != z[i];
    }
    return status;
}
"""


@pytest.mark.parametrize("unity", [True, False], ids=["one unit", "linked"])
def test_two_models_in_one_program(unity: bool, tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    compiler = require_tool("cc")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        CTarget("c").emit(with_helpers(), tmp_path / name, name, Limits())
    (tmp_path / "main.c").write_text(TWO_MODELS.replace("{0}", "c" if unity else "h"))
    sources = ["main.c"] if unity else ["main.c", "one/one.c", "two/two.c"]
    flags = ["-std=gnu99", *cflags.WARNINGS]
    subprocess.run([str(compiler), *flags, *sources, "-lm", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "main")], check=False).returncode == 0


def test_two_models_for_a_core_in_one_unit(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    compiler = require_tool("arm-none-eabi-gcc")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        artifact = CortexMTarget("cortex-m4").emit(int8_layers(), tmp_path / name, name, Limits())
        assert {layer.kernel for layer in artifact.layers} == {"conv2d_smlad", "depthwise_smlad"}
    (tmp_path / "both.c").write_text('#include "one/one.c"\n#include "two/two.c"\n')
    flags = [*cores.CORES["cortex-m4"].flags, *cflags.MODEL_FLAGS, cflags.OPTIMIZATION, *cflags.WARNINGS]
    subprocess.run([str(compiler), *flags, "-c", "both.c", "-o", "both.o"], cwd=tmp_path, check=True)
