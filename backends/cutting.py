"""Programs of quantized graphs that are float in parts, cut behind every `quantize`, so that layers can be judged."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..ir.ops.quant import Quantize
from ..passes.base import Context
from ..passes.group import ungroup
from ..passes.pipeline import run_pipeline
from ..runtime.target import Artifact, Limits, Target
from ..runtime.unchained import Cut, unchained


def cut_program(target: Target, artifact: Artifact, out: Path) -> tuple[Artifact, Cut] | None:
    """A program of the same kernels, in the empty folder `out`: it is given what every `quantize` should have made.

    None where the artifact is not what the target writes for its graph: then other kernels would say nothing about it.
    """
    if not _is_as_written(target, artifact):
        return None
    graph = artifact.graph.clone()
    ungroup(graph)
    taken = {*graph.input_names, *graph.output_names}
    prefix = next(p for i in range(len(taken) + 1) if not any(n.startswith(p := f"step{'_' * i}") for n in taken))
    steps = [f"{prefix}{i}" for i, _ in enumerate(n for n in graph.nodes if isinstance(n.op, Quantize))]
    cut = unchained(graph, steps)
    grouped = run_pipeline(cut.graph, "group", Context(target=target)).graph
    return target.emit(grouped, out, "pieces", Limits()), cut


def _is_as_written(target: Target, artifact: Artifact) -> bool:
    """Whether all files are, to the byte, those that the target writes for this graph."""
    with tempfile.TemporaryDirectory(prefix="planish-") as folder:
        target.emit(artifact.graph, Path(folder), artifact.facts.get("name", "net"), Limits())
        files = [file.relative_to(folder) for file in Path(folder).rglob("*") if file.is_file()]
        written = ((artifact.path / file, Path(folder) / file) for file in files)
        return all(ours.is_file() and ours.read_bytes() == fresh.read_bytes() for ours, fresh in written)
