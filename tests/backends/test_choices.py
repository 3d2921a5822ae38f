"""Which kernel executes a group is decided once per compile."""

from collections import Counter

import numpy as np
import pytest

import planish
from planish.backends import kernel
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.shape import reshape, transpose
from planish.ir.ops.unary import gelu
from planish.ir.types import F32, TensorType


def network():
    """Groups, a composite op, an alias and a movement."""
    x = graph_input("x", TensorType((1, 2, 4, 4), F32))
    layer = relu(conv2d(x, np.ones((2, 2, 1, 1), np.float32), np.zeros(2, np.float32)))
    both = add(gelu(layer), transpose(layer, perm=(0, 1, 3, 2)))
    return Graph([x], [relu(reshape(both, shape=(1, 32)))], ["y"])


@pytest.mark.parametrize("target", ["c", "cortex-m4", "tvm", "npu:64"])
def test_a_kernel_is_chosen_once(target, monkeypatch, tmp_path):
    if target == "tvm":
        pytest.importorskip("tvm")
    asked, choose = Counter(), kernel.choose

    def counted(node, kernels):
        asked[node] += 1
        return choose(node, kernels)

    monkeypatch.setattr(kernel, "choose", counted)
    planish.compile(network(), target=target, out=tmp_path / "out")
    assert asked
    assert set(asked.values()) == {1}
