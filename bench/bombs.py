"""Small files that ask for much: models whose sizes are written down, and not stored; and what they cost.

`MODELS` maps names to functions that make one. Each asks for 2^25 elements or more, of values or of constants. Every
command runs in a process of its own, a fork of one that has imported everything.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

#: Elements: of values, which a machine may well hold (128 MB of float32), and of constants.
VALUE, CONSTANT = 1 << 25, 1 << 28
SIDE = 1 << 14  # of a square of CONSTANT elements
MODELS: dict[str, Callable[[], onnx.ModelProto]] = {}


def node(kind: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    """A node; names are separated by spaces."""
    return helper.make_node(kind, inputs.split(), outputs.split(), name=f"{kind}:{outputs}"[:60], **attributes)


def integers(*values: int) -> Any:
    """A shape, or the like."""
    return np.array(values, np.int64)


def model(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...] = (1, 8), stored: dict[str, Any] | None = None, **more: Any
) -> onnx.ModelProto:
    """From a float input x to y."""
    x = helper.make_tensor_value_info("x", more.pop("type", 1), list(shape))
    y = helper.make_tensor_value_info("y", more.pop("out", 1), None)
    tensors = [v if isinstance(v, onnx.TensorProto) else onnx.numpy_helper.from_array(np.asarray(v), k)
               for k, v in (stored or {}).items()]  # fmt: skip
    graph = helper.make_graph(nodes, "bomb", [x], [y], tensors, sparse_initializer=more.pop("sparse", None))
    opsets = [helper.make_opsetid("", more.pop("opset", 17)), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)


def value(name: str, *args: Any, **more: Any) -> None:
    """List a model that computes a large value from x."""
    MODELS[name] = lambda: model(*args, **more)


def constant(name: str, nodes: list[onnx.NodeProto], stored: dict[str, Any] | None = None, **more: Any) -> None:
    """List a model with a large constant c, of which the largest element is added to x."""
    behind = [
        node("Cast", "c", "f", to=1),
        node("ReduceMax", "f", "m", keepdims=0),
        node("Add", "x m"),
    ]
    MODELS[name] = lambda: model([*nodes, *behind], (1, 8), stored, **more)


def filled(name: str, *shape: int, number: Any = None) -> onnx.NodeProto:
    """A constant of one number, by its shape."""
    number = np.ones(1, np.float32) if number is None else number
    tensor = onnx.numpy_helper.from_array(number)
    return node("ConstantOfShape", f"{name}_shape", name, value=tensor)


def false(name: str, *dims: int, external: dict[str, str] | None = None, type: int = 1) -> onnx.TensorProto:
    """A tensor that claims more than it holds."""
    tensor = onnx.TensorProto(name=name, data_type=type, dims=dims)
    if external is None:
        tensor.raw_data = b"\0" * 64
        return tensor
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, text in {"location": "model.onnx", **external}.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


ONE, COLUMN = np.ones(1, np.float32), np.ones((SIDE, 1), np.float32)

# ---- values

value("expand", [node("Expand", "x s")], (1, 8), {"s": integers(VALUE // 8, 8)})
value("tile", [node("Tile", "x s")], (1, 8), {"s": integers(VALUE // 8, 1)})
for mode in ("nearest", "linear", "cubic"):
    value(f"resize {mode}", [node("Resize", "x r s", mode=mode)], (1, 1, 64, 64),
          {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 90, 90], np.float32)})  # fmt: skip
value("pad", [node("Pad", "x s")], (1, 8), {"s": integers(0, VALUE // 2, 0, VALUE // 2)})
value("pad edge", [node("Pad", "x s", mode="edge")], (1, 8), {"s": integers(0, VALUE // 2, 0, VALUE // 2)})
value("reverse", [node("Slice", "x a b c d")], (1, VALUE), {"a": integers(-1), "b": integers(-(2**62)),
      "c": integers(1), "d": integers(-1)})  # fmt: skip
value("stride", [node("Slice", "x a b c d")], (1, VALUE), {"a": integers(1), "b": integers(2**62),
      "c": integers(1), "d": integers(3)})  # fmt: skip
value("gather a range", [node("Range", "a b c", "i"), node("Gather", "x i", axis=1)], (1, VALUE),
      {"a": np.int64(VALUE - 1), "b": np.int64(-1), "c": np.int64(-1)})  # fmt: skip
value(
    "gather one", [filled("i", number=integers(3)), node("Gather", "x i", axis=1)], (1, 8), {"i_shape": integers(VALUE)}
)
value("gather elements", [filled("i", number=integers(3)), node("GatherElements", "x i", axis=1)], (1, 8),
      {"i_shape": integers(1, VALUE)})  # fmt: skip
value("gather nd", [filled("i", number=integers(0)), node("GatherND", "x i")], (1, 8), {"i_shape": integers(VALUE, 1)})
value("shuffle", [node("Reshape", "x s", "a"), node("Transpose", "a", "b", perm=[0, 2, 1, 3]), node("Reshape", "b t")],
      (1, VALUE), {"s": integers(1, 512, 2, VALUE // 1024), "t": integers(1, VALUE)})  # fmt: skip
value("transpose", [node("Transpose", "x", perm=[2, 1, 0])], (256, 512, 256))
value("outer", [node("Transpose", "x", "t"), node("Mul", "x t")], (1, 5793))
value("outer with a constant", [node("Where", "w x c")], (1, 5793),
      {"w": np.ones((5793, 1), np.bool_), "c": np.ones((5793, 1), np.float32)})  # fmt: skip
value("einsum", [node("Einsum", "x x", equation="ai,bj->abij")], (1, 5793))
value("concat doubled", [node("Concat", f"{'x' if i == 0 else f'c{i}'} " * 2, "y" if i == 21 else f"c{i + 1}", axis=1)
      for i in range(22)])  # fmt: skip
value("added to itself", [node("Add", f"{'x' if i == 0 else f'c{i}'} " * 2, "y" if i == 119 else f"c{i + 1}")
      for i in range(120)])  # fmt: skip
value("one hot", [node("OneHot", "x d v")], (1, 1), {"d": integers(VALUE), "v": integers(0, 1)}, type=7, out=7)
value("space to depth", [node("SpaceToDepth", "x", blocksize=64)], (1, 1, 8192, 4096))
value("conv of pads", [node("Conv", "x k", pads=[2896] * 4)], (1, 1, 8, 8), {"k": np.ones((1, 1, 1, 1), np.float32)})
value("conv of more pads", [node("Conv", "x k", pads=[1 << 30] * 4)], (1, 1, 8, 8),
      {"k": np.ones((1, 1, 3, 3), np.float32)})  # fmt: skip
value("conv of dilation", [node("Conv", "x k", dilations=[1 << 24] * 2, pads=[1 << 24] * 4)], (1, 1, 8, 8),
      {"k": np.ones((1, 1, 3, 3), np.float32)})  # fmt: skip
value("conv of kernel", [filled("k"), node("Conv", "x k", pads=[2896] * 4)], (1, 1, 8, 8),
      {"k_shape": integers(1, 1, 5793, 5793)})  # fmt: skip
value("conv of channels", [filled("k"), node("Conv", "x k")], (1, 1, 8, 8), {"k_shape": integers(VALUE, 1, 1, 1)})
value("transposed conv", [node("ConvTranspose", "x k", strides=[724, 724])], (1, 1, 8, 8),
      {"k": np.ones((1, 1, 3, 3), np.float32)})  # fmt: skip
value("max pool", [node("MaxPool", "x", kernel_shape=[5793, 5793], pads=[5792] * 4)], (1, 1, 8, 8))
value("average pool", [node("AveragePool", "x", kernel_shape=[1 << 20, 1], pads=[(1 << 20) - 1, 0] * 2,
      count_include_pad=1)], (1, 1, 8, 8))  # fmt: skip
value("dense", [filled("w"), node("MatMul", "x w")], (1, 8), {"w_shape": integers(8, VALUE // 8)})
value("scan of rows", [node("Expand", "x s", "e"), node("Scan", "e", "y", num_scan_inputs=1, body=helper.make_graph(
      [helper.make_node("Relu", ["a"], ["b"])], "body", [helper.make_tensor_value_info("a", 1, [8])],
      [helper.make_tensor_value_info("b", 1, [8])]))], (1, 8), {"s": integers(VALUE // 8, 8)})  # fmt: skip
value("split", [node("Split", "x", " ".join(f"s{i}" for i in range(5000)), axis=1), node("Concat",
      " ".join(f"s{i}" for i in reversed(range(5000))), axis=1)], (1, 5000))  # fmt: skip
value("input", [node("Relu", "x")], (1 << 20, 1 << 20))
value("empty", [node("ReduceMax", "x", axes=[0])], (0, 1 << 40))
value("attention", [node("Transpose", "x", "t"), node("MatMul", "t x", "s"), node("Softmax", "s", "p"),
      node("MatMul", "p t")], (1, 5793))  # fmt: skip
value("recurrent", [node("Reshape", "x s", "e"), node("LSTM", "e w r", "y", hidden_size=2)], (1, 1 << 20),
      {"s": integers(1 << 20, 1, 1), "w": COLUMN[:8].reshape(1, 8, 1), "r": COLUMN[:16].reshape(1, 8, 2)})  # fmt: skip
value("top k", [node("TopK", "x k", "y i")], (1, VALUE), {"k": integers(VALUE)})
value("cumulated", [node("CumSum", "x a")], (1, VALUE), {"a": np.int64(1)})
value("affine grid", [node("AffineGrid", "x s")], (1, 2, 3), {"s": integers(1, 1, 4096, 4096)}, opset=20)

# ---- constants

constant("constant expand", [node("Expand", "o s", "c")], {"o": ONE, "s": integers(CONSTANT)})
constant("constant expand of 2^62", [node("Expand", "o s", "c")], {"o": ONE, "s": integers(1 << 31, 1 << 31)})
constant("constant tile", [node("Tile", "o s", "c")], {"o": ONE, "s": integers(CONSTANT)})
constant("range", [node("Range", "a b s", "c")], {"a": np.int64(0), "b": np.int64(CONSTANT), "s": np.int64(1)})
constant("range of floats", [node("Range", "a b s", "c")],
         {"a": np.float32(0), "b": np.float32(1), "s": np.float32(2**-31)})  # fmt: skip
constant("constant of shape", [filled("c")], {"c_shape": integers(1 << 31)})
constant("constant of many", [filled("c", number=integers(0))], {"c_shape": integers(1 << 20, 1 << 20)})
constant("constant reshaped", [filled("b"), node("Reshape", "b s", "d"), node("Transpose", "d", "c")],
         {"b_shape": integers(CONSTANT), "s": integers(SIDE, SIDE)})  # fmt: skip
constant(
    "constant one hot", [node("OneHot", "i d v", "c")], {"i": integers(0), "d": integers(CONSTANT), "v": integers(0, 1)}
)
constant("constant pad", [node("Pad", "o s", "c")], {"o": ONE, "s": integers(0, CONSTANT)})
constant("constant gather", [filled("i", number=integers(0)), node("Gather", "o i", "c")],
         {"o": ONE, "i_shape": integers(CONSTANT)})  # fmt: skip
constant("constant gather nd", [filled("i", number=integers(0)), node("GatherND", "o i", "c")],
         {"o": ONE, "i_shape": integers(CONSTANT, 1)})  # fmt: skip
constant("constant scatter nd", [filled("d"), node("ScatterND", "d i o", "c")],
         {"d_shape": integers(CONSTANT), "i": integers(3).reshape(1, 1), "o": ONE})  # fmt: skip
constant("constant outer", [node("Transpose", "o", "t"), node("Mul", "o t", "c")], {"o": COLUMN})
constant("constant matmul", [node("Transpose", "o", "t"), node("MatMul", "o t", "c")], {"o": COLUMN})
constant("constant compared", [node("Transpose", "o", "t"), node("Less", "o t", "c")], {"o": COLUMN})
constant("constant einsum", [node("Einsum", "o o", "c", equation="ax,by->axby")], {"o": COLUMN})
constant("constant of three", [node("Einsum", "o o o", "c", equation="ax,by,cz->axbycz")], {"o": COLUMN[:1024]})
constant("constant doubled", [node("Concat", f"{f'c{i}' if i else 'o'} " * 2, "c" if i == 27 else f"c{i + 1}", axis=0)
         for i in range(28)], {"o": ONE})  # fmt: skip
constant("constant resize", [node("Resize", "o r s", "c", mode="linear")],
         {"o": np.ones((1, 1, 2, 2), np.float32), "r": ONE[:0],
          "s": np.array([1, 1, SIDE / 2, SIDE / 2], np.float32)})  # fmt: skip
constant("trilu", [filled("o"), node("Trilu", "o", "c")], {"o_shape": integers(SIDE, SIDE)})
constant("eye", [filled("o"), node("EyeLike", "o", "c")], {"o_shape": integers(SIDE, SIDE)})
constant("cumsum", [filled("o"), node("CumSum", "o a", "c")], {"o_shape": integers(CONSTANT), "a": np.int64(0)})
constant("non-zero", [filled("o"), node("NonZero", "o", "c")], {"o_shape": integers(CONSTANT // 4)})
constant("window", [node("HannWindow", "n", "c")], {"n": np.int64(CONSTANT)})
constant("mel weights", [node("MelWeightMatrix", "a b r l u", "c")], {"a": np.int64(SIDE), "b": np.int64(2 * SIDE),
         "r": np.int64(16000), "l": np.float32(0), "u": np.float32(8000)})  # fmt: skip
constant("random", [node("RandomUniform", "", "c", shape=[CONSTANT])])
constant("constant conv", [node("Conv", "o k", "c", pads=[SIDE // 2] * 4)],
         {"o": np.ones((1, 1, 8, 8), np.float32), "k": np.ones((1, 1, 1, 1), np.float32)})  # fmt: skip
constant("false dims", [node("Identity", "o", "c")], {"o": false("o", 1 << 31)})
constant("false dims of four bits", [node("Cast", "o", "c", to=1)], {"o": false("o", 1 << 31, type=22)}, opset=21)
constant("false length", [node("Identity", "o", "c")], {"o": false("o", CONSTANT, external={"length": str(1 << 30)})})
constant("false offset", [node("Identity", "o", "c")], {"o": false("o", 16, external={"offset": str(1 << 40)})})
constant("own file as data", [node("Identity", "o", "c")], {"o": false("o", CONSTANT, external={})})


def loop(trips: int, collected: bool) -> onnx.NodeProto:
    """A Loop that adds to a carried value; collected: and stacks it."""
    vi = helper.make_tensor_value_info
    inner = [
        helper.make_node("Add", ["a", "a"], ["b"]),
        helper.make_node("Identity", ["go"], ["on"]),
        helper.make_node("Identity", ["a"], ["scanned"]),
    ]
    outs = [vi("on", 9, []), vi("b", 1, [1]), *([vi("scanned", 1, [1])] if collected else [])]
    body = helper.make_graph(inner, "body", [vi("i", 7, []), vi("go", 9, []), vi("a", 1, [1])], outs)
    return node("Loop", "n t o", "last c" if collected else "c", body=body)


constant("loop", [loop(CONSTANT, False)], {"n": np.int64(CONSTANT), "t": np.bool_(True), "o": ONE})
constant("loop that stacks", [loop(CONSTANT, True)], {"n": np.int64(CONSTANT), "t": np.bool_(True), "o": ONE})


def _nested(depth: int) -> onnx.NodeProto:
    inner = helper.make_node("Expand", ["o", "s"], ["y0"])
    for i in range(depth):
        graph = helper.make_graph([inner], f"g{i}", [], [helper.make_tensor_value_info(f"y{i}", 1, None)])
        inner = helper.make_node("If", ["t"], [f"y{i + 1}"], then_branch=graph, else_branch=graph)
    inner.output[0] = "c"
    return inner


constant("branches", [_nested(8)], {"o": ONE, "s": integers(CONSTANT), "t": np.bool_(True)})


def _sparse() -> onnx.ModelProto:
    values, indices = (onnx.numpy_helper.from_array(a, n) for a, n in ((ONE, "c"), (integers(0), "i")))
    sparse = helper.make_sparse_tensor(values, indices, [CONSTANT])
    return model([node("Cast", "c", "f", to=1), node("ReduceMax", "f", "m"), node("Add", "x m")], sparse=[sparse])


MODELS["sparse"] = _sparse


def laughs(levels: int = 40) -> onnx.ModelProto:
    """Functions of the model's own that call the one before twice."""
    functions, body = [], [helper.make_node("Relu", ["a"], ["b"])]
    for i in range(levels):
        functions.append(helper.make_function("own", f"f{i}", ["a"], ["b"], body, [helper.make_opsetid("", 17),
                         helper.make_opsetid("own", 1)]))  # fmt: skip
        body = [
            helper.make_node(f"f{i}", ["a"], ["h"], domain="own"),
            helper.make_node(f"f{i}", ["h"], ["b"], domain="own"),
        ]
    return model([helper.make_node(f"f{levels - 1}", ["x"], ["y"], domain="own")], functions=functions)


