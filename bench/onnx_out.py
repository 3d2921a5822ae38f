"""Every model back to ONNX, float and QDQ: how many nodes went in and came out, and is it the same under ONNX Runtime?

    python bench/onnx_out.py [MODEL ...] [--samples N] [--out bench/onnx_out.md]

Runs on the whole evaluation set of a model that has one, else on `--samples` drawn inputs. Prints a table; ends with
status 1 when `planish verify` finds a difference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from exactness import planish
from models import Benchmark, chosen

HEAD = (
    "| model | opset | nodes | float: nodes | opset | verify | QDQ: nodes | opset | layers off by | samples "
    "| top-1 as the interpreter |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def measure(benchmark: Benchmark, arithmetic: str, samples: int, build: Path) -> dict[str, Any]:
    """Compile one model for target onnx and verify it; facts of the report and the verdict."""
    options = [str(benchmark.path()), "--target", "onnx", "-o", str(build)]
    if benchmark.name.startswith("digits"):
        options += ["--dim", "N=1"]
    if arithmetic == "int8":
        options += ["--quantize", "int8", "--calib", benchmark.data(benchmark.calibration)]
    compiled = planish("compile", *options)
    if "error" in compiled:
        sys.exit(f"{benchmark.name}: {compiled['error']}")
    few = [] if benchmark.has_labels else ["--samples", str(samples)]
    verdict = planish("verify", str(build), "--data", benchmark.data(benchmark.evaluation), *few)
    return {**compiled["facts"], **verdict}


def row(benchmark: Benchmark, samples: int) -> tuple[str, bool]:
    """A line of the table, and whether both passed."""
    source = onnx.load(benchmark.path(), load_external_data=False)
    opset = next(o.version for o in source.opset_import if o.domain in ("", "ai.onnx"))
    found = {}
    for arithmetic in ("float", "int8"):
        with tempfile.TemporaryDirectory() as scratch:
            found[arithmetic] = measure(benchmark, arithmetic, samples, Path(scratch) / "build")
    plain, quantized = found["float"], found["int8"]
    agreement = quantized["agreement_interpreter"]
    cells = [
        benchmark.name, opset, len(source.graph.node), plain["nodes"], plain["opset"],
        "passed" if plain["passed"] else "DIFFERENT", quantized["nodes"], quantized["opset"],
        f"{quantized['layer_steps']} steps" if quantized["passed"] else "DIFFERENT", quantized["samples"],
        "" if agreement is None else f"{100 * agreement:.2f} %",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", plain["passed"] and quantized["passed"]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines, passed = list(HEAD), True
    print("\n".join(HEAD))
    for benchmark in chosen(options.models):
        line, right = row(benchmark, options.samples)
        lines, passed = [*lines, line], passed and right
        print(line, flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(f"{TITLE}\n" + "\n".join(lines) + "\n")
    sys.exit(0 if passed else 1)


TITLE = """# ONNX out

`python bench/onnx_out.py`: nodes before and after, under ONNX Runtime with graph optimizations off. *verify* holds the
float model to the oracle's tolerance against double precision; *layers off by* is the largest difference of any
quantized layer given the interpreter's inputs to it (on 20 samples). Quantized models have a QuantizeLinear and a
DequantizeLinear behind each layer, and a DequantizeLinear on each tensor of weights.
"""


if __name__ == "__main__":
    main()
