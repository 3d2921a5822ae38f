"""Every op that ONNX can say, written in any operator set that has it, under two executors that are not ours."""

import functools

import numpy as np
import onnx
import onnx.reference
import pytest
from hypothesis import note
from hypothesis import strategies as st

from planish.backends.onnx.adapters import ADAPTERS
from planish.backends.onnx.session import session
from planish.backends.onnx.site import TooOldError
from planish.backends.onnx.target import OLDEST, OnnxTarget, newest
from planish.backends.onnx.writer import refusal, write
from planish.ir.constant import Const
from planish.ir.errors import VerificationError
from planish.ir.graph import infer
from planish.ir.op import Instance, Op
from planish.ir.ops import BUILT_IN, op_named
from planish.ir.ops.elementwise import Clip
from planish.ir.text import print_graph
from planish.ir.types import I32, dtype_of, type_of
from planish.passes.base import Context
from planish.passes.pipeline import run_pipeline
from planish.testing.ops import errors, for_each_instance, graph_of, reference, seeded_instances
from tests.support.operators import leaves_undefined, running_sums
from tests.support.resizing import is_fractional

#: The first operator set that has 4 and 16 bit quantization.
WIDE = 21
#: planish's own integer arithmetic: ops that take nothing but integers.
INTEGER = {
    op.name for op in BUILT_IN
    if all(x and all(dtype_of(a).is_integer for a in x) for x in (i.operands for i in seeded_instances(op, range(20))))
}  # fmt: skip
FORMS = [op.name for op in BUILT_IN if op.name not in INTEGER]
#: Errors beyond the specification's formula and the rounding of floats: ONNX Runtime's rational approximations.
DEPARTURES = {"sigmoid": 2.0**-23, "tanh": 2.0**-23, "silu": 10 * 2.0**-23}
#: What onnx.reference does not compute as the specification says.
UNFIT = {
    "lrn": "onnx.reference normalizes as many channels as there are images in the batch",
    "conv_transpose2d": "onnx.reference takes the shape of the weights for that of one group",
}


def test_every_op_has_an_adapter():
    held = {op for op in BUILT_IN if op is Const or op.bodies is not Op.bodies}  # which the writer itself writes
    assert set(BUILT_IN) - held == set(ADAPTERS)


def onnx_runtime(model, feeds, path):
    path.write_bytes(model.SerializeToString())
    return session(path).run(None, feeds)[0]


def onnx_reference(model, feeds, path):
    return onnx.reference.ReferenceEvaluator(model).run(None, feeds)[0]


def sums_integers(instance):
    """Whether an instance is planish's integer arithmetic: narrow integers give a 32-bit sum."""
    types = [type_of(x) for x in instance.operands]
    result = infer(instance.op, types)[0].dtype
    movement = instance.op.name in ("dequantize", "cast")
    return bool(types) and not movement and result == I32 != types[0].dtype and types[0].dtype.is_integer


def since(instance):
    """The operator set from which on an instance must be taken."""
    op = instance.op
    if any(dtype_of(x).is_integer for x in instance.operands):
        return WIDE  # operators took more and more element types
    steps = set(getattr(op, "steps", ())) - {1}
    return {
        "erf": 9,
        "gelu": 9,
        "where": 9,
        "attention": 9,  # a mask of bools is a choice
        "equal": 11,
        "less_equal": 12,
        "resize_nearest": 11,
        "resize_linear": 11,
        "slice": 10 if steps else OLDEST,
        "depth_to_space": 11 if getattr(op, "column_first", False) else OLDEST,
    }.get(op.name, OLDEST)


def written(instance, data):
    """The model of an instance in a drawn operator set; None where that is too old, or it has no form."""
    opset = data.draw(st.sampled_from([WIDE, OLDEST, 9, 11, 13, 17, 24]), label="opset")
    graph = run_pipeline(graph_of(instance), "decompose", Context(target=OnnxTarget(f"onnx:{opset}"))).graph
    nodes = [node for node in graph.nodes if not isinstance(node.op, Const)]
    refused = [error for node in nodes if (error := refusal(node, opset)) is not None]
    if refused:
        meant = sums_integers(instance) or (opset < since(instance) and isinstance(refused[0], TooOldError))
        assert meant, f"refused in opset {opset}: {refused[0].reason}"
        return None, opset
    assert not sums_integers(instance), "a sum of integers was written"
    note(print_graph(graph)[0])
    model = write(graph, opset).model
    onnx.checker.check_model(model, full_check=True)
    return model, opset


