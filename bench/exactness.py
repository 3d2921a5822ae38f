"""Every model, on every executor: is the compiled program what the interpreter says?

    PLANISH_MODELS=... python bench/exactness.py [MODEL ...] [--samples 20] [--target c ...]

int8: the interpreter against the program on this host, on emulated Cortex-M4, M55 and aarch64, and on the simulated
NPU, every output byte. float, and the ONNX files, which ONNX Runtime runs: within the tolerance of the oracle, and
quantized layers within one step. Prints a table; ends with status 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from models import Benchmark, chosen

RUNS = (
    ("c", "int8"), ("cortex-m4", "int8"), ("cortex-m55", "int8"), ("c", "float"),
    ("tvm", "int8"), ("tvm:aarch64-linux", "int8"), ("tvm", "float"), ("tvm:aarch64-linux", "float"),
    ("onnx", "int8"), ("onnx", "float"), ("npu:256", "int8"), ("npu:64", "int8"),
)  # fmt: skip
FIGURES = ("exact", "passed", "samples", "instructions", "arena_bytes", "stack_bytes", "flash_bytes", "sqnr_db")


def planish(*arguments: str) -> Any:
    """One run of the command line; its JSON, or the end of the program with its message."""
    command = [sys.executable, "-m", "planish", "--json", *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if not finished.stdout:
        sys.exit(f"{' '.join(arguments)}\n{finished.stderr}")
    return json.loads(finished.stdout)


def measure(benchmark: Benchmark, target: str, arithmetic: str, samples: int, build: Path) -> dict[str, Any]:
    """Compile one model for one target and verify it."""
    options = [str(benchmark.path()), "--target", target, "-o", str(build)]
    if benchmark.name.startswith("digits"):
        options += ["--dim", "N=1"]
    if arithmetic == "int8":
        options += ["--quantize", "int8", "--calib", benchmark.data(benchmark.calibration)]
    compiled = planish("compile", *options)
    if "error" in compiled:
        return {"error": compiled["error"]}
    verdict = planish("verify", str(build), "--data", benchmark.data(benchmark.evaluation), "--samples", str(samples))
    return {"flags": compiled["facts"].get("flags"), **{key: verdict.get(key) for key in FIGURES}}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--target", action="append", choices=sorted({target for target, _ in RUNS}))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print("| model | arithmetic | target | outputs | samples | instructions | arena | stack | flash |")
    print("|---|---|---|---|---|---|---|---|---|")
    for benchmark in chosen(options.models):
        for target, arithmetic in RUNS:
            if options.target and target not in options.target:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                figures = measure(benchmark, target, arithmetic, options.samples, Path(scratch) / "build")
            rows.append({"model": benchmark.name, "target": target, "arithmetic": arithmetic, **figures})
            print(line(rows[-1]), flush=True)
    sys.exit(0 if all(row.get("passed") for row in rows) else 1)


def line(row: dict[str, Any]) -> str:
    """One row of the table; bytes and instructions are per inference."""
    head = f"| {row['model']} | {row['arithmetic']} | {row['target']} |"
    if "error" in row:
        return f"{head} {row['error']['what']} |"
    word = "exact" if row["exact"] else "within tolerance" if row["passed"] else "DIFFERENT"
    figures = (row["samples"], row["instructions"], row["arena_bytes"], row["stack_bytes"], row["flash_bytes"])
    return f"{head} {word} | " + " | ".join("-" if n is None else f"{n:,}" for n in figures) + " |"


if __name__ == "__main__":
    main()
