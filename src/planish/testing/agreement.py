"""Drawn ONNX models (`models.py`) on every way through planish, compared with each other and with ONNX Runtime.

Each model is imported and interpreted; the interpreter is compared with ONNX Runtime, unoptimized, or where that has no
kernel with onnx's reference. `simplify,fuse` is validated; what it gives is built as C with warnings as errors, written
back as ONNX, and compiled through TVM, and all of them are executed and judged by the oracle.
"""

from __future__ import annotations

import enum
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..api import load
from ..ir.builder import const_value
from ..ir.constant import Const
from ..ir.errors import PlanishError, UnsupportedError
from ..ir.graph import Graph, Value, apply, graph_input
from ..ir.types import Array
from ..passes.base import Context
from ..passes.pipeline import run_pipeline
from ..passes.validation import Validation
from ..registry import target_named
from ..runtime import interpreter
from ..runtime.oracle import Comparison, judge
from ..runtime.target import Artifact, Limits, Target
from .models import DrawnModel

if TYPE_CHECKING:
    import onnx

PASSES = "simplify,fuse"
#: So many graphs share a program, for compiling takes long. A batch that fails is halved until one graph is to blame.
BATCH = 25


class Kind(enum.Enum):
    """What came of a model at one stage."""

    RIGHT = "right"
    UNSUPPORTED = "unsupported"
    WRONG = "wrong"
    DOES_NOT_BUILD = "does not build"
    TRACEBACK = "traceback"

    @property
    def is_fault(self) -> bool:
        return self not in (Kind.RIGHT, Kind.UNSUPPORTED)


@dataclass(frozen=True)
class Finding:
    """What came of one model (its seed) at one stage: import, passes, or a target's name. why: a line or two."""

    seed: int
    stage: str
    kind: Kind
    why: str = ""


@dataclass
class Study:
    """Findings about models, and what is left to do."""

    targets: Sequence[str] = ("onnx", "c", "tvm")
    findings: list[Finding] = field(default_factory=list)
    _waiting: dict[str, list[Case]] = field(default_factory=dict)

    @property
    def faults(self) -> list[Finding]:
        return [f for f in self.findings if f.kind.is_fault]

    def add(self, drawn: DrawnModel) -> None:
        """Import a model, compare its meaning with a peer's, transform it; and execute full batches."""
        graph: Graph | None = None
        with self._finding(drawn.seed, "import"):
            graph = _imported(drawn)
            outputs = interpreter.run(graph, drawn.inputs)
            _require(judge(graph, drawn.inputs, {**outputs, **_peer(drawn)}))
        if graph is None:
            return
        better: Graph | None = None
        with self._finding(drawn.seed, "passes"):
            better = run_pipeline(graph, PASSES, Context(), listeners=[Validation()]).graph
            _require(judge(graph, drawn.inputs, interpreter.run(better, drawn.inputs)))
        if better is None:
            return
        for name in self.targets:
            target, case = target_named(name), Case(drawn.seed, better, drawn.inputs)
            if name == "onnx":
                self._execute(target, [case])
            elif self._takes(target, case):
                self._waiting.setdefault(name, []).append(case)
                self._flush(BATCH)

    def finish(self) -> None:
        """Execute what waits."""
        self._flush(1)

    def _flush(self, least: int) -> None:
        for name, cases in self._waiting.items():
            if len(cases) >= least:
                self._waiting[name] = []
                self._execute(target_named(name), cases)

    def _takes(self, target: Target, case: Case) -> bool:
        """Whether the target takes the graph; else that is found, with the reason."""
        with self._finding(case.seed, target.name, right=False):
            lowered = _lowered(target, case.graph)
            asked = ((n, target.supports(n)) for n in lowered.nodes)
            reasons = [(n.describe(), r.reason) for n, r in asked if r is not None]
            reasons += [(f"output {v.type}", "it has no elements") for v in lowered.outputs if not v.type.size]
            if reasons:
                raise UnsupportedError(f"{reasons[0][0]}: {reasons[0][1]}")
            return True
        return False

    def _execute(self, target: Target, cases: Sequence[Case]) -> None:
        """Run cases as one program; where that does not work, each as its own."""
        if len(cases) > 1:
            try:
                verdicts = _executed(target, _merged(cases), cases)
            except Exception:  # noqa: BLE001 - the case that is to blame is found below
                middle = len(cases) // 2
                self._execute(target, cases[:middle])
                self._execute(target, cases[middle:])
                return
            for case, wrong in zip(cases, verdicts, strict=True):
                kind = Kind.WRONG if wrong else Kind.RIGHT
                self.findings.append(Finding(case.seed, target.name, kind, wrong))
            return
        with self._finding(cases[0].seed, target.name):
            (wrong,) = _executed(target, cases[0].graph, cases)
            if wrong:
                raise Disagreement(wrong)

    @contextmanager
    def _finding(self, seed: int, stage: str, right: bool = True) -> Iterator[None]:
        """What the body raises, as a finding; that it was right, if it raises nothing."""
        try:
            yield
        except UnsupportedError as error:
            self.findings.append(Finding(seed, stage, Kind.UNSUPPORTED, _first(error)))
        except PlanishError as error:
            kind = Kind.DOES_NOT_BUILD if type(error).__name__ == "BuildFailed" else Kind.WRONG
            self.findings.append(Finding(seed, stage, kind, f"{type(error).__name__}: {_first(error, 4)}"))
        except Disagreement as error:
            self.findings.append(Finding(seed, stage, Kind.WRONG, str(error)))
        except Exception:  # noqa: BLE001 - that is what is looked for
            self.findings.append(Finding(seed, stage, Kind.TRACEBACK, traceback.format_exc()[-600:]))
        else:
            if right:
                self.findings.append(Finding(seed, stage, Kind.RIGHT))


