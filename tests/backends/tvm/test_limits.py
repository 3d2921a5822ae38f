"""Every op at the limits of its types through TVM: it compiles, and agrees with what the op means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from planish.ir.op import Op
from planish.registry import target_named
from planish.testing.limits import check_at_limits
from tests.backends.tvm.test_kernels import TESTED

PROGRAMS = max(2, hypothesis.settings().max_examples // 12)
CHUNKS = [TESTED[i::3] for i in range(3)]


@pytest.mark.parametrize("ops", CHUNKS, ids=lambda ops: "-".join(op.name for op in ops[:3]))
def test_ops_at_their_limits_are_right(ops: list[type[Op]], require_tool: Callable[[str], Path], tvm: None) -> None:
    require_tool("cc")
    assert check_at_limits(target_named("tvm"), ops, PROGRAMS) > len(ops)
