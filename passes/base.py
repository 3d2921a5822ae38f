"""What a pass is.

    @dataclass(frozen=True)
    class Equalize(Pass):
        '''Balance channel ranges.'''
        contract = REASSOCIATING
        iterations: int = 3

        def run(self, graph, context): ...

Its fields are its options, its class name is its text form (`equalize{iterations=5}`). It changes the graph in place;
the pipeline hands it a copy, so a pass that fails leaves the user's graph as it was.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..ir.extensions import installed
from ..ir.graph import Graph
from ..ir.hooks import Hooked
from ..ir.rewrite import RewriteLog, Rule, rewrite
from ..ir.types import Array
from ..runtime.contracts import EXACT, Contract
from ..runtime.target import Target

#: Calibration samples: each a mapping from input name to one input array (batch axis included).
Samples = Iterable[Mapping[str, Array]]


@dataclass
class Changes:
    """What a pass did: counts by rule or action, reasons why patterns did not match, and facts for the report."""

    applied: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def count(self, action: str, times: int) -> None:
        """Note that something was done so many times; none is nothing."""
        if times:
            self.applied[action] += times

    def add(self, log: RewriteLog) -> None:
        self.applied.update(log.applied)
        self.refused.update(log.refused)

    def __bool__(self) -> bool:
        return bool(self.applied)


@dataclass
class Context:
    """What a pass may ask for beside the graph.

    calibration: a function that starts a new iteration over the samples (passes may need several), or None. assumed:
    whether these are made up: then nothing is decided that their ranges would decide. notes: remarks for the report and
    the terminal, such as assumptions that were made.
    """

    calibration: Callable[[], Samples] | None = None
    target: Target | None = None
    assumed: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pass(Hooked):
    """Base of all passes. Subclasses are frozen dataclasses, listed in `passes/__init__.py`."""

    name: ClassVar[str] = "pass"
    contract: ClassVar[Contract] = EXACT
    #: What it rewrites with, if it does: `planish.testing` draws graphs that contain their patterns.
    #: What installed packages add to it, `all_rules` says.
    rules: ClassVar[tuple[Rule, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()

    def run(self, graph: Graph, context: Context) -> Changes:
        """Transform the graph in place; say what was done. Raises UsageError when the context lacks what it needs."""
        raise TypeError(f"{type(self).__name__} does not define run")

    @classmethod
    def joined(cls) -> tuple[Rule, ...]:
        """The rules of installed packages that join it. Raises UsageError for one that it cannot take."""
        return joining(cls)

    @classmethod
    def all_rules(cls) -> tuple[Rule, ...]:
        """What it rewrites with: the rules of installed packages, then its own."""
        return (*cls.joined(), *cls.rules)

    def check(self, graph: Graph) -> None:
        """Postcondition on the result, beyond the verifier's. Raises InvalidGraphError."""

    def __str__(self) -> str:
        """The pass in a pipeline: its name, and the options that differ from their defaults."""
        changed = [
            f"{f.name}={option_text(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"{self.name}{{{','.join(changed)}}}" if changed else self.name


#: What may stand in a pipeline without quotation marks.
PLAIN = re.compile(r'[^\s,{}\[\]="\\]+')


def option_text(value: Any) -> str:
    """An option's value as a pipeline writes it: `true`, `none`, `0.5`, `nhwc`, `"a b"`, `[a,b]`."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(map(option_text, value))}]"
    text = str(value.value) if isinstance(value, enum.Enum) else str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def joining(cls: type[Pass]) -> tuple[Rule, ...]:
    """Rules of the group `planish.rules` for a pass: each entry point names the pass, and a tuple of rules.

    Raises UsageError where there is no such pass, it has no rules to be joined, or it promises more than a rule does.
    """
    from . import pass_names

    rules: list[Rule] = []
    titles = {rule.title for rule in cls.rules}
    for extension in installed("planish.rules"):
        if extension.name not in pass_names():
            raise extension.broken("there is no pass of that name")
        if extension.name != cls.name:
            continue
        if not cls.rules:
            raise extension.broken("that pass has no rules that others could join")
        for rule in extension.load((tuple,)):
            if not isinstance(rule, Rule):
                raise extension.broken(f"{rule!r} is no rule")
            promised: Contract = getattr(rule, "contract", EXACT)
            if promised.promise > cls.contract.promise:
                raise extension.broken(f"{rule.title} is {promised}, while {cls.name} promises {cls.contract}")
            if rule.title in titles:
                raise extension.broken(f"another rule of {cls.name} is called {rule.title}")
            titles.add(rule.title)
            rules.append(rule)
    return tuple(rules)


@dataclass(frozen=True)
class RulePass(Pass):
    """A pass that is a set of rewrite rules, applied until none fires."""

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        changes.add(rewrite(graph, self.all_rules()))
        return changes
