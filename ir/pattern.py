"""Patterns: what a rewrite rule looks for, written with the op builders.

A pattern is matched from its root (the last op) towards its operands. An attribute that is not given matches any value;
operands of commutative ops match in either order. A failed match says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from .exact import bits
from .graph import Node, Value
from .op import Op, takes
from .types import F64, Array, DType


@dataclass(frozen=True, eq=False)
class Pattern:
    """Base: matches a value."""


@dataclass(frozen=True, eq=False)
class Variable(Pattern):
    """Any value; bound under `name`. The same variable twice must be the same value."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant(Pattern):
    """A constant; its array is bound under `name`. The same name twice must be equal constants.

    single: it has one element.
    """

    name: str
    single: bool = False


@dataclass(frozen=True, eq=False)
class Literal(Pattern):
    """A constant all of whose elements equal this array's, after broadcasting."""

    array: Array


@dataclass(frozen=True, eq=False)
class Either(Pattern):
    """Whatever one of the alternatives matches; the first that lets the rest of the pattern match."""

    alternatives: tuple[Pattern, ...]


@dataclass(frozen=True, eq=False)
class OpPattern(Pattern):
    """Result `index` of an op with these operands and (some of) these attributes.

    An attribute that is a variable is bound under its name; the same variable twice must be equal attributes.
    """

    op: type[Op]
    operands: tuple[Pattern, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    single_use: bool = False
    index: int = 0


def match_op(op: type[Op], operands: Sequence[Any], attributes: dict[str, Any], name: str) -> OpPattern:
    """What a builder makes of patterns; plain arrays and numbers among the operands become literals.

    Raises TypeError for what could never match: an attribute that the op does not have, a value of another kind, a
    number of operands that the op does not take.
    """
    kinds = _kinds(op)  # type: ignore[arg-type]  # classes are hashable
    if unknown := set(attributes) - set(op.__dataclass_fields__):
        raise TypeError(f"{op.name} has no attribute {', '.join(sorted(unknown))}")
    for attribute, value in attributes.items():
        if not isinstance(value, Pattern) and not _possible(value, kinds[attribute]):
            raise TypeError(f"{attribute} of {op.name} is never {value!r}: the pattern could not match")
    if not takes(op, len(operands)):  # type: ignore[arg-type]
        raise TypeError(f"{op.name} never has {len(operands)} operands: the pattern could not match")
    return OpPattern(op, tuple(map(_part, operands)), attributes, name or op.name)


def _part(operand: Any) -> Pattern:
    return operand if isinstance(operand, Pattern) else Literal(np.asarray(operand))


@cache
def _kinds(cls: type[Op]) -> dict[str, Any]:
    return get_type_hints(cls)


def _possible(value: Any, kind: Any) -> bool:
    """Whether an attribute of this annotation could equal the value."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_possible(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1:] == (Ellipsis,):
            return all(_possible(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(_possible, value, arguments))
    if kind in (int, float, bool):
        return isinstance(value, (int, float)) and value == value
    return not isinstance(kind, type) or isinstance(value, kind)


def const(pattern: Any) -> Pattern:
    """In a pattern: this variable is a constant, and the rewrite gets its array."""
    if isinstance(pattern, Variable):
        return Constant(pattern.name)
    raise TypeError("const() takes a pattern variable")


def one(pattern: Any) -> Pattern:
    """In a pattern: this variable is a constant of one element, and the rewrite gets its array."""
    if isinstance(pattern, Variable):
        return Constant(pattern.name, single=True)
    raise TypeError("one() takes a pattern variable")


def either(*alternatives: Any) -> Pattern:
    """In a pattern: one of several ways to write the same."""
    return Either(tuple(map(_part, alternatives)))


def only_use(pattern: Any) -> Pattern:
    """In a pattern: nothing else uses this result (and it is no output of the graph)."""
    if isinstance(pattern, OpPattern):
        return replace(pattern, single_use=True)
    raise TypeError("only_use() takes an op in a pattern")


def variables_of(pattern: Pattern) -> set[str]:
    """Names under which a match of this pattern, or of one of its alternatives, binds something."""
    match pattern:
        case Variable(name) | Constant(name):
            return {name}
        case Either(alternatives):
            return {name for alternative in alternatives for name in variables_of(alternative)}
        case OpPattern():
            bound = {value.name for value in pattern.attributes.values() if isinstance(value, Variable)}
            return bound.union(*map(variables_of, pattern.operands))
    return set()


def result(pattern: Any, index: int) -> Pattern:
    """In a pattern: this result of an op that has several; without it, the first is meant."""
    if isinstance(pattern, OpPattern) and index >= 0:
        return replace(pattern, index=index)
    raise TypeError("result() takes an op in a pattern, and the index of one of its results")


@dataclass(frozen=True)
class Mismatch:
    """Why a pattern did not match; `depth` counts the ops that had matched: the deepest reason is the one to tell."""

    reason: str
    depth: int


@dataclass(frozen=True)
class Bindings:
    """What a match has found so far: values, arrays and attributes by variable name, nodes by pattern name.

    matched: all nodes, those included that a pattern does not tell apart by name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    matched: tuple[Node, ...] = ()

    def shared(self) -> Iterator[Node]:
        """Matched nodes, the root left out, whose results serve something outside of the match as well."""
        for node in self.matched[1:]:
            for value in node.results:
                outside = node.graph is not None and node.graph.is_output(value)
                if outside or any(user not in self.matched for user, _ in value.uses):
                    yield node


def match(pattern: Pattern, value: Value) -> Bindings | Mismatch:
    """Match the pattern against a value and what computes it."""
    deepest = Mismatch("", -1)
    for attempt in _match(pattern, value, Bindings()):
        if isinstance(attempt, Bindings):
            return attempt
        if attempt.depth > deepest.depth:
            deepest = attempt
    return deepest


def _match(pattern: Pattern, value: Value, found: Bindings) -> Iterator[Bindings | Mismatch]:
    """All ways to match, interleaved with the reasons of those that fail."""
    match pattern:
        case Variable(name):
            bound = found.values.get(name, value)
            if bound is value:
                yield replace(found, values={**found.values, name: value})
            else:
                yield Mismatch(f"{name} would be two different values", len(found.matched))
        case Constant(name, single):
            if (array := value.const) is None:
                yield Mismatch(f"{name} is not a constant", len(found.matched))
            elif single and array.size != 1:
                yield Mismatch(f"{name} is not one number", len(found.matched))
            elif not _same(found.values.get(name, array), array):
                yield Mismatch(f"{name} would be two different constants", len(found.matched))
            else:
                yield replace(found, values={**found.values, name: array})
        case Literal(array):
            if value.const is not None and _equals(value.const, array):
                yield found
            else:
                yield Mismatch(f"an operand is not the constant {array.tolist()}", len(found.matched))
        case Either(alternatives):
            for alternative in alternatives:
                yield from _match(alternative, value, found)
        case OpPattern():
            yield from _match_op(pattern, value, found)


def _match_op(pattern: OpPattern, value: Value, found: Bindings) -> Iterator[Bindings | Mismatch]:
    depth, node = len(found.matched), value.producer
    if node is None or not isinstance(node.op, pattern.op):
        actual = node.op.name if node is not None else "an input"
        yield Mismatch(f"expected {pattern.op.name}, found {actual}", depth)
        return
    if value.index != pattern.index:
        name = pattern.op.name
        yield Mismatch(
            f"expected result {pattern.index} of {name}, found result {value.index} of {node.op.name}", depth
        )
        return
    if pattern.single_use and (len(value.uses) != 1 or (node.graph is not None and node.graph.is_output(value))):
        yield Mismatch(f"the result of {pattern.op.name} has other uses", depth + 1)
        return
    values = dict(found.values)
    for name, wanted in pattern.attributes.items():
        actual = getattr(node.op, name)
        expected = values.setdefault(wanted.name, actual) if isinstance(wanted, Variable) else wanted
        if not _agree(actual, expected, value.type.dtype):
            yield Mismatch(f"{pattern.op.name} has {name}={actual}, expected {expected}", depth + 1)
            return
    if len(pattern.operands) != len(node.operands):
        yield Mismatch(
            f"{pattern.op.name} has {len(node.operands)} operands, expected {len(pattern.operands)}", depth + 1
        )
        return
    matched = found.matched if node in found.matched else (*found.matched, node)
    entered = Bindings(values, {**found.nodes, pattern.name: node}, matched)
    orders = [pattern.operands]
    if node.op.commutative and len(pattern.operands) == 2:
        orders.append(pattern.operands[::-1])
    for operands in orders:
        yield from _match_all(operands, node.operands, entered)


def _match_all(patterns: Sequence[Pattern], values: Sequence[Value], found: Bindings) -> Iterator[Bindings | Mismatch]:
    if not patterns:
        yield found
        return
    for attempt in _match(patterns[0], values[0], found):
        if isinstance(attempt, Mismatch):
            yield attempt
        else:
            yield from _match_all(patterns[1:], values[1:], attempt)


def _same(bound: Value | Array, array: Array) -> bool:
    """Whether what is bound is this constant: equal type, equal bits."""
    if not isinstance(bound, np.ndarray):
        return bound.const is not None and _same(bound.const, array)
    return (bound.dtype, bound.shape, bits(bound)) == (array.dtype, array.shape, bits(array))


def _agree(actual: Any, expected: Any, dtype: DType) -> bool:
    """Whether attributes are equal; floats, as float32 holds them, unless the node computes in double precision."""
    if isinstance(actual, float) and isinstance(expected, float) and dtype is not F64:
        return bool(np.float32(actual) == np.float32(expected))
    return bool(actual == expected)


def _equals(value: Array, literal: Array) -> bool:
    # Exact numbers were float32 once: a literal matches as it is, or as float32 holds it.
    dtypes = [value.dtype] if value.dtype != object else [np.dtype(np.object_), np.dtype(np.float32)]
    try:
        return any(bool(np.all(value == np.broadcast_to(literal.astype(d), value.shape))) for d in dtypes)
    except ValueError:
        return False
