"""Layers of stored integers in every form: folded exactly, or float; and what devices make of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, note

from planish.ir.evaluate import evaluate_by_name
from planish.ir.ops.quant import Quantize
from planish.ir.text import print_graph
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.fold_quantization import FoldQuantization
from planish.runtime.oracle import compare, graph_tolerance
from tests.support.clusters import float_ops
from tests.support.stored_layers import Stored, stored_layers


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
