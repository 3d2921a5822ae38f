"""MobileNetV2 and ResNet-18 as ONNX models with random weights: for speed, where only shapes matter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Network:
    """An ONNX graph being written: convolutions with biases (batch normalization is folded), ReLUs, sums."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {"x": 3}
        self.random = np.random.default_rng(0)

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """A node; its result."""
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [result], **attributes))
        self.channels[result] = self.channels[inputs[0]]
        return result

    def constant(self, array: np.ndarray) -> str:
        """An initializer; its name."""
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def conv(self, x: str, outputs: int, window: int, stride: int = 1, groups: int = 1) -> str:
        """A convolution that keeps the variance of its input."""
        inputs = self.channels[x] // groups
        shape = (outputs, inputs, window, window)
        w = self.random.standard_normal(shape) * np.sqrt(2 / (inputs * window * window))
        b = self.random.standard_normal(outputs) * 0.1
        names = [self.constant(a.astype(np.float32)) for a in (w, b)]
        pads = [window // 2] * 4
        y = self.add("Conv", x, *names, kernel_shape=[window] * 2, strides=[stride] * 2, pads=pads, group=groups)
        self.channels[y] = outputs
        return y

    def relu6(self, x: str) -> str:
        """min(max(x, 0), 6)."""
        return self.add("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def classified(self, x: str, path: Path) -> None:
        """Global mean and 1000 classes; write the model."""
        pooled = self.add("Flatten", self.add("GlobalAveragePool", x))
        w = self.random.standard_normal((1000, self.channels[x])).astype(np.float32) * 0.03
        names = [self.constant(a) for a in (w, np.zeros(1000, np.float32))]
        y = self.add("Gemm", pooled, *names, transB=1)
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, 1000])],
            self.weights,
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


#: Expansion, channels, repeats, stride: Sandler et al., MobileNetV2, table 2.
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(path: Path) -> None:
    """Width 1.0 at 224 x 224: 300 M MACs."""
    net = Network()
    x = net.relu6(net.conv("x", 32, 3, 2))
    for expansion, outputs, stride in _repeated():
        inputs = net.channels[x]
        y = x if expansion == 1 else net.relu6(net.conv(x, inputs * expansion, 1))
        y = net.relu6(net.conv(y, net.channels[y], 3, stride, groups=net.channels[y]))
        y = net.conv(y, outputs, 1)
        x = net.add("Add", y, x) if stride == 1 and inputs == outputs else y
    net.classified(net.relu6(net.conv(x, 1280, 1)), path)


def _repeated() -> Iterator[tuple[int, int, int]]:
    for expansion, outputs, repeats, stride in MOBILENET_V2:
        for i in range(repeats):
            yield expansion, outputs, stride if i == 0 else 1


def resnet18(path: Path) -> None:
    """At 224 x 224: 1.8 G MACs. He et al., Deep Residual Learning, table 1."""
    net = Network()
    x = net.add("Relu", net.conv("x", 64, 7, 2))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for outputs, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            same = stride == 1 and net.channels[x] == outputs
            shortcut = x if same else net.conv(x, outputs, 1, stride)
            y = net.conv(net.add("Relu", net.conv(x, outputs, 3, stride)), outputs, 3)
            x = net.add("Relu", net.add("Add", y, shortcut))
    net.classified(x, path)


NETWORKS = {"mobilenet_v2": mobilenet_v2, "resnet18": resnet18}
