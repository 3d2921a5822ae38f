"""What is written is no larger than what was read: nodes, and bytes within a twentieth; by operator, and for graphs."""

import numpy as np
import onnx
import onnx.reference
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from planish.backends.onnx.compact import recomputed, shrunk
from planish.backends.onnx.site import Site
from planish.backends.onnx.target import OnnxTarget
from planish.backends.onnx.writer import write
from planish.ir.types import type_of
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.testing.graphs import graphs
from tests.support.sizes import kinds, model, require_no_growth, require_same, smaller

RANDOM = np.random.default_rng(0)


IMAGE, ROWS = [2, 4, 6, 6], [3, 5]
AXES = [("axes", np.array([1], np.int64))]
#: Operators whose meaning the importer composes of others, by name: inputs, attributes, constants, operator sets.
OPERATORS = {
    "Neg": ([IMAGE], {}, [], (8, 13, 20)),
    "Abs": ([IMAGE], {}, [], (8, 13, 20)),
    "Reciprocal": ([IMAGE], {}, [], (8, 13, 20)),
    "LeakyRelu": ([IMAGE], {"alpha": 0.2}, [], (8, 13, 20)),
    "PRelu": ([IMAGE], {}, [("slope", RANDOM.normal(size=(4, 1, 1)).astype(np.float32))], (8, 13, 20)),
    "ThresholdedRelu": ([IMAGE], {"alpha": 0.5}, [], (10, 20)),
    "Softsign": ([IMAGE], {}, [], (8, 20)),
    "Max": ([ROWS, ROWS, ROWS], {}, [], (8, 13, 20)),
    "Min": ([ROWS, [5], ROWS, ROWS], {}, [], (8, 13, 20)),
    "Sum": ([ROWS, ROWS, ROWS], {}, [], (8, 13, 20)),
    "Mean": ([ROWS, ROWS, ROWS], {}, [], (8, 13, 20)),
    "ReduceL1": ([IMAGE], {"axes": [1, 2]}, [], (8, 13)),
    "ReduceL2": ([IMAGE], {"axes": [2, 3], "keepdims": 0}, [], (8, 13)),
    "ReduceSumSquare": ([IMAGE], {"axes": [1]}, [], (8, 13)),
    "ReduceLogSumExp": ([IMAGE], {"axes": [1], "keepdims": 0}, [], (8, 13)),
    "ReduceMin": ([IMAGE], {"axes": [1]}, [], (8, 13)),
    "LogSoftmax": ([ROWS], {"axis": 1}, [], (8, 13, 20)),
    "LpNormalization": ([IMAGE], {"axis": 1}, [], (8, 20)),
    "SpaceToDepth": ([IMAGE], {"blocksize": 2}, [], (8, 13)),
    "Gemm": ([[3, 4], [5, 4], [3, 5]], {"transB": 1}, [], (8, 13, 20)),
    "Gelu": ([IMAGE], {}, [], (20,)),
    "HardSwish": ([IMAGE], {}, [], (14, 20)),
    "LayerNormalization": ([ROWS], {}, [("scale", np.arange(1, 6, dtype=np.float32))], (17, 20)),
    "Softmax": ([IMAGE], {"axis": 1}, [], (13, 20)),
}
CASES = [(kind, opset) for kind, (*_, opsets) in OPERATORS.items() for opset in opsets]


