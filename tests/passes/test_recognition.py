"""What exporters write with several ops, in all spellings, is recognized; what only looks like it is not."""

import numpy as np
import pytest

from planish.frontends.onnx import load
from planish.ir.literals import GELU_CUBIC, SIXTH, SQRT_2, SQRT_2_OVER_PI, SQRT_HALF
from planish.ir.ops.dense import dense, matmul
from planish.ir.ops.elementwise import add, clip, div, mul, pow_, sub
from planish.ir.ops.logic import where
from planish.ir.ops.reduce import reduce_max, reduce_mean, reduce_sum
from planish.ir.ops.shape import reshape, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.ops.unary import erf, exp, hard_sigmoid, sigmoid, sqrt, tanh
from planish.ir.rewrite import NoMatch
from planish.ir.types import BOOL, Sym
from planish.passes.base import Context
from planish.passes.fuse import Fuse
from planish.passes.pipeline import run_pipeline
from planish.passes.recognition.attention import Attention
from planish.registry import target_named
from tests.support.passes import graph_of, ops, reals, transformed, validated, x_input


def f(number):
    return np.float32(number)


def normal(x):
    return erf(div(x, f(SQRT_2)))


def approximate(x):
    return tanh(mul(add(x, mul(pow_(x, f(3)), f(GELU_CUBIC))), f(SQRT_2_OVER_PI)))


GELUS = {
    "x/2 first": lambda x, s: mul(mul(x, f(0.5)), add(s, f(1))),
    "half of it last": lambda x, s: mul(f(0.5), mul(x, add(f(1), s))),
    "divided last": lambda x, s: div(mul(add(s, f(1)), x), f(2)),
    "half of the sum": lambda x, s: mul(x, mul(add(s, f(1)), f(0.5))),
    "halves added": lambda x, s: mul(add(f(0.5), mul(s, f(0.5))), x),
}


@pytest.mark.parametrize("share", [normal, lambda x: erf(mul(x, f(SQRT_HALF))), approximate])
@pytest.mark.parametrize("spelling", GELUS.values(), ids=GELUS)
def test_gelu(spelling, share):
    x = x_input(2, 5)
    graph = transformed(graph_of(spelling(x, share(x))), Fuse())
    assert ops(graph) == ["gelu"]
    assert next(graph.nodes).op.tanh == (share is approximate)


def cubes(x):
    squared = mul(x, x)
    yield mul(add(x, mul(mul(squared, x), f(GELU_CUBIC))), f(SQRT_2_OVER_PI))
    yield mul(add(mul(f(GELU_CUBIC), mul(x, squared)), x), f(SQRT_2_OVER_PI))
    yield mul(mul(x, f(SQRT_2_OVER_PI)), add(mul(mul(x, f(GELU_CUBIC)), x), f(1)))
    yield mul(mul(x, add(mul(squared, f(GELU_CUBIC)), f(1))), f(SQRT_2_OVER_PI))


@pytest.mark.parametrize("number", range(4))
def test_gelu_by_other_cubes(number):
    x = x_input(7)
    inner = list(cubes(x))[number]
    assert ops(transformed(graph_of(GELUS["x/2 first"](x, tanh(inner))), Fuse())) == ["gelu"]


def gate(x):
    return clip(add(x, f(3)), lo=0.0, hi=6.0)


