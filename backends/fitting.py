"""Whether a model fits a device, and what helps where it does not."""

from __future__ import annotations

from ..ir.errors import DoesNotFitError
from ..ir.graph import Graph
from ..runtime.target import Artifact, Limits


def remedies(graph: Graph) -> str:
    """What makes the model smaller, of what has not been done."""
    weights = [v for node in graph.nodes for v in node.operands if v.const is not None and v.type.size > 1]
    floats = sum(v.type.nbytes for v in weights if v.type.dtype.is_float)
    is_float = 2 * floats > sum(v.type.nbytes for v in weights)
    has_batch = any(v.type.rank > 1 and v.type.shape[0] != 1 for v in graph.inputs)
    possible = [
        "--quantize int8 (a quarter of float)" * is_float,
        "a smaller batch (--dim)" * has_batch,
        "a smaller input or model",
        "a device with more memory",
    ]
    return ", or ".join(text for text in possible if text)


def require_flash(artifact: Artifact, limits: Limits) -> str | None:
    """Raise DoesNotFitError where the flash of an artifact is beyond the limit; a remark where an estimate is close."""
    if limits.flash is None:
        return None
    needed, error = artifact.facts.get("flash_bytes", 0), artifact.facts.get("flash_error", 0.0)
    if needed > limits.flash:
        about = f"about {needed} bytes (within {error:.0%})" if error else f"{needed} bytes"
        parts = f"constants {artifact.facts['constant_bytes']} bytes, code {artifact.facts['code_bytes']} bytes"
        raise DoesNotFitError(
            f"the model needs {about} of flash on {artifact.target}, {limits.flash} are there",
            fix=remedies(artifact.graph),
            details=(parts, *_largest(artifact)),
        )
    if error and needed * (1 + error) > limits.flash:
        return (
            f"flash is estimated at {needed} of {limits.flash} bytes, within {error:.0%}: it may not fit; "
            "with the cross compiler installed (`planish targets`) it is measured"
        )
    return None


def _largest(artifact: Artifact) -> list[str]:
    """The layers with the most constants."""
    rows = sorted((layer for layer in artifact.layers if layer.constant_bytes), key=lambda layer: -layer.constant_bytes)
    return [f"{row.name}: {row.constant_bytes} bytes of constants, from {row.source}" for row in rows[:3]]