MODELS["functions"] = laughs


# ---- what they cost

FILE, OUT = "model.onnx", "out"
RANDOM = ("--calib", "random:0,1", "--quantize", "int8")
COMMANDS: dict[str, list[list[str]]] = {
    "check": [["check", FILE, "-t", "cortex-m4"]],
    "check int8": [["check", FILE, "-t", "cortex-m4", "--quantize", "int8"]],
    "run": [["run", FILE, "--data", "random:0,1", "--samples", "1", "-o", "y.npz"]],
    "c": [["compile", FILE, "-t", "c", "-o", OUT]],
    "onnx": [["compile", FILE, "-t", "onnx", "-o", OUT]],
    "npu int8": [["compile", FILE, "-t", "npu:256", "-o", OUT, *RANDOM]],
    "tvm": [["compile", FILE, "-t", "tvm", "-o", OUT]],
    "c int8": [["compile", FILE, "-t", "c", "-o", OUT, *RANDOM]],
    "verify c": [["compile", FILE, "-t", "c", "-o", OUT], ["verify", OUT, "--samples", "1"]],
}
#: Of a process: seconds of the processor after which it is stopped, and its address space in bytes.
STOPPED, SPACE = 20, 8 << 30


def planish(arguments: list[str], log: Path) -> tuple[int, float, float]:
    """Exit code (negative: a signal), seconds of the processor and most megabytes of one command in this folder."""
    from planish.cli import execute

    child = os.fork()
    if not child:
        code = 99
        try:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(target, 1)
            os.dup2(target, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (STOPPED, STOPPED + 1))
            resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
            code = execute(arguments)
            sys.stdout.flush()
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measured(name: str, commands: list[str]) -> Iterator[tuple[int, float, float]]:
    """What `planish` says of the last step of each command, for one model."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        onnx.save(MODELS[name](), FILE)
        for command in commands:
            for step in COMMANDS[command]:
                found = planish(step, Path("log"))
                if found[0]:
                    break
            yield found
            shutil.rmtree(OUT, ignore_errors=True)
        os.chdir(here)


def table(names: list[str], commands: list[str]) -> Iterator[str]:
    """Lines of a table: seconds and megabytes of each command, with the exit code where it is refused."""
    import planish.checking
    import planish.driver
    import planish.frontends.onnx.adapters
    import planish.verification  # noqa: F401

    yield f"| file | {' | '.join(commands)} |"
    yield f"|---|{'---|' * len(commands)}"
    for name in names:
        cells = [
            f"{seconds:.1f} s, {megabytes:.0f} MB{f', exit {code}' * (code != 0)}"
            for code, seconds, megabytes in measured(name, commands)
        ]
        yield f"| {name} | {' | '.join(cells)} |"
