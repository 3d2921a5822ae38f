"""Variants of drawn graphs: quantized ones, and twins that compute the same with other weights."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..ir.builder import const_value
from ..ir.graph import Graph, Node
from ..ir.ops.conv import Conv2d
from ..ir.ops.dense import Dense
from ..ir.ops.elementwise import Clip
from ..ir.rewrite import Matched
from ..passes.base import Context
from ..passes.fuse import channel_axis, per_input, per_output
from ..passes.pipeline import run_pipeline
from .contracts import samples
from .draw import HypothesisDraw, composite
from .graphs import graphs


@composite
def quantized_graphs(draw: st.DrawFn, folded: bool = True, max_layers: int = 4, max_dim: int = 5) -> Graph:
    """Networks in int8, calibrated on generated inputs; folded: as integers, else with quantize and dequantize."""
    graph = draw(graphs(max_layers, max_dim))
    context = Context(calibration=lambda: samples(graph))
    method = draw(st.sampled_from(["minmax", "mse"]))
    fold = ",fold-quantization" if folded else ""
    return run_pipeline(graph, f"simplify,fuse,quantize{{calibration={method}}}{fold}", context).graph


@composite
def rescaled_twins(draw: st.DrawFn, originals: st.SearchStrategy[Graph] | None = None) -> tuple[Graph, Graph]:
    """A graph, and one that computes the same bits although ranges inside differ.

    Between a layer and the layer that alone uses it, perhaps behind a relu, each channel is multiplied by a power of
    two, which float32 does without rounding.
    """
    graph = draw(graphs() if originals is None else originals)
    twin = graph.clone()
    d = HypothesisDraw(draw)
    for node in list(twin.nodes):
        if (follower := _follower(twin, node)) is None:
            continue
        channels = node.results[0].type.shape[channel_axis(Matched(node))]
        factor = np.array([2.0 ** d.integer(-3, 3) for _ in range(int(channels))], np.float32)  # type: ignore[arg-type]
        w, b = (node.operands[i].const for i in (1, 2))
        after = follower.operands[1].const
        assert w is not None
        assert b is not None
        assert after is not None
        _set(twin, node, 1, w * per_output(factor, w))
        _set(twin, node, 2, b * factor)
        _set(twin, follower, 1, after / per_input(factor, after, Matched(follower)))
    return graph, twin


def _is_layer(node: Node) -> bool:
    floats = node.results[0].type.dtype.is_float
    return isinstance(node.op, Conv2d | Dense) and floats and all(v.const is not None for v in node.operands[1:])


def _follower(graph: Graph, node: Node) -> Node | None:
    """The layer that alone uses this layer's result, directly or behind a relu."""
    user = graph.only_user(node.results[0]) if _is_layer(node) else None
    if user is not None and isinstance(user.op, Clip) and user.op.lo in (0, -np.inf) and user.op.hi == np.inf:
        user = graph.only_user(user.results[0])
    return user if user is not None and _is_layer(user) and type(user.op) is type(node.op) else None


def _set(graph: Graph, node: Node, index: int, array: np.ndarray) -> None:
    value = const_value(array)
    graph.adopt(value, before=node)
    graph.set_operand(node, index, value)
