"""Layers of stored integers in every form: folded exactly, or float; and what devices make of them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st

from planish.ir.evaluate import evaluate_by_name
from planish.ir.ops.quant import Quantize
from planish.ir.text import print_graph
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from planish.runtime.oracle import compare, graph_tolerance
from planish.runtime.target import Limits
from tests.conftest import missing
from tests.support.clusters import float_ops
from tests.support.quantized_layers import side_by_side
from tests.support.stored_layers import Stored, stored_layers

#: Programs that are compiled; each holds many layers.
MANY = 25 if os.environ.get("PLANISH_PROFILE") == "proof" else 3


@given(stored_layers())
def test_a_layer_of_stored_integers_folds_exactly_or_stays_float(stored: Stored) -> None:
    verify(stored.graph)
    note(print_graph(stored.graph)[0])
    after = stored.graph.clone()
    changes = FoldQuantization().run(after, Context())
    verify(after)
    note(print_graph(after)[0])
    for number, sample in enumerate(stored.samples):
        found = evaluate_by_name(after, sample)["y"]
        if stored.scale is None:
            expected, tolerance = graph_tolerance(stored.graph, sample)["y"]
            assert compare(expected, found, tolerance).agrees
            continue
        assert np.abs(found.astype(np.int64) - stored.nearest(number)).max(initial=0) <= 1
        if stored.folds and stored.exact:
            steps = np.clip(stored.reals[number] / stored.scale + stored.zero, stored.lo, stored.hi)
            assert np.abs(found - steps).max(initial=0) <= 0.502
    if stored.folds:
        assert set(float_ops(after)) <= {"add"}, changes.refused
        assert not any(isinstance(n.op, Quantize) for n in after.nodes)
    elif any(isinstance(n.op, Quantize) for n in after.nodes):
        assert changes.refused


@hypothesis.settings(max_examples=MANY, phases=(hypothesis.Phase.generate,))
@given(st.lists(stored_layers(), min_size=12, max_size=12, unique_by=id))
def test_devices_compute_what_the_interpreter_does(layers: list[Stored]) -> None:
    """Layers that folded bit for bit; in the others, floats as precisely as can be, and integers within a step."""
    targets = [t for t in map(target_named, ("c", "tvm")) if all(need.present for need in t.needs())]
    if not targets:
        missing("neither a C compiler nor TVM is installed")
    graph = side_by_side([layer.graph for layer in layers])
    places = np.cumsum([0, *(len(layer.graph.outputs) for layer in layers)])
    inputs = {f"x{i}": np.stack([s["x"] for s in layer.samples]) for i, layer in enumerate(layers)}
    for target in targets:
        lowered = run_pipeline(graph, target.lowering, Context(target=target)).graph
        with tempfile.TemporaryDirectory() as folder:
            artifact = target.emit(lowered, Path(folder), "layers", Limits())
            found = target.run(artifact, inputs).outputs
        for number in range(2):
            sample = {name: array[number] for name, array in inputs.items()}
            expected, tolerances = evaluate_by_name(lowered, sample), graph_tolerance(lowered, sample)
            for i, layer in enumerate(layers):
                name = f"y{places[i]}"
                note(f"{target.name}, {name}, sample {number}\n{print_graph(layer.graph)[0]}")
                y, wanted = found[name][number], expected[name]
                if layer.scale is None:
                    assert compare(tolerances[name][0], y, tolerances[name][1]).agrees
                elif layer.folds:
                    np.testing.assert_array_equal(y, wanted)
                else:
                    assert np.abs(y.astype(np.int64) - layer.nearest(number)).max(initial=0) <= 1
