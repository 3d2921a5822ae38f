"""Versions of operator sets, and where operators that planish does not know come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir.errors import ModelError, UnsupportedError
from ...ir.graph import Value
from .adapters import DOMAINS, taken_of
from .reader import shown
from .source import SourceNode
from .topology import AGAIN

if TYPE_CHECKING:
    import onnx

#: Of domains that are not ONNX's: who writes their operators, and what gives a model without them.
VENDORS: Mapping[str, tuple[str, str]] = {
    "com.microsoft": (
        "an operator of ONNX Runtime, whose optimizer and quantizer write it",
        "give the model as it was before ONNX Runtime optimized it; or quantize it in format QDQ",
    ),
    "com.microsoft.nchwc": (
        "an operator of ONNX Runtime in a layout of this processor",
        "give the model as it was before ONNX Runtime optimized it",
    ),
    "com.ms.internal.nhwc": (
        "an operator inside ONNX Runtime", "give the model as it was before ONNX Runtime optimized it",
    ),
    "ai.onnx.ml": (
        "an operator of classical machine learning (trees, encoders, labels)",
        "cut the model where the network ends, and do this step outside",
    ),
    "ai.onnx.preview.training": ("an operator of training", "export the model for inference"),
    "ai.onnx.training": ("an operator of training", "export the model for inference"),
    "ai.onnx.contrib": (
        "an operator of onnxruntime-extensions (texts, images, audio)",
        "export the model without pre- and post-processing",
    ),
    "ai.onnx.preview": ("a preview operator of ONNX", "export the model with standard operators"),
    "org.pytorch.aten": (
        "an operator of PyTorch that the exporter did not convert", "export with torch.onnx.export(dynamo=True)",
    ),
    "pkg.onnxscript.torch_lib": (
        "a function of PyTorch's exporter whose body the file lacks", "export the model with its functions",
    ),
    "qonnx.custom_op.general": (
        "an operator of QONNX, which Brevitas writes", "export from Brevitas in format QCDQ",
    ),
    "mmdeploy": ("an operator of OpenMMLab's deployment tools", "export without its plugins"),
}  # fmt: skip


@dataclass(frozen=True)
class Opsets:
    """Versions of the operator sets that a model uses, by domain; the domain of ONNX's own operators is empty."""

    versions: Mapping[str, int]

    @staticmethod
    def of(model: onnx.ModelProto) -> Opsets:
        """Raises UnsupportedError for a version of ONNX's operators that planish does not know."""
        import onnx

        versions = {domain_of(e): e.version for e in model.opset_import}
        newest = onnx.defs.onnx_opset_version()
        if not 1 <= versions.get("", 1) <= newest:
            raise UnsupportedError(
                f"the model uses operator set {versions['']}; planish knows 1 to {newest}",
                fix="convert it with onnx.version_converter, or export it with another opset_version",
            )
        return Opsets(versions)

    def version(self, node: onnx.NodeProto) -> int:
        """The version of a node's domain. Raises ModelError where it must be said and is not."""
        domain = domain_of(node)
        if domain == "" and domain not in self.versions:
            raise ModelError(
                "the model does not say which version of ONNX's operators it uses",
                where=f"node {shown(node.name)}, {shown(node.op_type)}", fix=AGAIN,
            )  # fmt: skip
        return self.versions.get(domain, DOMAINS.get(domain, 1))


def domain_of(entry: onnx.NodeProto | onnx.OperatorSetIdProto) -> str:
    """The domain; empty for ONNX's own, which has two names."""
    return "" if entry.domain == "ai.onnx" else entry.domain


def element_types_fit(node: SourceNode) -> bool:
    """Whether ONNX's own operator accepts the element types of the operands: each, and where it says so, all alike."""
    import onnx
    from onnx import helper

    try:
        schema = onnx.defs.get_schema(node.proto.op_type, node.opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    chosen: dict[str, str] = {}
    for i, operand in enumerate(node.operands):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        if not isinstance(operand, Value):
            continue
        spelled = helper.tensor_dtype_to_string(helper.np_dtype_to_tensor_dtype(operand.type.dtype.numpy))
        text = f"tensor({spelled.removeprefix('TensorProto.').lower()})"
        name = formal.type_str
        if text not in allowed.get(name, {name}):
            return False
        if name in allowed and formal.is_homogeneous and chosen.setdefault(name, text) != text:
            return False
    return True


def unknown(domain: str, op_type: str) -> str:
    """Why there is no adapter for an operator, and what would help."""
    import onnx

    if domain == "" and op_type in ("Loop", "Scan"):
        return "loops are not supported; export the model with its control flow unrolled"
    known = taken_of(domain)
    taken = f"; of domain {shown(domain)} planish takes {', '.join(known)}" if known else ""
    if domain in VENDORS:
        kind, fix = VENDORS[domain]
        return f"{kind}, which is not supported{taken}; {fix}"
    if domain != "":
        return (
            f"operators of domain {shown(domain)} are not supported, and the model has no function that defines this "
            f"one{taken}; export it with standard operators, or install a package that brings it (docs/extending.md)"
        )
    if not onnx.defs.has(op_type):
        return "not an ONNX operator"
    return "this operator is not supported, unless a package brings it (docs/extending.md)"
