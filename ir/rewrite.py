"""Rewrite rules and the worklist driver that applies them.

class FoldDoubleNeg(Rule):
    def pattern(self, x): return neg(neg(x))
    def rewrite(self, m, x): return x
"""

from __future__ import annotations

import inspect
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from .builder import as_value
from .constant import Const
from .errors import InvalidGraphError
from .graph import NOWHERE, Graph, Node, Value, apply
from .hooks import Hooked
from .op import Draw, Op
from .pattern import Bindings, Either, Mismatch, OpPattern, Pattern, Variable, match, variables_of
from .types import Array, DType


@dataclass(frozen=True)
class NoMatch:
    """A rewrite declined; the reason is kept and can be asked for."""

    reason: str


def no_match(reason: str) -> NoMatch:
    """Decline a rewrite from within `Rule.rewrite`, with the reason."""
    return NoMatch(reason)


class Matched:
    """A matched node as rewrites see it: its op's attributes, its dtype, and `like` to build a variant of it."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @property
    def op(self) -> Any:
        return self.node.op

    @property
    def value(self) -> Value:
        return self.node.results[0]

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    def __getattr__(self, name: str) -> Any:
        try:
            return self.node.op.attributes()[name]
        except KeyError:
            raise AttributeError(f"{self.node.op.name} has no attribute {name}") from None

    def like(self, *operands: Value | Array, **changes: Any) -> Value:
        """The same op (with some attributes changed) on other operands; keeps the source location."""
        return apply(self.node.op.like(**changes), *map(as_value, operands), loc=self.node.loc).results[0]


class Match:
    """All matched nodes, by op name or by the `as_` name given in the pattern: `m.conv2d`."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes

    def __getattr__(self, name: str) -> Matched:
        try:
            return Matched(self.nodes[name])
        except KeyError:
            raise AttributeError(f"the pattern names no {name}; it names {', '.join(self.nodes)}") from None


class Rule(Hooked):
    """Base of rewrite rules: `pattern` says what to look for, `rewrite` builds the replacement of the pattern's root.

    Of an op with several results the pattern says which one it is about: `result(lstm(x, w, r, b, h, c), 1)`.
    The parameters of `pattern` are its variables: values, constants (`const(w)`) or attributes (`axes=axes`). `rewrite`
    gets the match and then the same variables by name: values, arrays or attributes, None for what was not matched. It
    returns a value (or array) of the root's type, or `no_match(reason)`. A rule whose `rewrite` does not take the
    pattern's variables, or wants others, is a TypeError when its class is defined.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.pattern is not Rule.pattern and cls.rewrite is not Rule.rewrite:
            _check_variables(cls)

    @property
    def title(self) -> str:
        """The rule in logs; tells apart rules of one class that are for different ops."""
        return type(self).__name__

    #: What the pattern matches serves nothing else: a result inside that has other users would be computed twice.
    whole: ClassVar[bool] = False
    #: What it promises (`runtime/contracts.py`), for `planish.testing.check_rule`; not given: EXACT.
    contract: ClassVar[Any]

    def pattern(self, *variables: Any, **_: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define pattern")

    def rewrite(self, m: Any, *variables: Any, **_: Any) -> Any:
        raise TypeError(f"{type(self).__name__} does not define rewrite")

    def examples(self, draw: Draw) -> Value | None:
        """A detached value that the rule rewrites, drawn; for tests, where operands must fit each other.

        None: what the pattern says is enough to draw such values operand by operand.
        """
        return None

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Names of the pattern's parameters."""
        return tuple(inspect.signature(self.pattern).parameters)

    @cached_property
    def compiled(self) -> Pattern:
        """The pattern as data. Raises TypeError where a variable does not occur in it: it would always be None."""
        pattern: Pattern = self.pattern(*map(Variable, self.variables))
        bound = variables_of(pattern)
        if unused := [name for name in self.variables if name not in bound]:
            raise TypeError(f"{self.title}: {', '.join(unused)} does not occur in the pattern")
        return pattern

    @cached_property
    def _spellings(self) -> tuple[OpPattern, ...]:
        """The pattern, or its alternatives."""
        found: list[OpPattern] = []
        parts = [self.compiled]
        while parts:
            part = parts.pop(0)
            if isinstance(part, Either):
                parts.extend(part.alternatives)
            elif isinstance(part, OpPattern):
                found.append(part)
            else:
                raise TypeError(f"the pattern of {type(self).__name__} has no op at its root")
        return tuple(found)

    @cached_property
    def roots(self) -> tuple[type[Op], ...]:
        """The op at the pattern's root, or those of its alternatives: only nodes of these are looked at."""
        return tuple(dict.fromkeys(part.op for part in self._spellings))

    @cached_property
    def index(self) -> int:
        """Which result of the root is replaced: the first, unless the pattern says `result(op(...), index)`."""
        first, *others = dict.fromkeys(part.index for part in self._spellings)
        if others:
            raise TypeError(f"{type(self).__name__} has alternatives that are results {first} and {others[0]} of an op")
        return first

    def replaced(self, node: Node) -> Value | NoMatch:
        """The result of a node that the rule would replace; or why it has none such that anything uses."""
        if self.index >= len(node.results):
            return NoMatch(f"{node.op.name} has no result {self.index}")
        old = node.results[self.index]
        return old if old in node.live_results else NoMatch(f"nothing uses result {self.index} of {node.op.name}")

    def attempt(self, node: Node) -> Value | NoMatch:
        """Match at this node and build the replacement, detached."""
        old = self.replaced(node)
        if isinstance(old, NoMatch):
            return old
        found = match(self.compiled, old)
        if isinstance(found, Mismatch):
            return NoMatch(found.reason)
        if self.whole and (shared := next(found.shared(), None)) is not None:
            return NoMatch(f"the result of {shared.op.name} inside has other uses")
        result = self.rewrite(Match(found.nodes), **self._arguments(found))
        if isinstance(result, NoMatch):
            return result
        return as_value(result)

    def _arguments(self, found: Bindings) -> dict[str, Any]:
        return {name: found.values.get(name) for name in self.variables}


