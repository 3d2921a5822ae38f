"""One small function per ONNX operator: it reads a `SourceNode` and answers with values made by the op builders.

To support another operator, write its function in the file where it belongs and add it to that file's table.
"""

from __future__ import annotations

from ..source import Adapter
from . import arithmetic, attention, dims, layers, learning, linear, movement, pooling, quantized, reductions, resizing

#: Operator domains, and the version taken where a model does not say.
DOMAINS: dict[str, int] = {"": 1, "com.microsoft": 1, "ai.onnx.ml": 1}

#: Operators that stand although all their operands are constants: a dequantized weight is not a float weight.
KEPT = quantized.KEPT

ADAPTERS: dict[tuple[str, str], Adapter] = {
    **{("", name): adapter for table in (
        arithmetic.TABLE, linear.TABLE, pooling.TABLE, reductions.TABLE, movement.TABLE, resizing.TABLE, dims.TABLE,
        layers.TABLE, attention.TABLE, quantized.TABLE,
    ) for name, adapter in table.items()},
    **{("com.microsoft", name): adapter for name, adapter in quantized.MICROSOFT.items()},
    **{("ai.onnx.ml", name): adapter for name, adapter in learning.TABLE.items()},
}  # fmt: skip
