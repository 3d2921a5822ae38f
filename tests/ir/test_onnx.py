"""Float ops against ONNX Runtime (optimizations off) and onnx's own reference: neither was written by us."""

import functools

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx import TensorProto, helper

from planish.ir.graph import infer
from planish.ir.ops import op_named
from planish.ir.types import I32, NCHW, Layout, dtype_of, type_of
from planish.testing.ops import errors, for_each_instance, reference
from tests.support.operators import leaves_undefined, running_sums
from tests.support.resizing import is_fractional

OPSET = 22


def image(op, x):
    """An image as ONNX has it, channels first."""
    return np.moveaxis(x, -1, 1) if getattr(op, "layout", NCHW) is Layout.NHWC else x


def node(kind, **attributes):
    """An equivalent with the same operands and these attributes: functions of the op, or constants."""

    def build(op, operands):
        given = {k: v(op) if callable(v) else v for k, v in attributes.items()}
        return helper.make_node(kind, [f"x{i}" for i in range(len(operands))], ["y"], **given), operands

    return build


def extremum(kind, logical):
    """Of truth values ONNX has another operator."""
    return lambda op, operands: node(logical if operands[0].dtype == np.bool_ else kind)(op, operands)


def conv(op, operands):
    x, w, b = operands
    built = helper.make_node(
        "Conv", ["x0", "x1", "x2"], ["y"], strides=op.strides, pads=op.pads, dilations=op.dilations, group=op.groups
    )
    return built, (image(op, x), image(op, w), b)


def pool(kind, **more):
    def build(op, operands):
        attributes = {k: f(op) for k, f in more.items()}
        built = helper.make_node(
            kind, ["x0"], ["y"], kernel_shape=op.window, strides=op.strides, pads=op.pads, dilations=op.dilations,
            **attributes,
        )  # fmt: skip
        return built, (image(op, operands[0]),)

    return build


def reduction(kind):
    def build(op, operands):
        built = helper.make_node(kind, ["x0", "x1"], ["y"], keepdims=int(op.keepdims), noop_with_empty_axes=1)
        return built, (*operands, np.array(op.axes, np.int64))

    return build


def with_operands(kind, *extra, **attributes):
    """Attributes that ONNX takes as further operands."""

    def build(op, operands):
        arrays = (*operands, *(f(op, operands[0]) for f in extra))
        given = {k: f(op) for k, f in attributes.items()}
        return helper.make_node(kind, [f"x{i}" for i in range(len(arrays))], ["y"], **given), arrays

    return build


def depth_to_space(op, operands):
    mode = "CRD" if op.column_first else "DCR"
    built = helper.make_node("DepthToSpace", ["x0"], ["y"], blocksize=op.block, mode=mode)
    return built, (image(op, operands[0]),)


def resize(mode, **more):
    """With sizes where the scales are theirs, else with scales."""

    def build(op, operands):
        (x,) = operands
        x = image(op, x)
        attributes = {k: f(op) for k, f in more.items()}
        built = helper.make_node(
            "Resize",
            ["x0", "", "x1"],
            ["y"],
            mode=mode,
            coordinate_transformation_mode=op.coordinates.name,
            **attributes,
        )
        scales = np.array([1, 1, *op.scales], np.float32)
        if (np.floor(scales[2:] * np.array(x.shape[2:], np.float32)) == op.size).all():
            return built, (x, scales)
        built.input[:] = ["x0", "", "", "x1"]
        return built, (x, ints([*x.shape[:2], *op.size]))

    return build


def batch_norm(op, operands):
    x, *parameters = operands
    built = helper.make_node("BatchNormalization", [f"x{i}" for i in range(5)], ["y"], epsilon=op.epsilon)
    return built, (image(op, x), *parameters)


def recurrent(operator, **attributes):
    def build(op, operands):
        directions, hidden = operands[2].shape[0], operands[2].shape[2]
        mode = "bidirectional" if directions == 2 else "reverse" if op.reverse else "forward"
        names = [f"x{i}" for i in range(len(operands))]
        more = {name: of(op, directions) for name, of in attributes.items()}
        built = helper.make_node(
            operator, [*names[:4], "", *names[4:]], ["y"], hidden_size=hidden, direction=mode, **more
        )
        return built, operands

    return build


def elu(op, operands):
    """One of three operators; where the width is another than Celu's, there is none, and x is as if it were divided."""
    if op.width == op.alpha != 1 and op.scale == 1:
        return helper.make_node("Celu", ["x0"], ["y"], alpha=op.alpha), operands
    x = np.minimum(operands[0], 0) / np.float32(op.width) + np.maximum(operands[0], 0)
    return helper.make_node("Selu", ["x0"], ["y"], alpha=op.alpha, gamma=op.scale), (x,)


def ints(values):
    return np.array(values, np.int64)


