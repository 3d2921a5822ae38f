"""Every op at the limits of its types through TVM: it compiles, and agrees with what the op means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from planish.ir.graph import Graph, graph_input
from planish.ir.op import Op
from planish.ir.ops.elementwise import add, div, maximum, minimum, mul, sub
from planish.ir.ops.logic import equal, less, less_equal
from planish.ir.types import F32, I32, I64, U32, DType, TensorType, dtype_of
from planish.registry import target_named
from planish.runtime.target import Limits
from planish.testing.limits import check_at_limits, limits
from tests.support.kernels import TESTED

PROGRAMS = max(1, hypothesis.settings().max_examples // 25)
CHUNKS = [TESTED[i::3] for i in range(3)]


@pytest.mark.parametrize("ops", CHUNKS, ids=lambda ops: "-".join(op.name for op in ops[:3]))
def test_ops_at_their_limits_are_right(ops: list[type[Op]], require_tool: Callable[[str], Path], tvm: None) -> None:
    require_tool("cc")
    assert check_at_limits(target_named("tvm"), ops, PROGRAMS) > len(ops)


@pytest.mark.parametrize("dtype", [F32, I32, U32, I64], ids=str)
def test_what_is_combined_with_itself(
    dtype: DType, require_tool: Callable[[str], Path], tvm: None, tmp_path: Path
) -> None:
    """Of x - x and x == x compilers think that they know the result; of what is no number they do not."""
    require_tool("cc")
    x = graph_input("x", TensorType((9,), dtype))
    builders = [add, sub, mul, minimum, maximum, equal, less, less_equal, *([div] if dtype is F32 else [])]
    outputs = [build(x, x) for build in builders]
    graph = Graph([x], outputs, [f"y{i}" for i in range(len(outputs))])
    values = np.resize(np.array(limits(dtype)[-9:], dtype.numpy), 9)
    for target in (target_named("tvm"), target_named("c")):
        folder = tmp_path / target.name
        folder.mkdir()
        artifact = target.emit(graph, folder, "itself", Limits())
        got = target.run(artifact, {"x": values[None]}).outputs
        for name, output in zip(graph.output_names, outputs, strict=True):
            with np.errstate(all="ignore"):
                wanted = output.producer.op.ref(values, values)
            assert np.array_equal(got[name][0], wanted, equal_nan=dtype_of(wanted).is_float), (target.name, output)
