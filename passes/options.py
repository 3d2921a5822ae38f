"""Options of passes: the fields of a frozen dataclass, from text and for people."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .base import Pass, option_text

Raw = str | tuple[str, ...]


@dataclass(frozen=True)
class Option:
    """One field of a pass."""

    name: str
    annotation: Any
    is_required: bool

    def __str__(self) -> str:
        return f"{self.name}={kind(self.annotation)}"


def options(cls: type[Pass]) -> list[Option]:
    """The options of a pass, in order of declaration."""
    hints = typing.get_type_hints(cls)
    missing = dataclasses.MISSING
    return [
        Option(f.name, hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(cls)
    ]


def usage(cls: type[Pass]) -> str:
    """How the pass is written: `layout{to=nhwc|nchw}`."""
    known = options(cls)
    return f"{cls.name}{{{', '.join(map(str, known))}}}" if known else f"{cls.name} has no options"


def kind(annotation: Any) -> str:
    """An annotation for people: `int`, `nhwc|nchw`, `[str, ...]`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return "|".join(map(option_text, arguments))
    if origin in (typing.Union, types.UnionType):
        return "|".join(map(kind, arguments))
    if origin is tuple:
        return f"[{kind(arguments[0])}, ...]"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "|".join(map(option_text, annotation))
    return "none" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


def typed(raw: Raw, annotation: Any) -> Any:
    """The text as a value of the annotated type. Raises ValueError that says what is wanted."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return tuple(typed(element, arguments[0]) for element in ((raw,) if isinstance(raw, str) else raw))
    if origin in (typing.Union, types.UnionType):
        return _one_of(raw, arguments)
    if isinstance(raw, tuple):
        raise ValueError(f"{kind(annotation)}, not a list")
    if origin is Literal or (isinstance(annotation, type) and issubclass(annotation, enum.Enum)):
        return _choice(raw, {option_text(a): a for a in (arguments if origin is Literal else annotation)})
    if annotation is bool:
        return _choice(raw, {"true": True, "false": False})
    if annotation in (int, float):
        try:
            return annotation(raw)
        except ValueError:
            raise ValueError(f"a {'whole ' if annotation is int else ''}number, not {raw}") from None
    return raw


def _choice(raw: str, choices: dict[str, Any]) -> Any:
    if raw not in choices:
        raise ValueError(f"{' or '.join(choices)}, not {raw}")
    return choices[raw]


def _one_of(raw: Raw, annotations: Sequence[Any]) -> Any:
    if type(None) in annotations and raw == "none":
        return None
    reasons = []
    for annotation in annotations:
        if annotation is not type(None):
            try:
                return typed(raw, annotation)
            except ValueError as error:
                reasons.append(str(error))
    raise ValueError(", or ".join(reasons))


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean fuse? ` where a known name is close, else nothing."""
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]}? " if close else ""
