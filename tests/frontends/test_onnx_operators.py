"""Every adapter against ONNX Runtime, on one-node models with attributes that hypothesis draws."""

import contextlib
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planish.frontends.onnx import load
from planish.ir.errors import ModelError, UnsupportedError
from planish.ir.evaluate import evaluate
from planish.testing.draw import composite
from tests.support.integers import check_integers, conv, dense
from tests.support.operators import check, one_node, real, runtime, small

ort = pytest.importorskip("onnxruntime")
ort.set_default_logger_severity(4)


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("operators") / "model.onnx"


@composite
def images(draw, rank=None, channels=None, least=1):
    rank = rank or draw(st.integers(1, 2))
    spatial = [draw(st.integers(least, 7)) for _ in range(rank)]
    return real(draw, (draw(st.integers(1, 2)), channels or draw(small), *spatial))


def window_attributes(draw, rank, window):
    auto = draw(st.sampled_from([None, None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    pads = [draw(st.integers(0, w - 1)) for w in window * 2]
    return {
        "strides": draw(st.none() | st.lists(st.integers(1, 3), min_size=rank, max_size=rank)),
        "auto_pad": auto,
        "pads": pads if auto in (None, "NOTSET") and draw(st.booleans()) else None,
    }


@given(st.data())
def test_conv(path, data):
    draw = data.draw
    x, groups = draw(images(least=3)), 1
    rank, channels = x.ndim - 2, x.shape[1]
    if draw(st.booleans()):
        groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    window = [draw(st.integers(1, 3)) for _ in range(rank)]
    w = real(draw, (groups * draw(st.integers(1, 3)), channels // groups, *window))
    b = draw(st.sampled_from([None, real(draw, w.shape[:1])]))
    attributes = window_attributes(draw, rank, window)
    dilations = None if attributes["auto_pad"] else draw(st.none() | st.just([2] * rank))
    constants = {"w": w} if b is None else {"w": w, "b": b}
    model = one_node(
        "Conv", {"x": x}, constants, draw(st.sampled_from([7, 11, 17, 22])), group=groups, dilations=dilations,
        kernel_shape=draw(st.sampled_from([None, window])), **attributes,
    )  # fmt: skip
    assume(check(path, model, {"x": x}, terms=math.prod(w.shape[1:]) + 1))


@given(st.data(), st.sampled_from(["MaxPool", "AveragePool"]))
def test_pools(path, data, op):
    draw, opset = data.draw, data.draw(st.sampled_from([7, 10, 12, 19, 22]))
    x = draw(images(least=4))
    rank = x.ndim - 2
    window = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes = window_attributes(draw, rank, window)
    # By the specification's formulas ceil_mode changes nothing under auto_pad; ONNX Runtime rounds VALID up.
    if opset >= 10 and attributes["auto_pad"] in (None, "NOTSET"):
        attributes["ceil_mode"] = draw(st.sampled_from([None, 0, 1]))
    if opset >= (10 if op == "MaxPool" else 19) and not attributes["auto_pad"]:
        fits = all(2 * w - 1 <= n for w, n in zip(window, x.shape[2:], strict=True))
        attributes["dilations"] = draw(st.none() | st.just([2] * rank)) if fits else None
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.sampled_from([None, 0, 1]))
    model = one_node(op, {"x": x}, version=opset, kernel_shape=window, **attributes)
    may_refuse = attributes.get("ceil_mode") and attributes.get("count_include_pad")
    with contextlib.suppress(*[UnsupportedError] if may_refuse else []):
        assume(check(path, model, {"x": x}, terms=0 if op == "MaxPool" else math.prod(window)))


@given(st.data())
def test_gemm(path, data):
    draw = data.draw
    m, k, n = (draw(small) for _ in range(3))
    flip_a, flip_b, fixed = (draw(st.booleans()) for _ in range(3))
    a, b = real(draw, (k, m) if flip_a else (m, k)), real(draw, (n, k) if flip_b else (k, n))
    c = draw(st.sampled_from([None, (), (1,), (n,), (1, n), (m, 1), (m, n)]))
    inputs, constants = {"a": a}, {}
    (constants if fixed else inputs)["b"] = b
    if c is not None:
        constants["c"] = real(draw, c)
    model = one_node(
        "Gemm", inputs, constants, draw(st.sampled_from([11, 13])), transA=int(flip_a), transB=int(flip_b),
        alpha=draw(st.sampled_from([None, 0.5, -2.0])), beta=draw(st.sampled_from([None, 0.25])),
    )  # fmt: skip
    assume(check(path, model, inputs, terms=2 * k + 2))


@given(st.data())
def test_matmul(path, data):
    draw, k = data.draw, data.draw(small)
    a_shape = (*draw(st.sampled_from([(), (3,), (2, 3), (2, 2, 3)])), k)
    b_shape = draw(st.sampled_from([(k,), (k, 2), (1, k, 2), (2, k, 1)]))
    a, b = real(draw, a_shape), real(draw, b_shape)
    inputs, constants = {"a": a}, {}
    ({"input": inputs, "constant": constants}[draw(st.sampled_from(["input", "constant"]))])["b"] = b
    assume(check(path, one_node("MatMul", inputs, constants), inputs, terms=k))


@given(st.data())
def test_slice(path, data):
    draw = data.draw
    x = real(draw, tuple(draw(st.integers(1, 5)) for _ in range(draw(st.integers(1, 4)))))
    axes = draw(st.lists(st.integers(0, x.ndim - 1), min_size=1, unique=True))
    bound = st.integers(-7, 7) | st.sampled_from([2**63 - 1, 2**31 - 1, -(2**63) + 1, -(2**31)])
    starts, ends = ([draw(bound) for _ in axes] for _ in range(2))
    axes = [a - x.ndim if draw(st.booleans()) else a for a in axes]
    if draw(st.booleans()):
        model = one_node("Slice", {"x": x}, version=9, starts=starts, ends=ends, axes=[a % x.ndim for a in axes])
    else:
        steps = [draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for _ in axes]
        vectors = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        model = one_node("Slice", {"x": x}, {k: np.array(v, np.int64) for k, v in vectors.items()})
        # ONNX Runtime takes an end of INT_MAX as "the end" backwards, too; by the specification nothing is left.
        assume(not any(step < 0 and end >= 2**31 - 1 for step, end in zip(steps, ends, strict=True)))
    assume(check(path, model, {"x": x}, terms=0))


def test_going_backwards_from_before_the_first_element_takes_the_first(path):
    """Slice-13 clamps starts to [0, size - 1] there; Python's slices, and onnx.reference with them, take nothing."""
    x = np.arange(3, dtype=np.float32)
    vectors = {"starts": [-5], "ends": [-9], "axes": [0], "steps": [-1]}
    model = one_node("Slice", {"x": x}, {k: np.array(v, np.int64) for k, v in vectors.items()})
    assert check(path, model, {"x": x}, terms=0)
    assert evaluate(load(path), [x])[0].tolist() == [0]


@given(st.data())
def test_pad(path, data):
    draw = data.draw
    x = real(draw, tuple(draw(st.integers(2, 5)) for _ in range(draw(st.integers(1, 4)))))
    mode = draw(st.sampled_from(["constant", "constant", "reflect", "edge"]))
    low = -1 if mode == "constant" else 0
    pads = [draw(st.integers(low, 1 if mode == "reflect" else 3)) for _ in range(2 * x.ndim)]
    value = np.array(draw(st.sampled_from([0.0, 1.5, -np.inf])), np.float32)
    if draw(st.booleans()):
        model = one_node("Pad", {"x": x}, version=10, mode=mode, pads=pads, value=float(value))
    else:
        model = one_node("Pad", {"x": x}, {"p": np.array(pads, np.int64), "v": value}, mode=mode)
    theirs = runtime(model, {"x": x})
    assume(theirs is not None)
    path.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(evaluate(load(path), [x])[0], theirs[0])


@given(st.data())
def test_reshape(path, data):
    draw, x = data.draw, real(data.draw, (2, 3, 4))
    shape = draw(st.sampled_from([[6, 4], [0, -1], [-1], [0, 0, 2, 2], [4, -1, 2], [24], [2, -1, 1, 4], [0, 0, 0]]))
    assert check(path, one_node("Reshape", {"x": x}, {"s": np.array(shape, np.int64)}), {"x": x}, terms=0)


@given(st.data(), st.sampled_from(["Softmax", "LogSoftmax"]))
def test_softmax(path, data, op):
    draw, x = data.draw, real(data.draw, (2, 3, 4, 2)[: data.draw(st.integers(1, 4))])
    axis = draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    opset = draw(st.sampled_from([7, 11, 13, 17]))
    assume(opset >= 11 or axis is None or axis >= 0)
    assume(check(path, one_node(op, {"x": x}, version=opset, axis=axis), {"x": x}, terms=x.size + 10))


PLAIN_REDUCTIONS = ["ReduceMean", "ReduceSum", "ReduceMax"]
COMPOSED_REDUCTIONS = ["ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]


@given(st.data(), st.sampled_from(PLAIN_REDUCTIONS + COMPOSED_REDUCTIONS))
def test_reductions(path, data, op):
    draw, x = data.draw, real(data.draw, (2, 3, 4, 2)[: data.draw(st.integers(1, 4))])
    axes = draw(st.none() | st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=1))
    opset = draw(st.sampled_from([11, 13, 18]))
    options = {"keepdims": draw(st.sampled_from([None, 0, 1]))}
    as_operand = opset >= (13 if op == "ReduceSum" else 18)
    if as_operand and op in PLAIN_REDUCTIONS and draw(st.booleans()):
        options["noop_with_empty_axes"] = draw(st.sampled_from([0, 1]))
    if as_operand:
        model = one_node(op, {"x": x}, {} if axes is None else {"axes": np.array(axes, np.int64)}, opset, **options)
    else:
        model = one_node(op, {"x": x}, version=opset, axes=axes, **options)
    assume(check(path, model, {"x": x}, terms=0 if op in ("ReduceMax", "ReduceMin") else x.size))


@given(st.data())
def test_lengths(path, data):
    x = real(data.draw, (2, 3, 4)) * data.draw(st.sampled_from([0, 1]))
    options = {"p": data.draw(st.sampled_from([None, 1, 2])), "axis": data.draw(st.sampled_from([None, -1, 0, 1]))}
    assume(check(path, one_node("LpNormalization", {"x": x}, **options), {"x": x}, terms=x.size))
    assume(check(path, one_node("ReduceLogSum", {"x": abs(x) + 1}), {"x": abs(x) + 1}, terms=x.size))


@given(st.data())
def test_tile(path, data):
    x = real(data.draw, (1, 2, 3)[: data.draw(st.integers(1, 3))])
    repeats = np.array([data.draw(st.integers(0 if axis else 1, 3)) for axis in range(x.ndim)])
    assume(check(path, one_node("Tile", {"x": x}, {"r": repeats}), {"x": x}, terms=0))


@given(st.data(), st.integers(1, 3))
def test_mean(path, data, count):
    inputs = {f"x{i}": real(data.draw, (2, 3)[i % 2 :]) for i in range(count)}
    assume(check(path, one_node("Mean", inputs), inputs, terms=4))


FUNCTIONS = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Exp": {}, "Erf": {}, "Neg": {}, "Abs": {}, "HardSwish": {},
    "Sqrt": {}, "Log": {}, "Reciprocal": {}, "Identity": {}, "LeakyRelu": {"alpha": 0.3},
    "Elu": {"alpha": 0.7}, "Selu": {}, "Celu": {"alpha": 0.4}, "Softplus": {}, "Softsign": {},
    "ThresholdedRelu": {"alpha": 0.3},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Flatten": {"axis": 2}, "Transpose": {"perm": [2, 0, 3, 1]},
    "GlobalAveragePool": {}, "GlobalMaxPool": {}, "DepthToSpace": {"blocksize": 2, "mode": "CRD"},
    "SpaceToDepth": {"blocksize": 2}, "Dropout": {}, "Squeeze": {},
}  # fmt: skip


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(path, op):
    x = np.random.default_rng(0).uniform(0.1 if op in ("Log", "Sqrt", "Reciprocal") else -4, 4, (2, 4, 2, 6))
    inputs = {"x": x.astype(np.float32)}
    # Transcendental functions are within 4 units of their last place, and that of e^4 is 2^-18.
    assert check(path, one_node(op, inputs, **FUNCTIONS[op]), inputs, terms=2)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "PRelu"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (4,), (3, 1), ()])
def test_two_operands(path, op, shape):
    random = np.random.default_rng(0)
    inputs = {"a": random.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)}
    other = {"b": random.uniform(0.5, 2, shape).astype(np.float32)}
    assert check(path, one_node(op, inputs, other), inputs, terms=4)
    if op != "PRelu":
        assert check(path, one_node(op, {**inputs, **other}), {**inputs, **other}, terms=4)


