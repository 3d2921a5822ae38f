"""What stands in a model for other nodes: functions of its own, branches of an If, and subgraphs of constants."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.evaluate import evaluate

ort = pytest.importorskip("onnxruntime")


def saved(folder, model):
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def parsed(folder, text):
    return saved(folder, parser.parse_model(text))


def runtime(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


# ---- functions

FUNCTIONS = """<ir_version: 8, opset_import: ["": 18, "mine": 1]>
main (float[2,3] x) => (float[2,3] y) {
  h = Relu(x)
  a = mine.scaled<factor: float = 0.25>(h)
  b = mine.twice(a)
  y = mine.twice(b)
}
<domain: "mine", opset_import: ["": 18, "mine": 1]>
twice (x) => (y) { h = mine.scaled<factor: float = 1.5>(x)
  y = Add(h, x) }
<domain: "mine", opset_import: ["": 18]>
scaled <factor>(x) => (y) { y = LeakyRelu<alpha: float = @factor>(x) }"""


def test_functions_become_their_nodes(tmp_path):
    model = parser.parse_model(FUNCTIONS)
    x = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)
    (ours,) = evaluate(load(saved(tmp_path, model)), [x])
    np.testing.assert_array_equal(ours, runtime(model, {"x": x})[0])


def test_functions_inside_branches_become_their_nodes(tmp_path):
    path = parsed(
        tmp_path,
        """<ir_version: 8, opset_import: ["": 18, "mine": 1]>
main (float[4] x) => (float[4] y) {
  c = Constant<value: tensor = bool {1}>()
  y = If(c) <then_branch: graph = t () => (float[4] r) { r = mine.f(x) }, else_branch: graph = e () => (float[4] q)
    { q = Identity(x) }>
}
<domain: "mine", opset_import: ["": 18]>
f (x) => (y) { y = Neg(x) }""",
    )
    (y,) = evaluate(load(path), [np.arange(4, dtype=np.float32)])
    assert y.tolist() == [0, -1, -2, -3]


def calls(count, levels):
    """Functions f0 to fN, each of which calls the next so many times."""
    head = '<domain: "mine", opset_import: ["": 18, "mine": 1]>\n'
    bodies = [
        head + f"f{i} (x) => (y) {{ a0 = Identity(x)\n"
        + "".join(f"  a{k + 1} = mine.f{i + 1}(a{k})\n" for k in range(count)) + f"  y = Identity(a{count}) }}"
        for i in range(levels)
    ]  # fmt: skip
    last = head + f"f{levels} (x) => (y) {{ y = Relu(x) }}"
    main = '<ir_version: 8, opset_import: ["": 18, "mine": 1]>\nmain (float[4] x) => (float[4] y) { y = mine.f0(x) }\n'
    return main + "\n".join([*bodies, last])


@pytest.mark.parametrize(("count", "levels", "word"), [(2, 40, "nodes"), (1, 100, "deep"), (10, 9, "nodes")])
def test_functions_that_grow_are_refused_before_they_are_written_out(tmp_path, count, levels, word):
    path = parsed(tmp_path, calls(count, levels))
    start = time.process_time()
    with pytest.raises(UnsupportedError, match=word):
        load(path)
    assert time.process_time() - start < 5


def test_constants_of_functions_count_as_often_as_they_are_called(tmp_path):
    model = parser.parse_model(calls(10, 3))
    body = next(f for f in model.functions if f.name == "f3")
    weights = numpy_helper.from_array(np.zeros(2**16, np.float32))
    body.node.append(helper.make_node("Constant", [], ["unused"], value=weights))
    with pytest.raises(UnsupportedError, match="MiB"):
        load(saved(tmp_path, model))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("f (x) => (y) { y = mine.f(x) }", "calls itself"),
        ('f (x) => (y) { y = mine.g(x) }\n<domain: "mine", opset_import: ["": 18, "mine": 1]>\n'
         "g (x) => (y) { y = mine.f(x) }", "calls itself"),
        ("f (x) => (y) { y = Neg(x) }\n"
         '<domain: "mine", opset_import: ["": 18]>\nf (x) => (y) { y = Relu(x) }', "twice"),
        ("f () => (y) { y = Constant<value_float: float = 1.0>() }", "inputs"),
    ],
)  # fmt: skip
def test_functions_that_mean_nothing_are_broken(tmp_path, body, word):
    head = '<ir_version: 8, opset_import: ["": 18, "mine": 1]>\nmain (float[4] x) => (float[4] y) { y = mine.f(x) }\n'
    path = parsed(tmp_path, head + '<domain: "mine", opset_import: ["": 18, "mine": 1]>\n' + body)
    with pytest.raises(ModelError, match=word):
        load(path)


# ---- branches


def branching(condition, taken_else="Det"):
    """An If whose branches have names of their own, one of them an operator that planish lacks."""
    return f"""<ir_version: 8, opset_import: ["": 18]>