def _check_variables(rule: type[Rule]) -> None:
    """Raise TypeError unless `rewrite` can be called with the match and the pattern's variables, by name."""
    pattern, rewrite = (_signature(rule, name) for name in ("pattern", "rewrite"))
    try:
        rewrite.bind(None, **dict.fromkeys(pattern.parameters))
    except TypeError as error:
        both = ", ".join(
            f"{name}({', '.join(s.parameters)})" for name, s in (("pattern", pattern), ("rewrite", rewrite))
        )
        raise TypeError(f"{rule.__name__} names different variables: {both} ({error})") from None


def _signature(rule: type[Rule], name: str) -> inspect.Signature:
    """Of a method as instances have it, without `self`, or of a static one."""
    return inspect.signature(inspect.getattr_static(rule, name).__get__(object(), rule))


class NodeRule(Rule, adds=("replacement", "root", "which")):
    """A rule for one op whatever its operands are, where no pattern can say it (a concat of any number of parts).

    which: the result that is replaced.
    """

    root: type[Op] = Op
    which: int = 0

    @cached_property
    def compiled(self) -> OpPattern:
        """Names the root alone."""
        return OpPattern(self.root, (), index=self.which)

    def attempt(self, node: Node) -> Value | NoMatch:
        """The replacement of the result that the rule is about."""
        old = self.replaced(node)
        return old if isinstance(old, NoMatch) else self.replacement(node)

    def replacement(self, node: Node) -> Value | NoMatch:
        """What takes the place of the node's result (the first, or `which`), detached, or why nothing does."""
        raise TypeError(f"{type(self).__name__} does not define replacement")


@dataclass
class RewriteLog:
    """What rules did and why they did not: counts by rule, and the last reason per (rule, node)."""

    applied: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return bool(self.applied)


