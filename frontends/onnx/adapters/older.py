"""Operator sets 1 to 6: what their operators wrote in another way is put as the newer ones have it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ....ir.builder import const_value
from ....ir.graph import Value
from ..source import Adapted, Adapter, SourceNode
from .movement import reshaped

#: From this operator set on operands broadcast as in NumPy, and nothing below is needed.
NEWER = 7

Rewrite = Callable[[SourceNode], None]


def _inference(node: SourceNode) -> None:
    """`is_test` chose between training and inference; its default is training."""
    if not node.integer("is_test", 0):
        raise node.unsupported("training mode (is_test=0) is not supported", fix="export the model for inference")


def _aligned(node: SourceNode) -> None:
    """Operand 1 of a binary operator lies along the axes of operand 0 from `axis` on; without one, along the last."""
    a, b = node.value(0), node.value(1)
    axis = node.integer("axis", a.type.rank - b.type.rank)
    if not node.integer("broadcast", 0):
        if a.type.shape != b.type.shape:
            raise node.broken(f"{a.type} and {b.type} differ, and broadcast is 0")
        return
    start = node.axis(axis, a.type.rank) if axis != a.type.rank else axis
    if start + b.type.rank > a.type.rank:
        raise node.broken(f"{b.type} does not fit into {a.type} from axis {start} on")
    trailing = a.type.rank - start - b.type.rank
    node.operands[1] = _placed(b, trailing)


def _slope(node: SourceNode) -> None:
    """A vector of slopes has one for each channel."""
    x, slope = node.value(0), node.value(1)
    if slope.type.rank == 1 and slope.type.shape != (1,):
        node.operands[1] = _placed(slope, max(0, x.type.rank - 2))


def _placed(value: Value, trailing: int) -> Value:
    """The value with further axes of one element behind its own."""
    shape = (*value.type.shape, *(1,) * trailing)
    if value.const is None:
        return reshaped(value, shape)
    return const_value(np.reshape(value.const, (*value.const.shape, *(1,) * trailing)), value.name)


def _shape(node: SourceNode) -> None:
    if node.opset < 5:
        node.operands.append(const_value(np.array(node.integers("shape") or (), np.int64)))


def _pads(node: SourceNode) -> None:
    if node.opset < 2:
        node.rename("paddings", "pads")


def _scales(node: SourceNode) -> None:
    """Upsample-1 has one scale for rows and one for columns."""
    from onnx import helper

    scales = [1.0, 1.0, node.real("height_scale", 0.0), node.real("width_scale", 0.0)]
    node.give(helper.make_attribute("scales", scales))


def _cast(node: SourceNode) -> None:
    """The element type by its name."""
    from onnx import TensorProto, helper

    if node.opset < 6:
        name = node.text("to", "").upper()
        if name not in TensorProto.DataType.keys():  # noqa: SIM118 - not a dict
            raise node.broken(f"there is no element type {name!r}")
        node.give(helper.make_attribute("to", TensorProto.DataType.Value(name)))


def _tile(node: SourceNode) -> None:
    """Tile-1 repeats along one axis: operands 1 and 2 are how often, and which."""
    if node.opset < 6:
        x, tiles, axis = node.value(0), node.array(1), node.array(2)
        if tiles is None or axis is None or tiles.size != 1 or axis.size != 1:
            raise node.broken("tiles and axis are single numbers")
        repeats = np.ones(x.type.rank, np.int64)
        repeats[node.axis(int(axis.reshape(-1)[0]), x.type.rank)] = int(tiles.reshape(-1)[0])
        node.operands[1:] = [const_value(repeats)]


def _concat(node: SourceNode) -> None:
    from onnx import helper

    if node.opset < 4 and not node.has("axis"):
        node.give(helper.make_attribute("axis", 1))


REWRITES: dict[str, Rewrite] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"), _aligned),
    "BatchNormalization": _inference, "Dropout": _inference, "PRelu": _slope, "Reshape": _shape, "Pad": _pads,
    "Upsample": _scales, "Cast": _cast, "Tile": _tile, "Concat": _concat,
}  # fmt: skip


def older(adapter: Adapter) -> Adapter:
    """The adapter for nodes of an operator set before NEWER."""

    def adapt(node: SourceNode) -> Adapted:
        newer = node.on(list(node.operands))
        # What may be overwritten, where the result of Gemm broadcasts, and which results a recurrent layer writes.
        newer.ignore("consumed_inputs", *_OBSOLETE.get(node.proto.op_type, ()))
        if (rewrite := REWRITES.get(node.proto.op_type)) is not None:
            rewrite(newer)
        return adapter(newer)

    return adapt


_OBSOLETE = {"Gemm": ("broadcast",), "GRU": ("output_sequence",), "LSTM": ("output_sequence",),
             "RNN": ("output_sequence",)}  # fmt: skip
