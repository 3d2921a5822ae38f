"""Random int8 layers as the lowering leaves them: one fused node of product or pooling, rescale and what follows."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from planish.backends.c.target import CTarget
from planish.ir.arithmetic import fixed_point
from planish.ir.builder import const_value
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Value, apply, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import clip
from planish.ir.ops.fused import Fused
from planish.ir.ops.quant import dequantize, rescale, rescale_add, sum_factors, table
from planish.ir.types import I8, NHWC, Array, TensorType, type_of
from planish.runtime.target import Execution, Limits
from planish.testing.draw import composite

zeros = st.sampled_from([-128, 127, 0]) | st.integers(-128, 127)


def fused(inputs: Sequence[Value], constants: Sequence[Any], build: Any) -> Value:
    """One `fused` node; `build(inputs, constants)` makes the body."""
    outer = [graph_input(f"a{i}", v.type) for i, v in enumerate(inputs)]
    inner = [graph_input(f"c{i}", type_of(c)) for i, c in enumerate(constants)]
    body = Graph([*outer, *inner], [build(outer, inner)], ["r"], "body")
    return apply(Fused(body), *inputs, *(const_value(c) for c in constants)).result


@composite
def epilogues(draw: Any, channels: int, depth: int) -> tuple[list[Any], Any]:
    """Constants of a rescale, and what makes it (and perhaps a sum and a clip) from an accumulator."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([(0.5, 2.0), (0.5, 600.0)]))
    per_channel = draw(st.booleans())
    factor = seed.uniform(*spread, channels if per_channel else 1) / (64 * np.sqrt(depth))
    zero, lo, hi = draw(zeros), draw(st.sampled_from([-128, -128, -30])), draw(st.sampled_from([127, 127, 90]))
    sums = sum_factors((draw(st.floats(0.1, 2)), draw(st.floats(-2, 2))), (zero, draw(zeros)), draw(zeros))
    swapped, clipped = draw(st.booleans()), draw(st.booleans())
    entries = seed.integers(-128, 128, 256).astype(draw(st.sampled_from([np.int8, np.int16])))
    last = draw(st.sampled_from(["", "", "dequantize", "table"]))

    def build(acc: Value, constants: Sequence[Value], residual: Value | None) -> Value:
        y: Value = rescale(acc, *constants, zero=zero, lo=lo, hi=hi)
        if residual is not None:
            y = rescale_add(residual, y, **sums) if swapped else rescale_add(y, residual, **sums)
        y = clip(y, lo=-100.0, hi=50.0) if clipped else y
        if last == "dequantize":
            return dequantize(y, np.float32(0.1), np.int8(3))
        return table(y, entries) if last == "table" else y

    return list(fixed_point(factor)), build