@pytest.mark.parametrize(
    ("bounds", "opset"), [((None, None), 17), ((-1, None), 17), ((None, 2), 17), ((0, 6), 13), ((0, 6), 7)]
)
def test_clip(path, bounds, opset):
    inputs = {"x": np.linspace(-8, 8, 33, dtype=np.float32)}
    lo, hi = bounds
    if opset < 11:
        model = one_node("Clip", inputs, version=opset, min=float(lo), max=float(hi))
    else:
        ends = {k: None if v is None else np.array(v, np.float32) for k, v in (("lo", lo), ("hi", hi))}
        model = one_node("Clip", inputs, ends, opset)
    assert check(path, model, inputs, terms=0)


@given(st.data())
def test_split_and_concat(path, data):
    draw = data.draw
    x, axis = real(draw, (4, 6)), draw(st.integers(-2, 1))
    size = x.shape[axis]
    cut = draw(st.integers(1, size - 1))
    sizes = np.array([cut, size - cut], np.int64)
    assert check(path, one_node("Split", {"x": x}, {"s": sizes}, outputs=2, axis=axis), {"x": x}, terms=0)
    assert check(path, one_node("Split", {"x": x}, outputs=2, axis=axis), {"x": x}, terms=0)
    inputs = {"x": x, "z": real(draw, (4, 6))}
    assert check(path, one_node("Concat", inputs, axis=axis), inputs, terms=0)


