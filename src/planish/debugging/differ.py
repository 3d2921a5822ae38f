"""`diff`: what is different between two models, in structure, in cost, and in what they compute."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.constant import Const
from ..ir.equality import op_difference
from ..ir.errors import UsageError
from ..ir.graph import Graph, Node, Value
from ..ir.types import Array
from ..measuring import reals, taken
from ..passes.pipeline import run_pipeline
from ..report import jsonable
from ..runtime.cost import totals
from ..runtime.data import Dataset, read
from ..runtime.interpreter import run_batch
from ..runtime.oracle import sqnr_db
from ..screen import Column, Screen, counted
from .blame import sqnr
from .sources import Request, open_graph

#: Samples on which outputs are compared, unless the user says how many.
SAMPLES = 32


@dataclass
class Difference:
    """What two graphs do not have in common.

    changed: nodes that are in both, under the same name, with what is different. interface: inputs and outputs.
    """

    interface: list[str] = field(default_factory=list)
    removed: list[Node] = field(default_factory=list)
    added: list[Node] = field(default_factory=list)
    changed: list[tuple[Node, Node, list[str]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.interface or self.removed or self.added or self.changed)


def difference(a: Graph, b: Graph) -> Difference:
    """The structural difference of two graphs. Nodes are the same if their results have the same name.

    Nodes without a name are paired by op and source. Neither order nor the names of values count beyond that;
    constants are compared as operands of what uses them.
    """
    found = Difference(interface=_interface(a, b))
    twins: dict[Value, Value] = {v: w for v in a.inputs for w in b.inputs if v.name == w.name}
    pairs = _paired(a, b)
    for mine, other in pairs.items():
        twins.update(zip(mine.results, other.results, strict=False))
    partners = set(pairs.values())
    found.removed = [node for node in _computing(a) if node not in pairs]
    found.added = [node for node in _computing(b) if node not in partners]
    for mine, other in pairs.items():
        if reasons := _changes(mine, other, twins):
            found.changed.append((mine, other, reasons))
    for name, v, w in zip(a.output_names, a.outputs, b.outputs, strict=False):
        if twins.get(v) is not w and v.producer in pairs and w.producer in partners:
            found.interface.append(f"output {name} is {w} instead of {v}")
    return found


def _interface(a: Graph, b: Graph) -> list[str]:
    reasons = []
    for kind, mine, other in (("input", _inputs(a), _inputs(b)), ("output", _outputs(a), _outputs(b))):
        for name in dict.fromkeys([*mine, *other]):
            if name not in other:
                reasons.append(f"{kind} {name} is gone: {mine[name]}")
            elif name not in mine:
                reasons.append(f"{kind} {name} is new: {other[name]}")
            elif mine[name] != other[name]:
                reasons.append(f"{kind} {name}: {mine[name]} -> {other[name]}")
    return reasons


def _inputs(graph: Graph) -> dict[str, str]:
    return {v.name: str(v.type) for v in graph.inputs}


def _outputs(graph: Graph) -> dict[str, str]:
    return {name: str(v.type) for name, v in zip(graph.output_names, graph.outputs, strict=True)}


def _computing(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if not isinstance(node.op, Const)]


def _paired(a: Graph, b: Graph) -> dict[Node, Node]:
    """Nodes of `a` with their counterparts in `b`, in order."""
    pairs: dict[Node, Node] = {}
    for key in (_name_key, _source_key, _first_source_key):
        partners = set(pairs.values())
        theirs = _numbered([node for node in _computing(b) if node not in partners], key)
        for k, node in _numbered([node for node in _computing(a) if node not in pairs], key).items():
            if k in theirs:
                pairs[node] = theirs[k]
    return {node: pairs[node] for node in _computing(a) if node in pairs}


def _name_key(node: Node) -> object:
    return node.results[0].name or None if node.results else None


def _source_key(node: Node) -> object:
    return node.op.name, node.loc.names


def _first_source_key(node: Node) -> object:
    return (node.op.name, node.loc.names[0]) if node.loc else None  # a fused node keeps the first one's place


def _numbered(nodes: list[Node], key: Any) -> dict[object, Node]:
    """Nodes by key and how many have had the same key before; those without a key are left out."""
    seen: Counter[object] = Counter()
    found: dict[object, Node] = {}
    for node in nodes:
        if (k := key(node)) is not None:
            found[k, seen[k]] = node
            seen[k] += 1
    return found


def _changes(a: Node, b: Node, twins: Mapping[Value, Value]) -> list[str]:
    reasons = []
    if a.op.name != b.op.name:
        reasons.append(f"{a.op.name} -> {b.op.name}")
    elif (reason := op_difference(a.op, b.op)) is not None:
        reasons.append(reason.replace(" and ", " -> ", 1))
    before, after = ([str(v.type) for v in node.results] for node in (a, b))
    if before != after:
        reasons.append(f"result {', '.join(before)} -> {', '.join(after)}")
    if len(a.operands) != len(b.operands):
        reasons.append(f"{len(a.operands)} -> {len(b.operands)} operands")
        return reasons
    for i, (mine, other) in enumerate(zip(a.operands, b.operands, strict=True)):
        if reason := _operand_change(mine, other, twins):
            reasons.append(f"operand {i}: {reason}")
    return reasons


def _operand_change(a: Value, b: Value, twins: Mapping[Value, Value]) -> str:
    if a.const is None or b.const is None:
        return "" if twins.get(a) is b else f"{_said(a)} -> {_said(b)}"
    if (a.const.dtype, a.const.shape) != (b.const.dtype, b.const.shape):
        return f"constant {a.type} -> {b.type}"
    if a.const.tobytes() == b.const.tobytes():
        return ""
    unequal = int(np.sum(a.const != b.const))
    return f"constant {a.type.bare}: {unequal:,} of {counted(a.const.size, 'element')} differ"


def _said(value: Value) -> str:
    if value.const is not None:
        return f"a constant {value.type}"
    return repr(value) if value.name or value.producer is None else value.producer.describe()


# ---- costs and numbers


def costs(graph: Graph) -> dict[str, int]:
    """Nodes in all and by op, and what one inference takes."""
    total = totals(graph)
    figures = {"nodes": len(_computing(graph)), "MACs": total.macs, "parameters": total.parameters}
    figures |= {
        "constant bytes": total.constant_bytes,
        "bytes read and written": total.bytes_read + total.bytes_written,
    }
    return figures | dict(sorted(Counter(node.op.name for node in _computing(graph)).items()))


@dataclass(frozen=True)
class Numbers:
    """How far one output is from the other model's: equal, largest difference, signal to noise in dB."""

    output: str
    equal: bool
    max_error: float | None
    sqnr_db: float | None