ACTIVATIONS = {
    "silu": (lambda x: mul(sigmoid(x), x), ["silu"]),
    "silu by exp": (lambda x: div(x, add(f(1), exp(mul(x, f(-1))))), ["silu"]),
    "hard_sigmoid": (lambda x: mul(gate(x), f(SIXTH)), ["hard_sigmoid"]),
    "hard_sigmoid of a line": (lambda x: clip(add(mul(x, f(0.3)), f(0.4)), lo=0.0, hi=1.0), ["hard_sigmoid"]),
    "line of each column": (
        lambda x: clip(add(mul(x, reals(5)), f(0.4)), lo=0.0, hi=1.0), ["mul", "add", "clip"],
    ),
    "line behind a layer": (
        lambda x: clip(add(mul(dense(x, reals(4, 5), reals(4)), f(0.3)), f(0.4)), lo=0.0, hi=1.0), ["dense", "clip"],
    ),
    "hard_swish": (lambda x: div(mul(x, gate(x)), f(6)), ["hard_swish"]),
    "hard_swish, a sixth": (lambda x: mul(f(SIXTH), mul(gate(x), x)), ["hard_swish"]),
    "hard_swish, divided first": (lambda x: mul(x, div(gate(x), f(6))), ["hard_swish"]),
    "hard_swish, x divided": (lambda x: mul(div(x, f(6)), gate(x)), ["hard_swish"]),
    "hard_swish of hard_sigmoid": (lambda x: mul(x, hard_sigmoid(x, alpha=float(f(SIXTH)))), ["hard_swish"]),
    "another slope": (lambda x: mul(x, hard_sigmoid(x)), ["hard_sigmoid", "mul"]),
    "another gate": (lambda x: mul(x, gate(mul(x, x))), ["mul", "add", "clip", "mul"]),
}  # fmt: skip


