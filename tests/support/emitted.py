"""Graphs as C on this host, under the sanitizers, against the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from planish.backends.c.host import run_on_host
from planish.backends.c.target import CTarget, interface
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph
from planish.ir.op import Instance
from planish.ir.types import Array
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from planish.runtime.target import Limits
from planish.testing import kernels
from planish.testing.ops import errors, reference


def run_sanitized(graph: Graph, samples: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Outputs of each sample: emitted for target `c`, built with the address and undefined behaviour sanitizers."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.mkdir()
        artifact = CTarget("c").emit(graph, out, "model", Limits())
        inputs = [np.stack([s[i] for s in samples]) for i in range(len(graph.inputs))]
        inputs = [a.view(np.uint8) if a.dtype == np.bool_ else a for a in inputs]
        spec = interface(graph, artifact.facts["name"])
        done = run_on_host(Path(folder, "build"), [out / "model.c"], spec, inputs, sanitize=True, optimization="-O1")
    return [
        [
            array[n].reshape(v.type.shape).astype(v.type.dtype.numpy)
            for v, array in zip(graph.outputs, done.outputs, strict=True)
        ]
        for n in range(len(samples))
    ]


def require_equal(graph: Graph, samples: Sequence[Sequence[Array]]) -> None:
    """AssertionError unless C and reference agree in every bit of every output."""
    for sample, outputs in zip(samples, run_sanitized(graph, samples), strict=True):
        for name, got, wanted in zip(graph.output_names, outputs, evaluate(graph, sample), strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=name)


def require_near(instances: Sequence[Instance], outputs: Iterable[Array]) -> None:
    """Integers are equal; two float results are each within the op's own rounding error of the exact one.

    outputs: all results of the first instance, then those of the others.
    """
    left = iter(outputs)
    for instance in instances:
        op, operands = instance.op, instance.operands
        for exact, room in zip(reference(op, operands), errors(op, operands), strict=True):
            got = next(left)
            wanted = np.asarray(exact, got.dtype)
            if not np.issubdtype(got.dtype, np.floating):
                np.testing.assert_array_equal(got, wanted, str(instance))
                continue
            gap = np.abs(got.astype(np.float64) - wanted)
            assert np.all(gap <= 2 * room), f"{instance}: off by {gap.max()}"
    assert next(left, None) is None


def together(instances: Sequence[Instance]) -> tuple[Graph, list[Array]]:
    """One graph that holds many instances side by side, and its inputs: one program tests them all."""
    graph, inputs = kernels.together(instances)
    return graph, list(inputs.values())


def run_for(target: str, graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of one sample: lowered for the target and executed as it executes programs."""
    chosen = target_named(target)
    lowered = run_pipeline(graph, chosen.lowering, Context(target=chosen)).graph
    with tempfile.TemporaryDirectory() as folder:
        artifact = chosen.emit(lowered, Path(folder), "model", Limits())
        outputs = chosen.run(artifact, {name: array[None] for name, array in inputs.items()}).outputs
    return {name: rows[0] for name, rows in outputs.items()}
