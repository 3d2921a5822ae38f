"""Run a compiled model: segments by the simulator, host steps by the ops' reference semantics, on one arena."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir.constant import Const
from ...ir.evaluate import evaluate_node
from ...ir.graph import Value
from ...ir.types import Array, static
from .isa import Space
from .layout import Layout
from .program import Program

#: Executes one program on an arena (u8), and returns the arena after it.
Engine = Callable[[Program, Array], Array]


def run(layout: Layout, programs: Sequence[Program | None], inputs: Sequence[Array], engine: Engine) -> list[Array]:
    """Outputs for inputs in the order of the graph's: one sample. programs: one for each of the layout's runs."""
    graph = layout.partition.graph
    arena = np.zeros(layout.arena_bytes, np.uint8)
    constants = {n.result: n.op.data for n in graph.nodes if isinstance(n.op, Const)}

    def place(value: Value) -> Array:
        """The bytes of a value in the arena."""
        space, address = layout.addresses[value]
        assert space is Space.ARENA
        return arena[address : address + value.type.nbytes]

    def read(value: Value) -> Array:
        root = layout.memory.constants.get(value)
        if value in constants or root is not None:
            data = constants[value if root is None else root]
            return data.reshape(static(value.type.shape))
        return place(value).view(value.type.dtype.numpy).reshape(static(value.type.shape))

    def write(value: Value, array: Array) -> None:
        data = np.ascontiguousarray(array, value.type.dtype.numpy)
        place(value)[:] = data.reshape(-1).view(np.uint8)

    for value, array in zip(graph.inputs, inputs, strict=True):
        write(value, array)
    for placements, program in zip(layout.runs, programs, strict=True):
        if program is not None:
            arena[:] = engine(program, arena)
            continue
        node = placements[0].node
        results = evaluate_node(node, [read(v) for v in node.operands])
        for value, array in zip(node.results, results, strict=True):
            write(value, array)
    return [np.array(read(v)) for v in graph.outputs]
