"""`debug reduce`: the smallest model and the shortest pipeline that still fail in the same way.

Delta debugging (Zeller and Hildebrandt, *Simplifying and Isolating Failure-Inducing Input*, 2002) over passes, nodes,
outputs, sizes and weights. It is greedy and deterministic: each smaller variant that fails like the original becomes
the one to go on with, until none does or the checks are used up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ..ir.errors import PlanishError, UsageError
from ..ir.graph import Graph
from ..ir.verifier import verify
from ..measuring import taken
from ..passes.base import Pass
from ..passes.pipeline import Pipeline
from ..runtime.data import Dataset, uniform
from . import shrink
from .checks import Check, Failure, PassFailed, Trial, run_each
from .noise import executed

#: Samples that trials are run on.
SAMPLES = 4
#: Bytes of values of the original that are kept, to feed parts of it with what they saw there.
KEPT = 1 << 28


@dataclass(frozen=True)
class Budget:
    """How long to search. checks: deterministic; seconds: a bound for patience, after which results may differ."""

    checks: int = 2000
    seconds: float = 300.0


@dataclass
class Reduction:
    """The smallest failing trial so far, and how it fails. complete: whether nothing smaller was left to try."""

    trial: Trial
    failure: Failure
    checks: int = 0
    complete: bool = True
    original_weights: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> int:
        return len(shrink.nodes_of(self.trial.graph))

    @property
    def pipeline(self) -> Pipeline:
        return Pipeline(self.trial.passes)


def reduce(trial: Trial, check: Check, budget: Budget | None = None) -> Reduction:
    """Make a failing trial smaller. Raises UsageError where it does not fail."""
    return _Search(trial, check, budget or Budget()).run()


class _Search:
    def __init__(self, trial: Trial, check: Check, budget: Budget) -> None:
        self.check = check
        self.budget = budget
        self.deadline = time.monotonic() + budget.seconds
        failure = check.failure(trial, budget.seconds)
        if failure is None:
            raise UsageError(
                f"the model does not fail the check {check.text!r}, so there is nothing to reduce",
                fix="give the pipeline and the data that it fails with",
            )
        self.best = Reduction(trial, failure, checks=1)
        self.seen = _Recorder(trial)

    # ---- one step

    @property
    def graph(self) -> Graph:
        return self.best.trial.graph

    def attempt(self, graph: Graph | None, passes: tuple[Pass, ...] | None = None) -> bool:
        """Whether this variant fails as the original does; if so, it is the one to go on with."""
        left = self.deadline - time.monotonic()
        if graph is None:
            return False
        if self.best.checks >= self.budget.checks or left <= 0:
            self.best.complete = False
            return False
        self.best.checks += 1
        chosen = self.best.trial.passes if passes is None else passes
        try:
            verify(graph)
            trial = Trial(graph, chosen, self.seen.samples(graph))
            failure = self.check.failure(trial, left)
        except PlanishError:
            return False
        if not self.best.failure.like(failure) or failure is None:
            return False
        self.best.trial, self.best.failure = trial, failure
        return True

    # ---- the whole

    def run(self) -> Reduction:
        self._passes_done()
        named = shrink.uniquely_named(self.graph)
        self.best.trial = Trial(named, self.best.trial.passes, self.best.trial.dataset)
        self.seen = _Recorder(self.best.trial)
        while self._round():
            pass
        self._weights()
        return self.best

    def _round(self) -> bool:
        """Everything once; whether anything got smaller."""
        steps = (self._fewer_passes, self._parts, self._outputs, self._sizes, self._nodes, self._bypasses)
        return sum(step() for step in steps) > 0  # not any(): each step is to run

    def _passes_done(self) -> None:
        """Start from what the first passes made, as late as the failure allows; then no pass is run in vain."""
        passes = self.best.trial.passes
        for done in range(len(passes) - 1, 0, -1) if self.check.may_start_late else ():
            first = Trial(self.graph, passes[:done], self.best.trial.dataset)
            try:
                graph = run_each(first)
                self.seen = _Recorder(Trial(graph, (), self.best.trial.dataset))
            except (PassFailed, PlanishError):
                continue
            if self.attempt(graph, passes[done:]):
                return

    def _fewer_passes(self) -> bool:
        smaller = False
        for i in reversed(range(len(self.best.trial.passes))):
            passes = self.best.trial.passes
            smaller |= self.attempt(self.graph, passes[:i] + passes[i + 1 :])
        return smaller

    def _parts(self) -> bool:
        """Keep one contiguous part, in halves of halves."""
        smaller, again = False, True
        while again:
            nodes = shrink.nodes_of(self.graph)
            again, size = False, (len(nodes) + 1) // 2
            while size and not again and size < len(nodes):
                starts = range(0, len(nodes), max(1, size // 2))
                again = any(self.attempt(shrink.only(self.graph, nodes[i : i + size])) for i in starts)
                size //= 2
            smaller |= again
        return smaller

    def _nodes(self) -> bool:
        """Take out runs of nodes, long ones first."""
        size, smaller = len(self.graph) // 2, False
        while size:
            at = 0
            while at < len(nodes := shrink.nodes_of(self.graph)):
                if self.attempt(shrink.only(self.graph, nodes[:at] + nodes[at + size :])):
                    smaller = True
                else:
                    at += size
            size //= 2
        return smaller

    def _outputs(self) -> bool:
        return self._each(lambda: len(self.graph.outputs), lambda graph, i: [shrink.without_output(graph, i)])

    def _bypasses(self) -> bool:
        return self._each(lambda: len(shrink.nodes_of(self.graph)), shrink.bypassed)

    def _each(self, count: Callable[[], int], variants: Callable[[Graph, int], Iterable[Graph | None]]) -> bool:
        smaller, i = False, count() - 1
        while i >= 0:
            smaller |= any(self.attempt(variant) for variant in variants(self.graph, i))
            i = min(i, count()) - 1
        return smaller

    def _sizes(self) -> bool:
        smaller = False
        for old in shrink.sizes(self.graph):
            targets = [new for new in dict.fromkeys((1, 2, 3, 4, old // 2)) if new < old]
            smaller |= any(self.attempt(shrink.resized(self.graph, old, new)) for new in targets)
        return smaller

    def _weights(self) -> None:
        """Random numbers instead of the weights: of all at once, else of as many as possible."""
        names = shrink.weights(self.graph)
        if names and not self.attempt(shrink.anonymous(self.graph, names)):
            for name in names:
                if not self.attempt(shrink.anonymous(self.graph, [name])):
                    self.best.original_weights.append(name)


class _Recorder:
    """What every value of a graph held on the samples, so that a part of the graph can be fed as the whole fed it."""

    def __init__(self, trial: Trial) -> None:
        self.source = trial.dataset.source
        dataset = trial.dataset.first(SAMPLES)
        inputs = taken(trial.graph, dataset.arrays)
        parts: dict[str, list[np.ndarray]] = {}
        bytes_kept = 0
        for i in range(len(dataset)):
            sample = {v: inputs[v.name][i] for v in trial.graph.inputs}
            for value, array in executed(trial.graph, sample):
                bytes_kept += array.nbytes
                if value.producer is None or bytes_kept < KEPT:
                    parts.setdefault(value.name, []).append(array)
        whole = {name: arrays for name, arrays in parts.items() if len(arrays) == len(dataset)}
        self.arrays = {name: np.stack(arrays) for name, arrays in whole.items()}
        self.ranges = shrink.ranges_of(self.arrays)
        self.count = len(dataset)

    def samples(self, graph: Graph) -> Dataset:
        """Samples for a part: what was seen, where the shape is still the same; else drawn from the range of it."""
        ranges = {v.name: self.ranges.get(v.name, (-1.0, 1.0)) for v in graph.inputs}
        drawn = uniform(ranges).of(graph, self.count)
        arrays = dict(drawn.arrays)
        for v in graph.inputs:
            known = self.arrays.get(v.name)
            if known is not None and known.shape[1:] == v.type.shape and known.dtype == v.type.dtype.numpy:
                arrays[v.name] = known
        return Dataset(arrays, None, self.source)
