"""Every kernel of the portable list against the reference of the op that it implements, on the op's own examples."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

from planish.backends.cortexm.kernels import PORTABLE
from planish.ir.op import Op
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from planish.testing.ops import graph_of, seeded_instances
from tests.support.emitted import require_near, run_sanitized, together
from tests.support.kernels import TESTED, WITHOUT, missing

# One program holds many examples of several ops, as compiling takes long. A failure names the one example.
IN_ONE_PROGRAM = 10
PROGRAMS = max(1, hypothesis.settings().max_examples // (2 * IN_ONE_PROGRAM))

CHUNKS = [TESTED[i : i + 5] for i in range(0, len(TESTED), 5)]


def test_every_op_has_a_kernel() -> None:
    assert missing(PORTABLE) == WITHOUT


@pytest.mark.parametrize("target", ["c", "cortex-m4", "tvm"])
def test_what_has_no_kernel_is_refused_with_the_reason(target: str) -> None:
    for op in WITHOUT:
        (instance,) = seeded_instances(op, [0])
        (node,) = (n for n in graph_of(instance).nodes if isinstance(n.op, op))
        answer = target_named(target).supports(node)
        assert answer is not None
        assert op.name in answer.reason


@pytest.mark.parametrize("ops", CHUNKS, ids=lambda ops: "-".join(op.name for op in ops))
@pytest.mark.parametrize("program", range(PROGRAMS))
def test_kernels_compute_what_the_op_means(ops: list[type[Op]], program: int, require_tool: Any) -> None:
    require_tool("cc")
    seeds = range(program * IN_ONE_PROGRAM, (program + 1) * IN_ONE_PROGRAM)
    drawn = [instance for op in ops for instance in seeded_instances(op, seeds)]
    graph, inputs = together(drawn)
    lowered = run_pipeline(graph, "decompose", Context(target=target_named("c"))).graph
    (outputs,) = run_sanitized(lowered, [inputs])
    require_near(drawn, outputs)
