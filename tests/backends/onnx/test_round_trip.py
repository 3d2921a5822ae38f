"""Written and read again, a graph computes the same; names, metadata and public shapes are what they were."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from planish.backends.onnx.session import run_batch
from planish.backends.onnx.target import OnnxTarget
from planish.backends.onnx.writer import write
from planish.frontends.onnx import load
from planish.ir.builder import const_value
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Loc, apply, graph_input
from planish.ir.ops.conv import conv2d
from planish.ir.ops.dense import dense
from planish.ir.ops.elementwise import add, clip, mul, relu
from planish.ir.ops.fused import Fused
from planish.ir.ops.norm import layer_norm
from planish.ir.ops.pool import max_pool2d
from planish.ir.ops.quant import dequantize, quantize
from planish.ir.ops.shape import concat, reshape, slice_, transpose
from planish.ir.ops.softmax import softmax
from planish.ir.text import print_graph
from planish.ir.types import F32, I4, I8, NHWC, U8, Sym, TensorType
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.runtime.data import uniform
from planish.runtime.oracle import judge
from planish.runtime.target import Limits
from planish.testing.counterexample import text
from planish.testing.draw import composite
from planish.testing.graphs import graphs


def again(graph, path, opset=21):
    """The graph that importing the written model gives."""
    model = write(graph, opset).model
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return load(path)


def drawn(graph, seed=0):
    random = np.random.default_rng(seed)
    return {v.name: random.uniform(-2, 2, v.type.shape).astype(v.type.dtype.numpy) for v in graph.inputs}


def image(name="x", shape=(1, 3, 4, 4)):
    return graph_input(name, TensorType(shape, F32))


def kinds(graph, opset=21):
    return [node.op_type for node in write(graph, opset).model.graph.node]


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("round") / "model.onnx"


@given(graphs(), st.sampled_from([21, 8, 13]))
def test_floats_survive(path, graph, opset):
    lowered = run_pipeline(graph, "simplify,fuse,group,layout{to=nchw}").graph
    note(print_graph(lowered)[0])
    twin, inputs = again(lowered, path, opset), drawn(graph)
    assert [v.type for v in twin.inputs] == [v.type for v in graph.inputs]
    outputs = dict(zip(twin.output_names, evaluate(twin, list(inputs.values())), strict=True))
    assert list(outputs) == graph.output_names
    for name, comparison in judge(lowered, inputs, outputs).items():
        assert comparison.agrees, (name, str(comparison))


@given(graphs(max_layers=4), st.sampled_from(["float", "int8"]))
def test_quantized_graphs_survive_bit_for_bit(path, graph, io):
    data = uniform({v.name: (-2.0, 2.0) for v in graph.inputs}).of(graph, 4)
    pipeline = f"simplify,fuse,quantize{{calibration=minmax,io={io}}},{OnnxTarget.lowering}"
    quantized = run_pipeline(graph, pipeline, Context(lambda: iter(data))).graph
    note(print_graph(quantized)[0])
    inputs = [data.arrays[v.name][0] for v in graph.inputs]
    if io == "int8":
        inputs = [
            np.clip(np.rint(x * 20), -128, 127).astype(v.type.dtype.numpy)
            for x, v in zip(inputs, quantized.inputs, strict=True)
        ]
    twin = again(quantized, path)
    for ours, theirs in zip(evaluate(quantized, inputs), evaluate(twin, inputs), strict=True):
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())


def test_names_of_inputs_outputs_and_layers_are_kept_whatever_they_are(path):
    nasty = ["a/b:0", "../../etc", 'q"uote', "a\nb", "\u202e", "x" * 500, "%s{0}"]
    x = image(nasty[0])
    w, b = np.ones((3, 3, 1, 1), np.float32), np.zeros(3, np.float32)
    y = relu(conv2d(x, w, b, named=nasty[3]), named=nasty[4])
    graph = Graph([x], [y], [nasty[1]], nasty[2])
    for node, name in zip((n for n in graph.nodes if n.op.name != "const"), nasty[5:], strict=True):
        node.loc = type(node.loc)((name,))
    model = write(graph, 21).model
    assert [v.name for v in model.graph.input] == [nasty[0]]
    assert [v.name for v in model.graph.output] == [nasty[1]]
    assert [n.name for n in model.graph.node] == nasty[5:]
    assert again(graph, path).output_names == [nasty[1]]
    assert run_batch(path, {nasty[0]: np.ones((1, 1, 3, 4, 4), np.float32)}, [nasty[1]])[nasty[1]].shape == (
        1,
        1,
        3,
        4,
        4,
    )


def test_names_that_are_taken_are_numbered():
    x = image("y")
    a, b = relu(x, named="same"), clip(x, lo=-1.0, hi=1.0, named="same")
    graph = Graph([x], [add(a, b, named="y"), a, a], ["out", "same", "twice"])
    model = write(graph, 21).model
    tensors = [t for n in model.graph.node for t in n.output]
    assert len(set(tensors)) == len(tensors)
    assert [v.name for v in model.graph.output] == ["out", "same", "twice"]


def test_inputs_and_constants_may_be_outputs(path):
    x = image()
    graph = Graph([x], [x, x, const_value(np.arange(3.0, dtype=np.float32)), relu(x)], ["x", "copy", "c", "r"])
    twin, inputs = again(graph, path), drawn(graph)
    for ours, theirs in zip(evaluate(graph, [inputs["x"]]), evaluate(twin, [inputs["x"]]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert twin.output_names == graph.output_names


def test_an_input_and_another_output_of_one_name_are_refused():
    x = image()
    with pytest.raises(Exception, match="both called 'x'"):
        write(Graph([x], [relu(x)], ["x"]), 21)


def test_metadata_and_operator_set_are_kept(path, tmp_path):
    x = image()
    model = write(Graph([x], [relu(x)], ["y"]), 13).model
    onnx.helper.set_model_props(model, {"author": "A. Name", "onnx.opset": "7"})
    path.write_bytes(model.SerializeToString())
    graph = run_pipeline(load(path), "simplify,fuse,layout{to=nchw}").graph
    artifact = OnnxTarget("onnx").emit(graph, tmp_path, "m", Limits())
    written = onnx.load(tmp_path / "model.onnx")
    assert {p.key: p.value for p in written.metadata_props} == {"author": "A. Name", "onnx.opset": "7"}
    assert [(o.domain, o.version) for o in written.opset_import] == [("", 13)]
    assert artifact.facts["opset"] == 13
    json.dumps(artifact.facts)


def test_the_same_graph_gives_the_same_bytes(tmp_path):
    def build(name):
        x = image()
        folder = tmp_path / name
        folder.mkdir()
        w = np.linspace(-1, 1, 27, dtype=np.float32).reshape(3, 3, 3, 1)
        OnnxTarget("onnx").emit(Graph([x], [conv2d(x, w, np.ones(3, np.float32))], ["y"]), folder, "m", Limits())
        return (folder / "model.onnx").read_bytes()

    assert build("a") == build("b")


def test_bits_of_four_are_packed(path):
    values = np.arange(-8, 8).astype(I4.numpy).reshape(4, 4)
    x = graph_input("x", TensorType((1, 4), F32))
    weights = dequantize(const_value(values), np.float32(0.5), np.zeros((), I4.numpy))
    graph = Graph([x], [dense(x, weights, np.zeros(4, np.float32))], ["y"])
    model = write(graph, 21).model
    (tensor,) = [t for t in model.graph.initializer if list(t.dims) == [4, 4]]
    assert tensor.data_type == onnx.TensorProto.INT4
    assert len(tensor.raw_data) == 8
    twin, inputs = again(graph, path), drawn(graph)
    np.testing.assert_array_equal(evaluate(twin, [inputs["x"]]), evaluate(graph, [inputs["x"]]))


def test_a_bias_of_zeros_and_a_clip_at_zero_leave_no_trace():
    x, v = image(), graph_input("v", TensorType((1, 4), F32))
    ones = np.ones((2, 3, 1, 1), np.float32)
    convolution = conv2d(x, ones, np.zeros(2, np.float32))
    layer = dense(v, np.ones((2, 4), np.float32), np.zeros(2, np.float32))
    model = write(Graph([x, v], [relu(convolution), layer], ["a", "b"]), 21).model
    assert [(n.op_type, len(n.input)) for n in model.graph.node] == [("Conv", 2), ("Relu", 1), ("Gemm", 2)]
    assert len(model.graph.initializer) == 2


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1), ()])
def test_an_affine_is_one_node(path, shape):
    x = image()
    k, t = np.full(shape, 1.5, np.float32), np.linspace(-1, 1, 3, dtype=np.float32).reshape(3, 1, 1)
    graph = Graph([x], [add(mul(k, x), t)], ["y"])
    assert kinds(graph) == ["BatchNormalization"]
    inputs = drawn(graph)
    found = run_batch_of(graph, inputs, path)
    assert judge(graph, inputs, found)["y"].agrees


def run_batch_of(graph, inputs, path):
    pytest.importorskip("onnxruntime")
    path.write_bytes(write(graph, 21).model.SerializeToString())
    found = run_batch(path, {name: x[None] for name, x in inputs.items()}, graph.output_names)
    return {name: array[0] for name, array in found.items()}


def test_a_product_that_is_used_elsewhere_stays():
    x = image()
    product = mul(x, np.full((3, 1, 1), 2, np.float32))
    assert kinds(Graph([x], [add(product, np.float32(1)), product], ["y", "p"])) == ["Mul", "Add"]
    assert kinds(Graph([x], [add(mul(x, np.full((1, 4), 2, np.float32)), np.float32(1))], ["y"])) == ["Mul", "Add"]


def parts(x, *intervals, axis=1, step=1):
    whole = [(0, d, 1) for d in x.type.shape]
    cut = [[*whole[:axis], (a, b, step), *whole[axis + 1 :]] for a, b in intervals]
    return [
        slice_(x, **{k: tuple(c[i] for c in each) for i, k in enumerate(("starts", "stops", "steps"))}) for each in cut
    ]


@pytest.mark.parametrize("opset", [8, 11, 13, 21])
def test_slices_that_share_out_an_axis_are_one_split(path, opset):
    x = image(shape=(1, 6, 4, 4))
    a, c, b = parts(relu(x), (0, 1), (3, 6), (1, 3))
    graph = Graph([x], [c, relu(a), mul(b, b)], ["c", "a", "b"])
    assert sorted(kinds(graph, opset)) == ["Mul", "Relu", "Relu", "Split"]
    inputs = drawn(graph)
    twin = again(graph, path, opset)
    assert twin.output_names == ["c", "a", "b"]
    values = [inputs["x"]]
    for before, after in zip(evaluate(graph, values), evaluate(twin, values), strict=True):
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("intervals", "others"),
    [([(0, 2), (3, 6)], {}), ([(0, 4), (3, 6)], {}), ([(0, 3), (3, 5)], {}), ([(0, 3), (3, 6)], {"step": 2})],
)
def test_slices_that_leave_something_out_or_take_it_twice_stay(intervals, others):
    x = image(shape=(1, 6, 4, 4))
    graph = Graph([x], parts(x, *intervals, **others), ["a", "b"])
    assert kinds(graph) == ["Slice", "Slice"]


def test_groups_are_written_as_what_is_in_them(path):
    a, b = image("a"), image("b")
    body = Graph([a, b], [relu(add(a, b)), mul(a, b)], ["r", "m"], "body")
    x = image()
    node = apply(Fused(body), x, const_value(np.ones((1, 3, 4, 4), np.float32)))
    graph = Graph([x], list(node.results), ["r", "m"])
    assert kinds(graph) == ["Add", "Relu", "Mul"]
    twin, inputs = again(graph, path), drawn(graph)
    for ours, theirs in zip(evaluate(graph, [inputs["x"]]), evaluate(twin, [inputs["x"]]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_public_images_keep_their_layout():
    x = graph_input("x", TensorType((1, 4, 4, 3), F32))
    graph = Graph([x], [max_pool2d(x, window=(2, 2), layout=NHWC)], ["y"])
    lowered = run_pipeline(graph, OnnxTarget.lowering).graph
    model = write(lowered, 21).model
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 4, 4, 3]
    assert [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim] == [1, 3, 3, 3]
    assert sorted(n.op_type for n in model.graph.node) == ["MaxPool", "Transpose", "Transpose"]


def test_a_clamped_quantize_is_followed_by_a_clip(path):
    x = graph_input("x", TensorType((5,), F32))
    graph = Graph([x], [quantize(x, np.float32(1), np.int8(0), dtype=I8, lo=-3, hi=2)], ["q"])
    assert kinds(graph) == ["QuantizeLinear", "Clip"]
    found = run_batch_of(graph, {"x": np.array([-9, -3, 0, 2, 9], np.float32)}, path)
    np.testing.assert_array_equal(found["q"], [-3, -3, 0, 2, 2])


@given(st.data())
def test_scales_along_several_axes_are_those_of_blocks(path, data):
    """As they are written again, and as ONNX Runtime reads them; the last block may be smaller than the others."""
    draw = data.draw
    shape, axis = tuple(draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))), draw(st.integers(0, 1))
    block = draw(st.integers(1, shape[axis]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    few = tuple(-(-d // block) if i == axis else d for i, d in enumerate(shape))
    scale = random.choice([0.25, 0.5, 3.0], few).astype(np.float32)
    zero = random.integers(-3, 4, few).astype(np.int8)
    nodes = [onnx.helper.make_node("DequantizeLinear", ["w", "s", "z"], ["d"], axis=axis, block_size=block),
             onnx.helper.make_node("Add", ["x", "d"], ["y"])]  # fmt: skip
    stored = {"w": random.integers(-128, 128, shape).astype(np.int8), "s": scale, "z": zero}
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in "xy")
    constants = [onnx.numpy_helper.from_array(a, n) for n, a in stored.items()]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", [x], [y], constants),
        opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10,
    )  # fmt: skip
    path.write_bytes(model.SerializeToString())
    graph, inputs = load(path), {"x": np.zeros(shape, np.float32)}
    at = np.arange(shape[axis]) // block
    wide = (stored["w"].astype(np.int64) - zero.take(at, axis)) * scale.take(at, axis)
    np.testing.assert_array_equal(evaluate(graph, [inputs["x"]])[0], wide)
    np.testing.assert_array_equal(evaluate(again(graph, path, 21), [inputs["x"]])[0], wide)
    np.testing.assert_array_equal(run_batch_of(graph, inputs, path)["y"], wide)
    (written,) = [n for n in onnx.load(path).graph.node if n.op_type == "DequantizeLinear"]
    sizes = {i.name: int(np.prod(i.dims)) for i in onnx.load(path).graph.initializer}
    assert sizes[written.input[1]] <= max(scale.size, *shape)  # along one axis alone: one for each index


def test_transposes_of_constants_are_done_when_writing():
    x = graph_input("x", TensorType((2, 3, 4), F32))
    w = np.ones((5, 4), np.float32)
    assert kinds(Graph([x], [dense(x, w, np.zeros(5, np.float32))], ["y"])) == ["MatMul"]
    assert kinds(Graph([x], [transpose(x, perm=(2, 0, 1))], ["y"])) == ["Transpose"]


def test_imported_qdq_goes_through_as_it_is(path):
    """uint8 activations with zero points, int8 weights per channel, a 32-bit bias."""
    x = image()
    scale, zero = np.float32(0.05), np.array(117, np.uint8)
    u8 = {"dtype": U8, "lo": 0, "hi": 255}
    real = dequantize(quantize(x, scale, zero, **u8), scale, zero)
    scales = np.array([0.1, 0.2], np.float32).reshape(2, 1, 1, 1)
    weights = dequantize(const_value(np.arange(-3, 3, dtype=np.int8).reshape(2, 3, 1, 1)), scales, np.int8(0))
    bias = dequantize(const_value(np.array([5, -9], np.int32)), np.array([0.005, 0.01], np.float32), np.int32(0))
    y = quantize(conv2d(real, weights, bias), np.float32(0.1), np.array(3, np.uint8), **u8)
    graph = Graph([x], [dequantize(y, np.float32(0.1), np.array(3, np.uint8))], ["y"])
    twin = again(graph, path, 13)
    passed = run_pipeline(twin, f"simplify,fuse,{OnnxTarget.lowering}").graph
    assert kinds(passed, 13) == kinds(graph, 13)
    assert kinds(graph, 13).count("DequantizeLinear") == 4
    inputs = drawn(graph)
    np.testing.assert_array_equal(evaluate(passed, [inputs["x"]]), evaluate(graph, [inputs["x"]]))
    found = run_batch_of(passed, inputs, path)["y"]
    assert np.abs(found - evaluate(graph, [inputs["x"]])[0]).max() <= 0.1001


def test_layers_keep_their_names_from_nodes_that_have_none():
    """A layer that becomes two nodes, and one without a source, take no other layer's name."""
    x = graph_input("x", TensorType((2, 3, 4), F32))
    w = np.ones((4, 4), np.float32)
    first = dense(x, w, np.ones(4, np.float32), loc=Loc(("dense",)))
    second = dense(relu(first, named="dense_2"), w, np.zeros(4, np.float32), loc=Loc(("dense_1",)))
    third = dense(second, w, np.zeros(4, np.float32), loc=Loc(("dense_2",)))
    named = {n.name: n.op_type for n in write(Graph([x], [third], ["y"]), 21).model.graph.node}
    assert named == {"dense": "Add", "dense_1": "MatMul", "dense_2": "MatMul", "dense_3": "MatMul", "dense_2_1": "Relu"}