main (float[2,2] x) => (float[2,2] y) {{
  n = Shape(x)
  i = Constant<value: tensor = int64 {{1}}>()
  d = Gather(n, i)
  k = Constant<value: tensor = int64 {{{condition}}}>()
  c = Equal(d, k)
  other = {taken_else}(x)
  h = If(c) <then_branch: graph = t () => (float[2,2] r) {{ s = Neg(x)
      r = Exp(s) }},
    else_branch: graph = e () => (float[2,2] r) {{ r = Add(x, other) }}>
  s = Relu(h)
  y = Add(s, h)
}}"""


def test_the_branch_is_taken_that_the_condition_says(tmp_path):
    x = np.array([[1, -2], [3, 0.5]], np.float32)
    (y,) = evaluate(load(parsed(tmp_path, branching(2))), [x])
    np.testing.assert_allclose(y, 2 * np.exp(-x), rtol=1e-6)
    (y,) = evaluate(load(parsed(tmp_path, branching(3, "Neg"))), [x])
    np.testing.assert_array_equal(y, np.zeros_like(x))


def test_only_the_branch_that_is_taken_must_be_supported(tmp_path):
    with pytest.raises(UnsupportedError, match="Det") as caught:
        load(parsed(tmp_path, branching(3)))
    assert "1 unsupported" in str(caught.value)


def test_a_condition_at_run_time_is_refused(tmp_path):
    path = parsed(
        tmp_path,
        """<ir_version: 8, opset_import: ["": 18]>
