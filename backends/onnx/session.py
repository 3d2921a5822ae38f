"""ONNX Runtime, as it is asked to run: nothing optimized, one thread; or as its users run it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.errors import UsageError, VerificationError
from ...ir.types import Array


@dataclass(frozen=True)
class Settings:
    """How a session is opened. by_default: with its optimizations and threads; entries: of its configuration."""

    by_default: bool = False
    entries: tuple[tuple[str, str], ...] = ()


PLAIN = Settings()
INSTALL = "pip install planish[verify]"


def is_installed() -> bool:
    """Whether ONNX Runtime is here; it is not imported."""
    return importlib.util.find_spec("onnxruntime") is not None


class RuntimeMissing(VerificationError):
    """ONNX Runtime is not installed. Nothing is wrong with the model."""

    code = UsageError.code

    def __init__(self) -> None:
        super().__init__("onnxruntime is not installed, and runs what target onnx writes", fix=INSTALL)


def session(model: Path | bytes, settings: Settings = PLAIN) -> Any:
    """A session of a model. Raises RuntimeMissing, or VerificationError where ONNX Runtime refuses the model."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise RuntimeMissing from None
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not settings.by_default:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, value in settings.entries:
        options.add_session_config_entry(name, value)
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors have no class of their own in common
        raise VerificationError(
            f"ONNX Runtime {ort.__version__} does not load the model",
            where=model.name if isinstance(model, Path) else "",
            details=tuple(str(error).strip().splitlines()[:3]),
            fix="the model is valid ONNX; where this runtime has no kernel for it, or is older than its operator set, "
            "another --opset or keeping the layer in float may help",
        ) from None


def run_batch(
    path: Path, inputs: Mapping[str, Array], names: list[str], settings: Settings = PLAIN
) -> dict[str, Array]:
    """Outputs of these names for inputs stacked along a new first axis, stacked likewise."""
    model = session(path, settings)
    count = len(next(iter(inputs.values())))
    rows = []
    for i in range(count):
        sample = {name: np.ascontiguousarray(array[i]).reshape(array.shape[1:]) for name, array in inputs.items()}
        try:
            rows.append(model.run(names, sample))
        except Exception as error:  # noqa: BLE001 - see above
            lines = tuple(str(error).strip().splitlines()[:3])
            raise VerificationError("ONNX Runtime stopped", where=f"{path.name}, sample {i}", details=lines) from None
    return {name: np.stack([row[k] for row in rows]) for k, name in enumerate(names)}
