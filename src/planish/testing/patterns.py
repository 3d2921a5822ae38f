"""Graphs in which a rule's pattern is planted: drawn operands and attributes, in the midst of a random network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from ..ir.builder import as_value
from ..ir.errors import InferenceError
from ..ir.graph import Graph, Node, Value, apply
from ..ir.op import Op
from ..ir.ops.shape import Concat, Pad, Reshape, Slice, Transpose
from ..ir.pattern import Constant, Either, Literal, OpPattern, Pattern, Variable
from ..ir.rewrite import NoMatch, Rule
from ..ir.types import F32, type_of
from .draw import HypothesisDraw, composite
from .graphs import IMAGE_LAYERS, VECTOR_LAYERS, Network, types
from .uses import USES

#: What is worth planting before an op whose operands no pattern describes.
MOVEMENTS: tuple[type[Op], ...] = (Concat, Slice, Reshape, Transpose, Pad)


#: A drawn value that its rule declines is drawn anew up to so many times: half of the rules decline most of theirs.
ATTEMPTS = 4


@composite
def graphs_with(
    draw: st.DrawFn,
    rules: Sequence[Rule],
    max_dim: int = 4,
    symbolic: bool = False,
    refused: Counter[str] | None = None,
) -> Graph:
    """Float networks that contain the pattern of one of the rules: `graphs_with([MyRule()])`.

    Drawn from the pattern, operand by operand, or by `Rule.examples` where the rule has such. The rule need not fire:
    it may decline what is drawn, and a value inside may have other uses. refused: counts why ops of a pattern did not
    take what was drawn for them; a pattern that contradicts itself gives nothing else.
    """
    rule: Rule = HypothesisDraw(draw).choice(rules)
    graph = None
    for _ in range(ATTEMPTS):
        network = Network(draw)
        try:
            planted = _example_of(rule, network) or _drawn(draw, network, rule.compiled, max_dim, symbolic)
            graph = network.graph(_grown(network, planted))
        except InferenceError as error:
            if refused is not None:
                refused[error.what] += 1
            continue
        if any(_takes(rule, node) for node in graph.nodes):
            break
    return graph if graph is not None else reject()


def _takes(rule: Rule, node: Node) -> bool:
    """Whether the rule does anything but decline the node."""
    if type(node.op) not in rule.roots:
        return False
    try:
        return not isinstance(rule.attempt(node), NoMatch)
    except Exception:  # noqa: BLE001 - a rule that fails has not declined: whoever checks it will want to see that
        return True


def _example_of(rule: Rule, network: Network) -> Value | None:
    """What the rule itself draws, if it does; what is computed there becomes known to the network."""
    example = rule.examples(network.draw)
    stack, seen = [example] if example is not None else [], set[Value]()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value.producer is None:
            network.inputs.append(value)
        else:
            network.values.extend([value] if value.const is None else [])
            stack.extend(value.producer.operands)
    return example


def _drawn(draw: st.DrawFn, network: Network, rooted: Pattern, max_dim: int, symbolic: bool) -> Value:
    """A value of the pattern in the midst of a network."""
    planting = Planting(network)
    pattern = planting.chosen(rooted)
    assert isinstance(pattern, OpPattern)
    if planting.first_op(pattern) in USES:
        rank = 4 if any(map(_is_windowed, planting.ops(pattern))) else None
        planting.seed = _grown(network, network.input(draw(types(rank, max_dim, 1 if rank == 4 else 3, symbolic))))
    return planting.value(pattern)


def _grown(network: Network, x: Value) -> Value:
    """The value, or one layer more."""
    layers = {4: IMAGE_LAYERS, 2: VECTOR_LAYERS}.get(x.type.rank, (Network.activation,))
    return network.grow(x, [network.draw.choice(layers)]) if x.type.dtype == F32 and network.draw.boolean() else x


def _is_windowed(op: type[Op]) -> bool:
    return "strides" in op.__dataclass_fields__


@dataclass
class Planting:
    """One pattern becoming nodes. Its variables, as far as they are not bound, begin with `seed`; None: with examples.

    A pattern that stands in several places is planted once; so is the choice between alternatives made once.
    """

    network: Network
    seed: Value | None = None
    bound: dict[str, Any] = field(default_factory=dict)
    planted: dict[OpPattern, Value] = field(default_factory=dict)
    choices: dict[Either, Pattern] = field(default_factory=dict)

    def chosen(self, part: Pattern) -> Pattern:
        """The pattern, or one of its alternatives."""
        while isinstance(part, Either):
            if part not in self.choices:
                self.choices[part] = self.network.draw.choice(part.alternatives)
            part = self.choices[part]
        return part

    def operands(self, pattern: OpPattern) -> list[Pattern]:
        return [self.chosen(part) for part in pattern.operands]

    def ops(self, pattern: Pattern) -> list[type[Op]]:
        """All ops of the pattern."""
        if not isinstance(pattern, OpPattern):
            return []
        return [pattern.op, *(op for part in self.operands(pattern) for op in self.ops(part))]

    def leading(self, pattern: OpPattern) -> int:
        """The operand that the others are drawn for: a nested op, else a variable, else the first."""
        for kind in (OpPattern, Variable):
            for i, part in enumerate(self.operands(pattern)):
                if isinstance(part, kind):
                    return i
        return 0

    def first_op(self, pattern: OpPattern) -> type[Op]:
        """The innermost op along the leading operands."""
        part = self.operands(pattern)[self.leading(pattern)] if pattern.operands else None
        return self.first_op(part) if isinstance(part, OpPattern) else pattern.op

    def value(self, pattern: OpPattern, seed: Value | None = None) -> Value:
        """The value of a pattern; `seed`: what its variables begin with, instead of the planting's own."""
        if pattern not in self.planted:
            planted = self._planted(pattern, self.seed if seed is None else seed).producer
            assert planted is not None
            self.planted[pattern] = planted.results[pattern.index]
        return self.planted[pattern]

    def _planted(self, pattern: OpPattern, seed: Value | None) -> Value:
        """A pattern without operands names its root alone, and what comes before the root is any data movement."""
        network, parts, at = self.network, self.operands(pattern), self.leading(pattern)
        if not parts and seed is not None:
            seed = network.apply(network.draw.choice(MOVEMENTS), seed)
            network.values.append(seed)
        first = parts[at] if parts else None
        if isinstance(first, OpPattern):
            x = self.value(first, seed)
        elif seed is None:
            return self._example(pattern)
        elif isinstance(first, Constant):
            weights = network.weights(tuple(d if isinstance(d, int) else 1 for d in seed.type.shape))
            x = self.bound.setdefault(first.name, as_value(weights))
        else:
            x = self._begun(first.name, seed) if isinstance(first, Variable) else seed
        given = self._given(pattern)
        constants = any(isinstance(part, Constant) for part in parts)
        attributes, others = network.use(pattern.op, x, given, constants)
        self._bind(pattern, attributes)
        drawn = iter(map(as_value, others))
        beside = seed if pattern.op.elementwise else None
        operands = [x if i == at else self._operand(part, next(drawn, None), beside) for i, part in enumerate(parts)]
        return self._kept(pattern.op(**attributes), operands if parts else [x, *drawn])

    def _begun(self, name: str, seed: Value) -> Value:
        """What a variable begins with: the seed, or where another one has it already, perhaps a new input like it."""
        if name not in self.bound:
            taken = any(value is seed for value in self.bound.values())
            self.bound[name] = self.network.input(seed.type) if taken and self.network.draw.boolean() else seed
        value: Value = self.bound[name]
        return value

    def _given(self, pattern: OpPattern) -> dict[str, Any]:
        """Attributes that are known: given by the pattern, or bound by an op before."""
        resolved = {
            k: self.bound.get(v.name, v) if isinstance(v, Variable) else v for k, v in pattern.attributes.items()
        }
        return {k: v for k, v in resolved.items() if not isinstance(v, Variable)}

    def _bind(self, pattern: OpPattern, attributes: dict[str, Any]) -> None:
        self.bound.update({v.name: attributes[k] for k, v in pattern.attributes.items() if isinstance(v, Variable)})

    def _operand(self, part: Pattern, drawn: Value | None, seed: Value | None) -> Value:
        """An operand beside the leading one, from the value that was drawn for it; a nested op begins with `seed`."""
        if isinstance(part, OpPattern):
            if seed is None and drawn is not None:
                seed = drawn if drawn.const is None else self.network.input(drawn.type)
            return self.value(part, seed)
        if isinstance(part, Variable | Constant) and part.name in self.bound:
            bound: Value = self.bound[part.name]
            return bound
        if drawn is None or (isinstance(part, Constant) and drawn.const is None):
            reject()
        if isinstance(part, Literal):
            return as_value(part.array.astype(drawn.type.dtype.numpy))
        if isinstance(part, Constant) and part.single and drawn.const is not None:
            drawn = as_value(drawn.const.reshape(-1)[0])
        if isinstance(part, Variable) and drawn.const is not None and self.network.draw.boolean():
            drawn = self.network.input(drawn.type)
        if isinstance(part, Variable | Constant):
            self.bound[part.name] = drawn
        return drawn

    def _example(self, pattern: OpPattern) -> Value:
        """The value of a pattern's innermost op, from the op's own examples."""
        instance = pattern.op.examples(self.network.draw)
        parts = self.operands(pattern)
        operands = []
        for i, array in enumerate(instance.operands):
            part = parts[i] if i < len(parts) else None
            value = as_value(array)
            if isinstance(part, Variable | Constant) and part.name in self.bound:
                value = self.bound[part.name]
            elif isinstance(part, Literal):
                value = as_value(np.broadcast_to(part.array, array.shape).astype(array.dtype))
            elif not isinstance(part, Constant) and i not in instance.constants:
                value = self.network.input(type_of(array))
            if isinstance(part, Variable | Constant):
                self.bound[part.name] = value
            operands.append(value)
        op = instance.op.like(**self._given(pattern))
        self._bind(pattern, op.attributes())
        return self._kept(op, operands)

    def _kept(self, op: Op, operands: Sequence[Value]) -> Value:
        """The op applied; later layers may use its result."""
        result = apply(op, *operands).results[0]
        self.network.values.append(result)
        return result
