"""Run a compiled model: segments by the simulator, host segments by whoever is given, on one arena for each sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...ir.graph import Value
from ...ir.types import Array, static
from .host import HostSegment, host_segments, interpret
from .isa import Space
from .layout import Layout
from .program import Program

#: Executes one program on an arena (u8), and returns the arena after it.
Engine = Callable[[Program, Array], Array]
#: Executes a host segment on a batch: inputs and outputs are stacked, in the order of its graph's.
Host = Callable[[HostSegment, Sequence[Array]], list[Array]]


def run(
    layout: Layout, programs: Sequence[Program | None], inputs: Sequence[Array], engine: Engine, host: Host = interpret
) -> list[Array]:
    """Outputs for inputs in the order of the graph's, samples stacked along a new first axis.

    programs: one for each of the layout's runs, None where it is the host's.
    """
    graph = layout.partition.graph
    samples = len(inputs[0]) if inputs else 1
    arenas = np.zeros((samples, layout.arena_bytes), np.uint8)
    constants = graph.constants

    def place(value: Value) -> Array:
        """The bytes of a value in the arenas."""
        space, address = layout.addresses[value]
        assert space is Space.ARENA
        return arenas[:, address : address + value.type.nbytes]

    def read(value: Value) -> Array:
        shape, origin = static(value.type.shape), layout.memory.constants.get(value)
        if origin is not None:
            return np.broadcast_to(constants[origin].reshape(shape), (samples, *shape))
        return np.ascontiguousarray(place(value)).view(value.type.dtype.numpy).reshape(samples, *shape)

    def write(value: Value, array: Array) -> None:
        data = np.ascontiguousarray(array, value.type.dtype.numpy).reshape(len(array), -1)
        place(value)[:] = data.view(np.uint8)  # of a host segment without inputs, one row for all

    for value, array in zip(graph.inputs, inputs, strict=True):
        write(value, array)
    hosted = iter(host_segments(layout))
    for program in programs:
        if program is not None:
            for sample in range(samples):
                arenas[sample] = engine(program, arenas[sample])
            continue
        segment = next(hosted)
        results = host(segment, [read(v) for v in segment.reads])
        for value, array in zip(segment.writes, results, strict=True):
            write(value, array)
    return [np.array(read(v)) for v in graph.outputs]
