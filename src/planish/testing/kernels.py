"""What a target makes of an op, executed, against the op's own meaning."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import hypothesis
from hypothesis import given
from hypothesis import strategies as st

from ..ir.builder import const_value
from ..ir.constant import Const
from ..ir.errors import PlanishError
from ..ir.graph import Graph, Value, apply, graph_input
from ..ir.op import Instance, Op
from ..ir.types import Array, type_of
from ..passes.base import Context
from ..passes.pipeline import run_pipeline
from ..runtime.oracle import judge
from ..runtime.target import Limits, Target
from .counterexample import text
from .draw import unhurried
from .ops import graph_of, instances

#: Compiling takes longer than running: so many examples share a program.
IN_ONE_PROGRAM = 10


def check_kernel(target: Target, op: type[Op], programs: int = 2) -> int:
    """Compile examples of an op for a target, execute them, and compare with the interpreter.

    Integers are equal, floats within what rounding explains (`runtime/oracle.py`). Examples that the target does not
    take are left out. Returns how many were executed: 0 where the target takes none, or runs nothing on this machine.
    Raises AssertionError with the first example that differs, as text.
    """
    if not all(need.present for need in target.needs()):
        return 0
    executed = 0

    @unhurried(max_examples=programs, phases=(hypothesis.Phase.generate,))
    @given(st.lists(instances(op), min_size=IN_ONE_PROGRAM, max_size=IN_ONE_PROGRAM, unique_by=id))
    def run(drawn: list[Instance]) -> None:
        nonlocal executed
        taken = [instance for instance in drawn if takes(target, instance)]
        if taken:
            _compare(target, taken)
            executed += len(taken)

    run()
    return executed


def together(instances: Sequence[Instance]) -> tuple[Graph, dict[str, Array]]:
    """One graph that holds many instances of one op side by side, outputs `y0`, `y1`, ...; and its inputs by name."""
    inputs: list[Value] = []
    arrays: dict[str, Array] = {}
    outputs: list[Value] = []
    for number, instance in enumerate(instances):
        operands = []
        for i, array in enumerate(instance.operands):
            if i in instance.constants:
                operands.append(const_value(array))
                continue
            inputs.append(graph_input(f"x{number}_{i}", type_of(array)))
            arrays[inputs[-1].name] = array
            operands.append(inputs[-1])
        outputs += apply(instance.op, *operands).results
    return Graph(inputs, outputs, [f"y{i}" for i in range(len(outputs))]), arrays


def _lowered(target: Target, graph: Graph) -> Graph:
    return run_pipeline(graph, target.lowering, Context(target=target)).graph


def takes(target: Target, instance: Instance) -> bool:
    """Whether a target has kernels for all that an example becomes."""
    try:
        nodes = _lowered(target, graph_of(instance)).nodes
    except PlanishError:
        return False
    return all(isinstance(n.op, Const) or target.supports(n) is None for n in nodes)


def _compare(target: Target, taken: Sequence[Instance]) -> None:
    graph, arrays = together(taken)
    lowered = _lowered(target, graph)
    with tempfile.TemporaryDirectory() as folder:
        artifact = target.emit(lowered, Path(folder), "proof", Limits())
        outputs = target.run(artifact, {name: array[None] for name, array in arrays.items()}).outputs
    per_instance = len(graph.outputs) // len(taken)
    verdicts = judge(lowered, arrays, {name: rows[0] for name, rows in outputs.items()})
    for number, verdict in enumerate(verdicts.values()):
        if not verdict.agrees:
            example = text(graph_of(taken[number // per_instance]))
            raise AssertionError(f"{target.name}: {verdict}\n{example}")
