"""Pipelines that device targets share: what a graph goes through before kernels are chosen."""

from __future__ import annotations

#: What a device needs of a quantized model, its own or an imported one: integers instead of quantize and dequantize,
#: and floats where there is no integer form.
INTEGERS = "fold-quantization,dequantize-constants,simplify,dead-channels"
#: The lowering of every target that executes integers, none of which has floats of 16 bits; target `onnx` writes both
#: as they are.
DEVICE = f"widen,{INTEGERS},decompose,layout{{to=nhwc}},simplify,group"
