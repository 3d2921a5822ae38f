"""Passes and rules against their contracts: one line for the author, the smallest failing graph for the reader.

def test_my_pass():
    check_pass(MyPass())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import hypothesis
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from ..ir.graph import Graph
from ..ir.rewrite import Rule
from ..passes.base import Pass, RulePass
from ..runtime.contracts import EXACT, Contract, Promise
from .contracts import Failure, Outcome, outcome
from .counterexample import reduced, size, text
from .draw import unhurried
from .graphs import graphs
from .patterns import graphs_with

#: A counterexample of so few nodes is small enough; of larger ones the smallest of so many is shown.
SMALL, CANDIDATES = 4, 5
#: Exact numbers are slow, and their digits grow: inputs of a REASSOCIATING pass have at most 64 elements.
EXACT_DIM, FLOAT_DIM = 4, 5


@dataclass(frozen=True)
class Tally:
    """How many graphs were drawn, how many the pass changed, and on how many of these it was held to its contract."""

    drawn: int
    changed: int
    proven: int


class Counterexample(AssertionError):
    """A pass breaks its contract: the smallest graph on which it does, how, and how many were drawn until then."""

    def __init__(self, applied: Pass, graph: Graph, failure: Failure, drawn: int) -> None:
        self.graph, self.failure, self.drawn = graph, failure, drawn
        super().__init__(
            f"{applied}: counterexample after {_count(drawn, 'example')}, reduced to {_count(size(graph), 'node')} "
            f"(contract {applied.contract}, {failure.kind}):\n{text(graph)}{failure.seen}"
        )


class Unchanged(AssertionError):
    """A pass changed none of the graphs that were drawn for it."""


class _Broken(Exception):
    """Carries the graph and the failure through hypothesis."""

    def __init__(self, graph: Graph, failure: Failure) -> None:
        self.graph, self.failure = graph, failure


def check_pass(
    applied: Pass,
    graphs: st.SearchStrategy[Graph] | None = None,
    settings: hypothesis.settings | None = None,
) -> Tally:
    """Hold a pass to its contract on generated graphs, many of which contain its rules' patterns.

    graphs: what to draw instead of `graphs_for(applied)`. settings: hypothesis' own, instead of the active profile's;
    their deadline is not kept. Each result verifies, is deterministic, and keeps the contract: EXACT bit by bit,
    REASSOCIATING equal in exact arithmetic, WITHIN node by node, APPROXIMATE by reporting. EXACT and REASSOCIATING
    passes find nothing more to do in their own result. Raises Counterexample, whose text `parse_graph` reads, or
    Unchanged: both are AssertionErrors.
    """
    outcomes: list[Outcome] = []
    reasons: Counter[str] = Counter()
    broken: list[tuple[Graph, Failure]] = []

    @unhurried(settings, report_multiple_bugs=False)
    @given(graphs_for(applied, reasons) if graphs is None else graphs)
    def run(graph: Graph) -> None:
        found = outcome(applied, graph)
        if not broken:
            outcomes.append(found)
        if found.failure is None:
            return
        if not _enough(broken):
            broken.append(_smallest(applied, graph, found.failure))
        if _enough(broken):
            raise _Broken(graph, found.failure)

    try:
        run()
    except _Broken as error:  # made smaller by hypothesis, where the settings say so
        broken.append(_smallest(applied, error.graph, error.failure))
    except Unsatisfiable:
        outcomes.clear()
    if broken:
        raise Counterexample(applied, *min(broken, key=lambda b: (size(b[0]), len(text(b[0])))), len(outcomes))
    tally = Tally(len(outcomes), sum(o.changed for o in outcomes), sum(o.proven for o in outcomes))
    if not tally.changed:
        reasons.update(reason for o in outcomes for reason in set(o.reasons))
        why = "".join(f"\n  {count} times: {reason}" for reason, count in reasons.most_common(3))
        raise Unchanged(f"{applied} changed none of {tally.drawn} graphs{why}")
    return tally


def check_rule(rule: Rule, contract: Contract | None = None, settings: hypothesis.settings | None = None) -> Tally:
    """As `check_pass`, for one rewrite rule. contract: what it promises, unless its class says so in `contract`."""
    promised: Contract = getattr(rule, "contract", EXACT) if contract is None else contract

    @dataclass(frozen=True)
    class Alone(RulePass):
        name: ClassVar[str] = rule.title
        contract: ClassVar[Contract] = promised
        rules: ClassVar[tuple[Rule, ...]] = (rule,)

    return check_pass(Alone(), settings=settings)


def graphs_for(applied: Pass, refused: Counter[str] | None = None) -> st.SearchStrategy[Graph]:
    """Graphs worth trying a pass on: patterns of its rules, planted in small networks, and networks without them.

    refused: as in `graphs_with`.
    """
    exact = applied.contract.promise is Promise.REASSOCIATING
    max_dim = EXACT_DIM if exact else FLOAT_DIM
    plain = graphs(max_layers=4, max_dim=max_dim)
    rules: Sequence[Rule] = applied.all_rules()
    planted = graphs_with(rules, max_dim, refused=refused)
    return st.one_of(planted, planted, plain) if rules else plain


def _enough(broken: Sequence[tuple[Graph, Failure]]) -> bool:
    return len(broken) >= CANDIDATES or any(size(graph) <= SMALL for graph, _ in broken)


def _smallest(applied: Pass, graph: Graph, failure: Failure) -> tuple[Graph, Failure]:
    """The smallest graph that fails in the same way, and how it does."""

    def fails(candidate: Graph) -> bool:
        found = outcome(applied, candidate).failure
        return found is not None and found.kind == failure.kind

    smallest = reduced(graph, fails)
    return smallest, outcome(applied, smallest).failure or failure


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
