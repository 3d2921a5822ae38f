"""The rules that every graph obeys; the pipeline asks after every pass, and nothing downstream checks them again.

Structure (SSA, order, use-def chains), types as inference gives them, quantization annotations that make sense, and
32-bit accumulators that provably cannot overflow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from .constant import Const
from .errors import InferenceError, InvalidGraphError
from .graph import Graph, Node, Value, infer
from .op import Bounds
from .ranges import ranges
from .types import I32, TensorType


def verify(graph: Graph) -> None:
    """Raise InvalidGraphError, naming the node, where the graph or a body in it breaks a rule."""
    verify_structure(graph)
    verify_types(graph)
    verify_accumulators(graph)


def verify_structure(graph: Graph) -> None:
    """Names, order, ownership, and use-def chains that agree from both ends."""
    _names_are_unique(graph.input_names, "input")
    _names_are_unique(graph.output_names, "output")
    if len(graph.output_names) != len(graph.outputs):
        _fail(f"{len(graph.outputs)} outputs have {len(graph.output_names)} names", graph)
    defined: set[Value] = set()
    for value in graph.inputs:
        if value.producer is not None or value in defined:
            _fail(f"input {value} is computed by a node, or is listed twice", graph)
        defined.add(value)
    previous, count, uses = None, 0, 0
    for node in graph.nodes:
        count += 1
        if count > len(graph) or node.graph is not graph or node.prev is not previous:
            _fail("the list of nodes is broken", node)
        previous = node
        for index, value in enumerate(node.operands):
            if value not in defined:
                _fail(f"operand {index} ({value}) is not computed before it is used", node)
            if (node, index) not in value.uses:
                _fail(f"operand {index} ({value}) does not know of this use", node)
        for index, value in enumerate(node.results):
            if value.producer is not node or value.index != index or value in defined:
                _fail(f"result {index} ({value}) belongs to another node", node)
            defined.add(value)
        uses += len(node.operands)
        for body in node.op.bodies():
            verify_structure(body)
    if count != len(graph):
        _fail(f"the graph counts {len(graph)} nodes and has {count}", graph)
    for value in graph.outputs:
        if value not in defined:
            _fail(f"output {value} is not computed in this graph", graph)
    if sum(len(value.uses) for value in defined) != uses:
        stale = next(v for v in defined for n, i in v.uses if n.graph is not graph or n.operands[i] is not v)
        _fail(f"{stale} lists a use that is none", stale.producer or graph)


def verify_types(graph: Graph, inside: bool = False) -> None:
    """Types are what inference gives, and quantization annotations make sense; `inside` is true for bodies."""
    for value in graph.inputs:
        # An operand of a body may be a constant outside, with a scale per axis.
        _annotation_is_sane(value, graph, constant=inside)
    for node in graph.nodes:
        for body in node.op.bodies():
            verify_types(body, inside=True)
        try:
            inferred = infer(node.op, [v.type for v in node.operands])
        except InferenceError as error:
            _fail(f"the operands do not suit the op: {error.what}", node)
        actual = tuple(v.type.bare for v in node.results)
        if tuple(t.bare for t in inferred) != actual:
            _fail(f"inference gives {_list(inferred)}, the results are {_list(actual)}", node)
        for value in node.results:
            _annotation_is_sane(value, node, constant=isinstance(node.op, Const))


def verify_accumulators(graph: Graph, inputs: Mapping[Value, Bounds] | None = None) -> None:
    """Every sum that executors hold in 32 bits provably stays inside, whatever the (bounded) inputs are."""
    if not any(n.op.bodies() or any(v.type.dtype.is_integer for v in n.results) for n in graph.nodes):
        return
    known = ranges(graph, inputs)
    for node in graph.nodes:
        operands = [known[v] for v in node.operands]
        with np.errstate(all="ignore"):
            accumulator = node.op.accumulator(*operands)
        if accumulator is not None:
            _fits_int32(accumulator, node)
        for body in node.op.bodies():
            pairs = zip(body.inputs, operands, strict=False)
            verify_accumulators(body, {v: b for v, b in pairs if v.type.bare == b.type.bare})


def _fits_int32(accumulator: Bounds, node: Node) -> None:
    for ends, worst, limit in (
        (accumulator.lo, np.argmin, I32.min),
        (accumulator.hi, np.argmax, I32.max),
    ):
        channel = int(worst(ends)) if ends.size else 0
        bound = int(ends.flat[channel]) if ends.size else 0
        if not I32.min <= bound <= I32.max:
            where = f" of channel {channel}" if ends.size > 1 else ""
            _fail(f"the 32-bit sum{where} can reach {bound}, beyond {limit}", node)


def _annotation_is_sane(value: Value, place: Node | Graph, constant: bool) -> None:
    quant, type = value.type.quant, value.type
    if quant is None:
        return
    if not type.dtype.is_integer:
        _fail(f"{value} is quantized, but no integer", place)
    count = 1
    if quant.axis is not None:
        if not constant:
            _fail(f"{value} has a scale per axis; only constants may", place)
        if not 0 <= quant.axis < type.rank:
            _fail(f"{value} has scales along axis {quant.axis}, which it does not have", place)
        count = type.shape[quant.axis] if isinstance(type.shape[quant.axis], int) else -1  # type: ignore[assignment]
    if not len(quant.scale) == len(quant.zero) == count:
        _fail(f"{value} has {len(quant.scale)} scales and {len(quant.zero)} zero points, not {count}", place)
    if bad := [s for s in quant.scale if not (math.isfinite(s) and s > 0)]:
        _fail(f"{value} has scale {bad[0]}; scales are finite and positive", place)
    if outside := [z for z in quant.zero if not type.dtype.min <= z <= type.dtype.max]:
        _fail(f"{value} has zero point {outside[0]}, which {type.dtype} cannot hold", place)


def _names_are_unique(names: Sequence[str], kind: str) -> None:
    for name, count in Counter(names).items():
        if not name:
            raise InvalidGraphError(f"an {kind} has no name")
        if count > 1:
            raise InvalidGraphError(f"{count} {kind}s are named {name!r}")


def _fail(what: str, place: Node | Graph) -> NoReturn:
    if isinstance(place, Graph):
        raise InvalidGraphError(what, f"graph {place.name}")
    results = ", ".join(f"%{v.name or '?'}" for v in place.results)
    raise InvalidGraphError(what, f"{results} = {place.describe()}")


def _list(types: Sequence[TensorType]) -> str:
    return ", ".join(str(t) for t in types)
