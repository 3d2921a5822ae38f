"""Pipelines: passes as text, and how they run.

    result = run_pipeline(graph, "simplify,fuse,layout{to=nhwc}")
    result.graph                                   # the graph that was given is unchanged

The text form is in `pipeline.lark`; options are the fields of the pass.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lark

from ..ir.errors import PlanishError, UnsupportedError, UsageError
from ..ir.graph import Graph
from ..ir.verifier import verify
from ..runtime.contracts import EXACT, Contract
from . import all_passes, pass_named
from .base import Changes, Context, Pass
from .options import nearest, options, typed, usage

#: A pass that makes a graph so many times as large, or changes it so often for each of its nodes, comes to no end.
GROWTH, CHANGES = 100, 1000


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order in which they run; `str` is the text that `parse_pipeline` reads."""

    passes: tuple[Pass, ...] = ()

    @property
    def contract(self) -> Contract:
        """What all passes together promise."""
        return functools.reduce(lambda so_far, p: so_far | p.contract, self.passes, EXACT)

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))


def parse_pipeline(text: str) -> Pipeline:
    """Passes from text. Raises UsageError that points at the character and lists what may stand there."""
    try:
        tree = _grammar().parse(text)
    except lark.UnexpectedCharacters as error:
        raise _complaint(text, error.pos_in_stream or 0, "this is not understood") from None
    except lark.UnexpectedToken as error:
        ends = error.token.type == "$END"
        at = len(text) if ends else error.token.start_pos or 0
        raise _complaint(text, at, "something is missing" if ends else "this is not understood") from None
    return Pipeline(tuple(_pass(text, node) for node in tree.children if node is not None))


@functools.cache
def _grammar() -> lark.Lark:
    return lark.Lark(Path(__file__).with_name("pipeline.lark").read_text(), start="pipeline", parser="lalr")


def _complaint(text: str, at: int, what: str, fix: str = "") -> UsageError:
    example = 'write for instance "simplify,fuse,layout{to=nhwc}"'
    line = text.replace("\n", " ")
    return UsageError(f"pipeline: {what}", f"character {at + 1}\n    {line}\n    {' ' * at}^", fix or example)


def _pass(text: str, tree: Any) -> Pass:
    name, given_options = tree.children
    cls = pass_named(name)
    if cls is None:
        known = [p.name for p in all_passes()]
        listed = f"{nearest(name, known)}passes are {', '.join(known)}"
        raise _complaint(text, name.start_pos, f"there is no pass {name}", listed)
    given: dict[str, Any] = {}
    for option in given_options.children if given_options is not None else ():
        if option is None:
            continue
        key, value = option.children
        if str(key) in given:
            raise _complaint(text, key.start_pos, f"{name} is given {key} twice", "give each option once")
        given[str(key)] = _option(text, cls, key, value)
    if missing := [o.name for o in options(cls) if o.is_required and o.name not in given]:
        raise _complaint(text, name.start_pos, f"{name} needs {', '.join(missing)}", usage(cls))
    try:
        return cls(**given)
    except UsageError as error:
        raise _complaint(text, name.start_pos, error.what, error.fix) from None
    except (TypeError, ValueError) as error:
        raise _complaint(text, name.start_pos, f"{name}: {error}", usage(cls)) from None


def _option(text: str, cls: type[Pass], key: Any, value: Any) -> Any:
    known = {o.name: o for o in options(cls)}
    if str(key) not in known:
        raise _complaint(
            text, key.start_pos, f"{cls.name} has no option {key}", f"{nearest(key, list(known))}{usage(cls)}"
        )
    start = next(value.scan_values(lambda token: token is not None), key).start_pos
    try:
        return typed(_raw(value), known[str(key)].annotation)
    except json.JSONDecodeError as error:
        raise _complaint(text, start, f"a quotation is wrong: {error.msg}") from None
    except ValueError as error:
        raise _complaint(text, start, f"{key} of {cls.name} is {error}", usage(cls)) from None


def _raw(tree: Any) -> str | tuple[str, ...]:
    """The text of a value without its quotation marks; of a list, that of its elements."""
    if tree.data == "list":
        return tuple(str(_raw(child)) for child in tree.children if child is not None)
    (token,) = tree.children
    return json.loads(token) if token.type == "QUOTED" else str(token)


@dataclass(frozen=True)
class Step:
    """What one pass did in one run: its changes, its contract, seconds, and the graph's size before and after."""

    applied: Pass
    changes: Changes
    seconds: float
    nodes_before: int
    nodes_after: int

    @property
    def contract(self) -> Contract:
        return self.applied.contract if self.changes else EXACT


@dataclass(frozen=True)
class Result:
    """What a pipeline made of a graph."""

    graph: Graph
    steps: tuple[Step, ...]

    @property
    def contract(self) -> Contract:
        """What the passes that changed something promise together."""
        return functools.reduce(lambda so_far, step: so_far | step.contract, self.steps, EXACT)


class Listener(Protocol):
    """Looks at each pass of a run. Raise a PlanishError to stop it."""

    def after(self, step: Step, before: Graph, after: Graph, context: Context) -> None:
        """Called when a pass is done and its result is verified; `before` is a copy of what the pass was given."""
        ...


def run_pipeline(
    graph: Graph,
    pipeline: Pipeline | Sequence[Pass] | str,
    context: Context | None = None,
    *,
    listeners: Sequence[Listener] = (),
) -> Result:
    """Run passes one after another on a copy of the graph, verifying after each.

    Raises UsageError for a pipeline that is not understood. What a pass raises comes out with the pass named: a
    PlanishError as itself, any other exception as a bug of ours (PlanishError, exit code 1).
    """
    passes = parse_pipeline(pipeline).passes if isinstance(pipeline, str) else tuple(pipeline)
    context = context or Context()
    current, steps = graph.clone(), []
    for applied in passes:
        before = current.clone() if listeners else current
        size, start = len(current), time.perf_counter()
        changes = _run(applied, current, context)
        step = Step(applied, changes, time.perf_counter() - start, size, len(current))
        for listener in listeners:
            listener.after(step, before, current, context)
        steps.append(step)
    return Result(current, tuple(steps))


def _run(applied: Pass, graph: Graph, context: Context) -> Changes:
    """Run one pass in place and check what it left."""
    size = len(graph) + GROWTH
    try:
        with graph.bounded(nodes=GROWTH * size, changes=CHANGES * size):
            changes = applied.run(graph, context)
        verify(graph)
        applied.check(graph)
    except PlanishError as error:
        error.details = (*error.details, f"in pass {applied}")
        raise
    except MemoryError:
        fix = "make its sizes smaller (--dim, or another export)"
        raise UnsupportedError(f"there is not enough memory for pass {applied} on this model", fix=fix) from None
    except Exception as error:
        raise PlanishError(
            f"pass {applied} failed: {type(error).__name__}: {error}",
            fix="this is a bug of the pass; the graph it was given is unchanged",
        ) from error
    return changes
