"""An independent proof of a plan: execute it on bytes that remember who wrote them.

Shares nothing with the planner: no live ranges, no blocks. Every node reads its operands' bytes, writes its scratch,
then its results; a byte that somebody else has overwritten by the time it is read is an error.
"""

from __future__ import annotations

import numpy as np

from ...ir.constant import Const
from ...ir.errors import InvalidGraphError
from ...ir.graph import Graph, Node, Value
from .planner import Place, Plan
from .storage import MemoryModel, Space


def check(graph: Graph, plan: Plan, target: MemoryModel) -> None:
    """Raise InvalidGraphError, with the node and bytes concerned, unless executing the plan keeps all values intact."""
    _Machine(graph, plan, target).run()


class _Machine:
    """Memories whose bytes hold the number of the value that wrote them; 0 is garbage."""

    def __init__(self, graph: Graph, plan: Plan, target: MemoryModel) -> None:
        self.graph, self.plan, self.target = graph, plan, target
        self.arena = np.zeros(plan.arena_bytes, np.int64)
        self.outputs = [np.zeros(v.type.nbytes, np.int64) for v in graph.outputs]
        self.numbers: dict[Value, int] = {}
        self.content: dict[Value, Value] = {v: v for v in graph.inputs}  # an alias to the value whose bytes it is
        for node in graph.nodes:
            alias = not isinstance(node.op, Const) and target.is_alias(node)
            for value in node.results:
                self.content[value] = self.content[node.operands[0]] if alias else value
        self.outside = set(graph.inputs) | set(graph.constants)

    def run(self) -> None:
        executed = [n for n in self.graph.nodes if not isinstance(n.op, Const) and not self.target.is_alias(n)]
        if len(self.plan.order) != len(executed) or set(self.plan.order) != set(executed):
            raise InvalidGraphError("the plan does not execute every node exactly once")
        for node in self.plan.order:
            self.execute(node)
        for i, value in enumerate(self.graph.outputs):
            if i in self.plan.copies:
                self.read(value, "the copy to an output")
            elif not np.all(self.outputs[i] == self.number(value)):
                raise InvalidGraphError(f"output {i} does not hold its value at the end", str(value))

    def execute(self, node: Node) -> None:
        where = node.describe()
        for value in node.operands:
            self.read(value, where)
        reads = [self.region(v, where) for v in node.operands if self.content[v] not in self.outside]
        if size := self.target.scratch(node):
            if node not in self.plan.scratch:
                raise InvalidGraphError("a node has no scratch", where)
            scratch = self.slice(self.plan.scratch[node], size, where)
            self.require_apart(scratch, reads, "scratch overlaps an operand", where)
            scratch[:] = 0
            reads_and_scratch = [*reads, scratch]
        else:
            reads_and_scratch = reads
        written: list[np.ndarray] = []
        results = [v for v in node.results if v in self.plan.places]
        for value in results:
            region = self.region(value, where)
            allowed = self.allowed(node, value) if len(results) == 1 else []
            kept = [r for r in reads_and_scratch if not any(_same(r, a) for a in allowed)]
            self.require_apart(region, kept + written, "a result overlaps what its node still uses", where)
            written.append(region)
        for value, region in zip(results, written, strict=True):
            region[:] = self.number(value)

    def allowed(self, node: Node, result: Value) -> list[np.ndarray]:
        """Operands' regions that start where the result does, and that the kernel lets it overwrite."""
        legal = self.target.in_place(node)
        by_content: dict[Value, list[int]] = {}
        for i, value in enumerate(node.operands):
            by_content.setdefault(self.content[value], []).append(i)
        place = self.place(result)
        return [
            self.region(v, "")
            for v, indexes in by_content.items()
            if v not in self.outside
            and all(i in legal for i in indexes)
            and self.place(v) == place
            and v.type.nbytes >= result.type.nbytes
        ]

    def read(self, value: Value, where: str) -> None:
        if self.content[value] not in self.outside and not np.all(self.region(value, where) == self.number(value)):
            raise InvalidGraphError(f"{value} is not (or no longer) in memory when it is read", where)

    def number(self, value: Value) -> int:
        return self.numbers.setdefault(self.content[value], len(self.numbers) + 1)

    def place(self, value: Value) -> Place:
        return self.plan.places[value]

    def region(self, value: Value, where: str) -> np.ndarray:
        """The bytes of a value that some node computes."""
        if self.content[value] not in self.plan.places:
            raise InvalidGraphError(f"{value} is used and has no place", where)
        place = self.place(value)
        if place.space is Space.ARENA:
            return self.slice(place.offset, value.type.nbytes, where)
        if place.space is not Space.OUTPUT or self.outputs[place.index].size != value.type.nbytes:
            raise InvalidGraphError(f"{value} cannot live in {place}", where)
        return self.outputs[place.index]

    def slice(self, offset: int, size: int, where: str) -> np.ndarray:
        if size and (offset < 0 or offset + size > self.plan.arena_bytes):
            raise InvalidGraphError(f"[{offset}, {offset + size}) is outside of the arena", where)
        if offset % self.plan.alignment:
            raise InvalidGraphError(f"offset {offset} is not a multiple of {self.plan.alignment}", where)
        return self.arena[offset : offset + size]

    def require_apart(self, region: np.ndarray, others: list[np.ndarray], what: str, where: str) -> None:
        if any(np.shares_memory(region, other) for other in others):
            raise InvalidGraphError(what, where)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.__array_interface__["data"] == b.__array_interface__["data"] and a.size == b.size
