"""What was counted while the properties were checked, as a page: the last step of `make proof`.

    PLANISH_PROFILE=proof pytest -o junit_family=xunit1 --junitxml build/proof.xml
    python bench/proof.py build/proof.xml --out bench/proof.md

Also measures how many graphs per second one core draws and verifies, and proves a pass upon. Ends with status 1 when
tests failed, or any of that is below 20 per second.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from generation import LEAST, rates


@dataclass(frozen=True)
class Case:
    """One test: its function, its parameter, seconds, and what it counted."""

    test: str
    parameter: str
    seconds: float
    counts: dict[str, int]


def cases(report: Path) -> Iterator[Case]:
    """The tests of a report that counted something. Reports are our own: nothing untrusted is parsed."""
    for case in xml.parse(report).iter("testcase"):
        counts = {p.get("name", ""): int(p.get("value", "")) for p in case.iter("property")}
        found = re.fullmatch(r"(\w+)(?:\[(.*)\])?", case.get("name", ""))
        if counts and found:
            yield Case(found[1], found[2] or "", float(case.get("time", "0")), counts)


def summary(report: Path) -> tuple[str, bool]:
    """How many tests there were, how many failed or were skipped, how long it took; whether none failed."""
    suites = list(xml.parse(report).iter("testsuite"))
    total = {k: sum(int(s.get(k, "0")) for s in suites) for k in ("tests", "failures", "errors", "skipped")}
    minutes = sum(float(s.get("time", "0")) for s in suites) / 60
    bad = total["failures"] + total["errors"]
    return f"{total['tests']} tests, {bad} failed, {total['skipped']} skipped, {minutes:.0f} minutes", not bad


def table(head: str, rows: list[str]) -> str:
    """A table of Markdown."""
    return "\n".join([head, "|---" * (head.count("|") - 1) + "|", *rows]) + "\n"


KINDS = {
    "test_contract": "",
    "test_contract_on_integers": "quantized networks",
    "test_contract_for_any_batch": "any batch",
    "test_folding_quantization_is_within_a_step": "quantized networks",
}
TALLY = "| drawn | changed | proven | seconds |"


def counted(case: Case) -> str:
    """The cells under `TALLY`."""
    return f"{case.counts['drawn']} | {case.counts['changed']} | {case.counts['proven']} | {case.seconds:.0f} |"


def passes(found: list[Case]) -> str:
    """Every pass, on every kind of graphs."""
    rows = [
        f"| {c.parameter or 'fold-quantization'} | {KINDS[c.test]} | {counted(c)}" for c in found if c.test in KINDS
    ]
    return table(f"| pass | graphs {TALLY}", rows)


def rules(found: list[Case]) -> str:
    """Every rule alone."""
    return table(f"| rule {TALLY}", [f"| {c.parameter} | {counted(c)}" for c in found if c.test == "test_rules"])


def mutants(found: list[Case]) -> str:
    """Every wrong variant."""
    rows = [
        f"| {c.parameter} | {c.counts['examples']} | {c.counts['nodes']} |"
        for c in found
        if c.test == "test_mutants_are_caught"
    ]
    return table("| wrong variant | caught after | nodes |", rows)


def speed(measured: dict[str, float]) -> str:
    """Graphs per second."""
    return table("| graphs | per second |", [f"| {kind} | {rate:.0f} |" for kind, rate in measured.items()])


def main() -> None:
    """Read, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = list(cases(options.report))
    told, passed = summary(options.report)
    measured = rates()
    sections: list[Callable[[list[Case]], str]] = [passes, rules, mutants]
    page = PAGE.format(told, os.cpu_count(), speed(measured), *(section(found) for section in sections))
    (options.out.write_text if options.out else print)(page)
    slow = [kind for kind, rate in measured.items() if rate < LEAST]
    problems = [*([] if passed else ["tests failed"]), *(f"{kind}: fewer than {LEAST} per second" for kind in slow)]
    sys.exit("; ".join(problems) or 0)


PAGE = """# Proof

Written by `bench/proof.py` from a test report in the profile `proof`: {}, on {} cores that may have been shared.
A graph is *proven* where the pass changed it and was held to its contract: bit for bit, equal over the rationals
(REASSOCIATING), within its steps, or as it reports. On the others exact numbers end, as at log(0), or floats become
integers inside: there rounding is all that may differ.

## Graphs per second of one core's time

"Drawn" is drawing and verifying; the others run a pass and hold it to its contract.

{}
## Passes

{}
## Rules, each alone

{}
## Wrong variants

What `check_pass` says after so many examples is reduced to so many nodes, and fails again when it is parsed.

{}"""


if __name__ == "__main__":
    main()
