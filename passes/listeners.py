"""Listeners of a pipeline beside translation validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir.graph import Graph
from ..ir.text import print_graph
from .base import Context
from .pipeline import Step


@dataclass(frozen=True)
class PrintAfter:
    """Write the graph as text after each pass that changed it.

    write: takes a text of several lines, such as `sys.stderr.write`.
    """

    write: Callable[[str], object]

    def after(self, step: Step, before: Graph, after: Graph, context: Context) -> None:
        """Write what the pass made, headed by its name."""
        unchanged = "" if step.changes else " (nothing changed)"
        self.write(f"// after {step.applied}{unchanged}\n")
        if step.changes:
            self.write(print_graph(after)[0].rstrip() + "\n")