@pytest.mark.parametrize(("kind", "opset"), CASES)
def test_an_operator_stays_one(kind, opset, tmp_path):
    shapes, attributes, constants, _ = OPERATORS[kind]
    inputs = [(f"x{i}", shape) for i, shape in enumerate(shapes)]
    operands = [name for name, _ in (*inputs, *constants)]
    node = helper.make_node(kind, operands, ["y"], **attributes)
    free = onnx.helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )  # fmt: skip
    inferred = onnx.shape_inference.infer_shapes(
        helper.make_model(free, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    )
    shape = [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim]
    source = model([node], inputs, [("y", shape)], constants, opset)
    made = smaller(source, tmp_path)
    assert kinds(made) == [kind]
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


@given(st.data())
def test_padding_with_its_own_elements_is_one_pad(tmp_path_factory, data):
    """However far: an index per element would be a file that grows with the image."""
    mode, opset = data.draw(st.sampled_from([("reflect", 10), ("reflect", 13), ("edge", 13), ("wrap", 20)]))
    shape = data.draw(st.lists(st.integers(2, 5), min_size=2, max_size=4))
    ends = [data.draw(st.integers(0, 3 if mode == "edge" else d - 1)) for d in (*shape, *shape)]
    size = [d + a + b for d, a, b in zip(shape, ends[: len(shape)], ends[len(shape) :], strict=True)]
    pads = [] if opset < 11 else [("pads", np.array(ends, np.int64))]
    attributes = {"mode": mode, **({"pads": ends} if opset < 11 else {})}
    node = helper.make_node("Pad", ["x", *(name for name, _ in pads)], ["y"], **attributes)
    source = model([node], [("x", shape)], [("y", size)], pads, opset)
    folder = tmp_path_factory.mktemp("pad")
    made = smaller(source, folder)
    assert set(kinds(made)) <= {"Pad", "Identity"}
    require_no_growth(source, made)
    require_same(source, made, folder)


def test_a_long_signal_is_padded_by_a_rule(tmp_path):
    pads = [("p", np.array([0, 0, 50, 0, 0, 50], np.int64))]
    node = helper.make_node("Pad", ["x", "p"], ["y"], mode="reflect")
    source = model([node], [("x", [1, 1, 44000])], [("y", [1, 1, 44100])], pads)
    require_no_growth(source, smaller(source, tmp_path))


def test_what_goes_backwards_is_one_slice(tmp_path):
    bounds = {"starts": [-1], "ends": [-(2**63)], "axes": [1], "steps": [-1]}
    constants = [(name, np.array(v, np.int64)) for name, v in bounds.items()]
    node = helper.make_node("Slice", ["x", *bounds], ["y"])
    source = model([node], [("x", [2, 500])], [("y", [2, 500])], constants)
    made = smaller(source, tmp_path)
    assert kinds(made) == ["Slice"]
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


W = RANDOM.normal(0, 0.3, (24, 24, 3, 3)).astype(np.float32)
CONV = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
PIXELS = [1, 24, 16, 16]
DENSE = [("W", RANDOM.normal(0, 0.1, (128, 512)).astype(np.float32)), ("b", RANDOM.normal(size=512).astype(np.float32))]
SHUFFLE = [("split", np.array([1, 2, 4, 4, 4])), ("join", np.array([1, 8, 4, 4]))]
#: Small networks, and how many nodes are left: nodes, inputs, output, constants.
NETWORKS = {
    "leaky": (
        2,
        [CONV, helper.make_node("LeakyRelu", ["c"], ["y"], alpha=0.2)],
        [("x", PIXELS)], PIXELS, [("w", W)],
    ),
    "largest": (
        3,
        [CONV, helper.make_node("LeakyRelu", ["c"], ["l"], alpha=0.2), helper.make_node("Max", ["l", "k"], ["y"])],
        [("x", PIXELS)], PIXELS, [("w", W), ("k", np.float32(-0.4))],
    ),
    "sum": (
        2,
        [helper.make_node("MatMul", "xW", "m"), helper.make_node("Add", "mh", "a"), helper.make_node("Add", "ab", "y")],
        [("x", [1, 128]), ("h", [1, 512])], [1, 512], DENSE,
    ),
    "gates": (
        3,
        [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["p"]),
         helper.make_node("Mul", ["p", "h"], ["y"])],
        [("x", [1, 128]), ("h", [1, 128])], [1, 128], [],
    ),
    "shuffle": (
        1,
        [helper.make_node("Reshape", ["x", "split"], ["a"]),
         helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
         helper.make_node("Reshape", ["b", "join"], ["y"])],
        [("x", [1, 8, 4, 4])], [1, 8, 4, 4], SHUFFLE,
    ),
    "response": (
        5,
        [helper.make_node("ReduceL2", ["x"], ["l"], axes=[1, 2]),
         helper.make_node("ReduceMean", ["l"], ["m"], axes=[3]),
         helper.make_node("Add", ["m", "e"], ["n"]), helper.make_node("Div", ["l", "n"], ["r"]),
         helper.make_node("Mul", ["x", "r"], ["y"])],
        [("x", [1, 4, 4, 8])], [1, 4, 4, 8], [("e", np.float32(1e-6))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_do_not_grow(name, tmp_path):
    count, nodes, inputs, shape, constants = NETWORKS[name]
    source = model(nodes, inputs, [("y", shape)], constants)
    made = smaller(source, tmp_path)
    assert len(kinds(made)) == count
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


def test_weights_that_several_signals_share_are_stored_once(tmp_path):
    """One window along signals and along an image of one row, as filter banks have it."""
    kernel = [("w", RANDOM.normal(size=(8, 1, 1, 64)).astype(np.float32)), ("i", np.array([1, 1, 1, 256])),
              ("s", np.array([1, 8, 193]))]  # fmt: skip
    nodes = [helper.make_node("Reshape", ["x", "i"], ["a"]), helper.make_node("Conv", ["a", "w"], ["b"])]
    nodes += [helper.make_node("Unsqueeze", ["z", "u"], ["c"]), helper.make_node("Conv", ["c", "w"], ["d"])]
    nodes += [helper.make_node("Reshape", [v, "s"], [o]) for v, o in ("be", "df")]
    inputs, ends = [("x", [16, 16]), ("z", [1, 1, 256])], [("e", [1, 8, 193]), ("f", [1, 8, 193])]
    source = model(nodes, inputs, ends, [*kernel, ("u", np.array([2]))])
    made = smaller(source, tmp_path)
    assert sum(len(t.raw_data) >= kernel[0][1].nbytes for t in made.graph.initializer) == 1
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


@given(graphs(), st.sampled_from([13, 17, 20]))
def test_written_and_optimized_a_graph_does_not_grow(tmp_path_factory, graph, opset):
    """Against the same graph as it was drawn, written without passes."""
    plain = run_pipeline(graph, OnnxTarget.lowering, Context(target=OnnxTarget(f"onnx:{opset}"))).graph
    source = write(plain, opset).model
    made = smaller(source, tmp_path_factory.mktemp("graph"))
    require_no_growth(source, made)


ROW = np.linspace(1, 2, 256, dtype=np.float32).reshape(1, 256)
BIG = [64, 256]
#: What sources compute of constants, beside an input [64, 256]: nodes whose result is `c`, and their constants.
COMPUTED = {
    "Expand": ([helper.make_node("Expand", ["row", "size"], ["c"])], [("row", ROW), ("size", np.array(BIG))]),
    "Tile": ([helper.make_node("Tile", ["row", "times"], ["c"])], [("row", ROW), ("times", np.array([64, 1]))]),
    "ConstantOfShape": ([helper.make_node("ConstantOfShape", ["size"], ["c"])], [("size", np.array(BIG))]),
    "Gather": (
        [helper.make_node("Gather", ["table", "rows"], ["c"])],
        [("table", RANDOM.normal(size=(4, 256)).astype(np.float32)), ("rows", np.arange(64) % 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("user", ["Concat", "Add", "Mul"])
@pytest.mark.parametrize("kind", COMPUTED)
def test_constants_that_are_computed_do_not_become_large(kind, user, tmp_path):
    nodes, constants = COMPUTED[kind]
    last = helper.make_node(user, ["x", "c"], ["y"], **({"axis": 1} if user == "Concat" else {}))
    shape = [64, 512] if user == "Concat" else BIG
    source = model([*nodes, last], [("x", BIG)], [("y", shape)], constants)
    made = smaller(source, tmp_path)
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


@pytest.mark.parametrize("opset", [11, 13, 19])
def test_a_constant_that_is_resized_does_not_become_large(opset, tmp_path):
    small = RANDOM.normal(size=(1, 4, 8, 8)).astype(np.float32)
    constants = [("c", small), ("roi", np.zeros(0, np.float32)), ("scales", np.array([1, 1, 8, 5], np.float32))]
    nodes = [helper.make_node("Resize", ["c", "roi", "scales"], ["e"]), helper.make_node("Mul", ["x", "e"], ["y"])]
    source = model(nodes, [("x", [1, 4, 64, 40])], [("y", [1, 4, 64, 40])], constants, opset)
    made = smaller(source, tmp_path)
    assert kinds(made) == ["Resize", "Mul"]
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


def test_a_constant_range_stays_a_rule(tmp_path):
    ends = [(name, np.int64(v)) for name, v in (("start", 3), ("limit", 3 + 2 * 4096), ("delta", 2))]
    nodes = [helper.make_node("Range", ["start", "limit", "delta"], ["r"])]
    nodes += [helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT), helper.make_node("Add", ["x", "f"], ["y"])]
    source = model(nodes, [("x", [4096])], [("y", [4096])], ends)
    made = smaller(source, tmp_path)
    require_no_growth(source, made)
    require_same(source, made, tmp_path)


@given(st.data())
def test_a_constant_beside_others_broadcasts_to_the_same(data):
    """Bit for bit, and never to another shape."""
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 64]), min_size=1, max_size=3)))
    own = tuple(1 if data.draw(st.booleans()) else d for d in shape)
    small = np.random.default_rng(data.draw(st.integers(0, 9))).choice([0.0, -0.0, np.nan, 1.0], own).astype(np.float32)
    array = np.broadcast_to(small, shape)
    other = tuple(1 if data.draw(st.booleans()) else d for d in shape)
    found = shrunk(array, [other], shape)
    assert np.broadcast_shapes(found.shape, other) == np.broadcast_shapes(array.shape, other)
    assert np.broadcast_to(found, shape).tobytes() == array.tobytes()


@given(st.data())
def test_what_is_computed_again_has_the_same_bits(data):
    """The operator that takes a constant's place, by ONNX's own reference."""
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from([np.float32, np.int64]))
    shape = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3) | st.just([2, 1, 6, 5]))
    array = random.integers(0, 3, [d if data.draw(st.booleans()) else 1 for d in shape]).astype(dtype)
    array = np.ascontiguousarray(np.broadcast_to(array, shape))
    if data.draw(st.booleans()):
        array = array.take(random.integers(0, 2, 300) % array.shape[0], 0)
    for axis in range(array.ndim):
        array = array.repeat(data.draw(st.sampled_from([1, 1, 2, 3])), axis)
    if data.draw(st.booleans()):
        array = np.arange(300, dtype=dtype) * dtype(3) + dtype(1)
    site = Site(20, type_of(array))
    made = recomputed(site, array)
    if made is None:
        return
    (node,) = site.nodes
    operands = [part.const for _, part in site.roles if part.const is not None]
    names = [f"c{i}" for i in range(len(operands))]
    given = {k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in node.attrs.items()}
    graph = helper.make_graph(
        [helper.make_node(node.op, names, ["y"], **given)], "g", [],
        [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)],
        [numpy_helper.from_array(v, name) for v, name in zip(operands, names, strict=True)],
    )  # fmt: skip
    made_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (found,) = onnx.reference.ReferenceEvaluator(made_model).run(None, {})
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert 2 * sum(v.nbytes for v in operands) <= array.nbytes
