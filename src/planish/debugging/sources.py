"""What the debugging commands work on: graphs from any file that planish reads, and what pipelines make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..backends.lowering import INTEGERS
from ..driver import INT8, LOWERED, read_model, require_static
from ..folder import read_report
from ..ir.errors import UsageError
from ..ir.graph import Graph, Node, Value
from ..ir.ops.fused import Fused
from ..ir.text import load
from ..passes.base import Context
from ..passes.pipeline import Pipeline, parse_pipeline
from ..plugins import load_passes
from ..runtime.data import Dataset, read


@dataclass(frozen=True)
class Request:
    """A model and the passes to run on it, as the options of the command line say them."""

    model: Path
    pipeline: str | None = None
    quantize: str | None = None
    calib: str | None = None
    plugins: Sequence[Path] = ()
    dims: Mapping[str, int] = field(default_factory=dict)
    binds: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.quantize and self.pipeline is not None:
            raise UsageError("--quantize and --pipeline are both given", fix="write quantize{...} in the pipeline")

    def passes(self) -> Pipeline | None:
        """The pipeline, with the user's own passes known; None where none was asked for."""
        for file in self.plugins:
            load_passes(file)
        text = self.pipeline if self.pipeline is not None else f"{INT8},{INTEGERS}" if self.quantize else None
        return None if text is None else parse_pipeline(text)

    def graph(self) -> Graph:
        """The graph that the passes start from. Raises UsageError where its shapes are not known."""
        return open_graph(self.model, self.dims, self.binds)

    def context(self, graph: Graph, otherwise: Dataset | None = None) -> Context:
        """What the passes may ask for; calibration data are those of --calib, or else the ones that are given."""
        dataset = read(self.calib).of(graph) if self.calib else otherwise
        return Context(None if dataset is None else lambda: iter(dataset))


def open_graph(path: Path, dims: Mapping[str, int], binds: Mapping[str, Any]) -> Graph:
    """The graph of an .onnx or .planish file, or what a compiled folder implements; its shapes are known."""
    if path.is_dir():
        read_report(path)  # says what is wrong with a folder that is not ours
        return load(path / LOWERED)
    graph = read_model(path, dims, binds, static_batch=True).graph
    require_static(graph)
    return graph


def inlined(graph: Graph) -> Graph:
    """The graph with the bodies of `fused` nodes in their place, so that every value inside can be looked at."""
    values: dict[Value, Value] = {v: Value(v.type, v.name) for v in graph.inputs}
    copy = Graph(list(values.values()), [], name=graph.name)
    _copy_nodes(graph, copy, values)
    copy.outputs = [values[v] for v in graph.outputs]
    copy.output_names = list(graph.output_names)
    return copy


def _copy_nodes(graph: Graph, copy: Graph, values: dict[Value, Value]) -> None:
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            body = node.op.body
            inner = {b: values[v] for b, v in zip(body.inputs, node.operands, strict=True)}
            _copy_nodes(body, copy, inner)
            for old, result in zip(node.results, body.outputs, strict=True):
                values[old] = inner[result]
                values[old].name = values[old].name or old.name
        else:
            twin = copied(node, values)
            copy.insert(twin)
            values.update(zip(node.results, twin.results, strict=True))


def copied(node: Node, values: Mapping[Value, Value]) -> Node:
    """The node on other values, detached; its results have the same types and names."""
    twin = Node(node.op, [values[v] for v in node.operands], [v.type for v in node.results], node.loc)
    for old, new in zip(node.results, twin.results, strict=True):
        new.name = old.name
    return twin
