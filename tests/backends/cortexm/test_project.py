"""The generated project: interface, names, determinism, limits, refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.backends.c import cflags
from planish.backends.c.code import Module, Table
from planish.backends.c.names import identifier, plain
from planish.backends.c.project import WIDTH, _table
from planish.backends.c.target import CTarget
from planish.backends.fitting import require_flash
from planish.ir.builder import const_value
from planish.ir.errors import DoesNotFitError, UnsupportedError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.shape import reshape, transpose
from planish.ir.types import F16, F32, NHWC, TensorType
from planish.registry import target_named
from planish.runtime.target import Limits
from tests.support.emitted import require_equal

HOSTILE = (
    "*/ int evil; /*", "a\nb", "int", "x\\", '"', "??/", "\u202e", "a.b", "a/b", "\u00e9", "x" * 5000, "", "__FILE__",
    "%s", "#include", "';--",
)  # fmt: skip


def network(names: tuple[str, ...] = ("x", "y", "z")) -> Graph:
    """A convolution and a residual add whose names are the given ones, in turn."""
    x = graph_input(names[0], TensorType((1, 5, 4, 3), F32))
    w = np.linspace(-1, 1, 27 * 3).astype(np.float32).reshape(3, 3, 3, 3)
    loc = Loc(names)
    y = conv2d(x, w, np.zeros(3, np.float32), pads=(1, 1, 1, 1), layout=NHWC, loc=loc, named=names[1])
    z = relu(add(x, y, loc=loc, named=names[2]), loc=loc)
    return Graph([x], [z], [names[-1]], names[0])


def emitted(graph: Graph, folder: Path, name: str = "model", target: str = "c") -> dict[str, str]:
    folder.mkdir()
    target_named(target).emit(graph, folder, name, Limits())
    return {path.name: path.read_text(encoding="ascii") for path in sorted(folder.iterdir())}


@given(st.text())
def test_any_text_gives_an_identifier(text: str) -> None:
    name = identifier(text)
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,45}", name, re.ASCII)
    assert identifier(name) == name
    assert name not in ("math", "stdint", "main")


ANY_BITS = st.integers(0, 2**32 - 1).map(lambda bits: np.uint32(bits).view(np.float32))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False) | ANY_BITS, min_size=1, max_size=40))
def test_tables_are_read_back_to_the_bit(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32)
    lines = _table(Module("m"), Table("t", array, 0)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    values = {"NAN": np.nan, "INFINITY": np.inf, "-INFINITY": -np.inf}
    texts = [text.strip() for line in lines[1:-1] for text in line.removesuffix(",").split(",")]
    read = np.array([values.get(text, text.removesuffix("f")) for text in texts], np.float64).astype(np.float32)
    assert np.array_equal(read, array, equal_nan=True)
    assert np.array_equal(np.signbit(read[array == 0]), np.signbit(array[array == 0]))


@given(st.text())
def test_comments_cannot_be_left(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_./ -]{0,100}", plain(text), re.ASCII)


def test_hostile_names_change_comments_alone(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    compiler = require_tool("cc")
    files = emitted(network(HOSTILE), tmp_path / "hostile", "*/ ../evil")
    assert sorted(files) == ["CMakeLists.txt", "README.txt", "evil.c", "evil.h", "evil_tables.h"]
    tame = emitted(network(), tmp_path / "tame", "evil")
    comments = re.compile(r"/\*.*?\*/", re.DOTALL)
    for file in ("evil.c", "evil.h", "evil_tables.h"):
        assert comments.sub("", files[file]) == comments.sub("", tame[file])
        assert max(map(len, files[file].splitlines())) < 400
    command = [str(compiler), *cflags.MODEL_FLAGS, *cflags.WARNINGS, "-c", "evil.c", "-o", os.devnull]
    subprocess.run(command, cwd=tmp_path / "hostile", check=True)


def test_the_header_suits_cpp(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    compiler = require_tool("g++")
    emitted(network(), tmp_path / "out")
    (tmp_path / "use.cpp").write_text(
        '#include "out/model.h"\nint f(model_context *c, const float *x, float *y) { return model_run(c, x, y); }\n'
    )
    command = [str(compiler), "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "use.cpp"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_wrong_arguments_are_refused(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    compiler = require_tool("cc")
    emitted(network(), tmp_path / "out")
    (tmp_path / "use.c").write_text(USE)
    subprocess.run([str(compiler), "-Iout", "out/model.c", "use.c", "-o", "use"], cwd=tmp_path, check=True)
    assert subprocess.run([str(tmp_path / "use")], check=False).returncode == 0


USE = """
#include "model.h"
static union { double align; unsigned char bytes[MODEL_ARENA_BYTES + 8]; } arena;
static float x[MODEL_INPUT0_SIZE], y[MODEL_OUTPUT0_SIZE];
int main(void)
{
    model_context context = {0};
    if (MODEL_ARENA_BYTES == 0) return 1;
    if (model_run(&context, x, y) != MODEL_BAD_ARGUMENT) return 2;
    if (model_init(&context, arena.bytes, MODEL_ARENA_BYTES - 1) != MODEL_BAD_ARENA) return 3;
    if (model_init(&context, arena.bytes + 1, MODEL_ARENA_BYTES) != MODEL_BAD_ARENA) return 4;
    if (model_init(&context, NULL, MODEL_ARENA_BYTES) != MODEL_BAD_ARENA) return 5;
    if (model_init(NULL, arena.bytes, MODEL_ARENA_BYTES) != MODEL_BAD_ARGUMENT) return 6;
    if (model_init(&context, arena.bytes, MODEL_ARENA_BYTES) != MODEL_OK) return 7;
    if (model_run(&context, NULL, y) != MODEL_BAD_ARGUMENT) return 8;
    return model_run(&context, x, y) != MODEL_OK;
}
"""

SCRIPT = """
import sys
from pathlib import Path
from planish.registry import target_named
from planish.runtime.target import Limits
from tests.backends.cortexm.test_project import network
target_named(sys.argv[1]).emit(network(), Path(sys.argv[2]), "model", Limits())
"""


@pytest.mark.parametrize("target", ["c", "cortex-m4"])
def test_bytes_do_not_depend_on_hash_seed_or_place(target: str, tmp_path: Path) -> None:
    first = emitted(network(), tmp_path / "here", target=target)
    root = Path(__file__).parents[3]
    for seed in ("1", "4321"):
        folder = tmp_path / f"seed {seed}"
        folder.mkdir()
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}",
            "TZ": "Asia/Tokyo",
        }
        subprocess.run([sys.executable, "-c", SCRIPT, target, str(folder)], env=environment, cwd=tmp_path, check=True)
        assert {path.name: path.read_text() for path in sorted(folder.iterdir())} == first


def test_too_large_for_ram_or_flash(tmp_path: Path) -> None:
    with pytest.raises(DoesNotFitError, match=r"needs 720 bytes of RAM on c, 100 are there") as ram:
        CTarget("c").emit(network(), tmp_path, "model", Limits(ram=100))
    assert ram.value.fix
    with pytest.raises(DoesNotFitError, match=r"bytes \(within \d+%\) of flash on c, 300 are there") as flash:
        CTarget("c").emit(network(), tmp_path, "model", Limits(flash=300))
    assert "constants 336 bytes" in str(flash.value)
    assert "layer_00_conv2d" in str(flash.value)
    assert not list(tmp_path.iterdir())
    artifact = CTarget("c").emit(network(), tmp_path, "model", Limits())
    with pytest.raises(DoesNotFitError, match=r"of flash on c, 336 are there") as flash:
        require_flash(artifact, Limits(flash=336))  # which is what the constants take, without the code
    assert "layer_00_conv2d: 336 bytes of constants" in str(flash.value)


def test_every_unsupported_node_is_named(tmp_path: Path) -> None:
    x = graph_input("x", TensorType((2, 3), F16))
    y = relu(relu(x, loc=Loc(("first",))), loc=Loc(("second",)))
    with pytest.raises(UnsupportedError) as error:
        CTarget("c").emit(Graph([x], [y], ["y"]), tmp_path, "model", Limits())
    assert "first" in str(error.value)
    assert "second" in str(error.value)
    assert "no f16" in str(error.value)
    assert error.value.fix


def test_outputs_that_no_layer_writes(require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    x = graph_input("x", TensorType((2, 3), F32))
    constant = const_value(np.arange(6, dtype=np.float32))
    y: Value = transpose(x, perm=(1, 0))
    outputs = [x, reshape(x, shape=(6,)), constant, y, y, reshape(y, shape=(1, 6)), reshape(constant, shape=(3, 2))]
    graph = Graph([x], outputs, [f"y{i}" for i in range(len(outputs))])
    require_equal(graph, [[np.arange(6, dtype=np.float32).reshape(2, 3)]])


def test_an_artifact_runs_after_loading(tmp_path: Path, require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    graph = network()
    emitted_artifact = CTarget("c").emit(graph, tmp_path, "model", Limits())
    artifact = CTarget("c").load(tmp_path, graph, emitted_artifact.facts)
    assert artifact.layers == emitted_artifact.layers
    samples = np.random.default_rng(0).uniform(-1, 1, (3, 1, 5, 4, 3)).astype(np.float32)
    done = CTarget("c").run(artifact, {"x": samples})
    assert done.samples == 3
    wanted = np.stack([evaluate(graph, [s])[0] for s in samples])
    np.testing.assert_allclose(done.outputs["z"], wanted, rtol=0, atol=1e-5)
