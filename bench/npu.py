"""Every model on the NPUs: exact, and how many cycles beside Vela's estimates for Ethos-U55.

    python bench/npu.py [MODEL ...] [--targets npu:256 npu:64] [--samples 10] [--layers] [--out bench/results/npu.json]

Each model is compiled and simulated, every output byte compared with the interpreter's. Ends with status 1 when
anything differs, or when the analytic model is further than 5 % from the simulator in any layer. `--layers` prints
every layer's distance to its bound.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from exactness import planish
from models import Benchmark, chosen

#: What is printed of each layer.
PRINTED = ("name", "tiling", "cycles", "bound", "limit")
#: Vela 5.2.0's own estimates at 500 MHz: Sram_Only, and Shared_Sram with constants in flash.
VELA = {
    ("ic_resnet8", "npu:256"): 107_151,
    ("kws_dscnn", "npu:256"): 56_222,
    ("ad_autoencoder", "npu:256"): 40_929,
    ("ic_resnet8", "npu:256@shared-sram"): 141_933,
    ("kws_dscnn", "npu:256@shared-sram"): 58_340,
    ("ad_autoencoder", "npu:256@shared-sram"): 201_184,
    ("ic_resnet8", "npu:128"): 184_083,
    ("kws_dscnn", "npu:128"): 87_678,
    ("ad_autoencoder", "npu:128"): 40_929,
    ("ic_resnet8", "npu:32"): 703_122,
    ("kws_dscnn", "npu:32"): 264_239,
    ("ad_autoencoder", "npu:32"): 41_362,
}


def measure(benchmark: Benchmark, target: str, samples: int, build: Path) -> dict[str, Any]:
    """Compile one model for one target and verify it."""
    options = [str(benchmark.path()), "--target", target, "-o", str(build), "--quantize", "int8"]
    options += ["--calib", benchmark.data(benchmark.calibration)]
    if benchmark.name.startswith("digits"):
        options += ["--dim", "N=1"]
    start = time.perf_counter()
    compiled = planish("compile", *options)
    compiling = time.perf_counter() - start
    if "error" in compiled:
        return {"error": compiled["error"], "passed": False}
    facts = compiled["facts"]
    start = time.perf_counter()
    verdict = planish("verify", str(build), "--data", benchmark.data(benchmark.evaluation), "--samples", str(samples))
    verifying = time.perf_counter() - start
    gap = max((abs(r["cycles"] - r["modelled"]) / max(r["cycles"], 1) for r in facts["profile"]), default=0.0)
    kept = ("cycles", "bound_cycles", "utilisation", "energy_nj", "arena_bytes", "instructions", "host_bytes")
    return {
        "passed": bool(verdict["exact"]) and gap <= 0.05,
        "exact": verdict["exact"],
        "samples": verdict["samples"],
        **{key: facts[key] for key in kept},
        "host_steps": len(facts["host_steps"]),
        "host_instructions": facts["host"]["instructions"],
        "microseconds": facts["total_microseconds"],
        "model_gap": round(gap, 4),
        "compile_s": round(compiling, 1),
        "verify_s": round(verifying, 1),
        "layers": [{key: row[key] for key in PRINTED} for row in facts["profile"]],
    }


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    head = f"{row['model']:18} {row['target']:19}"
    if "error" in row:
        return f"{head} {row['error']}"
    peer = VELA.get((row["model"], row["target"]))
    ratio = f"{row['cycles'] / peer:5.2f} of Vela" if peer else ""
    word = "exact" if row["exact"] else "DIFFERENT"
    return (
        f"{head} {word:9} {row['samples']:>3} samples {row['cycles']:>10,} cycles "
        f"{row['cycles'] / row['bound_cycles']:5.2f} of bound "
        f"{row['utilisation']:6.1%} used, model off {row['model_gap']:.1%}, {row['host_steps']} on host: "
        f"{_figure(row['host_instructions'])} instructions, {_figure(row['microseconds'])} us in all, "
        f"compiled in {row['compile_s']} s, verified in {row['verify_s']} s {ratio}"
    )


def _figure(number: float | None) -> str:
    return "?" if number is None else f"{number:,}"


def layers(row: dict[str, Any]) -> str:
    """A line per layer: cycles, bound, and how far from it."""
    return "\n".join(
        f"    {r['cycles']:>9,} cycles, bound {r['bound']:>9,} ({r['limit']}), "
        f"{r['cycles'] / max(r['bound'], 1):5.2f} of it: {r['tiling']}"
        for r in row.get("layers", ())
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--targets", nargs="+", default=["npu:256", "npu:64"])
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for benchmark in chosen(options.models):
        for target in options.targets:
            with tempfile.TemporaryDirectory() as scratch:
                figures = measure(benchmark, target, options.samples, Path(scratch) / "build")
            rows.append({"model": benchmark.name, "target": target, **figures})
            print(line(rows[-1]), flush=True)
            if options.layers:
                print(layers(rows[-1]), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(0 if all(row["passed"] for row in rows) else 1)


if __name__ == "__main__":
    main()
