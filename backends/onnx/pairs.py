"""Quantized values that are moved between DequantizeLinear and a layer in floats get a pair behind the movement.

ONNX Runtime puts that pair there itself. From operator set 21 on the pair says its element type, and on x86, where
int8 then becomes uint8, the type that it said is forgotten: the model does not load (seen in 1.32). A pair of the same
scale changes no bit: what is dequantized, moved and quantized again are the integers that there were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

#: From this operator set on QuantizeLinear says its element type.
SINCE = 21
#: What ONNX Runtime moves quantization through.
MOVEMENTS = frozenset({"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


def with_pairs(nodes: Sequence[gs.Node], outputs: Sequence[Any], name: Callable[[str], str]) -> list[gs.Node]:
    """The nodes, with the pairs that are missing. outputs: tensors of the graph; name: makes a name unique."""
    made: list[gs.Node] = []
    scales: dict[str, list[Any]] = {}
    for node in nodes:
        made.append(node)
        if node.op == "DequantizeLinear" and _is_whole(node):
            scales[node.outputs[0].name] = list(node.inputs[1:])
        elif node.op in MOVEMENTS and (given := scales.get(node.inputs[0].name)) is not None:
            scales[node.outputs[0].name] = given
            if _lacks_pair(node, outputs):
                made += _pair(node, given, name)
    return made


def _is_whole(node: gs.Node) -> bool:
    """Whether it dequantizes int8 by one scale."""
    zero = node.inputs[2] if len(node.inputs) == 3 else None
    return zero is not None and zero.dtype == np.int8 and not zero.shape


def _lacks_pair(node: gs.Node, outputs: Sequence[Any]) -> bool:
    """Whether nobody quantizes what was moved, and somebody computes with it."""
    users = {user.op for user in node.outputs[0].outputs}
    public = any(y is node.outputs[0] for y in outputs)
    return "QuantizeLinear" not in users and (public or not users <= MOVEMENTS)


def _pair(node: gs.Node, scale: list[Any], name: Callable[[str], str]) -> list[gs.Node]:
    """A pair that takes over the result of a movement, under its name."""
    import onnx_graphsurgeon as gs

    moved = node.outputs[0]
    inner, integers = (
        gs.Variable(name(f"{moved.name}_{role}"), dtype=dtype, shape=moved.shape)
        for role, dtype in (("moved", moved.dtype), ("quantized", scale[1].dtype))
    )
    node.outputs[0] = inner
    return [
        gs.Node("QuantizeLinear", inputs=[inner, *scale], outputs=[integers]),
        gs.Node("DequantizeLinear", inputs=[integers, *scale], outputs=[moved]),
    ]
