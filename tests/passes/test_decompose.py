"""Composites become what they are made of, where a target does not take them; the rest of the graph stays."""

import numpy as np
import pytest

from planish.ir.builder import number
from planish.ir.definition import body_of
from planish.ir.equality import same
from planish.ir.errors import InferenceError
from planish.ir.exact import Exact
from planish.ir.graph import graph_input
from planish.ir.op import Op
from planish.ir.ops import BUILT_IN
from planish.ir.ops.attention import Attention, attention
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.norm import layer_norm
from planish.ir.ops.unary import gelu, hard_swish, silu
from planish.ir.types import BOOL, EXACT, F32, Sym, TensorType
from planish.passes.base import Context
from planish.passes.decompose import Decompose
from planish.passes.pipeline import run_pipeline
from planish.registry import target_named
from tests.support.passes import graph_of, ops, reals, transformed, x_input


def several():
    x = x_input(2, 3, 4)
    normal = layer_norm(x, reals(4), reals(4))
    return graph_of(gelu(attention(normal, normal, silu(normal), scale=0.5)))


def decomposed(graph, target=None):
    context = Context(target=None if target is None else target_named(target))
    return ops(run_pipeline(graph, [Decompose()], context).graph)


def test_without_a_target_all_of_them():
    graph = transformed(several(), Decompose())
    assert not {op.name for op in BUILT_IN if op.definition is not Op.definition} & set(ops(graph))
    assert same(graph, transformed(graph, Decompose()))


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("c", {"layer_norm", "gelu", "silu"}), ("cortex-m4", {"layer_norm", "gelu", "silu"}),
        ("onnx:16", set()), ("onnx:17", {"layer_norm"}), ("onnx:20", {"layer_norm", "gelu"}),
        ("onnx:24", {"layer_norm", "gelu", "silu", "attention"}),
    ],
)  # fmt: skip
def test_what_a_target_takes_stays(target, kept):
    assert {"layer_norm", "gelu", "silu", "attention"} & set(decomposed(several(), target)) == kept


def test_numbers_go_into_the_layers_beside_and_nothing_else_changes():
    x = x_input(2, 4)
    untouched = dense(dense(x, reals(4, 4), reals(4)), np.ones((3, 4), np.float32), np.zeros(3, np.float32))
    y = dense(gelu(dense(x, reals(4, 4), reals(4))), reals(3, 4), reals(3))
    graph = transformed(graph_of(y, untouched), Decompose())
    assert ops(graph) == ["dense", "erf", "add", "mul", "dense", "dense", "dense"]
    image = x_input(1, 2, 3, 3)
    convolved = conv2d(hard_swish(conv2d(image, reals(2, 2, 1, 1), reals(2))), reals(2, 2, 1, 1), reals(2))
    assert decomposed(graph_of(convolved)) == ["conv2d", "hard_sigmoid", "mul", "conv2d"]


def test_a_scale_of_ones_and_a_shift_of_zeros_leave_no_trace():
    x = x_input(2, 4)
    plain = layer_norm(x, np.ones(4, np.float32), np.zeros(4, np.float32))
    assert decomposed(graph_of(plain))[-1] == "div"
    assert decomposed(graph_of(layer_norm(x, reals(4), np.zeros(4, np.float32))))[-1] == "mul"


def test_the_body_is_shared_and_follows_the_types():
    types = [TensorType((Sym("N"), 3, 4), F32)] * 3
    body = body_of(Attention(), types)
    assert body is body_of(Attention(), types)
    assert body.outputs[0].type == Attention().infer(*types) == types[0]
    known = [t.with_shape((2, 3, 4)) for t in types]
    assert Attention().cost(*known).macs == 2 * (2 * 3 * 3 * 4)


@pytest.mark.parametrize(
    ("shapes", "mask"),
    [
        ([(3, 4), (2, 3, 4), (3, 4)], None),
        ([(3, 4), (3, 5), (3, 4)], None),
        ([(4,), (4,), (4,)], None),
        ([(3, 4), (3, 4), (3, 4)], TensorType((2, 3, 3), F32)),
        ([(3, 4), (3, 4), (3, 4)], TensorType((2, 3), BOOL)),
    ],
)
def test_attention_refuses_what_does_not_fit(shapes, mask):
    operands = [*(TensorType(shape, F32) for shape in shapes), *([] if mask is None else [mask])]
    with pytest.raises(InferenceError):
        attention(*(graph_input(f"x{i}", type) for i, type in enumerate(operands)))


def test_numbers_are_rounded_once():
    x = x_input(1)
    assert number(x, 1 / 3, 3.0).const == np.float32(1)
    assert number(graph_input("x", TensorType((1,), EXACT)), 0.5, 3.0).const[()] == Exact(1.5)
