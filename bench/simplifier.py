"""How many nodes are left, and how long does it take: planish beside onnxsim, onnxslim, onnxscript and ONNX Runtime.

    PLANISH_GRAPHS=FOLDER python bench/simplifier.py [MODEL ...] [--out bench/simplifier.md]

FOLDER holds exported graphs, and `materialize.py`, which gives the light models of the onnx package weights. Each tool
runs in a process of its own per model; one that is not installed (extra `bench`) is left out. Nodes are counted without
Constant. A result is run by ONNX Runtime (nothing optimized) on one seeded input, beside the source.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import onnx

#: What the table asks for, by model.
GOALS = {
    "light_resnet50": 123, "light_densenet121": 367, "light_inception_v2": 163, "light_shufflenet": 154,
    "mobilenet_v2.dynraw": 100, "shufflenet_v2.dynraw": 173, "vit_tiny.ts": 168, "vit_tiny.dynraw": 152,
    "lstm2bi.ts": 7, "lstm2bi.dynraw": 7,
}  # fmt: skip


def planish(source: Path, result: Path) -> None:
    """Import, passes, lowering and the model that target onnx writes and checks; no build folder."""
    import planish
    from planish.passes.base import Context
    from planish.passes.pipeline import run_pipeline
    from planish.registry import target_named
    from planish.runtime.target import Limits

    target = target_named("onnx")
    graph = planish.optimize(planish.load(source), "simplify,fuse")
    lowered = run_pipeline(graph, target.lowering, Context(target=target)).graph
    artifact = target.emit(lowered, result.parent, "model", Limits())
    (artifact.path / "model.onnx").rename(result)


def onnxsim(source: Path, result: Path) -> None:
    """Its defaults."""
    import onnxsim

    onnx.save(onnxsim.simplify(onnx.load(source))[0], result)


def onnxslim(source: Path, result: Path) -> None:
    """Its defaults."""
    import onnxslim

    onnx.save(onnxslim.slim(onnx.load(source)), result)


def onnxscript(source: Path, result: Path) -> None:
    """Its defaults."""
    import onnxscript.optimizer

    onnx.save(onnxscript.optimizer.optimize(onnx.load(source)), result)


def runtime(source: Path, result: Path) -> None:
    """What the level "basic" writes."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(result)
    options.log_severity_level = 4
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


TOOLS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "planish": ("planish", planish),
    "onnxsim": ("onnxsim", onnxsim),
    "onnxslim": ("onnxslim", onnxslim),
    "onnxscript": ("onnxscript", onnxscript),
    "ORT basic": ("onnxruntime", runtime),
}


def count(path: Path) -> int:
    """Nodes without constants."""
    return sum(node.op_type != "Constant" for node in onnx.load(path).graph.node)


def outputs(path: Path) -> list[Any]:
    """What ONNX Runtime computes, nothing optimized, for a seeded input."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {}
    for x in session.get_inputs():
        reals = random.standard_normal(x.shape).astype(np.float32)
        feeds[x.name] = reals if x.type == "tensor(float)" else random.integers(0, 50, x.shape)
    return session.run(None, feeds)


def measure(tool: str, source: Path) -> tuple[int, float, float]:
    """Nodes, seconds, and the largest difference of any output, relative to the largest element. In a worker."""
    _, run = TOOLS[tool]
    with tempfile.TemporaryDirectory() as scratch:
        small = onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node("Relu", ["x"], ["y"])], "g",
                *([onnx.helper.make_tensor_value_info(n, 1, [1])] for n in "xy"),
            ), opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8,
        )  # fmt: skip
        onnx.save(small, Path(scratch) / "small.onnx")
        run(Path(scratch) / "small.onnx", Path(scratch) / "ready.onnx")  # imports do not count
        result = Path(scratch) / "result.onnx"
        start = time.perf_counter()
        run(source, result)
        seconds = time.perf_counter() - start
        gaps = [
            float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
            for a, b in zip(outputs(result), outputs(source), strict=True)
        ]
        return count(result), seconds, max(gaps)


def cell(tool: str, source: Path) -> tuple[int | None, str]:
    """Nodes, and the table's cell."""
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            nodes, seconds, gap = pool.submit(measure, tool, source).result(timeout=300)
    except BrokenProcessPool:
        return None, "crashes"
    except Exception as error:  # noqa: BLE001 - any tool may fail in its own way; the table says so
        print(f"{tool} on {source.stem}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return None, f"fails ({type(error).__name__})"
    return nodes, f"{nodes}, {seconds:.2f} s{'' if gap <= 1e-5 else f', off by {gap:.0e}'}"


def light(folder: Path, scratch: Path) -> list[Path]:
    """The light models of the onnx package, with weights."""
    spec = importlib.util.spec_from_file_location("materialize", folder / "materialize.py")
    if spec is None or spec.loader is None:
        sys.exit("materialize.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    paths = []
    for source in sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx")):
        paths.append(scratch / source.name)
        onnx.save(module.materialize(onnx.load(source)), paths[-1])
    return paths


def main() -> None:
    """Measure, print, write. Status 1 where a goal is missed or a peer has fewer nodes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", help="parts of names; default: all")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = Path(os.environ.get("PLANISH_GRAPHS", ""))
    if not (folder / "materialize.py").is_file():
        sys.exit("set PLANISH_GRAPHS to the folder with exported graphs and materialize.py")
    tools = [tool for tool, (module, _) in TOOLS.items() if importlib.util.find_spec(module)]
    lines = [f"| model | opset | in | goal | {' | '.join(tools)} |", "|---" * (4 + len(tools)) + "|"]
    print("\n".join(lines), flush=True)
    missed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for source in [*light(folder, Path(scratch)), *sorted(folder.glob("*.onnx"))]:
            if options.models and not any(part in source.stem for part in options.models):
                continue
            cells = [cell(tool, source) for tool in tools]
            (ours, _), *others = cells
            best = min((nodes for nodes, _ in others if nodes is not None), default=sys.maxsize)
            goal = GOALS.get(source.stem)
            missed += ours is None or ours > min(best, goal or best)
            opset = next(o.version for o in onnx.load(source).opset_import if not o.domain)
            lines.append(
                f"| {source.stem} | {opset} | {count(source)} | {goal or ''} | {' | '.join(c for _, c in cells)} |"
            )
            print(lines[-1], flush=True)
    if options.out:
        options.out.write_text(TITLE.format(versions(tools)) + "\n".join(lines) + "\n")
    sys.exit(1 if missed else 0)


def versions(tools: list[str]) -> str:
    """The peers as they were installed."""
    from importlib.metadata import version

    return ", ".join(f"{TOOLS[tool][0]} {version(TOOLS[tool][0])}" for tool in tools if tool != "planish")


TITLE = """# The simplifier beside its peers

`python bench/simplifier.py`: nodes without Constant, and wall-clock seconds on two cores shared with other work (ratios
say more than numbers), after an import and a first run that do not count. planish's time is that of import, passes
(`simplify,fuse`), lowering and writing a model that onnx's checker accepts. Every result was run by ONNX Runtime
beside its source; differences above 1e-5 of the largest element are noted. Versions: {}.

"""


if __name__ == "__main__":
    main()