@pytest.mark.parametrize(("build", "expected"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations(build, expected):
    assert ops(transformed(graph_of(build(x_input(2, 5))), Fuse())) == expected


@pytest.mark.parametrize("number", [0.7, 0.70711, 0.7071])
def test_a_number_that_is_not_the_root_of_one_half(number):
    x = x_input(4)
    result = validated(graph_of(GELUS["x/2 first"](x, erf(mul(x, f(number))))), Fuse())
    assert "gelu" not in ops(result.graph)
    assert any("is not the constant" in why for (rule, _), why in result.steps[0].changes.refused.items())


def test_what_is_used_elsewhere_is_not_computed_twice():
    x = x_input(4)
    share = normal(x)
    result = validated(graph_of(GELUS["x/2 first"](x, share), share), Fuse())
    assert "gelu" not in ops(result.graph)
    assert "the result of erf inside has other uses" in result.steps[0].changes.refused.values()


# ---- normalizations


def centred(x, axes):
    return sub(x, reduce_mean(x, axes=axes, keepdims=True))


def deviation(x, axes, root=sqrt):
    c = centred(x, axes)
    return root(add(reduce_mean(mul(c, c), axes=axes, keepdims=True), f(1e-5)))


NORMS = {
    "div by sqrt": lambda x, axes: div(centred(x, axes), deviation(x, axes)),
    "times reciprocal": lambda x, axes: mul(div(f(1), deviation(x, axes)), centred(x, axes)),
    "pow -1/2": lambda x, axes: mul(centred(x, axes), deviation(x, axes, lambda v: pow_(v, f(-0.5)))),
    "pow 1/2": lambda x, axes: div(centred(x, axes), deviation(x, axes, lambda v: pow_(v, f(0.5)))),
    "pow 2": lambda x, axes: div(
        centred(x, axes),
        sqrt(add(reduce_mean(pow_(centred(x, axes), f(2)), axes=axes, keepdims=True), f(1e-5))),
    ),
}
AFFINES = {
    "alone": lambda y, *columns: y,
    "scale": lambda y, *columns: mul(y, reals(*columns)),
    "shift": lambda y, *columns: add(reals(*columns), y),
    "scale and shift": lambda y, *columns: add(mul(reals(*columns), y), reals(1, *columns)),
    "one number": lambda y, *columns: mul(y, f(3)),
}


@pytest.mark.parametrize("merged", [True, False], ids=["common subexpressions", "as written"])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_layer_norm(norm, affine, merged):
    graph = graph_of(affine(norm(x_input(2, 3, 6), (2,)), 6))
    assert ops(transformed(graph, *(["simplify"] if merged else []), Fuse())) == ["layer_norm"]
    several = graph_of(affine(norm(x_input(2, 3, 6), (1, 2)), 3, 6))
    assert ops(transformed(several, "simplify", Fuse())) == ["reshape", "layer_norm", "reshape"]


@pytest.mark.parametrize(
    ("axes", "affine", "why"),
    [
        ((1,), lambda y: y, "other axes are normalized than the last ones"),
        ((2,), lambda y: mul(y, reals(3, 1)), "the constant is not one number per column"),
        ((2,), lambda y: add(y, reals(1, 1, 1, 6)), "the constant is not one number per column"),
    ],
)
def test_what_layer_norm_does_not_do(axes, affine, why):
    result = validated(graph_of(affine(NORMS["div by sqrt"](x_input(2, 3, 6), axes))), "simplify,fuse")
    assert why in result.steps[1].changes.refused.values()


def test_layer_norm_of_any_batch():
    x = x_input(Sym("N"), 6)
    assert ops(run_pipeline(graph_of(NORMS["div by sqrt"](x, (1,))), "fuse").graph) == ["layer_norm"]
    rows = run_pipeline(graph_of(NORMS["div by sqrt"](x_input(2, Sym("N")), (1,))), "fuse").steps[0].changes
    assert "the size of a normalized axis is not known" in rows.refused.values()


@pytest.mark.parametrize("quotient", [div, lambda e, total: mul(div(f(1), total), e)])
@pytest.mark.parametrize(("axis", "recognized"), [(2, True), (1, False)])
def test_softmax(axis, recognized, quotient):
    x = x_input(2, 3, 4)
    e = exp(sub(x, reduce_max(x, axes=(axis,), keepdims=True)))
    found = ops(transformed(graph_of(quotient(e, reduce_sum(e, axes=(axis,), keepdims=True))), Fuse()))
    assert (found == ["softmax"]) is recognized
    assert ("softmax" in found) is recognized


# ---- attention


def heads(name, *perm):
    """[1,4,6] as two heads."""
    return transpose(reshape(x_input(1, 4, 6, name=name), shape=(1, 4, 2, 3)), perm=perm)


def looked_up(q_scale=None, k_scale=None, scale=None, mask=None):
    q, kt, v = heads("q", 0, 2, 1, 3), heads("k", 0, 2, 3, 1), heads("v", 0, 2, 1, 3)
    q, kt = (x if s is None else s(x) for x, s in ((q, q_scale), (kt, k_scale)))
    scores = matmul(q, kt)
    scores = scores if scale is None else scale(scores)
    return matmul(softmax(scores if mask is None else mask(scores)), v)


def halved(x):
    return mul(x, f(0.5))


def condition():
    return x_input(4, 4, dtype=BOOL, name="c")


ATTENTIONS = {
    "plain": ({}, 1.0),
    "at q": ({"q_scale": halved}, 0.5),
    "at k": ({"k_scale": lambda x: div(x, f(4))}, 0.25),
    "at both": ({"q_scale": halved, "k_scale": halved}, 0.25),
    "behind": ({"scale": lambda x: div(x, f(2))}, 0.5),
    "mask added": ({"scale": halved, "mask": lambda s: add(x_input(4, 4, name="m"), s)}, 0.5),
    "constant mask added": ({"mask": lambda s: add(s, np.where(np.tri(4), f(0), f(-1e9)))}, 1.0),
    "mask chosen": ({"q_scale": halved, "mask": lambda s: where(condition(), s, f(-1e9))}, 0.5),
    "mask chosen, the other way": ({"mask": lambda s: where(condition(), f(-1e9), s)}, 1.0),
}


@pytest.mark.parametrize(("changes", "scale"), ATTENTIONS.values(), ids=ATTENTIONS)
def test_attention(changes, scale):
    graph = graph_of(looked_up(**changes))
    recognized = transformed(graph, "fuse")
    (node,) = [n for n in recognized.nodes if n.op.name == "attention"]
    assert node.op.scale == scale
    assert not {"matmul", "softmax", "div", "where"} & set(ops(recognized))
    back = transformed(recognized, "simplify", "decompose", "simplify")
    assert ops(back).count("transpose") <= 3, "k is transposed once"
    assert len(ops(back)) <= len(ops(transformed(graph, "simplify")))


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: looked_up(scale=lambda x: mul(x, reals(2, 1, 1))), "expected"),
        (lambda: looked_up(mask=lambda s: add(s, reals(3, 2, 4, 4))), "mask, scale, keys or values broadcast"),
        (lambda: looked_up(scale=lambda x: div(x, f(0))), "the scale is a division by zero"),
        (
            lambda: matmul(softmax(matmul(x_input(4, 3), reals(3, 4))), x_input(4, 2, name="v")),
            "keys or values are stored: these are layers",
        ),
    ],
)  # fmt: skip
def test_what_attention_is_not(build, why):
    graph = graph_of(build())
    answer = Attention().attempt(graph.outputs[0].producer)
    assert isinstance(answer, NoMatch)
    assert answer.reason.startswith(why)


