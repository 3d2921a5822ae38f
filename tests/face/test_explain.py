"""Why a rule did not fire; and where the instructions go."""

import pytest

from planish.debugging.explain import near_misses, rules_named
from planish.ir.arithmetic import fixed_point
from planish.ir.graph import Graph, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, mul, relu
from planish.ir.ops.quant import rescale
from planish.ir.text import save
from planish.ir.types import F32, I8, TensorType
from planish.passes import all_passes


@pytest.fixture
def model(tmp_path):
    """Three sums with a constant: behind a convolution, behind a clip, behind a convolution with two users."""
    import numpy as np

    w, b, c = (np.full(s, 0.5, np.float32) for s in ((2, 2, 1, 1), (2,), (2, 1, 1)))
    x = graph_input("x", TensorType((1, 2, 3, 3), F32))
    fires = add(conv2d(x, w, b), c)
    clipped = add(relu(conv2d(fires, w, b)), c, named="clipped")
    shared = conv2d(clipped, w, b, named="shared")
    twice = mul(add(shared, c, named="twice"), shared)
    save(Graph([x], [twice, clipped], ["y", "z"]), tmp_path / "model.planish")
    return tmp_path / "model.planish"


def test_near_misses_are_told_with_the_deepest_reason(planish, model):
    done = planish("passes", "explain", model, "constantafterlayer(conv2d, add)", "--json")
    assert done.code == 0, done.err
    (answer,) = done.json["rules"]
    assert (answer["pass"], answer["after"], answer["fired"]) == ("fuse", "simplify,fuse", 1)
    told = {m["nodes"][0]["name"]: (m["matched_ops"], m["reason"]) for m in answer["near_misses"]}
    assert told == {
        "clipped": (1, "expected conv2d, found clip"),
        "twice": (2, "the result of conv2d has other uses"),
    }
    assert [m["matched_ops"] for m in answer["near_misses"]] == [2, 1]  # what came nearest is told first
    text = planish("passes", "explain", model, "ConstantAfterLayer").out
    assert "the result of conv2d has other uses" in text
    assert "ConstantAfterLayer(conv2d, sub) of fuse: fired 0 times; after simplify,fuse there is no sub" in text


def test_a_pass_without_rules_says_what_it_left(planish, tmp_path):
    """A constant channel that padding meets with another value."""
    import numpy as np

    x = graph_input("x", TensorType((1, 1, 3, 3), I8))
    acc = conv2d(x, np.array([2, 0], np.int8).reshape(2, 1, 1, 1), np.array([0, 40], np.int32))
    y = rescale(acc, *fixed_point(0.5), zero=-128, named="layer")
    sums = conv2d(y, np.ones((1, 2, 1, 1), np.int8), np.zeros(1, np.int32), pads=(1, 1, 1, 1), input_zero=-128)
    save(Graph([x], [sums], ["y"]), tmp_path / "model.planish")
    command = ("passes", "explain", tmp_path / "model.planish", "dead-channels")
    answer = planish(*command, "--json").json
    (refused,) = answer["refused"]
    assert (answer["pass"], answer["applied"], refused["node"]) == ("dead-channels", {}, "layer")
    assert refused["reason"] == "1: padding lies between: the sum gets something else at the border"
    assert "padding lies between" in " ".join(planish(*command).out.split())


def test_the_passes_before_can_be_chosen(planish, model):
    done = planish(
        "passes", "explain", model, "ConstantAfterLayer(conv2d, add)", "--pipeline", "fuse,simplify", "--json"
    )
    assert done.json["rules"][0]["after"] == "fuse"


def test_every_rule_can_be_asked(digits):
    import planish as api

    graph = api.load(digits / "dscnn.onnx", dims={"N": 1})
    before = len(graph)
    for cls in all_passes():
        for rule in cls.rules:
            assert (cls, rule) in rules_named(rule.title)
            for miss in near_misses(graph, rule):
                assert type(miss.node.op) in rule.roots
                assert miss.depth >= 1 or not miss.reason
    assert len(graph) == before


def test_a_rule_that_is_not_there(planish, model):
    done = planish("passes", "explain", model, "ConstantAfterLayr")
    assert done.code == 2
    assert "did you mean ConstantAfterLayer?" in done.err


def test_passes_are_still_listed(planish):
    found = {p["name"]: p for p in planish("passes", "--json").json["passes"]}
    assert found["layout"]["usage"] == "layout{to=nhwc|nchw}"
    assert "BatchNormAfterLayer" in found["fuse"]["rules"]
    assert "layout{to=nhwc|nchw}" in planish("passes", "-v").out


def test_shares_of_a_target_that_counts_nothing_are_of_the_macs(planish, int8_build):
    done = planish("profile", int8_build, "--json")
    assert (done.code, done.json["unit"], done.json["total"]) == (0, "MACs", 136192)
    assert sum(layer["share"] for layer in done.json["layers"]) == pytest.approx(1)
    assert "counts no instructions" in planish("profile", int8_build).err


def test_shares_are_of_the_instructions_where_they_are_counted(planish, digits, tmp_path, require_tool):
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        require_tool(tool)
    model, calib, build = digits / "dscnn.onnx", digits / "calib.npz", tmp_path / "build"
    assert planish("compile", model, "-t", "cortex-m4", "--quantize", "int8", "--calib", calib, "-o", build).code == 0
    found = planish("profile", build, "--data", digits / "eval.npz", "--json").json
    verified = planish("verify", build, "--data", digits / "eval.npz", "--samples", 1, "--json").json
    assert found["unit"] == "instructions"
    assert found["total"] == verified["instructions"]
    assert found["total"] == found["outside"] + sum(layer["instructions"] for layer in found["layers"])
    assert 0.99 < sum(layer["share"] for layer in found["layers"]) <= 1
    rows = planish("profile", build).out.splitlines()
    widest = max(found["layers"], key=lambda layer: layer["share"])
    assert next(row for row in rows if row.strip().startswith(widest["source"])).count("#") == 24
