"""How fast graphs are drawn, and proven upon: graphs per second of one core.

    python bench/generation.py [--examples 500]

"drawn" is drawing and verifying; the others run a pass and hold it to its contract. bench/proof.md has the figures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import given

from planish.ir.verifier import verify
from planish.passes.fuse import Fuse
from planish.passes.layout import Layout
from planish.passes.simplify import Simplify
from planish.testing import check_pass, graphs, graphs_with, quantized_graphs

#: What is wanted of those that are drawn.
LEAST = 20


def drawn(strategy: Any) -> Callable[[hypothesis.settings], object]:
    """Draw and verify."""

    def run(settings: hypothesis.settings) -> None:
        settings(given(strategy)(verify))()

    return run


KINDS: dict[str, Callable[[hypothesis.settings], object]] = {
    "networks, drawn": drawn(graphs()),
    "networks with a pattern, drawn": drawn(graphs_with(Fuse.rules)),
    "quantized networks, drawn": drawn(quantized_graphs()),
    "simplify, bit by bit": lambda s: check_pass(Simplify(), settings=s),
    "fuse, in exact mode": lambda s: check_pass(Fuse(), settings=s),
    "layout, in exact mode": lambda s: check_pass(Layout(), settings=s),
}


def rates(examples: int = 500) -> dict[str, float]:
    """Graphs per second of the processor, by kind."""
    settings = hypothesis.settings(
        max_examples=examples, database=None, deadline=None, derandomize=True,
        phases=(hypothesis.Phase.generate,), suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    found = {}
    for kind, run in KINDS.items():
        start = time.process_time()
        run(settings)
        found[kind] = examples / (time.process_time() - start)
    return found


def main() -> None:
    """Measure all kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500)
    for kind, rate in rates(parser.parse_args().examples).items():
        print(f"{kind}: {rate:.0f} per second")


if __name__ == "__main__":
    main()
