"""Diff: nothing where nothing differs, and each change where it is."""

import hypothesis
import numpy as np
import pytest

import planish as api
from planish.debugging.differ import costs, difference
from planish.ir.builder import const_value
from planish.ir.ops.elementwise import relu
from planish.ir.text import parse_graph, print_graph, save
from planish.testing.graphs import graphs


@hypothesis.given(graphs())
def test_equal_graphs_have_no_difference(graph):
    assert not difference(graph, graph.clone())
    assert not difference(graph, parse_graph(*print_graph(graph)))


@hypothesis.given(graphs(), hypothesis.strategies.integers(0, 20))
def test_one_changed_constant_is_one_change(graph, which):
    copy = graph.clone()
    constants = [n for n in copy.nodes if n.op.name == "const" and n.result.uses]
    hypothesis.assume(constants)
    old = constants[which % len(constants)].result
    array = old.const.copy()
    array.flat[0] += 1
    new = const_value(array)
    copy.adopt(new, before=old.producer)
    users = len(old.users)
    copy.replace(old, new)
    copy.prune_from([old.producer])
    found = difference(graph, copy)
    assert (found.interface, found.added, found.removed) == ([], [], [])
    assert len(found.changed) == users
    assert all(f"1 of {array.size} element" in reasons[0] for _, _, reasons in found.changed)


@hypothesis.given(graphs())
def test_a_node_more_is_one_addition(graph):
    copy = graph.clone()
    added = relu(copy.outputs[0], named="added by hand")
    copy.adopt(added)
    copy.set_output(0, added)
    found = difference(graph, copy)
    assert [n.op.name for n in found.added] == ["clip"]
    assert (found.removed, found.changed) == ([], [])
    back = difference(copy, graph)
    assert [n.op.name for n in back.removed] == ["clip"]
    assert costs(copy)["nodes"] == costs(graph)["nodes"] + 1


def test_a_model_and_itself(planish, digits):
    model = digits / "dscnn.onnx"
    done = planish("diff", model, model, "--data", "random:0,1", "--json")
    assert done.code == 0
    assert done.json["same"] is True
    assert done.json["outputs"] == [{"output": "logits", "equal": True, "max_error": 0.0, "sqnr_db": None}]
    assert planish("diff", model, model).out == "the structure is the same\n"


def test_what_a_pipeline_makes_of_a_model(planish, digits, tmp_path):
    model, calib = digits / "dscnn.onnx", digits / "calib.npz"
    done = planish("diff", model, "--quantize", "int8", "--calib", calib, "--data", digits / "eval.npz", "--json")
    assert done.json["same"] is False
    assert done.json["costs"]["MACs"][0] == done.json["costs"]["MACs"][1]
    before, after = done.json["costs"]["constant bytes"]
    assert after < before / 3
    changes = {c["name"]: c["changes"] for c in done.json["changed"]}
    assert "add -> rescale_add" in changes["/Add_output_0"]
    assert 20 < done.json["outputs"][0]["sqnr_db"] < 60
    graph = api.load(model, dims={"N": 1})
    save(api.optimize(graph, "layout{to=nhwc}"), tmp_path / "nhwc.planish")
    text = planish("diff", model, tmp_path / "nhwc.planish").out
    assert "attribute layout is NCHW -> NHWC" in text
    assert "result f32[1,24,8,8] -> f32[1,8,8,24]" in text


def test_inputs_and_outputs_are_told(planish, tmp_path):
    from planish.ir.graph import Graph, graph_input
    from planish.ir.types import F32, TensorType

    for name, size, out in (("a", 4, "y"), ("b", 5, "z")):
        x = graph_input("x", TensorType((1, size), F32))
        save(Graph([x], [relu(x, named="r")], [out]), tmp_path / f"{name}.planish")
    done = planish("diff", tmp_path / "a.planish", tmp_path / "b.planish")
    lines = done.out.splitlines()
    assert lines[:3] == [
        "! input x: f32[1,4] -> f32[1,5]", "! output y is gone: f32[1,4]", "! output z is new: f32[1,5]",
    ]  # fmt: skip
    assert lines[4] == "    result f32[1,4] -> f32[1,5]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{model}", "diff wants two models"),
        ("{model} nowhere.planish", "nowhere.planish does not exist"),
        ("{model} {model} --data nowhere.npz", "nowhere.npz does not exist"),
        ("{folder} {model}", "report.json"),
    ],
)
def test_what_cannot_be_compared(planish, digits, arguments, said):
    words = arguments.format(model=digits / "dscnn.onnx", folder=digits).split()
    done = planish("diff", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_broken_text_is_a_broken_model(planish, digits, tmp_path):
    (tmp_path / "bad.planish").write_text("graph @g(")
    assert planish("diff", digits / "dscnn.onnx", tmp_path / "bad.planish").code == 3
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 1, 8, 8), np.float32))
    assert planish("run", tmp_path / "bad.planish", "--data", "x.npz", "-o", tmp_path / "y.npz").code in (2, 3)
