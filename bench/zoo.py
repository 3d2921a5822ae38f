"""Models for the simplifier bench: architectures x exporters x operator sets, with random weights, from PyPI packages.

    python bench/zoo.py FOLDER [NAME ...]

Needs the extra `bench`. A name says the architecture (bench/architectures.py), the exporter and the operator set:
`ts` is TorchScript, `dyn` dynamo, `raw` dynamo without its optimizer, `skl` skl2onnx. Batch
statistics are not trivial, so that a normalization that is folded wrongly is seen. Files that are there stay.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from architectures import ARCHITECTURES

#: Architecture, exporter, operator set.
EXPORTED = """
    resnet18 ts 11, resnet18 dyn 18, mobilenet_v3 ts 13, mobilenet_v3 raw 18, efficientnet_b0 ts 17,
    efficientnet_b0 dyn 20, squeezenet ts 11, densenet121 ts 13, densenet121 raw 18, googlenet ts 17,
    inception_v3 raw 20, mnasnet ts 11, mnasnet raw 23, regnet_y dyn 18, convnext ts 17, convnext raw 20, swin
    ts 17, swin dyn 20, vit ts 14, vit dyn 23, mixer ts 17, mixer raw 20, ghostnet ts 11, repvgg raw 18,
    poolformer ts 17, hrnet ts 13, bert ts 17, bert dyn 20, distilbert raw 23, gpt ts 17, gpt dyn 20, lstm ts
    11, gru ts 13, gru raw 20, unet_deconv ts 11, unet_deconv raw 18, unet_nearest ts 13, unet_bilinear ts 17,
    detector ts 11, detector raw 18, espcn ts 11, espcn dyn 23, keyword ts 13, keyword raw 20
"""


def exported(architecture: str, exporter: str, opset: int) -> Callable[[Path], None]:
    """What PyTorch writes."""

    def write(path: Path) -> None:
        import torch

        torch.manual_seed(0)
        model, example = ARCHITECTURES[architecture]()
        with torch.no_grad():
            for vector in (*model.parameters(), *model.buffers()):  # scales, biases and statistics that do something
                if vector.ndim == 1 and vector.is_floating_point():
                    vector.add_(torch.empty_like(vector).uniform_(-0.2, 0.2))
        options: dict[str, Any] = {"input_names": ["x"], "opset_version": opset}
        if exporter == "ts":
            options["dynamo"] = False
        else:
            options |= {"dynamo": True, "optimize": exporter == "dyn", "external_data": False, "verbose": False}
        torch.onnx.export(model.eval(), (example,), path, **options)

    return write


def perceptron(path: Path) -> None:
    """A scaler and a multilayer perceptron of scikit-learn, as skl2onnx writes them."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    x, y = random.standard_normal((64, 10)).astype(np.float32), random.standard_normal(64)
    model = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(32, 16), max_iter=5, random_state=0)).fit(
        x, y
    )
    path.write_bytes(to_onnx(model, x[:1], target_opset=17).SerializeToString())


MODELS = {
    f"{architecture}.{exporter}{opset}": exported(architecture, exporter, int(opset))
    for architecture, exporter, opset in (entry.split() for entry in EXPORTED.split(","))
} | {"perceptron.skl17": perceptron}


def main() -> None:
    """Write those that are missing. Status 1 where an exporter fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="parts of names; default: all")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    failed = []
    for name, write in MODELS.items():
        path = options.folder / f"{name}.onnx"
        if path.exists() or (options.names and not any(part in name for part in options.names)):
            continue
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # exporters talk
                write(path)
        except Exception as error:  # noqa: BLE001 - exporters fail in many ways; the others go on
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:200]}", file=sys.stderr)
            path.unlink(missing_ok=True)
            failed.append(name)
    sys.exit(f"not written: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