def cannot(instance, opset):
    """What onnx.reference is not asked: old operator sets, some of which it runs by newer rules; some largest elements.

    Those of integers, and those of windows with unequal padding, for it takes one side's for another's. Nor does it
    know recurrent layers of positive parts.
    """
    op, operands = instance.op, instance.operands
    pools = op.name == "max_pool2d" and not (dtype_of(operands[0]).is_float and len(set(op.pads)) == 1)
    return (
        opset != WIDE
        or pools
        or (op.name == "rnn" and op.relu)
        or (op.name.startswith("resize") and is_fractional(op, operands[0]))
    )


def holds(executor, path, instance, data):
    model, opset = written(instance, data)
    if model is None or leaves_undefined(instance) or (executor is onnx_reference and cannot(instance, opset)):
        return
    feeds = {f"x{i}": x for i, x in enumerate(instance.operands) if i not in instance.constants}
    try:
        theirs = executor(model, feeds, path)
    except VerificationError as error:
        if "NOT_IMPLEMENTED" not in str(error):
            raise
        return
    ours, room = reference(instance.op, instance.operands)[0], errors(instance.op, instance.operands)[0]
    assert theirs.shape == ours.shape
    if instance.op.name == "lrn":
        room = room + running_sums(instance.op, *instance.operands)
    gap = np.abs(theirs.astype(np.float64) - ours.astype(np.float64))
    allowed = 2 * (room + DEPARTURES.get(instance.op.name, 0)) if dtype_of(theirs).is_float else 0
    assert np.all(gap <= allowed), f"{executor.__name__} gives {theirs}, ref gives {ours}"


@pytest.mark.parametrize("executor", [onnx_runtime, onnx_reference], ids=lambda e: e.__name__)
@pytest.mark.parametrize("name", FORMS)
def test_what_is_written_means_the_same(name, executor, tmp_path):
    if executor is onnx_runtime:
        pytest.importorskip("onnxruntime")
    elif name in UNFIT:
        pytest.skip(UNFIT[name])
    for_each_instance(op_named(name), functools.partial(holds, executor, tmp_path / "model.onnx"))


@pytest.mark.parametrize("name", sorted(INTEGER))
def test_integer_arithmetic_is_refused_with_what_would_help(name):
    def refused(instance, _):
        (node,) = [n for n in graph_of(instance).nodes if not isinstance(n.op, Const)]
        error = refusal(node, newest())
        assert error is not None
        assert "integer arithmetic" in error.reason
        assert "fold-quantization" in error.hint

    for_each_instance(op_named(name), refused)


INF = float("inf")


@pytest.mark.parametrize(
    ("dtype", "lo", "hi", "written"),
    [
        (np.float32, 0.0, INF, "Relu"), (np.uint8, 0.0, INF, "Identity"), (np.int8, 0.0, 127.0, "Clip"),
        (np.int8, -128.0, 127.0, "Identity"), (np.int64, -(2.0**63), 2.0**63, "Identity"),
        (np.float32, -INF, -INF, "Clip"), (np.uint8, -5.0, 300.0, "Identity"), (np.int32, 2.0, 1e30, "Clip"),
    ],
)  # fmt: skip
def test_clips_at_the_ends_of_types(dtype, lo, hi, written, tmp_path):
    x = np.array([0, 1, 5, 100], dtype)
    y = Clip(lo, hi).ref(x)
    model = write(graph_of(Instance.of(Clip(lo, hi), x)), 17).model
    assert [node.op_type for node in model.graph.node] == [written]
    np.testing.assert_array_equal(onnx_reference(model, {"x0": x}, tmp_path), y)
    np.testing.assert_array_equal(onnx_runtime(model, {"x0": x}, tmp_path / "m.onnx"), y)
