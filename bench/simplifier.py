"""How many nodes and bytes are left, and how long does it take: planish beside onnxsim, onnxslim, onnxscript and ORT.

    python bench/zoo.py ZOO && python bench/simplifier.py FOLDER ... [--only NAME ...] [--out bench/simplifier.md]

A FOLDER holds `*.onnx`: what bench/zoo.py wrote, trained models, the graphs of the table; where it also holds
`materialize.py`, which gives weights to the light models of the onnx package, these are measured, too. Each tool runs
in a process of its own per model; one that is not installed (extra `bench`) is left out. Nodes are counted without
Constant. Dimensions that are not known are 1, for every tool. ONNX Runtime (nothing optimized) runs each result on one
seeded input, beside the source.
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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Measured:
    """Nodes and bytes left, seconds on the clock and of the processor, and the largest difference of an output.

    The difference is relative to the largest element; `opset` is that of the result.
    """

    nodes: int
    seconds: float
    processor: float
    gap: float
    opset: int
    size: int

    def __str__(self) -> str:
        off = "" if self.gap <= 1e-5 else f", off by {self.gap:.0e}"
        return f"{self.nodes}, {self.size:,} B, {self.seconds:.2f} s ({self.processor:.2f}){off}"


def measure(tool: str, source: Path) -> Measured:
    """Run a tool. In a worker."""
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
        start = time.perf_counter(), time.process_time()
        run(source, result)
        seconds, processor = time.perf_counter() - start[0], time.process_time() - start[1]
        gaps = [
            float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
            for a, b in zip(outputs(result), outputs(source), strict=True)
        ]
        return Measured(count(result), seconds, processor, max(gaps), opset(result), result.stat().st_size)


def opset(path: Path) -> int:
    """The operator set of a model."""
    return next(o.version for o in onnx.load(path, load_external_data=False).opset_import if not o.domain)


def measured(tool: str, source: Path) -> Measured | str:
    """What the tool does, or how it fails."""
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(measure, tool, source).result(timeout=300)
    except BrokenProcessPool:
        return "crashes"
    except Exception as error:  # noqa: BLE001 - any tool may fail in its own way; the table says so
        print(f"{tool} on {source.stem}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
        return f"fails ({type(error).__name__})"


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


@dataclass(frozen=True)
class Row:
    """One model: its operator set and nodes, what is asked for, and what each tool makes of it."""

    model: str
    opset: int
    nodes: int
    size: int
    results: dict[str, Measured | str]

    @property
    def fair(self) -> list[Measured]:
        """Results of peers that compute the same."""
        peers = [r for tool, r in self.results.items() if tool != "planish" and isinstance(r, Measured)]
        return [r for r in peers if r.gap < 1e-3]

    @property
    def best(self) -> int:
        """The fewest nodes of any peer, or of the source."""
        return min([self.nodes, *(r.nodes for r in self.fair)])

    @property
    def smallest(self) -> int:
        """The fewest bytes of any peer, or of the source."""
        return min([self.size, *(r.size for r in self.fair)])

    @property
    def complaint(self) -> str:
        """What is wrong with our own result, or ""."""
        ours, most = self.results["planish"], min(self.best, GOALS.get(self.model, self.best))
        if isinstance(ours, str):
            return f"{self.model}: {ours}"
        if ours.nodes > most:
            return f"{self.model}: {ours.nodes} nodes instead of {most}"
        if ours.size > 1.05 * self.smallest:
            return f"{self.model}: {ours.size:,} bytes instead of {self.smallest:,}"
        if ours.opset > self.opset:
            return f"{self.model}: operator set {ours.opset} instead of {self.opset}"
        limit = 3 if "resnet50" in self.model else 10
        slow = f"{self.model}: {ours.processor:.1f} s of the processor, more than {limit}"
        return slow if ours.processor > limit else ""

    def __str__(self) -> str:
        cells = (
            self.model,
            self.opset,
            f"{self.nodes}, {self.size:,} B",
            GOALS.get(self.model, ""),
            *self.results.values(),
        )
        return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure, print, write. Status 1 where anything is left to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tools = [tool for tool, (module, _) in TOOLS.items() if importlib.util.find_spec(module)]
    lines = [f"| model | opset | in | goal | {' | '.join(tools)} |", "|---" * (4 + len(tools)) + "|"]
    print("\n".join(lines), flush=True)
    complaints = []
    with tempfile.TemporaryDirectory() as scratch:
        for given in sources(options.folders, Path(scratch), options.only):
            source = static(given, Path(scratch))
            row = Row(
                name_of(given),
                opset(source),
                count(source),
                source.stat().st_size,
                {tool: measured(tool, source) for tool in tools},
            )
            lines.append(str(row))
            complaints.extend([row.complaint] if row.complaint else [])
            print(lines[-1], flush=True)
    told = "".join(f"\n- {c}" for c in complaints) or " nothing."
    if options.out:
        load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
        text = TITLE.format(versions=versions(tools), load=load, cores=os.cpu_count(), told=told)
        options.out.write_text(text + "\n".join(lines) + "\n")
    sys.exit(f"Left to do:{told}" if complaints else 0)


def sources(folders: list[Path], scratch: Path, only: list[str]) -> list[Path]:
    """The models to measure."""
    paths = []
    for folder in folders:
        paths += light(folder, scratch) if (folder / "materialize.py").is_file() else []
        paths += sorted(folder.glob("*.onnx")) or sorted(folder.glob("*/model.onnx"))
    return [p for p in paths if not only or any(part in name_of(p) for part in only)]


def static(source: Path, scratch: Path) -> Path:
    """The model, its unknown dimensions 1: a copy where there are any."""
    model = onnx.load(source)
    ends = (*model.graph.input, *model.graph.output)
    dims = [d for end in ends for d in end.type.tensor_type.shape.dim if not d.HasField("dim_value")]
    if not dims:
        return source
    for dim in dims:
        dim.dim_value = 1
    del model.graph.value_info[:]
    onnx.save(model, scratch / f"{name_of(source)}.onnx")
    return scratch / f"{name_of(source)}.onnx"


def name_of(source: Path) -> str:
    """A model's name: its file's or, where that is `model.onnx`, its folder's."""
    return source.stem if source.stem != "model" else source.parent.name


def versions(tools: list[str]) -> str:
    """The peers as they were installed."""
    from importlib.metadata import version

    return ", ".join(f"{TOOLS[tool][0]} {version(TOOLS[tool][0])}" for tool in tools if tool != "planish")


TITLE = """# The simplifier beside its peers

`python bench/simplifier.py`: nodes without Constant, bytes of the file, seconds on the clock and in brackets of the
processor, after an import and a first run that do not count. {cores} cores, shared with other work (load {load} at the
end): processor time says more than the clock's. planish's time is that of import, passes (`simplify,fuse`), lowering
and writing a model that onnx's checker accepts. ONNX Runtime ran every result beside its source; differences above 1e-5
of the largest element are noted. Versions: {versions}.

Where a peer or the source has fewer nodes, or by more than a twentieth fewer bytes, a goal is missed, the operator set
is raised, or it takes too long:{told}

"""


if __name__ == "__main__":
    main()
