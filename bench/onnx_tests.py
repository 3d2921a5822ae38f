"""ONNX's own backend tests: how many planish gets right, gets wrong, does not support, calls broken, or crashes on.

    python bench/onnx_tests.py [-v] [part of a name]

The tests are those of the installed `onnx`: one-node models made by its Python code, and the folders of data that its
wheel holds. A model is imported as it is; then with all inputs but the first bound to the test's values, as shapes may
depend on them; then with all.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, PlanishError, UnsupportedError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph

#: Folders of data in the wheel, beside the one-node models. Others hold large models without data.
FOLDERS = ("simple", "pytorch-operator", "pytorch-converted")


@dataclass(frozen=True)
class Case:
    """A model and one set of data: inputs in the order of the graph's, and expected outputs."""

    name: str
    kind: str
    model: onnx.ModelProto
    inputs: Sequence[Any]
    outputs: Sequence[Any]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Verdict:
    """kind: right, wrong, unsupported, broken or crash; why: the message, or the first difference."""

    kind: str
    why: str = ""


def node_cases() -> Iterator[Case]:
    """The one-node models of `onnx.backend.test.case.node`, and their variants that use functions' bodies."""
    import onnx.backend.test.case.node as nodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows that the cases want
        found = nodes.collect_testcases(None)
    for case in found:
        inputs, outputs = case.data_sets[0]
        yield Case(case.name, "node", case.model, inputs, outputs, case.rtol, case.atol)


def folder_cases(kind: str) -> Iterator[Case]:
    """The models of one folder of data."""
    for folder in sorted(Path(onnx.__file__).parent.joinpath("backend", "test", "data", kind).iterdir()):
        model = onnx.load(folder / "model.onnx")
        arrays: dict[str, list[Any]] = {"input": [], "output": []}
        for what, values in arrays.items():
            files = sorted((folder / "test_data_set_0").glob(f"{what}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            declared = model.graph.input if what == "input" else model.graph.output
            for file, info in zip(files, declared, strict=False):
                values.append(_read(file, info.type.WhichOneof("value")))
        yield Case(folder.name, kind, model, arrays["input"], arrays["output"], 1e-3, 1e-7)


def _read(file: Path, kind: str | None) -> Any:
    if kind == "tensor_type":
        return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))
    return file  # a sequence or an optional: no tensor, so no model of it is imported


def judged(case: Case, folder: Path) -> Verdict:
    """What planish makes of a case."""
    path = folder / "case.onnx"
    onnx.save(case.model, path)
    names = [i.name for i in case.model.graph.input]
    given = {n: _array(v) for n, v in zip(names, case.inputs, strict=False)}
    try:
        graph = _imported(path, names, {n: v for n, v in given.items() if isinstance(v, np.ndarray)})
        with np.errstate(all="ignore"):
            results = evaluate(graph, [given[v.name] for v in graph.inputs])
    except PlanishError as error:
        return Verdict("broken" if isinstance(error, ModelError) else "unsupported", str(error))
    except Exception:  # noqa: BLE001 - that is what is counted
        return Verdict("crash", traceback.format_exc(limit=-3))
    return _compared(results, [_array(v) for v in case.outputs], case)


def _imported(path: Path, names: Sequence[str], given: dict[str, Any]) -> Graph:
    error: PlanishError | None = None
    for bound in ((), names[1:], names):
        try:
            return load(path, bind={n: given[n] for n in bound if n in given})
        except UnsupportedError as refused:
            error = error or refused
    assert error is not None
    raise error


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def _compared(results: Sequence[Any], expected: Sequence[Any], case: Case) -> Verdict:
    for result, wanted in zip(results, expected, strict=False):
        if not isinstance(wanted, np.ndarray) or (result.dtype, result.shape) != (wanted.dtype, wanted.shape):
            shape = getattr(wanted, "shape", "?")
            return Verdict(
                "wrong", f"{result.dtype}{list(result.shape)}, expected {getattr(wanted, 'dtype', '?')}{shape}"
            )
        ours, theirs = (np.asarray(a).astype(np.float64) for a in (result, wanted))
        close = np.isclose(ours, theirs, rtol=case.rtol, atol=case.atol, equal_nan=True)
        if not close.all():
            first = tuple(np.argwhere(~close)[0])
            return Verdict("wrong", f"{(~close).sum()} of {close.size}: {ours[first]}, expected {theirs[first]}")
    return Verdict("right")


def all_cases() -> Iterator[Case]:
    """Every case that comes with data."""
    yield from node_cases()
    for kind in FOLDERS:
        yield from folder_cases(kind)


def main(words: Sequence[str]) -> None:
    """Judge the cases whose names hold one of the words, or all; print what is not right, and counts."""
    verbose, parts = "-v" in words, [w for w in words if w != "-v"]
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in all_cases():
            if parts and not any(part in case.name for part in parts):
                continue
            verdict = judged(case, Path(folder))
            counts[case.kind, verdict.kind] += 1
            if verdict.kind in ("wrong", "broken", "crash") or (verbose and verdict.kind != "right"):
                print(f"{verdict.kind}: {case.kind}/{case.name}: {verdict.why}", flush=True)
    kinds = ("right", "wrong", "unsupported", "broken", "crash")
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind:18} " + "  ".join(f"{counts[kind, verdict]} {verdict}" for verdict in kinds))


if __name__ == "__main__":
    main(sys.argv[1:])
