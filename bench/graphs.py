"""Random ONNX models through planish: how many are right, unsupported, wrong, do not build, or end in a traceback.

    python bench/graphs.py [--first 0] [--count 1000] [--targets onnx,c,tvm] [--out bench/graphs.md]

`planish.testing.models` says what is drawn, `planish.testing.agreement` what is compared. Needs a C compiler, ONNX
Runtime and, for target tvm, the extra `[mobile]`.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from planish.testing.agreement import Finding, Kind, Study
from planish.testing.models import drawn_model

#: The page is written again after so many models: what was counted is not lost with the rest.
CHUNK = 50


def main() -> None:
    """Draw, execute, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--targets", default="onnx,c,tvm")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    targets = asked.targets.split(",")
    started, findings, operators = time.process_time(), list[Finding](), Counter[str]()
    for first in range(asked.first, asked.first + asked.count, CHUNK):
        study, done = Study(targets), min(CHUNK, asked.first + asked.count - first)
        for drawn in map(drawn_model, range(first, first + done)):
            operators.update(drawn.operators)
            study.add(drawn)
        study.finish()
        for fault in study.faults:
            print(f"{fault.seed} {fault.stage}: {fault.kind.value}: {fault.why}", flush=True)
        findings += study.findings
        page = written(findings, operators, asked.first, first + done - asked.first)
        if asked.out:
            asked.out.write_text(page, encoding="utf-8")
    print(f"{page}\n{time.process_time() - started:.0f} seconds of this process")


def written(findings: Sequence[Finding], operators: Counter[str], first: int, count: int) -> str:
    """The page of counts."""
    stages = list(dict.fromkeys(f.stage for f in findings))
    counts = Counter((f.stage, f.kind) for f in findings)
    lines = [
        "# Random ONNX models",
        "",
        f"Seeds {first} to {first + count - 1} of `planish.testing.models`, {operators.total()} nodes of "
        f"{len(operators)} operators; written by `python bench/graphs.py --first {first} --count {count}`.",
        "",
        f"| stage | {' | '.join(kind.value for kind in Kind)} |",
        f"|---|{'---:|' * len(Kind)}",
        *(f"| {stage} | {' | '.join(str(counts[stage, kind]) for kind in Kind)} |" for stage in stages),
        "",
        "Why models were not taken, the most frequent reasons:",
        "",
    ]
    reasons = Counter((f.stage, _reason(f.why)) for f in findings if f.kind is Kind.UNSUPPORTED)
    lines += [f"- {stage}, {number} times: {reason}" for (stage, reason), number in reasons.most_common(25)]
    return "\n".join(lines) + "\n"


def _reason(why: str) -> str:
    """What is said after the node."""
    return why.split("|", 1)[0].rsplit(": ", 1)[-1].strip()


if __name__ == "__main__":
    main()
