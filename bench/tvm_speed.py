"""Mobile code on this processor against ONNX Runtime, one thread: milliseconds per inference.

    PLANISH_MODELS=... python bench/tvm_speed.py [MODEL ...] [--runs 101]

float and int8 machine code of target `tvm` and ONNX Runtime's float run in turn; the medians are compared. Each figure
is of few calls, so that other work on the machine spoils some of them and not the median.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from models import chosen
from networks import NETWORKS

import planish
from planish.ir.graph import Graph

FLOAT = "simplify,fuse"
INTEGER = "simplify,fuse,quantize,fold-quantization,simplify"
TINY = ("ic_resnet8", "kws_dscnn")


def compiled(graph: Graph, folder: Path) -> tuple[Callable[[], object], float]:
    """A call of the graph's machine code on inputs that lie ready, and the seconds that compiling took."""
    started = time.perf_counter()
    artifact = planish.compile(graph, target="tvm", out=folder)
    seconds = time.perf_counter() - started
    name = artifact.facts["name"]
    sources = [f"{name}.c", f"{name}_weights.S", f"{name}_kernels.o"]
    subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-I.", *sources, "-lm", "-o", "net.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "net.so"))
    random = np.random.default_rng(0)
    arena = np.zeros(artifact.facts["arena_bytes"] + 64, np.uint8)
    start = arena.ctypes.data + -arena.ctypes.data % 64
    context = (ctypes.c_void_p * 1)()
    getattr(library, f"{name}_init")(context, ctypes.c_void_p(start), ctypes.c_size_t(artifact.facts["arena_bytes"]))
    inputs = [random.uniform(0, 1, v.type.shape).astype(v.type.dtype.numpy) for v in artifact.graph.inputs]
    outputs = [np.zeros(v.type.shape, v.type.dtype.numpy) for v in artifact.graph.outputs]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*inputs, *outputs)]
    run, kept = getattr(library, f"{name}_run"), (arena, inputs, outputs)
    return lambda: (run(context, *pointers), kept), seconds


def reference(path: Path) -> Callable[[], object]:
    """A call of ONNX Runtime on one thread, all its optimizations on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {
        i.name: random.uniform(0, 1, [d if isinstance(d, int) else 1 for d in i.shape]) for i in session.get_inputs()
    }
    feeds = {name: x.astype(np.float32) for name, x in feeds.items()}
    return lambda: session.run(None, feeds)


def medians(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Milliseconds of each, run in turn; each figure is of enough calls to last half a millisecond."""
    repeats = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        call()
        repeats[name] = max(1, int(0.0005 / (time.perf_counter() - started)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.perf_counter() - started) / repeats[name] * 1e3)
    return {name: statistics.median(t) for name, t in times.items()}


def measure(name: str, runs: int, folder: Path) -> dict[str, float]:
    """One model: figures in milliseconds, and the seconds that compiling its float graph took."""
    if name in NETWORKS:
        path, calibration = folder / f"{name}.onnx", str(folder / "calib.npz")
        NETWORKS[name](path)
        # Two samples: the interpreter takes seconds for each, and accuracy is not asked for.
        np.savez(calibration, x=np.random.default_rng(1).uniform(0, 1, (2, 3, 224, 224)).astype(np.float32))
    else:
        (benchmark,) = chosen([name])
        path, calibration = benchmark.path(), benchmark.data(benchmark.calibration)
    graph = planish.load(path)
    fast, seconds = compiled(planish.optimize(graph, FLOAT), folder / "float")
    data = planish.data(calibration)
    small, _ = compiled(planish.optimize(planish.load(path), INTEGER, calibration=data), folder / "int8")
    times = medians({"float": fast, "int8": small, "onnxruntime": reference(path)}, runs)
    return {**times, "compile_seconds": seconds}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", default=[*TINY, *NETWORKS])
    parser.add_argument("--runs", type=int, default=101)
    options = parser.parse_args()
    print("| model | float ms | int8 ms | ONNX Runtime ms | float / ONNX Runtime | float / int8 | compiled in s |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            m = measure(name, options.runs, Path(folder))
        ratios = f"{m['float'] / m['onnxruntime']:.2f} | {m['float'] / m['int8']:.2f}"
        times = f"{m['float']:.3f} | {m['int8']:.3f} | {m['onnxruntime']:.3f}"
        print(f"| {name} | {times} | {ratios} | {m['compile_seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
