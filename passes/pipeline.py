"""Pipelines: passes as text, and how they run.

    result = run_pipeline(graph, "simplify,fuse,layout{to=nhwc}")
    result.graph                                   # the graph that was given is unchanged

The text form is in `pipeline.lark`; options are the fields of the pass.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import json
import time
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import lark

from ..ir.errors import PlanishError, UsageError
from ..ir.graph import Graph
from ..runtime.contracts import EXACT, Contract
from . import all_passes, pass_named
from .base import Changes, Context, Pass, option_text


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
    name, options = tree.children
    cls = pass_named(name)
    if cls is None:
        known = [p.name for p in all_passes()]
        raise _complaint(
            text, name.start_pos, f"there is no pass {name}", f"{_nearest(name, known)}passes are {', '.join(known)}"
        )
    given: dict[str, Any] = {}
    for option in options.children if options is not None else ():
        if option is not None:
            key, value = option.children
            if str(key) in given:
                raise _complaint(text, key.start_pos, f"{name} is given {key} twice", "give each option once")
            given[str(key)] = _option(text, cls, key, value)
    if missing := [f.name for f in _options(cls) if f.name not in given and _is_required(f)]:
        raise _complaint(text, name.start_pos, f"{name} needs {', '.join(missing)}", _usage(cls))
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise _complaint(text, name.start_pos, f"{name}: {error}", _usage(cls)) from None


def _option(text: str, cls: type[Pass], key: Any, value: Any) -> Any:
    annotations = typing.get_type_hints(cls)
    names = [f.name for f in _options(cls)]
    if str(key) not in names:
        raise _complaint(text, key.start_pos, f"{cls.name} has no option {key}", f"{_nearest(key, names)}{_usage(cls)}")
    (token,) = value.children
    try:
        raw = json.loads(token) if value.data == "quoted" else str(token)
        return _typed(raw, annotations[str(key)])
    except json.JSONDecodeError as error:
        raise _complaint(text, token.start_pos, f"a quotation is wrong: {error.msg}") from None
    except ValueError as error:
        raise _complaint(text, token.start_pos, f"{key} of {cls.name} is {error}, not {token}", _usage(cls)) from None


def _typed(raw: str, annotation: Any) -> Any:
    """The text as a value of the annotated type. Raises ValueError that says what is wanted."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and raw == "none":
            return None
        choices = [a for a in arguments if a is not type(None)]
        for i, choice in enumerate(choices):
            try:
                return _typed(raw, choice)
            except ValueError:
                if i == len(choices) - 1:
                    raise
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, enum.Enum)):
        values = {option_text(a): a for a in (arguments if origin is Literal else annotation)}
        if raw not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return values[raw]
    if annotation is bool:
        if raw not in ("true", "false"):
            raise ValueError("true or false")
        return raw == "true"
    if annotation in (int, float):
        try:
            return annotation(raw)
        except ValueError:
            raise ValueError("a whole number" if annotation is int else "a number") from None
    return raw


def _options(cls: type[Pass]) -> list[dataclasses.Field[Any]]:
    return list(dataclasses.fields(cls))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _usage(cls: type[Pass]) -> str:
    hints = typing.get_type_hints(cls)
    options = [f"{f.name}={_kind(hints[f.name])}" for f in _options(cls)]
    return f"{cls.name}{{{', '.join(options)}}}" if options else f"{cls.name} has no options"


def _kind(annotation: Any) -> str:
    """An annotation for people: `int`, `nhwc|nchw`."""
    if typing.get_origin(annotation) in (Literal, typing.Union, types.UnionType):
        return "|".join(_kind(a) if isinstance(a, type) else option_text(a) for a in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "|".join(option_text(a) for a in annotation)
    return "none" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}? " if close else ""


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
    try:
        changes = applied.run(graph, context)
        applied.check(graph)
    except PlanishError as error:
        error.details = (*error.details, f"in pass {applied}")
        raise
    except Exception as error:
        raise PlanishError(
            f"pass {applied} failed: {type(error).__name__}: {error}",
            fix="this is a bug of the pass; the graph it was given is unchanged",
        ) from error
    return changes