@given(st.data())
def test_gather(path, data):
    draw = data.draw
    x, axis = real(draw, (3, 4, 5)), draw(st.integers(-3, 2))
    size = x.shape[axis]
    indices = np.array(draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4)), np.int64)
    indices = indices.reshape(draw(st.sampled_from([(-1,), (1, -1)]))) if draw(st.booleans()) else indices[0]
    assert check(path, one_node("Gather", {"x": x}, {"i": np.asarray(indices)}, axis=axis), {"x": x}, terms=0)


# ---- quantized operators; ours are floats in between, so that a value near a tie may fall one step aside


@given(st.data(), st.sampled_from([np.uint8, np.int8]))
def test_quantize_and_dequantize(path, data, dtype):
    draw, info = data.draw, np.iinfo(dtype)
    x = real(draw, (2, 3, 4)) * 100
    axis = draw(st.none() | st.integers(-3, 2))
    shape = () if axis is None else (x.shape[axis],)
    scale = np.exp2(real(draw, shape) * 3).astype(np.float32)
    zero = np.random.default_rng(1).integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    parameters = {"scale": scale, "zero": zero}
    assert check(path, one_node("QuantizeLinear", {"x": x}, parameters, axis=axis), {"x": x})
    q = np.random.default_rng(2).integers(info.min, info.max, x.shape, endpoint=True).astype(dtype)
    model = one_node("DequantizeLinear", {"q": q}, parameters, axis=axis)
    path.write_bytes(model.SerializeToString())
    np.testing.assert_array_equal(evaluate(load(path), [q])[0], runtime(model, {"q": q})[0])