@composite
def convolutions(draw: Any, depthwise: bool = False, most_outputs: int = 7) -> Graph:
    """A graph of one int8 convolution in NHWC."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 2, 3, 4, 8, 12]))
    outputs = channels if depthwise else draw(st.integers(1, most_outputs))
    window = draw(st.sampled_from([(1, 1), (3, 3), (3, 3), (2, 3), (5, 5), (10, 4), (1, 3)]))
    strides = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (2, 1)]))
    dilations = draw(st.sampled_from([(1, 1), (1, 1), (1, 2), (2, 1)]))
    pads = tuple(draw(st.integers(0, min(2, window[i % 2] - 1))) for i in range(4))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    height, width = (draw(st.integers(max(1, r - before), r + 5)) for r, before in zip(reach, pads[:2], strict=True))
    image = graph_input("x", TensorType((draw(st.integers(1, 2)), height, width, channels), I8))
    per_output = 1 if depthwise else channels
    w = seed.integers(-127, 128, (outputs, *window, per_output)).astype(np.int8)
    b = seed.integers(-3000, 3000, outputs).astype(np.int32)
    attributes = {
        "strides": strides, "pads": pads, "dilations": dilations, "input_zero": draw(zeros), "layout": NHWC,
        "groups": channels if depthwise else 1,
    }  # fmt: skip
    multipliers, finish = draw(epilogues(outputs, w[0].size))
    shape = conv2d(image, w, b, **attributes).type.shape
    residual = [graph_input("r", TensorType(shape, I8))] if draw(st.booleans()) else []

    def build(v: Sequence[Value], c: Sequence[Value]) -> Value:
        return finish(conv2d(v[0], c[0], c[1], **attributes), c[2:], v[1] if residual else None)

    inputs = [image, *residual]
    return Graph(inputs, [fused(inputs, [w, b, *multipliers], build)], ["y"])


@composite
def denses(draw: Any) -> Graph:
    """A graph of one int8 dense layer."""
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    depth, outputs = draw(st.integers(1, 70)), draw(st.integers(1, 20))
    x = graph_input("x", TensorType((draw(st.sampled_from([1, 1, 2, 5])), depth), I8))
    w = seed.integers(-127, 128, (outputs, depth)).astype(np.int8)
    b = seed.integers(-3000, 3000, outputs).astype(np.int32)
    zero = draw(zeros)
    multipliers, finish = draw(epilogues(outputs, depth))

    def build(v: Sequence[Value], c: Sequence[Value]) -> Value:
        return finish(dense(v[0], c[0], c[1], input_zero=zero), c[2:], None)

    return Graph([x], [fused([x], [w, b, *multipliers], build)], ["y"])


@composite
def networks(draw: Any, most: int = 7, widths: Sequence[int] = (4, 6, 8), outputs: int = 1) -> Graph:
    """A chain of int8 layers with residuals, so that results take over the memory of operands.

    most: rows and columns of the image. widths: channels. outputs: the last results that are the graph's.
    """
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (1, draw(st.integers(2, most)), draw(st.integers(2, most)), draw(st.sampled_from(widths)))
    x = graph_input("x", TensorType(shape, I8))
    values: list[Value] = [x]
    for _ in range(draw(st.integers(2, 6))):
        image = values[-1]
        channels = image.type.shape[3]
        kind = draw(st.sampled_from(["pointwise", "depthwise", "image"]))
        depth = channels if kind == "depthwise" else draw(st.sampled_from(widths))
        window, pad = (1, 0) if kind == "pointwise" else (3, 1)
        w = seed.integers(-127, 128, (depth, window, window, 1 if kind == "depthwise" else channels)).astype(np.int8)
        b = seed.integers(-3000, 3000, depth).astype(np.int32)
        same = [v for v in values[1:] if v.type.shape == (*image.type.shape[:3], depth)]
        residual = draw(st.sampled_from(same)) if same and draw(st.booleans()) else None
        multiplier, shift = fixed_point(seed.uniform(0.5, 2.0, depth) / (64 * np.sqrt(w[0].size)))
        sums = sum_factors((0.7, 0.8), (3, -5), 0)
        groups = channels if kind == "depthwise" else 1

        def build(
            v: Sequence[Value], c: Sequence[Value], pad: int = pad, groups: Any = groups, sums: Any = sums
        ) -> Value:
            acc = conv2d(v[0], c[0], c[1], pads=(pad,) * 4, groups=groups, input_zero=3, layout=NHWC)
            y: Value = rescale(acc, c[2], c[3], zero=3)
            return rescale_add(y, v[-1], **sums) if len(v) > 1 else y

        inputs = [image] if residual is None else [image, residual]
        if residual is image:  # the group takes a value once
            inputs = [image]
        values.append(fused(inputs, [w, b, multiplier, shift], build))
    results = values[:0:-1][:outputs]
    return Graph([x], results, [f"y{i}" for i in range(len(results))])


def side_by_side(graphs: Sequence[Graph]) -> Graph:
    """One graph that computes them all: each whole, with an input and an output of its own."""
    inputs = [v for g in graphs for v in g.inputs]
    for i, v in enumerate(inputs):
        v.name = f"x{i}"
    outputs = []
    for g in graphs:
        known: dict[Value, Value] = {v: v for v in g.inputs}
        for node in g.nodes:
            if node.result.const is None:
                known[node.result] = apply(node.op, *(known.get(v) or _again(v) for v in node.operands)).result
        outputs += [known[v] for v in g.outputs]
    return Graph(inputs, outputs, [f"y{i}" for i in range(len(outputs))])


def _again(value: Value) -> Value:
    return value if value.const is None else const_value(value.const)


def require_exact(
    graph: Graph, target: CTarget, samples: int = 2, inputs: dict[str, Array] | None = None
) -> tuple[list[str], Execution]:
    """Run on random inputs, or those given, and compare every byte with the reference.

    Returns the kernels by layer, and the execution.
    """
    seed = np.random.default_rng(0)
    inputs = inputs or {
        v.name: seed.integers(-128, 128, (samples, *v.type.shape)).astype(v.type.dtype.numpy) for v in graph.inputs
    }
    with tempfile.TemporaryDirectory() as folder:
        artifact = target.emit(graph, Path(folder), "net", Limits())
        done = target.run(artifact, inputs)
    for i in range(done.samples):
        wanted = evaluate(graph, [inputs[v.name][i] for v in graph.inputs])
        for name, array in zip(graph.output_names, wanted, strict=True):
            np.testing.assert_array_equal(done.outputs[name][i], array, name)
    return [layer.kernel for layer in artifact.layers], done
