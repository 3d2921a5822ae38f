"""Costs, against hand counts and the published figures of real models."""

import numpy as np
import pytest

from planish.ir.graph import Graph, apply, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import relu
from planish.ir.ops.fused import Fused
from planish.ir.types import F32, TensorType
from planish.runtime.cost import totals


def conv(x):
    return conv2d(x, np.zeros((6, 1, 3, 3), np.float32), np.zeros(6, np.float32), groups=3, strides=(2, 2))


def test_a_grouped_convolution_by_hand():
    x = graph_input("x", TensorType((1, 3, 7, 9), F32))
    cost = totals(Graph([x], [conv(x)], ["y"]))
    assert cost.macs == (3 * 4) * 6 * 9  # pixels, channels, taps
    assert cost.parameters == 6 * 9 + 6
    assert cost.constant_bytes == 4 * cost.parameters
    assert cost.bytes_read == 4 * (3 * 7 * 9 + 60)
    assert cost.bytes_written == 4 * (3 * 4 * 6)


def test_a_group_costs_its_work_and_only_the_traffic_that_crosses_it():
    x = graph_input("x", TensorType((1, 3, 7, 9), F32))
    inner = graph_input("x", x.type)
    body = Graph([inner], [relu(conv(inner))], ["r"], "body")
    loose, grouped = (
        totals(Graph([x], [relu(conv(x))], ["y"])),
        totals(Graph([x], [apply(Fused(body), x).result], ["y"])),
    )
    assert (grouped.macs, grouped.parameters) == (loose.macs, loose.parameters)
    assert grouped.bytes_written < loose.bytes_written


@pytest.mark.parametrize(
    ("model", "millions", "digits"),
    [
        ("kws_dscnn", 2.66, 2),
        ("mnist_cnn_cntk", 0.79, 2),
        ("keypoint_mlp", 0.0011, 4),
        ("ic_resnet8", 12.5, 1),
        ("ad_autoencoder", 0.26, 2),
        ("ic_resnet20_torch", 40.6, 1),
        ("sr_espcn_x3", 60.9, 1),
    ],
)
def test_published_macs(models, model, millions, digits):
    from planish.frontends.onnx import load

    graph = load(models / model / "model.onnx")
    assert round(totals(graph).macs / 1e6, digits) == millions
