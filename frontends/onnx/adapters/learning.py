"""Of the domain ai.onnx.ml what is arithmetic: the preparation of features, as converters of scikit-learn write it."""

from __future__ import annotations

import numpy as np

from ....ir.graph import Value
from ....ir.ops.elementwise import mul, sub
from ..source import Adapter, SourceNode


def scaler(node: SourceNode) -> Value:
    x = node.value(0)
    if not x.type.dtype.is_float:
        raise node.unsupported(f"features of type {x.type.dtype}", fix="convert the model for float inputs")
    offset, scale = (np.array(node.reals(name) or (), x.type.dtype.numpy) for name in ("offset", "scale"))
    columns = x.type.shape[-1] if x.type.rank else 1
    if any(v.size not in (1, columns) for v in (offset, scale)):
        raise node.broken(f"{offset.size} offsets and {scale.size} scales for {x.type}")
    centred: Value = sub(x, node.constant(offset))
    return mul(centred, node.constant(scale))


TABLE: dict[str, Adapter] = {"Scaler": scaler}
