"""Six small ONNX files that together use most operators: what damage is done to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from planish.ir.types import Array

Node = onnx.NodeProto


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Node:
    """Names stand in one string; `-` is an operand that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), name=f"{op}_{outputs.split(maxsplit=1)[0]}", **attributes)


def file(
    nodes: Sequence[Node], inputs: dict[str, Sequence[Any]], outputs: str, constants: dict[str, Array], opset: int = 17
) -> bytes:
    """A model as bytes; its inputs and outputs are float32."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, T.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs.split()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def f(*shape: int) -> Array:
    """Weights."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def i(*values: int) -> Array:
    return np.array(values, np.int64)


def image() -> bytes:
    """Convolutions, pooling, normalization, resizing; a symbolic batch is flattened as exporters do it."""
    constants = {"w": f(4, 3, 3, 3), "b": f(4), "v": f(4, 1, 3, 3), "u": f(4, 2, 2, 2), "d": f(16, 5), "e": f(5)}
    constants |= {"s": np.ones(4, np.float32), "var": np.ones(4, np.float32), "lo": np.float32(0), "hi": np.float32(6)}
    constants |= {"scales": np.array([1, 1, 2, 2], np.float32), "zero": i(0), "last": i(16), "slope": f(4, 1, 1)}
    return file(
        [
            node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
            node("BatchNormalization", "c s b b var", "n"),
            node("Clip", "n lo hi", "r"),
            node("Conv", "r v", "dw", group=4, auto_pad="SAME_UPPER"),
            node("PRelu", "dw slope", "p"),
            node("Add", "p r", "a"),
            node("MaxPool", "a", "m", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            node("ConvTranspose", "m u", "t", strides=[2, 2], group=1),
            node("Resize", "m - scales", "z", mode="linear"),
            node("AveragePool", "z", "g", kernel_shape=[2, 2], strides=[2, 2], count_include_pad=1),
            node("LeakyRelu", "g", "l", alpha=0.1),
            node("Shape", "l", "sh"),
            node("Gather", "sh zero", "n0", axis=0),
            node("Concat", "n0 last", "to", axis=0),
            node("Reshape", "l to", "flat"),
            node("Gemm", "flat d e", "q", alpha=0.5),
            node("Softmax", "q", "y", axis=-1),
            node("GlobalAveragePool", "t", "y2"),
        ],
        {"x": ["N", 3, 8, 8]},
        "y y2",
        constants,
    )


def attention() -> bytes:
    """Matrices, softmax, layer normalization, masks."""
    constants = {"wq": f(8, 8), "wk": f(8, 8), "wv": f(8, 8), "g": f(8), "h": f(8), "root": np.float32(2.0)}
    constants |= {"heads": i(0, 0, 2, 4), "back": i(0, 0, 8), "mask": np.tri(4, dtype=np.bool_)}
    constants |= {"low": np.float32(-1e4), "two": np.float32(2)}
    split = [
        step
        for k in "qkv"
        for step in (
            node("MatMul", f"l w{k}", f"{k}0"),
            node("Reshape", f"{k}0 heads", f"{k}1"),
            node("Transpose", f"{k}1", k, perm=[0, 2, 3, 1] if k == "k" else [0, 2, 1, 3]),
        )
    ]
    return file(
        [
            node("LayerNormalization", "x g h", "l", axis=-1, epsilon=1e-5),
            *split,
            node("MatMul", "q k", "s0"),
            node("Div", "s0 root", "s1"),
            node("Where", "mask s1 low", "s2"),
            node("Softmax", "s2", "s3", axis=-1),
            node("MatMul", "s3 v", "o0"),
            node("Transpose", "o0", "o1", perm=[0, 2, 1, 3]),
            node("Reshape", "o1 back", "o2"),
            node("Erf", "o2", "e"),
            node("Pow", "e two", "p"),
            node("ReduceMean", "p", "m", axes=[1], keepdims=0),
            node("Sqrt", "m", "y"),
        ],
        {"x": [2, 4, 8]},
        "y",
        constants,
    )


def recurrent() -> bytes:
    """LSTM, GRU and RNN in a row; the initial state is made for the batch."""
    constants = {"w": f(1, 16, 3), "r": f(1, 16, 4), "b": f(1, 32), "gw": f(1, 12, 4), "gr": f(1, 12, 4), "one": i(1)}
    constants |= {"nw": f(2, 2, 4), "nr": f(2, 2, 2), "nought": np.float32(0), "two": i(2), "four": i(4)}
    return file(
        [
            node("Shape", "x", "s"),
            node("Slice", "s one two", "n"),
            node("Concat", "one n four", "hs", axis=0),
            node("Expand", "nought hs", "h0"),
            node("LSTM", "x w r b - h0 h0", "a0 ah ac", hidden_size=4),
            node("Squeeze", "a0 one", "a"),
            node("GRU", "a gw gr", "b0", hidden_size=4, linear_before_reset=1),
            node("Squeeze", "b0 one", "bb"),
            node("RNN", "bb nw nr", "c0", hidden_size=2, direction="bidirectional"),
            node("Concat", "ah ac", "y2", axis=-1),
            node("Identity", "c0", "y"),
        ],
        {"x": [5, "N", 3]},
        "y y2",
        constants,
    )


def quantized() -> bytes:
    """Integers between pairs of quantize and dequantize, and operators that compute with them."""
    rng = np.random.default_rng(0)
    constants = {"w": rng.integers(-127, 128, (4, 3, 3, 3), np.int8), "ws": np.full(4, 0.02, np.float32)}
    constants |= {
        "wz": np.zeros(4, np.int8),
        "b": rng.integers(-99, 99, 4, np.int32),
        "bs": np.full(4, 2e-4, np.float32),
    }
    constants |= {"s": np.float32(0.01), "z": np.uint8(128), "d": rng.integers(-127, 128, (4, 5), np.int8)}
    constants |= {"ds": np.float32(0.03), "dz": np.int8(0), "bz": np.zeros(4, np.int32)}
    return file(
        [
            node("QuantizeLinear", "x s z", "q"),
            node("DequantizeLinear", "q s z", "xf"),
            node("DequantizeLinear", "w ws wz", "wf", axis=0),
            node("DequantizeLinear", "b bs bz", "bf", axis=0),
            node("Conv", "xf wf bf", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("QuantizeLinear", "r s z", "cq"),
            node("DequantizeLinear", "cq s z", "cf"),
            node("GlobalAveragePool", "cf", "p"),
            node("QuantizeLinear", "p s z", "pq"),
            node("Flatten", "pq", "pf"),
            node("QLinearMatMul", "pf s z d ds dz s z", "m"),
            node("Cast", "pf", "y2", to=T.FLOAT),
            node("DequantizeLinear", "m s z", "y"),
        ],
        {"x": [1, 3, 6, 6]},
        "y y2",
        constants,
    )


def movement() -> bytes:
    """What moves elements, and what computes shapes and constants."""
    constants = {"pads": i(0, 0, 1, 0, 1, 1), "value": np.float32(1), "starts": i(1, 0), "ends": i(5, 2**62)}
    constants |= {
        "axes": i(1, 2),
        "steps": i(2, 1),
        "idx": i(2, 0, -1),
        "reps": i(1, 1, 2),
        "sizes": i(1, 1),
        "nil": i(0),
    }
    constants |= {"zero": np.int64(0), "six": np.int64(6), "step": np.int64(2), "few": i(3), "ge": i(0, 1, 2)}
    constants |= {"shape": i(2, -1), "wide": i(2, 2, 2, 6), "flags": np.array([True, False, True])}
    return file(
        [
            node("Pad", "x pads value", "p", mode="constant"),
            node("Pad", "x pads", "p2", mode="reflect"),
            node("Add", "p p2", "a"),
            node("Slice", "a starts ends axes steps", "s"),
            node("Gather", "s idx", "g", axis=2),
            node("Tile", "g reps", "t"),
            node("Split", "t sizes", "u v", axis=1),
            node("Concat", "v u", "c", axis=1),
            node("Transpose", "c", "tr", perm=[0, 2, 1]),
            node("Unsqueeze", "c nil", "un"),
            node("Expand", "un wide", "ex"),
            node("Squeeze", "un nil", "sq"),
            node("Range", "zero six step", "ra"),
            node("GatherElements", "ge ra2 ", "gel", axis=0),
            node("Mod", "ra few", "ra2"),
            node("Cast", "gel", "gf", to=T.FLOAT),
            node("ConstantOfShape", "few", "co", value=helper.make_tensor("v", T.FLOAT, [1], [2.5])),
            node("Add", "gf co", "gc"),
            node("Where", "flags gc gf", "wh"),
            node("Reshape", "ex shape", "re"),
            node("Flatten", "sq", "fl", axis=2),
            node("ReduceSum", "wh nil", "y2", keepdims=1),
            node("DepthToSpace", "img", "ds", blocksize=2, mode="CRD"),
            node("SpaceToDepth", "ds", "y3", blocksize=2),
        ],
        {"x": [2, 4, 5], "img": [1, 4, 2, 3]},
        "re fl tr y2 y3",
        constants,
        13,
    )


def arithmetic() -> bytes:
    """Element by element, comparisons and reductions, with integers between."""
    constants = {
        "k": f(3),
        "half": np.float32(0.5),
        "ints": np.array([[1, 2, 3]], np.int32),
        "ax": i(1),
        "n": np.int32(2),
    }
    unary = [
        "Abs",
        "Exp",
        "Neg",
        "Sigmoid",
        "Tanh",
        "Elu",
        "Softplus",
        "HardSigmoid",
        "Gelu",
        "Selu",
        "Reciprocal",
        "Log",
    ]
    chain = ["x", *(f"u{j}" for j in range(len(unary)))]
    return file(
        [
            *(node(op, a, b) for op, a, b in zip(unary, chain, chain[1:], strict=False)),
            node("Less", "x k", "lt"),
            node("Not", "lt", "no"),
            node("Or", "lt no", "both"),
            node("Where", "both x k", "w"),
            node("Max", "w x k", "mx"),
            node("Min", "mx k", "mn"),
            node("Sub", "mn k", "sb"),
            node("Mul", "sb half", "back"),
            node("Cast", "x", "xi", to=T.INT32),
            node("Mul", "xi n", "dv"),
            node("Add", "dv ints", "ad"),
            node("CastLike", "ad x", "adf"),
            node("ReduceMax", "adf", "rm", axes=[-1], keepdims=1),
            node("ReduceL2", "back", "rl", axes=[0]),
            node("Sum", "rm rl u11", "y"),
            node("LogSoftmax", "y", "y2", axis=1),
        ],
        {"x": [2, 3]},
        "y y2",
        constants,
        20,
    )


FILES: dict[str, Callable[[], bytes]] = {
    "image": image, "attention": attention, "recurrent": recurrent, "quantized": quantized, "movement": movement,
    "arithmetic": arithmetic,
}  # fmt: skip