EQUIVALENTS = {
    "add": node("Add"),
    "sub": node("Sub"),
    "mul": node("Mul"),
    "div": node("Div"),
    "minimum": extremum("Min", "And"),
    "maximum": extremum("Max", "Or"),
    "pow": node("Pow"),
    "abs": node("Abs"),
    "exp": node("Exp"),
    "log": node("Log"),
    "sqrt": node("Sqrt"),
    "erf": node("Erf"),
    "sigmoid": node("Sigmoid"),
    "tanh": node("Tanh"),
    "cast": node("Cast", to=lambda op: helper.np_dtype_to_tensor_dtype(op.dtype.numpy)),
    "gelu": node("Gelu", approximate=lambda op: "tanh" if op.tanh else "none"),
    "hard_sigmoid": node("HardSigmoid", alpha=lambda op: op.alpha, beta=lambda op: op.beta),
    "hard_swish": node("HardSwish"),
    "equal": node("Equal"),
    "less": node("Less"),
    "less_equal": node("LessOrEqual"),
    "not": node("Not"),
    "where": node("Where"),
    "take": node("Gather", axis=lambda op: op.axis),
    "layer_norm": node("LayerNormalization", epsilon=lambda op: op.epsilon),
    "lrn": node(
        "LRN", size=lambda op: op.size, alpha=lambda op: op.alpha, beta=lambda op: op.beta, bias=lambda op: op.bias
    ),
    "lstm": recurrent("LSTM"),
    "gru": recurrent("GRU", linear_before_reset=lambda op, _: int(op.reset_after)),
    "rnn": recurrent("RNN", activations=lambda op, directions: ["Relu" if op.relu else "Tanh"] * directions),
    "elu": elu, "softplus": node("Softplus"), "mish": node("Mish"),
    "matmul": node("MatMul"),
    "clip": with_operands("Clip", lambda op, x: np.array(op.lo, x.dtype), lambda op, x: np.array(op.hi, x.dtype)),
    "conv2d": conv,
    "batch_norm": batch_norm,
    "max_pool2d": pool("MaxPool"),
    "avg_pool2d": pool("AveragePool", count_include_pad=lambda op: int(op.count_pads)),
    "resize_nearest": resize("nearest", nearest_mode=lambda op: op.rounding.name),
    "resize_linear": resize("linear"),
    "softmax": node("Softmax", axis=-1),
    "reduce_mean": reduction("ReduceMean"),
    "reduce_sum": reduction("ReduceSum"),
    "reduce_max": reduction("ReduceMax"),
    "transpose": node("Transpose", perm=lambda op: op.perm),
    "concat": node("Concat", axis=lambda op: op.axis),
    "reshape": with_operands("Reshape", lambda op, x: ints(op.shape)),
    "slice": with_operands(
        "Slice",
        lambda op, x: ints(op.starts),
        lambda op, x: ints(op.stops),
        lambda op, x: ints(range(x.ndim)),
        lambda op, x: ints(op.steps),
    ),
    "pad": with_operands(
        "Pad", lambda op, x: ints(op.before + op.after), lambda op, x: np.array(op.value, x.dtype)
    ),
    "gather": with_operands("Gather", lambda op, x: ints(op.indices), axis=lambda op: op.axis),
    "expand": with_operands("Expand", lambda op, x: ints(op.shape)),
    "depth_to_space": depth_to_space,
    "dequantize": node("DequantizeLinear"),
    "quantize": node("QuantizeLinear"),
}  # fmt: skip


def model_of(built, arrays):
    inputs = [
        helper.make_tensor_value_info(f"x{i}", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for i, x in enumerate(arrays)
    ]
    graph = helper.make_graph([built], "one", inputs, [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def onnx_runtime(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def onnx_reference(model, feeds):
    return onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0]


#: Errors of an executor beyond the specification's formula and the rounding of floats.
DEPARTURES = {
    # Rational approximations whose error is absolute: about a unit in the last place of 1.
    ("sigmoid", onnx_runtime): 2.0**-23,
    ("tanh", onnx_runtime): 2.0**-23,
}


def compare_with(executor, equivalent, instance, _):
    op, operands = instance.op, instance.operands
    accumulates = infer(op, [type_of(x) for x in operands])[0].dtype == I32 != dtype_of(operands[0])
    if accumulates and op.name != "dequantize":
        return  # sums of integers are our own
    if leaves_undefined(instance):
        return
    if executor is onnx_reference and op.name.startswith("resize") and is_fractional(op, operands[0]):
        return
    if executor is onnx_reference and op.name == "rnn" and op.relu:
        return  # it knows tanh
    padded_alike = op.name != "max_pool2d" or (dtype_of(operands[0]).is_float and len(set(op.pads)) == 1)
    if executor is onnx_reference and not padded_alike:
        return  # it pads with NaN, which integers do not have, and takes the pads of the sides in another order
    built, arrays = equivalent(op, operands)
    arrays = [np.ascontiguousarray(x).reshape(x.shape) for x in arrays]
    try:
        theirs = executor(model_of(built, arrays), {f"x{i}": x for i, x in enumerate(arrays)})
    except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
        return  # no kernel for this dtype
    ours, room = reference(op, operands)[0], errors(op, operands)[0]
    room = room + running_sums(op, *operands) if op.name == "lrn" else room
    room = image(op, np.broadcast_to(room, ours.shape))
    ours = image(op, ours)
    assert theirs.shape == ours.shape
    gap = np.abs(theirs.astype(np.float64) - ours.astype(np.float64))
    room = room + DEPARTURES.get((op.name, executor), 0)
    exact = not dtype_of(theirs).is_float
    assert np.all(gap <= (0 if exact else 2 * room)), f"{executor.__name__} gives {theirs}, ref gives {ours}"


@pytest.mark.parametrize("executor", [onnx_runtime, onnx_reference], ids=lambda e: e.__name__)
@pytest.mark.parametrize("name", EQUIVALENTS)
def test_ref_is_what_onnx_says(name, executor):
    if (name, executor) == ("lrn", onnx_reference):
        pytest.skip("onnx.reference normalizes as many channels as there are images in the batch")
    op = op_named(name)
    assert op is not None
    for_each_instance(op, functools.partial(compare_with, executor, EQUIVALENTS[name]))
