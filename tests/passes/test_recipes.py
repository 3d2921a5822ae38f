"""Quantization reads a recipe: other schemes than int8 go the same way, and what has no integer form is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Value, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import relu
from planish.ir.ops.quant import Dequantize
from planish.ir.ops.quant import Quantize as QuantizeOp
from planish.ir.ops.shape import reshape
from planish.ir.ops.unary import sigmoid
from planish.ir.scheme import Recipe, Scheme
from planish.ir.types import F32, I8, I16, U8, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.quantization_quality import measured
from planish.passes.quantize import Quantize
from planish.runtime.data import uniform
from tests.support.clusters import float_ops

PER_OUTPUT = Scheme(symmetric=True, per="axis")
INT8 = Recipe()


@dataclass(frozen=True)
class Other(Quantize):
    """Static quantization by a recipe that no option asks for."""

    name: ClassVar[str] = "quantize"
    wanted: Recipe = INT8

    @property
    def recipe(self) -> Recipe:
        return self.wanted


def network() -> Graph:
    random = np.random.Generator(np.random.PCG64(3))

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    x = graph_input("x", TensorType((1, 2, 6, 6), F32))
    c = relu(conv2d(x, normal(4, 2, 3, 3), normal(4), named="conv"))
    rows = dense(reshape(c, shape=(1, 4, 16)), normal(4, 16), normal(4), named="rows")
    return Graph([x], [sigmoid(matmul(rows, rows))], ["y"], "network")


def quantized(recipe: Recipe) -> tuple[Graph, Context, float]:
    """The network by a recipe, with the SQNR of its output in dB."""
    graph = network()
    samples = list(uniform({"x": (-1.0, 1.0)}).of(graph, 8))
    context = Context(calibration=lambda: samples)
    twin, inputs = graph.clone(), [[s["x"]] for s in samples]
    expected = [[y] for y in _outputs(twin, inputs)]
    Other(calibration="minmax", wanted=recipe).run(graph, context)
    verify(graph)
    return graph, context, measured(graph, inputs, expected)["y"]


def _outputs(graph: Graph, inputs: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [evaluate(graph, x)[0] for x in inputs]


def weights_of(graph: Graph) -> list[tuple[Value, Value]]:
    """Codes and scales of all weights."""
    pairs = [n for n in graph.nodes if isinstance(n.op, Dequantize)]
    return [(n.operands[0], n.operands[1]) for n in pairs if n.operands[0].const is not None]


def test_activations_of_16_bits_are_finer_and_fold() -> None:
    graph, context, db = quantized(Recipe(activation=Scheme(I16)))
    made = [n for n in graph.nodes if isinstance(n.op, QuantizeOp)]
    assert {n.result.type.dtype for n in made if n.result.users[0].op.name != "sigmoid"} == {I16}
    assert db > quantized(Recipe())[2] + 6
    FoldQuantization().run(graph, context)
    verify(graph)
    assert not {"conv2d", "dense"} & set(float_ops(graph))


def test_unsigned_activations_fold_as_signed_ones_do() -> None:
    graph, context, db = quantized(Recipe(activation=Scheme(U8)))
    assert db > 20
    assert {n.result.type.dtype for n in graph.nodes if isinstance(n.op, QuantizeOp)} == {U8, I8}
    FoldQuantization().run(graph, context)
    assert not {"conv2d", "dense", "matmul"} & set(float_ops(graph))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_have_the_bits_that_are_asked_for(bits: int) -> None:
    graph, context, _ = quantized(Recipe(weight=PER_OUTPUT.like(bits=bits)))
    found = weights_of(graph)
    assert len(found) == 2
    assert all(np.abs(codes.const).max() == 2 ** (bits - 1) - 1 for codes, _ in found)
    FoldQuantization().run(graph, context)
    assert not {"conv2d", "dense"} & set(float_ops(graph))


def test_all_scales_are_powers_of_two() -> None:
    graph, _, db = quantized(Recipe(Scheme(power_of_two=True), PER_OUTPUT.like(power_of_two=True)))
    scales = [n.operands[1].const for n in graph.nodes if isinstance(n.op, QuantizeOp | Dequantize)]
    assert all(np.all(np.frexp(scale)[0] == 0.5) for scale in scales)
    assert db > 20


def test_weights_with_zero_points_are_made_symmetric_by_the_integer_form() -> None:
    graph, context, db = quantized(Recipe(weight=Scheme(per="axis")))
    assert any(
        n.operands[2].const.any()
        for n in graph.nodes
        if isinstance(n.op, Dequantize) and n.operands[0].const is not None
    )
    assert db > 20
    FoldQuantization().run(graph, context)
    assert not {"conv2d", "dense"} & set(float_ops(graph))


def test_groups_have_no_integer_form_yet_and_that_is_said() -> None:
    graph, context, _ = quantized(Recipe(weight=PER_OUTPUT.like(per="group", group=4)))
    assert [codes.type.rank for codes, _ in weights_of(graph)] == [4]  # two input channels are one group
    assert any("dense stays float" in note and "another axis" in note for note in context.notes)


def test_weights_that_are_not_finite_stay_float() -> None:
    x = graph_input("x", TensorType((1, 2), F32))
    graph = Graph([x], [relu(dense(x, np.float32([[-np.inf, 1], [1, 1]]), np.zeros(2, np.float32)))], ["y"])
    context = Context(calibration=lambda: [{"x": np.float32([[1, 2]])}])
    Quantize(calibration="minmax").run(graph, context)
    assert not weights_of(graph)
    assert any("dense stays float: its weights are not finite" in note for note in context.notes)
