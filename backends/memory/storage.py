"""What the planner sees of a graph: steps that execute, and the storages that they read and write."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from ...ir.constant import Const
from ...ir.graph import Graph, Node, Value


class MemoryModel(Protocol):
    """What planning asks of a target about the nodes of a graph; `backends.kernel.Choices` is one."""

    def scratch(self, node: Node) -> int:
        """Bytes of the arena that the node's kernel needs beside operands and results."""
        ...

    def in_place(self, node: Node) -> tuple[int, ...]:
        """Operands whose memory the result may take over, in order of preference."""
        ...

    def is_alias(self, node: Node) -> bool:
        """Whether the result simply is operand 0's bytes, so that nothing is executed."""
        ...


class Space(enum.Enum):
    """Who owns a storage's memory."""

    ARENA = "arena"
    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"


@dataclass(eq=False)
class Storage:
    """Bytes that hold one value and its aliases.

    root: the value that was there first. index: of the public input or output. producer: None for inputs and constants.
    """

    root: Value
    nbytes: int
    space: Space
    index: int = 0
    producer: Step | None = None
    readers: list[Step] = field(default_factory=list)


@dataclass(eq=False)
class Step:
    """A node that executes. `takes` are the storages in the arena whose memory the result may take over."""

    index: int
    node: Node
    reads: tuple[Storage, ...] = ()
    writes: tuple[Storage, ...] = ()
    scratch: int = 0
    takes: tuple[Storage, ...] = ()


@dataclass(frozen=True)
class Program:
    """All steps in the graph's order; the storage of every value that is used; outputs that no node can write itself.

    copies: indexes of outputs to be copied at the end from their value's place: a public input or constant, or a value
    that is an output twice.
    """

    steps: tuple[Step, ...]
    storages: dict[Value, Storage]
    copies: tuple[int, ...]
    alignment: int

    def aligned(self, nbytes: int) -> int:
        """Rounded up to the alignment."""
        return -(-nbytes // self.alignment) * self.alignment


def lower(graph: Graph, target: MemoryModel, alignment: int) -> Program:
    """Steps and storages of a graph whose shapes are all known."""
    storages = {v: Storage(v, v.type.nbytes, Space.INPUT, i) for i, v in enumerate(graph.inputs)}
    steps: list[Step] = []
    for node in graph.nodes:
        if isinstance(node.op, Const):
            storages[node.result] = Storage(node.result, node.result.type.nbytes, Space.CONSTANT)
        elif target.is_alias(node):
            storages[node.result] = storages[node.operands[0]]
        else:
            step = Step(len(steps), node, scratch=target.scratch(node))
            for value in node.live_results:
                storages[value] = Storage(value, value.type.nbytes, Space.ARENA, producer=step)
            step.reads = tuple(dict.fromkeys(storages[v] for v in node.operands))
            step.writes = tuple(storages[v] for v in node.live_results)
            for storage in step.reads:
                storage.readers.append(step)
            steps.append(step)
    copies = _claim_outputs(graph, storages)
    for step in steps:
        step.takes = _takes(step, storages, target.in_place(step.node))
    return Program(tuple(steps), storages, copies, alignment)


def _claim_outputs(graph: Graph, storages: dict[Value, Storage]) -> tuple[int, ...]:
    copies = []
    for i, value in enumerate(graph.outputs):
        storage = storages[value]
        if storage.space is Space.ARENA:
            storage.space, storage.index = Space.OUTPUT, i
        else:
            copies.append(i)
    return tuple(copies)


def _takes(step: Step, storages: dict[Value, Storage], allowed: tuple[int, ...]) -> tuple[Storage, ...]:
    """Of the allowed operands: those in the arena, large enough, and not read through another operand."""
    if len(step.writes) != 1 or step.writes[0].space is not Space.ARENA:
        return ()
    operands = [storages[v] for v in step.node.operands]
    forbidden = {s for i, s in enumerate(operands) if i not in allowed}
    return tuple(
        s
        for s in dict.fromkeys(operands[i] for i in allowed)
        if s.space is Space.ARENA and s not in forbidden and s.nbytes >= step.writes[0].nbytes
    )