def integers(draw, shape, dtype):
    info = np.iinfo(dtype)
    return np.random.default_rng(draw(st.integers(0, 2**20))).integers(info.min, info.max, shape, dtype, endpoint=True)


def scalars(**values):
    return {k: np.array(v) for k, v in values.items()}


@given(st.data(), st.sampled_from([np.uint8, np.int8]), st.booleans())
def test_qlinear_conv(path, data, dtype, per_channel):
    draw = data.draw
    x = integers(draw, (1, 2, 5, 5), dtype)
    w = integers(draw, (3, 2, 3, 3), np.int8)
    scales = np.array([0.01, 0.02, 0.03], np.float32) if per_channel else np.float32(0.02)
    constants = {
        **scalars(xs=np.float32(0.1), xz=dtype(7)), "w": w, "ws": np.asarray(scales),
        "wz": np.zeros_like(scales, np.int8),
        **scalars(ys=np.float32(0.5), yz=dtype(100)), "b": integers(draw, (3,), np.int16).astype(np.int32),
    }  # fmt: skip
    pads = draw(st.sampled_from([None, [1, 0, 1, 2]]))
    model = one_node("QLinearConv", {"x": x}, constants, pads=pads)
    assume(check_integers(path, model, {"x": x}, conv(x, constants, pads), w))


