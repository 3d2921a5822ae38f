"""A double of ONNX Runtime for chains of dense layers, whose sums of products of uint8 and int8 saturate, or not.

Without optimizations, and where more precision is asked for, each layer is computed in floats, as QDQ says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from planish.backends.onnx.session import PLAIN, Settings
from planish.ir.types import Array
from tests.support.integers import exact_sums, saturated_sums

PRECISE = ("session.x64quantprecision", "1")


def session(saturating: bool) -> Any:
    """What to put in the place of `backends.onnx.session.session`."""

    def opened(model: Path | bytes, settings: Settings = PLAIN) -> Double:
        content = model if isinstance(model, bytes) else model.read_bytes()
        optimized = settings.by_default and PRECISE not in settings.entries
        return Double(onnx.load_from_string(content), optimized, saturating)

    return opened


@dataclass
class Double:
    """A session: `run`, as ONNX Runtime's."""

    model: onnx.ModelProto
    optimized: bool
    saturating: bool

    def run(self, names: list[str], feeds: dict[str, Array]) -> list[Array]:
        values = {t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer} | feeds
        made = {y: node for node in self.model.graph.node for y in node.output}
        for node in self.model.graph.node:
            values[node.output[0]] = self.computed(node, [values[x] for x in node.input if x], made, values)
        return [values[name] for name in names]

    def computed(self, node: Any, operands: list[Array], made: dict[str, Any], values: dict[str, Array]) -> Array:
        x, *others = operands
        match node.op_type:
            case "QuantizeLinear":
                scale, zero = others
                limits = np.iinfo(zero.dtype)
                return (np.rint(x / scale) + zero).clip(limits.min, limits.max).astype(zero.dtype)
            case "DequantizeLinear":
                scale, zero = (v.reshape(-1, *(1,) * (x.ndim - 1)) if v.ndim else v for v in others)
                return ((x.astype(np.int64) - zero) * scale.astype(np.float64)).astype(np.float32)
            case "MatMulInteger":
                return self.sums(x, others[0])
            case "Relu":
                return np.maximum(x, 0)
            case "Gemm" if self.optimized:
                (a, sa, za), (w, sw, _) = ([values[v] for v in made[x].input] for x in node.input[:2])
                unsigned = (a.astype(np.int64) + 128).astype(np.uint8)
                products = self.sums(unsigned, w.T) - (za.astype(np.int64) + 128) * w.astype(np.int64).sum(axis=1)
                return (products * (sa * sw) + (others[1] if len(others) > 1 else 0)).astype(np.float32)
            case "Gemm":
                product = x.astype(np.float64) @ others[0].T + (others[1] if len(others) > 1 else 0)
                return product.astype(np.float32)
        raise NotImplementedError(node.op_type)

    def sums(self, a: Array, b: Array) -> Array:
        """a @ b of uint8 [M,K] and int8 [K,N], as this runtime adds them up here."""
        total: Array = (saturated_sums if self.optimized and self.saturating else exact_sums)(a, b)
        return total
