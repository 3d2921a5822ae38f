"""A model in a session as users of ONNX Runtime open it: optimized. What it does there to a quantized model is said.

ONNX Runtime makes one integer layer of what stands between DequantizeLinear and QuantizeLinear. On x86 processors with
AVX2 and without VNNI its kernels add two products of uint8 and int8 in 16 bits, which saturate: 255 * 127 twice is
64,770. int8 activations become uint8 before, so they saturate as well. Whether they do on this processor is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...ir.errors import VerificationError
from ...ir.graph import Graph
from ...ir.ops.quant import Dequantize
from ...ir.types import I8, Array
from ...runtime.oracle import sqnr_db
from ...runtime.target import Customary
from . import session
from .session import Settings

#: A remedy counts when it takes away three quarters of the noise: in dB.
GAIN = 6.0
#: Two products with a weight up to here fit into 16 bits.
HARMLESS = 64


@dataclass(frozen=True)
class Remedy:
    """A configuration entry that makes results exact again; why they are not without, and what else helps."""

    entry: tuple[str, str]
    applies: Callable[[], bool]
    why: str
    otherwise: str


REMEDIES = (
    Remedy(
        ("session.x64quantprecision", "1"),
        lambda: saturates(),  # noqa: PLW0108 - it stands below
        "sums of products of uint8 and int8 saturate on this processor",
        "quantize{weights=int7}, whose weights cannot make them",
    ),
    Remedy(
        ("session.qdq_matmulnbits_accuracy_level", "1"),
        lambda: True,
        "it quantizes the activations of layers whose weights alone are quantized",
        "quantize activations, too",
    ),
)


def customary(path: Path, graph: Graph, inputs: Mapping[str, Array], expected: Mapping[str, Array]) -> Customary:
    """The model's outputs in a default session, beside those expected; remarks where they are further from them."""
    names = list(graph.output_names)
    how = f"in a default session of {version()}"
    try:
        outputs = session.run_batch(path, inputs, names, Settings(by_default=True))
    except VerificationError as error:
        return Customary(how, None, ("; ".join((error.what, *error.details[:1])),))
    if not largest_weight(graph):
        return Customary(how, outputs)
    near = closeness(expected, outputs)
    for remedy in REMEDIES:
        if near < np.inf and remedy.applies():
            settings = Settings(by_default=True, entries=(remedy.entry,))
            try:
                nearer = closeness(expected, session.run_batch(path, inputs, names, settings))
            except VerificationError:
                continue
            if nearer >= near + GAIN and nearer > near:  # both may be -inf
                setting = "=".join(remedy.entry)
                return Customary(
                    how, outputs, (f"{remedy.why}; {setting} restores the outputs, or {remedy.otherwise}",)
                )
    if largest_weight(graph) > HARMLESS and not saturates():
        warning = "x86 processors with AVX2 and without VNNI saturate where this one is exact"
        return Customary(
            how, outputs, (f"{warning}; there session.x64quantprecision=1 or quantize{{weights=int7}} helps",)
        )
    return Customary(how, outputs)


def version() -> str:
    """ONNX Runtime and its version."""
    import onnxruntime as ort

    return f"ONNX Runtime {ort.__version__}"


def closeness(expected: Mapping[str, Array], outputs: Mapping[str, Array]) -> float:
    """SQNR in dB of the output that is furthest away."""
    return min((sqnr_db(array, outputs[name]) for name, array in expected.items()), default=np.inf)


def largest_weight(graph: Graph) -> int:
    """The largest magnitude of constants that are dequantized from int8; 0 where there are none."""
    found = [0]
    for node in graph.nodes:
        for inner in (node, *(n for body in node.op.bodies() for n in body.nodes)):
            data = inner.operands[0].const if isinstance(inner.op, Dequantize) else None
            if data is not None and data.dtype == I8.numpy:
                found.append(int(np.abs(data.astype(np.int64)).max(initial=0)))
    return max(found)


def saturates() -> bool:
    """Whether ONNX Runtime saturates here: the sum of two products of the extremes, whose value is known."""
    import onnx
    from onnx import TensorProto, helper

    activations, weights = np.full((1, 4), 255, np.uint8), np.full((4, 1), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "w"], ["y"])], "extremes",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, activations.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])], [onnx.numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    probe = session.session(model.SerializeToString(), Settings(by_default=True))
    (found,) = probe.run(["y"], {"a": activations})
    return bool(found != activations.astype(np.int64) @ weights.astype(np.int64))
