"""What large graphs cost, and small files that ask for much (`bombs.py`): seconds of the processor for each step.

    python bench/scale.py [SHAPE ...] [--nodes 1000 10000] [--bombs] [--out bench/scale.md]

A step that is linear takes ten times as long for ten times the nodes. Each size runs in a process of its own, after a
graph of a few nodes on which imports and the first use of everything are spent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bombs
import numpy as np
import onnx
from onnx import helper

STEPS = ("import", "simplify", "fuse", "run", "text", "parse", "c", "onnx")


def _chain(ops: list[str], n: int, extra: tuple[str, ...] = ()) -> list[Any]:
    names = ["x", *(f"c{i}" for i in range(n - 1)), "y"]
    return [helper.make_node(ops[i % len(ops)], [names[i], *extra], [names[i + 1]], name=f"n{i}") for i in range(n)]


def _residual(n: int) -> list[Any]:
    nodes, value = [], "x"
    for i in range(n // 3):
        result = "y" if i == n // 3 - 1 else f"c{i}"
        nodes += [
            helper.make_node("Conv", [value, "k"], [f"a{i}"], name=f"conv{i}"),
            helper.make_node("Sigmoid", [f"a{i}"], [f"b{i}"], name=f"sigmoid{i}"),
            helper.make_node("Add", [value, f"b{i}"], [result], name=f"add{i}"),
        ]
        value = result
    return nodes


def _branches(n: int, value: str) -> list[Any]:
    return [helper.make_node("Mul", [value, f"w{i}"], [f"b{i}"], name=f"mul{i}") for i in range(n)]


def _concat(n: int) -> list[Any]:
    parts = [f"b{i}" for i in range(n)]
    return [*_branches(n, "x"), helper.make_node("Concat", parts, ["y"], axis=1, name="concat")]


def _users(n: int) -> list[Any]:
    """One value with n / 2 users, whose results become one in the manner of a tree."""
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"], name="sigmoid"), *_branches(n // 2, "s")]
    values, count = [f"b{i}" for i in range(n // 2)], 0
    while len(values) > 1:
        made = []
        for a, b in zip(values[::2], values[1::2], strict=False):
            made.append(f"m{count}")
            nodes.append(helper.make_node("Max", [a, b], [made[-1]], name=f"max{count}"))
            count += 1
        values = made + values[2 * len(made) :]
    return [*nodes, helper.make_node("Sigmoid", values, ["y"], name="last")]


SHAPES: dict[str, Callable[[int], list[Any]]] = {
    "add": lambda n: _chain(["Add"], n, ("w",)),
    "relu": lambda n: _chain(["Relu"], n),
    "sigmoid": lambda n: _chain(["Sigmoid"], n),
    "alternating": lambda n: _chain(["Sigmoid", "Neg", "Tanh"], n),
    "conv": lambda n: _chain(["Conv"], n, ("k",)),
    "residual": _residual,
    "concat": _concat,
    "users": _users,
}


def model(shape: str, n: int) -> onnx.ModelProto:
    """A model of about n nodes."""
    nodes = SHAPES[shape](n)
    read = {name for node in nodes for name in node.input}
    constants = {"w": np.ones(8, np.float32), "k": np.ones((1, 1, 1, 1), np.float32)}
    constants |= {f"w{i}": np.full(8, i + 2, np.float32) for i in range(n)}
    x = helper.make_tensor_value_info("x", 1, [1, 1, 4, 4] if "k" in read else [1, 8])
    y = helper.make_tensor_value_info("y", 1, None)
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items() if name in read]
    graph = helper.make_graph(nodes, shape, [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seconds() -> float:
    """Of the processor, since this process began."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(shape: str, n: int) -> dict[str, float]:
    """Seconds of the processor by step."""
    import planish
    from planish.ir.text import load, save

    taken: dict[str, float] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        start = seconds()
        result = work()
        taken[name] = seconds() - start
        return result

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        onnx.save(model(shape, n), folder / "model.onnx")
        graph = step("import", lambda: planish.load(folder / "model.onnx"))
        simplified = step("simplify", lambda: planish.optimize(graph, "simplify"))
        fused = step("fuse", lambda: planish.optimize(simplified, "fuse"))
        inputs = {v.name: np.zeros(v.type.shape, np.float32) for v in graph.inputs}
        step("run", lambda: planish.run(graph, inputs))
        step("text", lambda: save(graph, folder / "model.planish"))
        step("parse", lambda: load(folder / "model.planish"))
        step("c", lambda: planish.compile(fused, target="c", out=folder / "c"))
        step("onnx", lambda: planish.compile(fused, target="onnx", out=folder / "onnx"))
    return taken


def in_a_process(shape: str, n: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, shape, "--nodes", str(n), "--measure"]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def graphs(shapes: list[str], sizes: list[int]) -> Iterator[str]:
    """Lines of the table of graphs."""
    yield f"| graph | nodes | {' | '.join(STEPS)} | all |"
    yield f"|---|{'---|' * (len(STEPS) + 2)}"
    for shape in shapes:
        for n in sizes:
            taken = in_a_process(shape, n)
            cells = [f"{taken[name]:.2f}" for name in STEPS]
            yield f"| {shape} | {n} | {' | '.join(cells)} | {sum(taken.values()):.1f} |"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], default=[])
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--bombs", nargs="*", metavar="NAME", default=None, help="of these files alone; none: all")
    parser.add_argument("--graphs", action="store_true", help="of graphs alone")
    parser.add_argument("--commands", nargs="+", choices=bombs.COMMANDS, default=["check", "check int8", "run", "c"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.shapes[0], 8)
        print(json.dumps(measure(options.shapes[0], options.nodes[0])))
        return
    parts: list[tuple[str, Iterator[str]]] = []
    if options.bombs is None:
        parts.append((GRAPHS, graphs(options.shapes or list(SHAPES), options.nodes)))
    if not (options.graphs or options.shapes):
        parts.append((BOMBS, bombs.table(options.bombs or list(bombs.MODELS), options.commands)))
    text = ""
    for title, lines in parts:
        text += title
        print(title)
        for line in lines:
            text += f"{line}\n"
            print(line, flush=True)
    if options.out:
        options.out.write_text(text)


GRAPHS = f"""# What large graphs cost

`python bench/scale.py`: seconds of the processor for each step, on graphs of 1,000 and 10,000 nodes.
{os.cpu_count()} cores ({platform.machine()}), shared with other work (load {os.getloadavg()[0]:.0f}): times vary.
`text` prints the imported graph, `parse` reads it; `c` and `onnx` are lowering, the target's files, both graphs, the
report and its page. That no step grows faster than the graph is held by tests (`tests/passes/test_scale.py`), which
count lines that are executed.

"""
BOMBS = f"""
# What small files cost that ask for much

`bench/bombs.py`: seconds of the processor and megabytes of commands on models that ask for 2^25
elements or more, of values or of constants. An exit code of 4 or 3 is a refusal in words; a negative one means that the
process was stopped, after {bombs.STOPPED} seconds.

"""

if __name__ == "__main__":
    main()
