"""What it means that a model fails: checks that a pipeline, or a command of the user, is put to."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..ir.errors import PlanishError, UsageError, VerificationError
from ..ir.graph import Graph
from ..ir.text import save
from ..ir.types import Array
from ..measuring import levels, reals, taken, worst
from ..passes.base import Context, Pass
from ..passes.pipeline import Pipeline, run_pipeline
from ..passes.validation import Validation
from ..runtime.data import Dataset
from ..runtime.interpreter import run_batch


@dataclass(frozen=True)
class Failure:
    """How a model failed. kind, where (a pass) and what (an error, an exit status) tell one failure from another."""

    kind: str
    where: str
    what: str
    message: str

    def like(self, other: Failure | None) -> bool:
        """Whether it is the same failure; messages may differ, as they name nodes and figures."""
        return other is not None and (self.kind, self.where, self.what) == (other.kind, other.where, other.what)

    def __str__(self) -> str:
        return f"{self.kind}{f' in {self.where}' if self.where else ''}: {self.message}"


@dataclass(frozen=True)
class Trial:
    """One thing to check: a graph, the passes to run on it, and samples for them and for the comparison."""

    graph: Graph
    passes: tuple[Pass, ...]
    dataset: Dataset

    def context(self) -> Context:
        return Context(lambda: iter(self.dataset))


class Check(ABC):
    """Whether a trial fails, and how. `text` is how the user wrote it."""

    text: str
    #: Whether the failure is still the same when the search starts from what the first passes made.
    may_start_late = True

    @abstractmethod
    def failure(self, trial: Trial, seconds: float) -> Failure | None:
        """How the trial fails; None where it does not. seconds: the longest that it may take, where that can be said.

        Raises UsageError where it cannot be tried at all.
        """


@dataclass(frozen=True)
class Crash(Check):
    """A pass raises an error, or leaves a graph that the verifier refuses."""

    text: str = "crash"

    def failure(self, trial: Trial, seconds: float) -> Failure | None:
        try:
            run_each(trial)
        except PassFailed as failed:
            cause = failed.error.__cause__ or failed.error
            return Failure("crash", failed.applied.name, type(cause).__name__, failed.error.what)
        return None


@dataclass(frozen=True)
class Contract(Check):
    """A pass breaks its contract: translation validation fails."""

    text: str = "contract"

    def failure(self, trial: Trial, seconds: float) -> Failure | None:
        try:
            run_each(trial, validate=True)
        except PassFailed as failed:
            if isinstance(failed.error, VerificationError):
                return Failure("contract", failed.applied.name, "", failed.error.what)
        return None


@dataclass(frozen=True)
class Worse(Check):
    """A figure of the worst output after the passes, against the graph before, is below a limit."""

    may_start_late = False
    text: str
    figure: str
    limit: float

    def failure(self, trial: Trial, seconds: float) -> Failure | None:
        try:
            after = run_each(trial)
        except PassFailed:
            return None
        arrays = trial.dataset.arrays
        before = reals(trial.graph, run_batch(trial.graph, arrays))
        found = run_batch(after, taken(after, arrays))
        if self.figure == "sqnr":
            value = worst(levels(after, found, before))
            said = "equal" if value == np.inf else f"{value:.1f} dB"
        else:
            value = min(_agreement(before[name], found[name]) for name in after.output_names)
            said = f"{value:.3f}"
        return Failure(self.figure, "", "", f"{self.figure} is {said}") if value < self.limit else None


def _agreement(before: Array, after: Array) -> float:
    """How often the largest element along the last axis is the same one, 0..1."""
    a, b = (x if x.ndim > 1 else x[:, None] for x in (before, after))
    return float(np.mean(a.argmax(-1) == b.argmax(-1))) if a.shape == b.shape else 0.0


@dataclass(frozen=True)
class Command(Check):
    """A command that ends with another exit status than 0. It is run without a shell.

    `{model}` stands for the graph, a `.planish` file (at the end, where the command does not say), `{pipeline}` for the
    passes. A command without `{pipeline}` gets the graph that the passes made.
    """

    text: str

    @property
    def may_start_late(self) -> bool:  # type: ignore[override]  # a fact of the class elsewhere
        return "{pipeline}" not in self.text

    def failure(self, trial: Trial, seconds: float) -> Failure | None:
        try:
            graph = run_each(trial) if self.may_start_late else trial.graph
        except PassFailed:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidate.planish"
            save(graph, path)
            words = {"{model}": str(path), "{pipeline}": str(Pipeline(trial.passes))}
            parts = shlex.split(self.text if "{model}" in self.text else f"{self.text} {{model}}")
            for word, stands_for in words.items():
                parts = [part.replace(word, stands_for) for part in parts]
            try:
                done = subprocess.run(
                    parts, check=False, capture_output=True, text=True, errors="replace", timeout=seconds
                )
            except subprocess.TimeoutExpired:
                return None
            except OSError as error:
                raise UsageError(
                    f"--check {self.text!r} cannot be run: {error.strerror or error}",
                    fix="write a program and its arguments, with {model} where the graph's path goes",
                ) from None
        if done.returncode == 0:
            return None
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [""]
        return Failure("exit", "", str(done.returncode), f"exit status {done.returncode} {last[0]}".strip())


class PassFailed(Exception):
    """A pass of a trial raised `error`."""

    def __init__(self, applied: Pass, error: PlanishError) -> None:
        super().__init__(str(error))
        self.applied = applied
        self.error = error


def run_each(trial: Trial, validate: bool = False) -> Graph:
    """The graph after the passes. Raises PassFailed, which names the pass."""
    current, context = trial.graph, trial.context()
    for applied in trial.passes:
        try:
            listeners = [Validation()] if validate else []
            current = run_pipeline(current, [applied], context, listeners=listeners).graph
        except PlanishError as error:
            raise PassFailed(applied, error) from error
    return current


def parse_check(text: str) -> Check:
    """`crash`, `contract`, `sqnr<30`, `agreement<0.9`, or else a command. Raises UsageError."""
    if text in ("crash", "contract"):
        return Crash() if text == "crash" else Contract()
    figure, less, limit = text.partition("<")
    if less and figure.strip() in ("sqnr", "agreement"):
        try:
            return Worse(text, figure.strip(), float(limit))
        except ValueError:
            raise UsageError(
                f"--check {text!r}: {limit!r} is no number", fix="write sqnr<30 or agreement<0.9"
            ) from None
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--check {text!r} is not understood: {error}") from None
    if not words:
        raise UsageError("--check says nothing", fix="write crash, contract, sqnr<30, agreement<0.9 or a command")
    return Command(text)