@pytest.mark.parametrize("opset", [11, 21])
def test_layers_along_signals_need_no_reshape(path, opset):
    """[N,C,W] is [N,C,1,W] of ours: written, it is a signal again, and the last layer has the public name."""
    random = np.random.default_rng(0)

    def layer(x, outputs, width, **attributes):
        n, c, w = x.type.shape
        kernel = random.standard_normal((outputs, c // attributes.get("groups", 1), 1, width)).astype(np.float32)
        bias = random.standard_normal(outputs).astype(np.float32)
        y = conv2d(reshape(x, shape=(n, c, 1, w)), kernel, bias, **attributes)
        return reshape(y, shape=(n, outputs, y.type.shape[3]))

    x = graph_input("x", TensorType((2, 4, 9), F32))
    y = layer(x, 4, 3, groups=4, pads=(0, 1, 0, 2), strides=(1, 2))
    y = layer(relu(layer(y, 3, 1)), 5, 2, dilations=(1, 2))
    pooled = max_pool2d(reshape(y, shape=(2, 5, 1, 3)), window=(1, 2))
    graph = run_pipeline(Graph([x], [reshape(pooled, shape=(2, 5, 2))], ["y"]), "simplify").graph
    assert kinds(graph, opset) == ["Conv", "Conv", "Relu", "Conv", "MaxPool"]
    read = again(graph, path, opset)
    (a,), (b,) = (evaluate(g, [drawn(graph)["x"]]) for g in (graph, read))
    assert np.array_equal(a, b)
    (c,) = run_batch(path, {"x": drawn(graph)["x"][None]}, ["y"]).values()
    assert judge(graph, drawn(graph), {"y": c[0]})["y"].agrees


def test_an_image_that_is_wanted_is_made_of_the_signal():
    x = graph_input("x", TensorType((1, 2, 4), F32))
    y = conv2d(reshape(x, shape=(1, 2, 1, 4)), np.ones((2, 2, 1, 1), np.float32), np.ones(2, np.float32))
    assert kinds(Graph([x], [y], ["y"])) == ["Conv", "Unsqueeze"]


@composite
def rowwise(draw):
    """Layers that treat rows of [N,S,4] alike, residuals and movements between them."""
    random = np.random.default_rng(draw(st.integers(0, 999)))
    batch = draw(st.sampled_from([1, 2, Sym("N")]))
    x = graph_input("x", TensorType((batch, 3, 4), F32))

    def real(*shape):
        return random.uniform(-1, 1, shape).astype(np.float32)

    def part(v, start, stop):
        return slice_(v, starts=(0, 0, start), stops=(batch, 3, stop), steps=(1, 1, 1))

    layers = {
        "dense": lambda v: dense(v, real(4, 4), real(4)),
        "plain": lambda v: dense(v, real(4, 4), np.zeros(4, np.float32)),
        "norm": lambda v: layer_norm(v, real(4), real(4)),
        "relu": relu,
        "softmax": softmax,
        "row": lambda v: add(v, real(*draw(st.sampled_from([(4,), (1, 4), (1, 1, 4), ()])))),
        "places": lambda v: mul(v, real(1, 3, 4)),
        "residual": lambda v: add(v, draw(st.sampled_from(values))),
        "halves": lambda v: concat(part(v, 1, 4), relu(part(v, 0, 1)), axis=2),
        "movement": lambda v: reshape(transpose(v, perm=(0, 2, 1)), shape=v.type.shape),
    }
    values = [x]
    for _ in range(draw(st.integers(1, 6))):
        values.append(layers[draw(st.sampled_from(sorted(layers)))](values[-1]))
    outputs = list(dict.fromkeys([values[-1], *draw(st.lists(st.sampled_from(values[1:]), max_size=1))]))
    return Graph([x], outputs, [f"y{i}" for i in range(len(outputs))])


@given(rowwise())
def test_rows_as_matrices_mean_the_same(path, graph):
    model = write(graph, 21).model
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    x = np.random.default_rng(0).uniform(-2, 2, (2, 3, 4)).astype(np.float32)
    x = x[: graph.inputs[0].type.shape[0]] if isinstance(graph.inputs[0].type.shape[0], int) else x
    found = {name: array[0] for name, array in run_batch(path, {"x": x[None]}, graph.output_names).items()}
    judged = judge(graph, {"x": x}, found)
    assert all(comparison.agrees for comparison in judged.values()), (text(graph), judged)


def test_dense_layers_of_three_axes_are_layers_of_a_matrix_where_that_pays():
    x = graph_input("x", TensorType((2, 3, 4), F32))
    w, b = np.ones((4, 4), np.float32), np.ones(4, np.float32)
    one = dense(x, w, b)
    assert kinds(Graph([x], [one], ["y"])) == ["MatMul", "Add"]
    x = graph_input("x", TensorType((2, 3, 4), F32))
    block = add(dense(relu(dense(layer_norm(x, b, b), w, b)), w, b), x)
    assert kinds(Graph([x], [dense(relu(dense(block, w, b)), w, b)], ["y"])).count("Gemm") == 4
    x = graph_input("x", TensorType((2, 3, 4), F32))
    assert kinds(Graph([x], [dense(relu(dense(relu(dense(x, w, b)), w, b)), w, b)], ["y"])) == [
        "Flatten", "Gemm", "Relu", "Gemm", "Relu", "Gemm", "Reshape",
    ]  # fmt: skip