class Disagreement(Exception):
    """Two executors differ by more than rounding explains."""


@dataclass(frozen=True)
class Case:
    """A graph to execute, and its inputs."""

    seed: int
    graph: Graph
    inputs: Mapping[str, Array]


def _first(error: PlanishError, lines: int = 3) -> str:
    """The first details, where there are any; else the first lines."""
    return " | ".join(line.strip() for line in (error.details or str(error).splitlines())[:lines])[:400]


def _imported(drawn: DrawnModel) -> Graph:
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(drawn.proto, path)
        return load(path)


def _require(verdicts: Mapping[str, Comparison]) -> None:
    for name, verdict in verdicts.items():
        if not verdict.agrees:
            raise Disagreement(f"{name}: {verdict}")


def _peer(drawn: DrawnModel) -> dict[str, Array]:
    """Outputs of ONNX Runtime; of onnx's reference where that has no kernel; nothing where neither can say."""
    import onnxruntime as ort
    from onnx.reference import ReferenceEvaluator

    names = [o.name for o in drawn.proto.graph.output]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    runners: list[Callable[[], Any]] = [
        lambda: ort.InferenceSession(drawn.proto.SerializeToString(), options).run(names, drawn.inputs),
        lambda: ReferenceEvaluator(drawn.proto).run(names, drawn.inputs),
    ]
    for runner in runners:
        try:
            with np.errstate(all="ignore"):
                found = dict(zip(names, map(np.asarray, runner()), strict=True))
        except Exception:  # noqa: BLE001 - a peer without a kernel says nothing about the model
            continue
        # The shapes are the checker's: a peer that gives others (onnx.reference does now and then) is wrong.
        if all(found[o.name].shape == _dims(o) for o in drawn.proto.graph.output):
            return found
    return {}


def _dims(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in info.type.tensor_type.shape.dim)


def _lowered(target: Target, graph: Graph) -> Graph:
    return run_pipeline(graph, target.lowering, Context(target=target)).graph


def _executed(target: Target, graph: Graph, cases: Sequence[Case]) -> list[str]:
    """What is wrong with each of the cases that the graph computes side by side: "" where nothing is."""
    lowered = _lowered(target, graph)
    arrays = [a for case in cases for a in (case.inputs[n] for n in case.graph.input_names)]
    inputs = {name: np.asarray(array)[None] for name, array in zip(graph.input_names, arrays, strict=True)}
    with tempfile.TemporaryDirectory() as folder:
        artifact = target.emit(lowered, Path(folder), "drawn", Limits())
        outputs = iter(_run(target, artifact, inputs).values())
    wrong = []
    for case in cases:
        own = {name: next(outputs)[0] for name in case.graph.output_names}
        verdicts = judge(case.graph, case.inputs, own)
        wrong.append("; ".join(f"{name}: {v}" for name, v in verdicts.items() if not v.agrees))
    return wrong


def _run(target: Target, artifact: Artifact, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """Outputs of an artifact. What ONNX Runtime has no kernel for is imported again, and interpreted."""
    try:
        return target.run(artifact, inputs).outputs
    except PlanishError as error:
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        return interpreter.run_batch(load(artifact.path / "model.onnx"), inputs)


def _merged(cases: Sequence[Case]) -> Graph:
    """One graph that computes them all side by side."""
    inputs, outputs = [], []
    for number, case in enumerate(cases):
        known: dict[Value, Value] = {}
        for value in case.graph.inputs:
            known[value] = graph_input(f"m{number}_{value.name}", value.type)
            inputs.append(known[value])
        for node in case.graph.nodes:
            if isinstance(node.op, Const):
                known[node.results[0]] = const_value(node.op.data)
            else:
                twin = apply(node.op, *(known[v] for v in node.operands), loc=node.loc)
                known.update(zip(node.results, twin.results, strict=True))
        outputs += [known[v] for v in case.graph.outputs]
    return Graph(inputs, outputs, [f"y{i}" for i in range(len(outputs))], "drawn")
