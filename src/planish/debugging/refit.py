"""A node taken out of the middle of a graph, though what stands before it is of another size than what it made.

Constants further down are cut, or repeated, until they fit again. Such a graph computes something else; for a search
for the smallest one that still goes wrong, that is good enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product

import numpy as np

from ..ir.constant import Const
from ..ir.errors import PlanishError
from ..ir.graph import Graph, Node, Value, apply, graph_input
from ..ir.op import Op
from ..ir.types import Array

#: What inference raises where sizes do not fit together.
MISFIT = (PlanishError, ValueError, TypeError, IndexError, ZeroDivisionError)
#: Ways to cut the constants of one node that are tried before giving up.
MOST_TRIALS = 256

Sizes = Mapping[int, int]


@dataclass(frozen=True)
class Cut:
    """Whether as many axes as possible follow a change of size, and whether their last elements are kept."""

    eager: bool
    last: bool


CUTS = [Cut(eager, last) for last in (False, True) for eager in (False, True)]


def without(graph: Graph, node: Node, source: Value) -> Iterator[Graph]:
    """Copies in which what reads the node's result reads an earlier value, of the same rank and dtype.

    At most four: as few axes of constants as possible follow the change of size, or as many; and what is kept of them
    is the first elements, or the last.
    """
    old, new = node.result.type, source.type
    if node.result is source or (old.rank, old.dtype) != (new.rank, new.dtype):
        return
    for cut in CUTS if old.shape != new.shape else CUTS[:1]:
        if (copy := _rebuilt(graph, node, source, cut)) is not None:
            yield copy


def _rebuilt(graph: Graph, left_out: Node, source: Value, how: Cut) -> Graph | None:
    taken = {v.name for node in graph.nodes for v in node.results}
    values = {v: graph_input(v.name, v.type) for v in graph.inputs}
    copy = Graph(list(values.values()), [], name=graph.name)
    for node in graph.nodes:
        if node is left_out:
            values[node.result] = values[source]
            continue
        twin = _fitted(copy, node, values, how, taken)
        if twin is None:
            return None
        copy.insert(twin)
        for before, after in zip(node.results, twin.results, strict=True):
            after.name = before.name
            if before.type.quant is not None and before.type.quant.axis is None:
                after.type = after.type.with_quant(before.type.quant)
            values[before] = after
    copy.outputs = [values[v] for v in graph.outputs]
    copy.output_names = list(graph.output_names)
    copy.prune_from(list(copy.nodes))
    return copy


def _fitted(copy: Graph, node: Node, values: Mapping[Value, Value], how: Cut, taken: set[str]) -> Node | None:
    """The node on its new operands, its constants, which are put into `copy`, cut to fit; None where nothing fits."""
    operands = [values[v] for v in node.operands]
    sizes = {
        old: new
        for before, after in zip(node.operands, operands, strict=True)
        for old, new in zip(before.type.shape, after.type.shape, strict=True)
        if old != new and isinstance(old, int) and isinstance(new, int)
    }
    for trial, (op, arrays) in enumerate(_ways(node, sizes, how)):
        if trial == MOST_TRIALS:
            break
        fitted = [v if a is None else apply(Const(a)).result for v, a in zip(operands, arrays, strict=True)]
        try:
            twin = apply(op, *fitted, loc=node.loc)
        except MISFIT:
            continue
        for before, after in zip(node.operands, fitted, strict=True):
            if after.const is not None and after.producer is not None and after not in operands:
                copy.insert(after.producer)
                after.name = _name(before, taken)
        return twin
    return None


def _name(constant: Value, taken: set[str]) -> str:
    """Of one that is cut: the name it had, unless others may go on reading it as it was."""
    if len(constant.users) < 2 or not constant.name:
        return constant.name
    name = next(n for i in count(1) if (n := f"{constant.name}_{i}") not in taken)
    taken.add(name)
    return name


def _ways(node: Node, sizes: Sizes, how: Cut) -> Iterator[tuple[Op, Sequence[Array | None]]]:
    """The op, and an array for every operand that is to hold another one: each choice of axes that could follow."""
    choices = [_cuts(v.const, sizes, how) for v in node.operands]
    ops = [node.op]
    groups = getattr(node.op, "groups", None)
    if isinstance(groups, int) and groups in sizes:
        ops.insert(0 if how.eager else 1, node.op.like(groups=sizes[groups]))
    for op in ops:
        for arrays in product(*choices):
            yield op, arrays


def _cuts(array: Array | None, sizes: Sizes, how: Cut) -> list[Array | None]:
    """None for the constant as it is, and it with some of its axes of these sizes brought to their new ones."""
    if array is None:
        return [None]
    axes = [i for i, d in enumerate(array.shape) if d in sizes]
    found: list[Array | None] = []
    for follow in product((False, True), repeat=len(axes)):
        cut = array
        for axis, follows in zip(axes, follow, strict=True):
            if follows:
                old, new = array.shape[axis], sizes[array.shape[axis]]
                kept = np.arange(new) + (old - new if how.last else 0)
                cut = np.take(cut, kept % old, axis)
        found.append(None if cut is array else cut)
    return found[::-1] if how.eager else found
