"""Every kernel of the portable list against the reference of the op that it implements, on the op's own examples."""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest

from planish.backends.cortexm.kernels import PORTABLE
from planish.ir.constant import Const
from planish.ir.op import Op
from planish.ir.ops import all_ops
from planish.ir.ops.activations import Elu, Mish, Softplus
from planish.ir.ops.attention import Attention
from planish.ir.ops.conv_transpose import ConvTranspose2d
from planish.ir.ops.fused import Fused
from planish.ir.ops.index import Take
from planish.ir.ops.norm import Lrn
from planish.ir.ops.shape import Reshape
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from planish.testing.ops import seeded_instances
from tests.support.emitted import require_near, run_sanitized, together

# One program holds many examples of several ops, as compiling takes long. A failure names the one example.
IN_ONE_PROGRAM = 10
PROGRAMS = max(1, hypothesis.settings().max_examples // (2 * IN_ONE_PROGRAM))

#: There is no C for these yet: a graph with one is refused, with the reason.
WITHOUT = (Lrn, Take)
#: These are executed as what they are made of.
DECOMPOSED = {Attention, ConvTranspose2d, Elu, Mish, Softplus}
TESTED = [op for op in all_ops() if op not in (Const, Fused, *WITHOUT)]
CHUNKS = [TESTED[i : i + 5] for i in range(0, len(TESTED), 5)]


def test_every_op_has_a_kernel() -> None:
    taken = {op for kernel in PORTABLE for op in kernel.ops} | {Reshape}  # which is an alias
    assert taken == set(TESTED) - DECOMPOSED


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