def rewrite(
    graph: Graph, rules: Sequence[Rule], log: RewriteLog | None = None, start: Iterable[Node] | None = None
) -> RewriteLog:
    """Apply rules until none fires, in place. Work grows linearly with the graph and the number of rewrites.

    start: nodes to begin with, instead of all; from there on those are looked at that a rewrite has touched.
    Raises InvalidGraphError when a rule changes the type of a value, or when rules undo each other for ever.
    """
    log = log or RewriteLog()
    by_root: dict[type[Op], list[Rule]] = {}
    for rule in rules:
        for root in rule.roots:
            by_root.setdefault(root, []).append(rule)
    work = deque(graph.nodes if start is None else start)
    queued = set(work)
    budget, recent = 100 * (len(graph) + 100), deque[str](maxlen=100)
    while work:
        node = work.popleft()
        queued.discard(node)
        for rule in by_root.get(type(node.op), ()):
            if node.graph is not graph:
                break
            touched = _fire(graph, rule, node, log)
            budget -= len(touched)
            recent.extend([rule.title] if touched else [])
            if budget < 0:
                raise InvalidGraphError(_endless(list(recent)), node.describe())
            fresh = [n for n in touched if n not in queued and n.graph is graph]
            work.extend(fresh)
            queued.update(fresh)
    return log


def _endless(recent: list[str]) -> str:
    """Which rules go on for ever, from the last that fired."""
    first, *others = dict.fromkeys(recent)
    if not others:
        return f"rule {first} does not come to an end"
    return f"rules {', '.join([first, *others[:-1]])} and {others[-1]} do not come to an end: they undo each other"


def _fire(graph: Graph, rule: Rule, node: Node, log: RewriteLog) -> list[Node]:
    """Try one rule at one node; returns the nodes to look at again."""
    name = rule.title
    outcome = rule.attempt(node)
    if isinstance(outcome, NoMatch):
        log.refused[name, node.results[min(rule.index, len(node.results) - 1)].name or str(node.loc)] = outcome.reason
        return []
    replace_value(graph, node.results[rule.index], outcome, because=name)
    log.applied[name] += 1
    fresh = [n for n in outcome.users if n.graph is graph]
    if outcome.producer is not None and outcome.producer.graph is graph:
        fresh.append(outcome.producer)
        fresh.extend(v.producer for v in outcome.producer.operands if v.producer is not None)
    return [n for n in fresh if not isinstance(n.op, Const)]


def replace_value(graph: Graph, old: Value, new: Value, because: str) -> list[Node]:
    """Put a (detached) value in the place of `old`, which goes with everything that only it needed.

    New nodes without a location get that of the nodes they replace. Returns the nodes that appear, in order. Raises
    InvalidGraphError when the types differ.
    """
    root = old.producer
    if root is None or new is old:
        raise InvalidGraphError(f"{because} replaces an input or a value by itself", repr(old))
    if new.type.bare != old.type.bare:
        raise InvalidGraphError(f"{because} changes the type {old.type} to {new.type}", root.describe())
    # What replaces one of several results may read the others.
    adopted = graph.adopt(new, before=root if len(root.results) == 1 else root.next)
    if new.type.quant is None:
        new.type = new.type.with_quant(old.type.quant)
    if adopted and not new.name:
        new.name = old.name
    graph.replace(old, new)
    dying = _only_for(graph, root)
    loc = NOWHERE
    for node in reversed(dying):
        loc |= node.loc
    for node in adopted:
        if not isinstance(node.op, Const):
            node.loc = node.loc | loc if node.results[0] is new else node.loc or loc
    graph.prune_from([root])
    return adopted


def _only_for(graph: Graph, root: Node) -> list[Node]:
    """The root and the nodes that nothing but the root needs: their source locations pass on to the replacement.

    Of a root whose other results stay in use, only itself.
    """
    found, stack = {root: None}, [root] * (not any(v.uses or graph.is_output(v) for v in root.results))
    while stack:
        for value in stack.pop().operands:
            producer = value.producer
            if producer is not None and producer not in found and graph.only_user(value) in found:
                found[producer] = None
                stack.append(producer)
    return list(found)
