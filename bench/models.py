"""The twelve models that the benchmarks run on, in the folder that PLANISH_MODELS names, and the data of each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Benchmark:
    """A model file and its data, as `planish` takes them: paths of `.npz` files or `random:lo,hi`."""

    name: str
    file: str
    calibration: str
    evaluation: str

    @property
    def has_labels(self) -> bool:
        """Whether the evaluation data says what the answers are."""
        return not self.evaluation.startswith("random:")

    def path(self) -> Path:
        """The model file."""
        return folder() / self.file

    def data(self, text: str) -> str:
        """Calibration or evaluation data with its path made whole."""
        return text if text.startswith("random:") else str(folder() / text)


def folder() -> Path:
    """The folder of models; ends the program with a message where there is none."""
    path = os.environ.get("PLANISH_MODELS")
    if not path or not Path(path).is_dir():
        sys.exit("set PLANISH_MODELS to the folder that holds the models")
    return Path(path)


def _measured(name: str) -> Benchmark:
    return Benchmark(name, f"{name}/model.onnx", f"{name}/calib.npz", f"{name}/eval.npz")


def _drawn(name: str, interval: str) -> Benchmark:
    return Benchmark(name, f"{name}/model.onnx", f"random:{interval}", f"random:{interval}")


def _digits(name: str) -> Benchmark:
    return Benchmark(f"digits_{name}", f"digits/{name}.onnx", "digits/calib.npz", "digits/eval.npz")


#: Models without data are calibrated and run on their documented random range: good for exactness, never for accuracy.
BENCHMARKS: tuple[Benchmark, ...] = (
    _measured("keypoint_mlp"),
    _measured("kws_dscnn"),
    _measured("mnist_cnn_cntk"),
    _drawn("ic_resnet8", "0,255"),
    _drawn("ad_autoencoder", "-80,20"),
    _drawn("sr_espcn_x3", "0,1"),
    _drawn("ic_resnet20_torch", "-2.2,2.7"),
    _digits("dscnn"),
    _digits("dscnn_relu"),
    _digits("dscnn_bad1"),
    _digits("dscnn_bad15"),
    _digits("resnet"),
)


def chosen(names: list[str]) -> list[Benchmark]:
    """The benchmarks of these names, or all; ends the program for a name that there is not."""
    unknown = sorted(set(names) - {b.name for b in BENCHMARKS})
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(b.name for b in BENCHMARKS)}")
    return [b for b in BENCHMARKS if not names or b.name in names]
