"""Programs of quantized graphs that are float in parts, cut behind every `quantize`, so that layers can be judged."""

from __future__ import annotations

from pathlib import Path

from ..ir.ops.quant import Quantize
from ..passes.base import Context
from ..passes.group import ungroup
from ..passes.pipeline import run_pipeline
from ..runtime.target import Artifact, Limits, Target
from ..runtime.unchained import Cut, unchained


def cut_program(target: Target, artifact: Artifact, out: Path) -> tuple[Artifact, Cut]:
    """The same kernels in a program, in the empty folder `out`, that is given what every `quantize` should have made."""
    graph = artifact.graph.clone()
    ungroup(graph)
    taken = {*graph.input_names, *graph.output_names}
    prefix = next(p for i in range(len(taken) + 1) if not any(n.startswith(p := f"step{'_' * i}") for n in taken))
    steps = [f"{prefix}{i}" for i, _ in enumerate(n for n in graph.nodes if isinstance(n.op, Quantize))]
    cut = unchained(graph, steps)
    grouped = run_pipeline(cut.graph, "group", Context(target=target)).graph
    return target.emit(grouped, out, "pieces", Limits()), cut