def numbers(a: Graph, b: Graph, dataset: Dataset) -> list[Numbers]:
    """Outputs of both by name, or by position where the names differ. Raises UsageError for other inputs."""
    if sorted(a.input_names) != sorted(b.input_names):
        raise UsageError(
            f"the inputs are {', '.join(a.input_names)} and {', '.join(b.input_names)}: outputs cannot be compared",
            fix="leave out --data",
        )
    before = reals(a, run_batch(a, dataset.arrays))
    after = reals(b, run_batch(b, taken(b, dataset.arrays)))
    if set(before) == set(after):
        return [_numbers(name, before[name], after[name]) for name in before]
    return [_numbers(x, before[x], after[y]) for x, y in zip(before, after, strict=False)]


def _numbers(name: str, a: Array, b: Array) -> Numbers:
    if a.shape != b.shape:
        return Numbers(name, False, None, None)
    if np.array_equal(a, b, equal_nan=True):
        return Numbers(name, True, 0.0, math.inf)
    return Numbers(name, False, float(np.nanmax(np.abs(a - b))), sqnr_db(a, b))


# ---- the command


def diff_models(request: Request, other: Path | None, data: str | None, samples: int | None, screen: Screen) -> int:
    """Compare a model with another, or with what passes make of it (of the other one, where both are given)."""
    passes = request.passes()
    if other is None and passes is None:
        raise UsageError("diff wants two models", fix="give a second model, or --pipeline for what passes make of one")
    a = request.graph()
    b = a if other is None else open_graph(other, request.dims, request.binds)
    dataset = None if data is None else read(data).of(a)
    if passes is not None:
        b = run_pipeline(b, passes, request.context(b, dataset)).graph
    found = difference(a, b)
    before, after = costs(a), costs(b)
    compared = [] if dataset is None else numbers(a, b, dataset.first(samples or SAMPLES))
    screen.result(_as_json(found, before, after, compared))
    if not screen.json:
        _show(screen, found, before, after, compared)
    return 0


def _as_json(
    found: Difference, before: dict[str, int], after: dict[str, int], compared: list[Numbers]
) -> dict[str, Any]:
    names = sorted({*before, *after})
    plain: dict[str, Any] = jsonable(
        {
            "same": not found,
            "interface": found.interface,
            "removed": [_node_as_json(node) for node in found.removed],
            "added": [_node_as_json(node) for node in found.added],
            "changed": [{**_node_as_json(a), "changes": reasons} for a, _, reasons in found.changed],
            "costs": {name: [before.get(name, 0), after.get(name, 0)] for name in names},
            "outputs": [vars(n) for n in compared],
        }
    )
    return plain


def _node_as_json(node: Node) -> dict[str, Any]:
    types = [str(v.type) for v in node.results]
    return {"name": node.results[0].name, "op": node.op.name, "source": list(node.loc.names), "types": types}


def _show(
    screen: Screen, found: Difference, before: dict[str, int], after: dict[str, int], compared: list[Numbers]
) -> None:
    for line in found.interface:
        screen.say(f"! {line}")
    for sign, nodes in (("-", found.removed), ("+", found.added)):
        for node in nodes:
            screen.say(f"{sign} {_line(node)}")
    for a, _, reasons in found.changed:
        screen.say(f"~ {_line(a)}")
        for reason in reasons:
            screen.say(f"    {reason}")
    if not found:
        screen.say("the structure is the same")
    unequal = [[x, before.get(x, 0), after.get(x, 0)] for x in {**before, **after} if before.get(x) != after.get(x)]
    if unequal:
        screen.table((Column("what"), Column("before", number=True), Column("after", number=True)), unequal)
    for n in compared:
        if n.max_error is None or n.sqnr_db is None:
            screen.say(f"output {n.output}: the shapes differ")
        else:
            text = "equal" if n.equal else f"{sqnr(n.sqnr_db)}, largest difference {n.max_error:.3g}"
            screen.say(f"output {n.output}: {text}")


def _line(node: Node) -> str:
    names = ", ".join(f"%{v.name}" for v in node.results if v.name)
    return f"{names}{' = ' if names else ''}{node.describe()} : {', '.join(str(v.type) for v in node.results)}"
