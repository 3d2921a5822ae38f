"""Simplify: the same function with less graph, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.errors import InvalidGraphError
from ...ir.graph import Graph
from ...ir.rewrite import Rule, rewrite
from ..base import Changes, Context, Pass
from .cse import merge_common
from .data_movement import DATA_MOVEMENT, drop_expands
from .folding import fold_constants
from .identities import IDENTITIES
from .reordering import REORDERING

#: More rounds than any graph needs: each round finishes what the one before made possible.
ROUNDS = 50


@dataclass(frozen=True)
class Simplify(Pass):
    """Fold constants, merge common subexpressions, drop dead code and ops that do nothing. Bit-exact, idempotent."""

    rules: ClassVar[tuple[Rule, ...]] = (*IDENTITIES, *DATA_MOVEMENT, *REORDERING)

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for _ in range(ROUNDS):
            before = changes.applied.total()
            changes.count("dead code", graph.prune_from(list(graph.nodes)))
            changes.count("constant folding", fold_constants(graph, changes.refused))
            changes.count("common subexpressions", merge_common(graph))
            changes.count("broadcasting", drop_expands(graph))
            changes.add(rewrite(graph, self.all_rules()))
            if changes.applied.total() == before:
                return changes
        raise InvalidGraphError("simplification does not come to an end", repr(graph))
