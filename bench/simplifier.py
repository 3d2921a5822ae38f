"""How many nodes and bytes are left, and how long does it take: planish beside onnxsim, onnxslim, onnxscript and ORT.

    python bench/zoo.py ZOO && python bench/simplifier.py FOLDER ... [--only NAME ...] [--out bench/simplifier.md]

A FOLDER holds `*.onnx`: what bench/zoo.py wrote, trained models, the graphs of the table; where it also holds
`materialize.py`, which gives weights to the light models of the onnx package, these are measured, too. Each tool runs
in a process of its own; one that is not installed (extra `bench`) is left out. Nodes are counted without
Constant, bytes are those of the file and of its external data. Dimensions that are not known are 1, for every tool.
ONNX Runtime (nothing optimized) runs each result on one seeded input, beside the source. `--keep FILE` remembers what
peers made of a model, so that a later run measures planish alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
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


def size(path: Path) -> int:
    """Bytes of the file, and of the external data that it names."""
    external = {
        entry.value
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in external)


def bare(path: Path) -> int:
    """Bytes of a model without what only people read: types of tensors inside, documentation, metadata of nodes."""
    model = onnx.load(path)
    del model.graph.value_info[:], model.graph.metadata_props[:]
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer):
        part.ClearField("doc_string")
    for node in model.graph.node:
        del node.metadata_props[:]
    return min(model.ByteSize(), size(path))


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
        return Measured(count(result), seconds, processor, max(gaps), opset(result), size(result))


def opset(path: Path) -> int:
    """The operator set of a model."""
    return next(o.version for o in onnx.load(path, load_external_data=False).opset_import if not o.domain)


#: A tool's process lives from model to model: what it imports takes longer than most models.
WORKERS: dict[str, ProcessPoolExecutor] = {}
#: After a model of as many bytes it ends, and with it what it holds.
LARGE = 64 << 20


def measured(tool: str, source: Path) -> Measured | str:
    """What the tool does, or how it fails."""
    if tool not in WORKERS:
        WORKERS[tool] = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    fresh = source.stat().st_size > LARGE
    try:
        return WORKERS[tool].submit(measure, tool, source).result(timeout=300)
    except BrokenProcessPool:
        fresh = True
        return "crashes"
    except Exception as error:  # noqa: BLE001 - any tool may fail in its own way; the table says so
        fresh |= isinstance(error, TimeoutError)
        print(f"{tool} on {source.stem}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
        return f"fails ({type(error).__name__})"
    finally:
        if fresh:
            WORKERS.pop(tool).shutdown(wait=False)


class Kept:
    """What peers made of models, by their bytes, in a JSON file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.results: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}

    def measured(self, tool: str, source: Path) -> Measured | str:
        """What the tool does: as it was kept, or measured now. planish is always measured."""
        if tool == "planish" or not self.path:
            return measured(tool, source)
        key = f"{versions([tool])} {hashlib.sha256(source.read_bytes()).hexdigest()}"
        if key not in self.results:
            result = measured(tool, source)
            self.results[key] = result if isinstance(result, str) else asdict(result)
            self.path.write_text(json.dumps(self.results, indent=1))
        kept = self.results[key]
        return kept if isinstance(kept, str) else Measured(**kept)


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
    """One model: operator set, nodes, bytes with and without what only people read, and what tools make of it."""

    model: str
    opset: int
    nodes: int
    size: int
    bare: int
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
        """The fewest bytes of any peer, or of the bare source."""
        return min([self.bare, *(r.size for r in self.fair)])

    @property
    def misses(self) -> str:
        """What is wrong with our own result, or ""."""
        ours, most = self.results["planish"], min(self.best, GOALS.get(self.model, self.best))
        if isinstance(ours, str):
            return ours
        limit = 3 if "resnet50" in self.model else 10
        found = {
            f"{ours.nodes} nodes instead of {most}": ours.nodes > most,
            f"{ours.size:,} bytes instead of {self.smallest:,}": ours.size > 1.05 * self.smallest,
            f"operator set {ours.opset} instead of {self.opset}": ours.opset > self.opset,
            f"{ours.processor:.1f} s of the processor, more than {limit}": ours.processor > limit,
            f"off by {ours.gap:.0e}": ours.gap > 1e-3,
        }
        return ", ".join(text for text, holds in found.items() if holds)

    def __str__(self) -> str:
        cells = (
            self.model,
            self.opset,
            f"{self.nodes}, {self.size:,} B",
            GOALS.get(self.model, ""),
            *self.results.values(),
            f"{self.best}, {self.smallest:,} B",
            self.misses or "-",
        )
        return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Measure, print, write. Status 1 where anything is left to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="a JSON file with what peers made of models")
    options = parser.parse_args()
    tools = [tool for tool, (module, _) in TOOLS.items() if importlib.util.find_spec(module)]
    kept = Kept(options.keep)
    lines = [f"| model | opset | in | goal | {' | '.join(tools)} | best | missed |", "|---" * (6 + len(tools)) + "|"]
    print("\n".join(lines), flush=True)
    complaints = []
    with tempfile.TemporaryDirectory() as scratch:
        for given in sources(options.folders, Path(scratch), options.only):
            source = static(given, Path(scratch))
            row = Row(
                name_of(given),
                opset(source),
                count(source),
                size(source),
                bare(source),
                {tool: kept.measured(tool, source) for tool in tools},
            )
            lines.append(str(row))
            complaints.extend([f"{row.model}: {row.misses}"] if row.misses else [])
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

`python bench/simplifier.py`: nodes without Constant, bytes of the file and of its external data, seconds on the clock
and in brackets of the processor, after an import and a first run that do not count. {cores} cores, shared with other
work (load {load} at the end): processor time says more than the clock's. planish's time is that of import, passes
(`simplify,fuse`), lowering and writing a model that onnx's checker accepts. ONNX Runtime ran every result beside its
source; differences above 1e-5 of the largest element are noted. Versions: {versions}.

"best" is the fewest nodes and the fewest bytes, of the peers that compute the same and of the source, whose bytes are
counted without types of tensors inside, documentation and metadata of nodes. "missed" is where our file has more nodes
than that, more than 1.05 times the bytes, misses the goal, raises the operator set or takes too long. Missed:{told}

"""


if __name__ == "__main__":
    main()