def test_what_differs_from_head_to_head_is_no_scale():
    graph = transformed(graph_of(looked_up(q_scale=lambda x: mul(x, reals(2, 1, 1)))), "fuse")
    assert {"mul", "attention"} <= set(ops(graph))


def test_quantize_sees_the_matrix_products():
    graph = graph_of(looked_up(q_scale=halved))
    sample = {name: reals(1, 4, 6) for name in "qkv"}
    context = Context(calibration=lambda: [sample])
    quantized = run_pipeline(graph, "simplify,fuse,quantize{calibration=minmax},fold-quantization", context).graph
    assert ops(quantized).count("matmul") == 2
    assert "integer_softmax" in ops(quantized)
    assert not {"softmax", "attention"} & set(ops(quantized))


# ---- and back


def unmasked(x):
    x = reshape(x, shape=(1, 2, 4))
    return matmul(softmax(mul(matmul(x, transpose(x, perm=(0, 2, 1))), f(0.5))), x)


def between_layers(x):
    a = dense(x, reals(8, 4), reals(8))
    return dense(GELUS["x/2 first"](a, normal(a)), reals(3, 8), reals(3))


@pytest.mark.parametrize(
    ("build", "opset", "expected"),
    [
        (between_layers, 20, ["Gemm", "Gelu", "Gemm"]),
        (between_layers, 17, ["Gemm", "Erf", "Add", "Mul", "Gemm"]),
        (lambda x: reshape(NORMS["div by sqrt"](x, (1,)), shape=(8,)), 17, ["LayerNormalization", "Reshape"]),
        (
            lambda x: NORMS["times reciprocal"](x, (1,)), 13,
            ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div"],
        ),
        (ACTIVATIONS["hard_swish"][0], 14, ["HardSwish"]),
        (ACTIVATIONS["hard_swish"][0], 13, ["HardSigmoid", "Mul"]),
        (ACTIVATIONS["silu"][0], 21, ["Sigmoid", "Mul"]),
        (unmasked, 23, ["Unsqueeze", "Attention"]),
        (unmasked, 22, ["Unsqueeze", "Mul", "Transpose", "MatMul", "Softmax", "MatMul"]),
    ],
)  # fmt: skip
def test_the_opset_stays_and_older_ones_get_the_definition(build, opset, expected, tmp_path):
    graph = graph_of(build(x_input(2, 4)))
    graph.metadata["onnx.opset"] = str(opset)
    target = target_named("onnx")
    lowered = run_pipeline(graph, f"simplify,fuse,{target.lowering}", Context(target=target)).graph
    artifact = target.emit(lowered, tmp_path, "model", None)
    import onnx

    model = onnx.load(tmp_path / "model.onnx")
    again = ops(load(tmp_path / "model.onnx"))
    assert again == ops(lowered), "what is written is read as the same"
    assert artifact.facts["opset"] == (opset if "Attention" in expected else min(opset, 20))
    assert [node.op_type for node in model.graph.node] == expected
