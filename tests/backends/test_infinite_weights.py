"""Weights that are infinite: padding counts as zeros, so that a product is no number, or the kernel says no."""

import numpy as np
import pytest

from planish.ir.errors import UnsupportedError
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.types import F32, TensorType
from planish.runtime.interpreter import run
from planish.runtime.oracle import judge
from tests.support.emitted import run_for


def model(pads, weight):
    x = graph_input("x", TensorType((1, 1, 3, 3), F32))
    w = np.ones((1, 1, 2, 2), np.float32)
    w[0, 0, 0, 0] = weight
    return Graph([x], [conv2d(x, w, np.zeros(1, np.float32), pads=pads)], ["y"])


@pytest.mark.parametrize("weight", [np.inf, -np.inf, np.nan])
def test_padding_times_an_infinite_weight_is_no_number(weight, require_tool):
    require_tool("cc")
    sample = {"x": np.arange(1, 10, dtype=np.float32).reshape(1, 1, 3, 3)}
    padded, bare = model((1, 1, 0, 0), weight), model((0, 0, 0, 0), weight)
    assert np.isnan(run(padded, sample)["y"][0, 0, 0]).all()
    with pytest.raises(UnsupportedError, match="weights are infinite or no number"):
        run_for("c", padded, sample)
    assert judge(bare, sample, run_for("c", bare, sample))["y"].agrees
