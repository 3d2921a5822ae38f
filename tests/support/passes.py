"""What the tests of passes share."""

from __future__ import annotations

import numpy as np

from planish.ir.graph import Graph, Value, graph_input
from planish.ir.precision import float_twin
from planish.ir.types import F16, F32, DType, TensorType
from planish.passes.base import Pass
from planish.passes.pipeline import Result, run_pipeline
from planish.passes.validation import Validation

RANDOM = np.random.default_rng(0)


def reals(*shape, low=-1.0, high=1.0):
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def x_input(*shape: int, dtype: DType = F32, name: str = "x") -> Value:
    return graph_input(name, TensorType(shape, dtype))


def graph_of(*outputs: Value) -> Graph:
    """The graph of these outputs; inputs are whatever they reach that nothing computes."""
    inputs: dict[Value, None] = {}
    stack, seen = list(outputs), set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.producer is None:
            inputs[value] = None
        else:
            stack.extend(value.producer.operands)
    ordered = sorted(inputs, key=lambda v: v.name)
    return Graph(ordered, list(outputs), [f"y{i}" for i in range(len(outputs))])


def ops(graph: Graph) -> list[str]:
    """Names of all ops but constants, in order."""
    return [node.op.name for node in graph.nodes if node.op.name != "const"]


def transformed(graph: Graph, *passes: Pass | str) -> Graph:
    """The graph after passes, each held to its contract by the interpreter."""
    current = graph
    for each in passes:
        current = validated(current, each).graph
    return current


def validated(graph: Graph, pipeline: Pass | str) -> Result:
    listeners = [Validation(generated=2)]
    return run_pipeline(graph, pipeline if isinstance(pipeline, str) else [pipeline], listeners=listeners)


def halved(graph: Graph, dtype: DType = F16) -> Graph:
    """The graph in floats of 16 bits."""
    return float_twin(graph, dtype)
