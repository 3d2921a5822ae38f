"""The way out to ONNX: any float or quantized (QDQ) graph as a standard model."""