@given(st.data(), st.sampled_from([np.uint8, np.int8]))
def test_qlinear_others(path, data, dtype):
    draw = data.draw
    x, z = integers(draw, (2, 4), dtype), integers(draw, (2, 4), dtype)
    first, second, result = (
        scalars(**{f"{n}s": np.float32(s), f"{n}z": dtype(zero)})
        for n, s, zero in (("a", 0.1, 3), ("b", 0.05, 9), ("y", 0.2, 11))
    )
    w = integers(draw, (4, 3), np.int8)
    weights = {"w": w, **scalars(ws=np.float32(0.01), wz=np.int8(0))}
    constants = {**first, **weights, **result}
    assume(check_integers(path, one_node("QLinearMatMul", {"x": x}, constants), {"x": x}, dense(x, constants), w))
    for op in ("QLinearAdd", "QLinearMul"):
        constants = {**first, "z": z, **second, **result}
        assert check(path, one_node(op, {"x": x}, constants, domain="com.microsoft"), {"x": x}, steps=1)
    concat = one_node(
        "QLinearConcat", {}, {**result, "z": z, **second, "x": x, **first}, domain="com.microsoft", axis=1
    )
    assert check(path, concat, {}, steps=1)
    image = x.reshape(1, 2, 2, 2)
    average = one_node(
        "QLinearAveragePool", {"x": image}, {**first, **result}, domain="com.microsoft", kernel_shape=[2, 1]
    )
    assert check(path, average, {"x": image}, steps=1)
    average = one_node("QLinearGlobalAveragePool", {"x": image}, {**first, **result}, domain="com.microsoft")
    assert check(path, average, {"x": image}, steps=1)
    bias = {"b": integers(draw, (3,), np.int16).astype(np.int32)}
    constants = {**first, **weights, **bias, **result}
    gemm = one_node("QGemm", {"x": x}, constants, domain="com.microsoft")
    assert check_integers(path, gemm, {"x": x}, dense(x, constants), w)
    scale = scalars(ys=np.float32(1 / 256), yz=dtype(np.iinfo(dtype).min))
    softmax = one_node("QLinearSoftmax", {"x": x}, {**first, **scale}, domain="com.microsoft", opset=13, axis=-1)
    assert check(path, softmax, {"x": x}, steps=1)


@given(st.data())
def test_conv_transpose(path, data):
    draw = data.draw
    x, groups = draw(images()), 1
    rank, channels = x.ndim - 2, x.shape[1]
    if draw(st.booleans()):
        groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    window, strides = [draw(st.integers(1, 3)) for _ in range(rank)], [draw(st.integers(1, 3)) for _ in range(rank)]
    w = real(draw, (channels, draw(st.integers(1, 3)), *window))
    b = draw(st.sampled_from([None, real(draw, (groups * w.shape[1],))]))
    auto = draw(st.sampled_from([None, None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    pads = [draw(st.integers(0, k)) for k in window * 2] if auto in (None, "NOTSET") else None
    model = one_node(
        "ConvTranspose", {"x": x}, {"w": w} if b is None else {"w": w, "b": b}, draw(st.sampled_from([11, 17, 22])),
        group=groups, strides=strides, pads=pads, auto_pad=auto,
        dilations=draw(st.none() | st.just([2] * rank)) if auto is None else None,
        output_padding=draw(st.none() | st.just([s - 1 for s in strides])) if auto is None else None,
    )  # fmt: skip
    try:
        agreed = check(path, model, {"x": x}, terms=math.prod(w.shape[2:]) * channels + 1)
    except (UnsupportedError, ModelError) as error:
        agreed = "larger than" in str(error) or "leaves nothing" in str(error)
        if not agreed:
            raise
    assume(agreed)


@given(st.data())
def test_elements_of_constants(path, data):
    draw = data.draw
    x = real(draw, tuple(draw(small) for _ in range(draw(st.integers(1, 3)))))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    shape = [draw(small) if i == axis % x.ndim else draw(st.integers(1, n)) for i, n in enumerate(x.shape)]
    size = x.shape[axis]
    indices = np.random.default_rng(draw(st.integers(0, 99))).integers(-size, size, shape)
    model = one_node("GatherElements", {}, {"x": x, "i": indices}, draw(st.sampled_from([11, 17])), axis=axis)
    assert check(path, model, {})


def test_elements_of_inputs_are_refused(path):
    x = np.zeros((2, 2), np.float32)
    path.write_bytes(one_node("GatherElements", {"x": x}, {"i": np.zeros((2, 2), np.int64)}).SerializeToString())
    with pytest.raises(UnsupportedError, match="elements of a constant"):
        load(path)


@given(st.data())
def test_scaler(path, data):
    draw = data.draw
    x, alike = real(draw, (draw(small), draw(small))), draw(st.booleans())
    offset, scale = (real(draw, (1 if alike else x.shape[1],)).tolist() for _ in range(2))
    model = one_node("Scaler", {"x": x}, domain="ai.onnx.ml", offset=offset, scale=scale)
    assert check(path, model, {"x": x}, terms=2)