main (float[1] x, bool c) => (float[1] y) {
  y = If(c) <then_branch: graph = t () => (float[1] r) { r = Neg(x) },
             else_branch: graph = e () => (float[1] q) { q = Exp(x) }>
}""",
    )
    with pytest.raises(UnsupportedError, match="at run time"):
        load(path)
    for taken, wanted in ((True, -2), (False, np.float32(np.exp(2)))):
        (y,) = evaluate(load(path, bind={"c": np.array(taken)}), [np.array([2], np.float32)])
        assert y.item() == pytest.approx(wanted)


def nested(depth):
    """Branches within branches, each of which adds what stands outside."""
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["r0"])], "g", [], [helper.make_empty_tensor_value_info("r0")]
    )
    for i in range(1, depth):
        other = helper.make_graph(
            [helper.make_node("Det", ["x"], ["z"])], "e", [], [helper.make_empty_tensor_value_info("z")]
        )
        inner = helper.make_node("If", ["c"], [f"h{i}"], then_branch=graph, else_branch=other)
        add = helper.make_node("Add", [f"h{i}", "x"], [f"r{i}"])
        graph = helper.make_graph([inner, add], "g", [], [helper.make_empty_tensor_value_info(f"r{i}")])
    return graph


def test_branches_within_branches(tmp_path):
    graph = nested(20)
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (y,) = evaluate(load(saved(tmp_path, model)), [np.array([1, 2, 3], np.float32)])
    assert y.tolist() == [18, 36, 54]


# ---- constants

CONSTANT = {
    "Trilu": lambda a, i: ([a], {"upper": 0}),
    "CumSum": lambda a, i: ([a, np.int64(0)], {}),
    "ArgMax": lambda a, i: ([a], {"axis": 1}),
    "EyeLike": lambda a, i: ([a], {"k": 1}),
    "OneHot": lambda a, i: ([i, np.int64(7), np.array([0, 1], np.float32)], {}),
    "Einsum": lambda a, i: ([a, a], {"equation": "ij,kj->ik"}),
    "Sin": lambda a, i: ([a], {}),
    "Floor": lambda a, i: ([a], {}),
    "Round": lambda a, i: ([a], {}),
    "Sign": lambda a, i: ([a], {}),
    "IsNaN": lambda a, i: ([a], {}),
    "TopK": lambda a, i: ([a, np.array([2])], {}),
    "NonZero": lambda a, i: ([a], {}),
    "GatherND": lambda a, i: ([a, np.array([[0, 1], [1, 0]])], {}),
    "ScatterND": lambda a, i: ([a, np.array([[0]]), a[:1] + 1], {}),
    "ReduceMin": lambda a, i: ([i], {}),
    "ReduceProd": lambda a, i: ([i], {"keepdims": 0}),
    "Pow": lambda a, i: ([i, i % 3], {}),
    "BitShift": lambda a, i: ([i.astype(np.uint32), (i % 4).astype(np.uint32)], {"direction": "LEFT"}),
}


@pytest.mark.parametrize("op", CONSTANT)
def test_constants_are_computed_where_no_adapter_is(op, tmp_path):
    @given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 2**16))
    def check(rows, columns, seed):
        random = np.random.default_rng(seed)
        a, i = random.normal(size=(rows, columns)).astype(np.float32), random.integers(0, 7, rows)
        operands, attributes = CONSTANT[op](a, i)
        names = [f"c{k}" for k in range(len(operands))]
        results = ["r", "second"] if op == "TopK" else ["r"]
        nodes = [
            helper.make_node(op, names, results, **attributes),
            helper.make_node("Cast", ["r"], ["f"], to=1),
            helper.make_node("Add", ["f", "x"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [])],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(np.asarray(v), n) for v, n in zip(operands, names, strict=True)],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        zero = np.array(0, np.float32)
        (ours,) = evaluate(load(saved(tmp_path, model)), [zero])
        np.testing.assert_allclose(ours, runtime(model, {"x": zero})[0], rtol=1e-6, atol=1e-6)

    check()


HUGE = {
    "OneHot": ([np.arange(4), np.int64(2**40), np.array([0, 1], np.float32)], {}),
    "Einsum": ([np.ones(2**7, np.float32)] * 5, {"equation": "a,b,c,d,e->abcde"}),
    "BitwiseXor": ([np.ones((2**11, 1), np.uint8), np.ones((1, 2**11), np.uint8)], {}),
    "HannWindow": ([np.int64(2**40)], {}),
}


@pytest.mark.parametrize("op", HUGE)
def test_constants_that_grow_are_refused_before_they_are_computed(op, tmp_path):
    operands, attributes = HUGE[op]
    names = [f"c{k}" for k in range(len(operands))]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)], "g", [], [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(v), n) for v, n in zip(operands, names, strict=True)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    start = time.process_time()
    with pytest.raises(UnsupportedError, match="elements"):
        load(saved(tmp_path, model))
    assert time.process_time() - start < 5


def test_an_operator_for_constants_says_so_of_others(tmp_path):
    path = parsed(
        tmp_path, '<ir_version: 8, opset_import: ["": 18]> m (float[2,2] x) => (float[2,2] y) { y = Trilu(x) }'
    )
    with pytest.raises(UnsupportedError, match="on constants only"):
        load(path)


# ---- names of what nobody reads

NAMED = {
    "LayerNormalization": (["a", "a"], ["y", "mean", "deviation"], {"axis": -1}),
    "MaxPool": ([], ["y", "indices"], {"kernel_shape": [2, 2]}),
    "Dropout": ([], ["y", "mask"], {}),
}


@pytest.mark.parametrize("op", NAMED)
def test_results_may_be_named_and_unread(op, tmp_path):
    operands, results, attributes = NAMED[op]
    node = helper.make_node(op, ["x", *operands], results, **attributes)
    relu = helper.make_node("Relu", ["y"], ["z"])
    for outputs, error in ((["z"], None), (["z", results[1]], UnsupportedError)):
        graph = helper.make_graph(
            [node, relu], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(np.ones(4, np.float32), "a")] if operands else [],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        if error is not None:
            with pytest.raises(error):
                load(saved(tmp_path, model))
            continue
        x = np.random.default_rng(0).normal(size=(1, 2, 4, 4)).astype(np.float32)
        np.testing.assert_allclose(
            evaluate(load(saved(tmp_path, model)), [x])[0], runtime(model, {"x": x})[0], rtol=1e-5, atol=1e-5
        )


# ---- domains


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("com.microsoft", ["ONNX Runtime", "QGemm", "before ONNX Runtime optimized"]),
        ("ai.onnx.ml", ["machine learning"]),
        ("acme", ["'acme'", "standard operators"]),
    ],
)
def test_foreign_operators_are_called_what_they_are(domain, words, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain=domain)], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [helper.make_empty_tensor_value_info("y")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)])
    with pytest.raises(UnsupportedError) as caught:
        load(saved(tmp_path, model))
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "not an ONNX operator" not in text


def test_a_model_may_use_no_operator_of_onnx_itself(tmp_path):
    scaler = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])
    graph = helper.make_graph(
        [scaler], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_empty_tensor_value_info("y")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)
    (y,) = evaluate(load(saved(tmp_path, model)), [np.array([[1, 3]], np.float32)])
    assert y.tolist() == [[0, 4]]
    model.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    model.graph.output[0].name = "z"
    with pytest.raises(ModelError, match="version"):
        load(saved(tmp_path, model))
