"""Write backends/c/code_sizes.toml: how many bytes of code a character of a kernel's C becomes, by core.

    tools/code_sizes.py [MODEL.onnx ...]

Compiles drawn networks and the examples of all ops for each core and divides; then estimates the models that are given
(none of which was compiled for that), as floats and as int8, and writes down how far off the estimates of their code
are: the largest of these errors is what reports say. Needs arm-none-eabi-gcc.
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import planish.driver as driver
from planish.backends.c import cflags, sizes
from planish.backends.c.toolchain import build_step, compile_objects, find_tool
from planish.backends.cortexm import cores
from planish.backends.cortexm.flash import COMPILER, measure
from planish.backends.cortexm.target import CortexMTarget
from planish.ir.errors import PlanishError
from planish.ir.graph import Graph, graph_input
from planish.ir.op import Instance
from planish.ir.ops import all_ops
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.pool import avg_pool2d, max_pool2d
from planish.ir.ops.reduce import reduce_mean
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import sigmoid, tanh
from planish.ir.types import F32, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.data import uniform
from planish.runtime.target import Target
from planish.testing.kernels import takes, together
from planish.testing.ops import instances

NETWORKS, OUT = 16, Path(__file__).parents[1] / "backends/c/code_sizes.toml"
#: Cores for which gcc makes nearly the code that it makes for another one.
LIKE = {"cortex-m7": "cortex-m4", "cortex-m33": "cortex-m4"}


def network(seed: int) -> Graph:
    """A small convolutional network of the sizes that are met: 8 to 64 channels, images of 8 to 32 pixels."""
    random = np.random.Generator(np.random.PCG64(seed))

    def weights(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    channels, size = int(random.choice([1, 3, 4])), int(random.choice([8, 14, 16, 28, 32]))
    x = y = graph_input("x", TensorType((1, channels, size, size), F32))
    for _ in range(int(random.integers(2, 7))):
        kernel = int(random.choice([1, 1, 3, 3, 5]))
        pads, wide = (kernel // 2,) * 4, int(random.choice([6, 8, 12, 16, 24, 32, 64]))
        c = int(y.type.shape[1])  # type: ignore[arg-type]
        stride = int(random.choice([1, 1, 2])) if int(y.type.shape[2]) > 4 else 1  # type: ignore[arg-type]
        kind = random.integers(6)
        if kind == 0 and c > 1:
            y = relu(conv2d(y, weights(c, 1, 3, 3), weights(c), pads=(1,) * 4, strides=(stride,) * 2, groups=c))
        elif kind == 1 and int(y.type.shape[2]) > 3:  # type: ignore[arg-type]
            y = (max_pool2d if random.integers(2) else avg_pool2d)(y, window=(2, 2), strides=(2, 2))
        elif kind == 2:
            y = relu(add(y, conv2d(y, weights(c, c, kernel, kernel), weights(c), pads=pads)))
        else:
            y = conv2d(y, weights(wide, c, kernel, kernel), weights(wide), pads=pads, strides=(stride,) * 2)
            y = [relu, relu, sigmoid, tanh][int(random.integers(4))](y)
    y = reduce_mean(y, axes=(2, 3), keepdims=False)
    y = relu(dense(y, weights(32, int(y.type.shape[1])), weights(32)))  # type: ignore[arg-type]
    return Graph([x], [softmax(dense(y, weights(10, 32), weights(10)))], ["y"], "network")


def both(graph: Graph) -> Iterator[Graph]:
    """As floats, and as int8."""
    yield run_pipeline(graph, driver.FLOAT, Context()).graph
    samples = list(uniform({v.name: (-1.0, 1.0) for v in graph.inputs}).of(graph, 4))
    try:
        yield run_pipeline(graph, driver.INT8, Context(calibration=lambda: iter(samples))).graph
    except PlanishError:
        return


def examples(target: Target) -> Iterator[Graph]:
    """Some examples of each op in one graph."""
    for op in all_ops():
        found: list[Instance] = []

        @settings(max_examples=1, phases=(Phase.generate,), deadline=None, database=None, derandomize=True,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(drawn=st.lists(instances(op), min_size=6, max_size=6, unique_by=id))
        def draw(drawn: list[Instance], found: list[Instance]) -> None:
            found.extend(drawn)

        try:
            draw(found=found)
        except TypeError:
            continue  # it has none
        if taken := [instance for instance in found if takes(target, instance)]:
            yield together(taken)[0]


def compiled(core: str, graph: Graph) -> tuple[list[tuple[str, str, int]], int, int, set[str]] | None:
    """(Kernel, text, bytes) of each function; bytes of all other code; of libraries; what was called there."""
    target = CortexMTarget(core)
    try:
        lowered = run_pipeline(graph, target.lowering, Context(target=target)).graph
        choices = target.choices()
        if any(choices.problem(n) for n in lowered.nodes):
            return None
        project = target._generate(lowered, "model", target._plan(lowered, choices), choices)
    except PlanishError:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in project.files.items():
            (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode("ascii"))
        flags = [*cores.CORES[core].flags, "-mthumb", *cflags.MODEL_FLAGS, cflags.OPTIMIZATION, f"-I{folder}"]
        (object_file,) = compile_objects(find_tool(COMPILER), flags, [folder / "model.c"], folder, "o")
        nm = build_step([find_tool("arm-none-eabi-nm"), "-S", "--defined-only", object_file], folder)
        rows = [line.split() for line in nm.splitlines()]
        code = {r[3]: int(r[1], 16) for r in rows if len(r) == 4 and r[2].lower() == "t"}
        flash = measure(core, folder / "model.c", "model")
    functions = [(f.kernel.name, f.text, _of(code, f.name)) for f in project.functions]
    own = sum(b for _, _, b in functions)
    called = set().union(*(sizes.library_calls(text) for _, text, _ in functions)) if functions else set()
    return functions, sum(code.values()) - own, flash.code - sum(code.values()), called


def _of(code: dict[str, int], name: str) -> int:
    """Of a function, with the parts that gcc split off."""
    return sum(b for symbol, b in code.items() if re.fullmatch(rf"(model_)?{name}(\..*)?", symbol))


CALLS = {
    "float": "float model_run(float x, float y) { return (x * y + x / y - (float)(int)y) * (x < y ? 2.0f : x); }",
    "int64": "int64_t model_run(int64_t x, int32_t y) { return x * y >> 5; }",
    "memcpy": "void *model_run(char *x, char *y, size_t n) { return memcpy(x, y, n); }",
    "memset": "void *model_run(char *x, int y, size_t n) { return memset(x, y, n); }",
}
PROGRAM = """#include <math.h>
#include <stdint.h>
#include <string.h>
{head};
{body}
int model_init(void);
int model_init(void) {{ return 0; }}
"""


def library(core: str, names: set[str]) -> dict[str, int]:
    """What each function of the library takes, alone; of those that compute with floats, beyond what floats take."""
    found = {}
    for name in sorted(names):
        arguments = "x, y" if name in ("powf", "fmaxf", "fminf") else "x"
        body = CALLS.get(name, f"float model_run(float x, float y) {{ return y * {name}({arguments}); }}")
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "model.c")
            source.write_text(PROGRAM.format(head=body.split(" {")[0], body=body))
            found[name] = max(0, measure(core, source, "model").code - 40)
    floats = found.get("float", 0)
    return {name: size if name in CALLS else max(0, size - floats) for name, size in found.items()}


def fitted(core: str) -> list[str]:
    """The table of a core, as text."""
    characters, size, calls, others = defaultdict[str, int](int), defaultdict[str, int](int), [], []
    called: set[str] = set()
    for graph in [*(g for seed in range(NETWORKS) for g in both(network(seed))), *examples(CortexMTarget(core))]:
        if (found := compiled(core, graph)) is None:
            continue
        functions, other, _, names = found
        called |= names
        calls.append(len(functions))
        others.append(other)
        for kernel, text, code in functions:
            characters[kernel] += sizes.length(text)
            size[kernel] += code
    slope, base = np.polyfit(calls, others, 1)
    ratios = {kernel: size[kernel] / characters[kernel] for kernel in sorted(characters)}
    ratios["any"] = sum(size.values()) / sum(characters.values())
    taken = ", ".join(f"{name} = {code}" for name, code in library(core, called).items())
    return [
        "", f"[{core}]", f"model = {base:.0f}", f"call = {slope:.1f}", "error = ERROR", f"library = {{ {taken} }}",
        "", f"[{core}.bytes_per_character]", *(f'"{kernel}" = {ratio:.3f}' for kernel, ratio in ratios.items()),
    ]  # fmt: skip


def errors(core: str, table: dict[str, Any], held: Sequence[Graph]) -> list[float]:
    """How far off the estimates of models are that were not compiled for the table, relative."""
    found = []
    for graph in held:
        if (parts := compiled(core, graph)) is not None:
            functions, other, taken, _ = parts
            true = sum(code for _, _, code in functions) + other + taken
            found.append(sizes.estimated_code([(k, t) for k, t, _ in functions], table) / true - 1)
    return found


def main(models: Sequence[str], chosen: Sequence[str] = tuple(cores.CORES)) -> None:
    """Write the tables of these cores; of cores that are like another one, how far off its table is for them."""
    held = [g for path in models for g in both(driver.read_model(Path(path), {}, {}, static_batch=True).graph)]
    version = build_step([find_tool(COMPILER), "--version"], Path()).splitlines()[0]
    lines = [f"# Written by tools/code_sizes.py, with {version}."]
    for core in chosen:
        lines += ["", f"[{core}]", f'like = "{LIKE[core]}"', "error = ERROR"] if core in LIKE else fitted(core)
        tables = tomllib.loads("\n".join(lines).replace("ERROR", "0"))
        off = np.abs(errors(core, tables[LIKE.get(core, core)], held))
        sys.stdout.write(f"{core}: mean {off.mean():.1%}, worst {off.max():.1%} of {len(off)} programs\n")
        lines = [line.replace("ERROR", f"{np.ceil(off.max() * 20) / 20:.2f}") for line in lines]
        OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
