"""How far executors are from double precision, beside how far the oracle lets them be; and which faults it finds.

    python bench/rounding.py [--seeds 5] [--out bench/rounding.md]

Networks of the tests (drawn) and the float models in the folder that PLANISH_MODELS names. Executors: the interpreter,
C, TVM, ONNX Runtime on what target onnx writes. Ratios are distances over tolerances, element by element: above 1 a
right result is called wrong. Faults: one weight of each layer's constant is changed, or two of its channels change
places, and the interpreter computes it; those that move no element by more than its float32 roundoff times 100 are left
out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planish.api import load
from planish.ir.constant import Const
from planish.ir.errors import UnsupportedError
from planish.ir.graph import Graph
from planish.ir.types import Array
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime import interpreter
from planish.runtime.oracle import differs, graph_tolerance
from tests.support.emitted import run_for
from tests.support.float_nets import NETWORKS, sample_of

Sample = Mapping[str, Array]
EXECUTORS = ("interpreter", "c", "tvm", "onnx")


def main() -> None:
    """Execute, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    ratios: dict[tuple[str, str], list[Array]] = defaultdict(list)
    faults: dict[str, list[bool]] = defaultdict(list)
    for name, seed, graph, sample in _cases(asked.seeds):
        allowed = graph_tolerance(graph, sample)
        for executor in EXECUTORS:
            try:
                found = _run(executor, graph, sample)
            except UnsupportedError:
                continue
            ratios[name, executor] += [_ratios(*allowed[k], found[k]) for k in allowed]
        faults[name] += list(_found(graph, sample, np.random.default_rng(seed)))
    for name in dict.fromkeys(n for n, _ in ratios):
        for executor in (e for e in EXECUTORS if (name, e) in ratios):
            all_of = np.concatenate(ratios[name, executor])
            figures = " | ".join(f"{np.quantile(all_of, q):.4f}" for q in (0.5, 0.999, 1))
            caught = f"{sum(faults[name])} of {len(faults[name])}" if executor == EXECUTORS[0] else ""
            rows.append(f"| {name} | {executor} | {all_of.size} | {figures} | {caught} |")
    page = "\n".join(
        [
            "# Rounding, beside what the oracle allows",
            "",
            f"Written by `python bench/rounding.py --seeds {asked.seeds}`, which says what is compared.",
            "",
            "| network | executor | elements | ratio: median | 99.9 % | largest | faults found |",
            "|---|---|---:|---:|---:|---:|---:|",
            *rows,
        ]
    )
    print(page)
    if asked.out:
        asked.out.write_text(page + "\n", encoding="utf-8")


def _cases(seeds: int) -> Iterator[tuple[str, int, Graph, Sample]]:
    for name, make in NETWORKS.items():
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            graph = make(random)
            yield name, seed, graph, sample_of(graph, random)
    folder = os.environ.get("PLANISH_MODELS")
    for path in sorted(Path(folder).rglob("*.onnx")) if folder else ():
        try:
            graph = run_pipeline(load(path), "simplify,fuse", Context()).graph
        except UnsupportedError:
            continue
        if any(not isinstance(d, int) for v in graph.inputs for d in v.type.shape):
            continue
        for seed in range(min(seeds, 2)):
            yield f"{path.parent.name}/{path.stem}", seed, graph, sample_of(graph, np.random.default_rng(seed))


def _run(executor: str, graph: Graph, sample: Sample) -> Mapping[str, Array]:
    return interpreter.run(graph, sample) if executor == "interpreter" else run_for(executor, graph, sample)


def _ratios(exact: Array, tolerance: Array, found: Array) -> Array:
    gap = np.abs(found.astype(np.float64) - exact)
    with np.errstate(all="ignore"):
        return np.where(gap == 0, 0.0, gap / tolerance).reshape(-1)


def _found(graph: Graph, sample: Sample, random: np.random.Generator) -> Iterator[bool]:
    """Of each fault that is planted, whether the oracle finds it."""
    allowed = graph_tolerance(graph, sample)
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.op, Const) or node.op.data.ndim < 2 or node.op.data.dtype != np.float32:
            continue
        for kind in ("element", "channels"):
            data = node.op.data.copy()
            if kind == "element":
                data.flat[random.integers(data.size)] *= np.float32(1.01)
            elif len(data) > 1:
                data[[0, 1]] = data[[1, 0]]
            wrong = graph.clone()
            list(wrong.nodes)[index].op = Const(data)
            found = interpreter.run(wrong, sample)
            if any(np.any(np.abs(found[k] - e) > 100 * 2.0**-24 * np.abs(e).max()) for k, (e, _) in allowed.items()):
                yield any(bool(differs(e, found[k], room).any()) for k, (e, room) in allowed.items())


if __name__ == "__main__":
    main()
