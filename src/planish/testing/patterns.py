"""Graphs in which a rule's pattern is planted: drawn operands and attributes, in the midst of a random network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from ..ir.builder import as_value
from ..ir.errors import InferenceError
from ..ir.graph import Graph, Node, Value, apply
from ..ir.op import Op
from ..ir.ops.shape import Concat, Pad, Reshape, Slice, Transpose
from ..ir.pattern import Constant, Literal, OpPattern, Pattern, Variable
from ..ir.rewrite import NoMatch, Rule
from ..ir.types import F32, type_of
from .draw import HypothesisDraw
from .graphs import IMAGE_LAYERS, VECTOR_LAYERS, Network, types
from .uses import USES

#: What is worth planting before an op whose operands no pattern describes.
MOVEMENTS: tuple[type[Op], ...] = (Concat, Slice, Reshape, Transpose, Pad)


#: A drawn value that its rule declines is drawn anew up to so many times: half of the rules decline most of theirs.
ATTEMPTS = 4


@st.composite
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
    if type(node.op) is not rule.compiled.op:
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


def _drawn(draw: st.DrawFn, network: Network, pattern: OpPattern, max_dim: int, symbolic: bool) -> Value:
    """A value of the pattern in the midst of a network."""
    seed = None
    if _first_op(pattern) in USES:
        rank = 4 if any(map(_is_windowed, _ops(pattern))) else None
        seed = _grown(network, network.input(draw(types(rank, max_dim, 1 if rank == 4 else 3, symbolic))))
    return _planted(network, pattern, seed, {})


def _grown(network: Network, x: Value) -> Value:
    """The value, or one layer more."""
    layers = {4: IMAGE_LAYERS, 2: VECTOR_LAYERS}.get(x.type.rank, (Network.activation,))
    return network.grow(x, [network.draw.choice(layers)]) if x.type.dtype == F32 and network.draw.boolean() else x


def _is_windowed(op: type[Op]) -> bool:
    return "strides" in op.__dataclass_fields__


def _ops(pattern: Pattern) -> list[type[Op]]:
    if not isinstance(pattern, OpPattern):
        return []
    return [pattern.op, *(op for part in pattern.operands for op in _ops(part))]


def _leading(pattern: OpPattern) -> int:
    """The operand that the others are drawn for: a nested op, else a variable, else the first."""
    for kind in (OpPattern, Variable):
        for i, part in enumerate(pattern.operands):
            if isinstance(part, kind):
                return i
    return 0


def _first_op(pattern: OpPattern) -> type[Op]:
    """The innermost op along the leading operands."""
    part = pattern.operands[_leading(pattern)] if pattern.operands else None
    return _first_op(part) if isinstance(part, OpPattern) else pattern.op


def _planted(network: Network, pattern: OpPattern, seed: Value | None, bound: dict[str, Value]) -> Value:
    """The value of a pattern whose variables, as far as they are not bound, begin with `seed`; None: with an example.

    A pattern without operands names its root alone, and what comes before the root is any data movement.
    """
    if not pattern.operands and seed is not None:
        seed = network.apply(network.draw.choice(MOVEMENTS), seed)
        network.values.append(seed)
    at = _leading(pattern)
    first = pattern.operands[at] if pattern.operands else None
    if isinstance(first, OpPattern):
        x = _planted(network, first, seed, bound)
    elif seed is None:
        return _example(network, pattern, bound)
    elif isinstance(first, Constant):
        x = as_value(network.weights(tuple(d if isinstance(d, int) else 1 for d in seed.type.shape)))
        x = bound.setdefault(first.name, x)
    else:
        x = bound.setdefault(first.name, seed) if isinstance(first, Variable) else seed
    constants = any(isinstance(part, Constant) for part in pattern.operands)
    attributes, others = network.use(pattern.op, x, pattern.attributes, constants)
    operands = [x, *map(as_value, others)]
    if pattern.operands:
        drawn = iter(operands[1:])
        operands = [
            x if i == at else _operand(network, part, next(drawn, None), seed, bound)
            for i, part in enumerate(pattern.operands)
        ]
    return _kept(network, pattern.op(**attributes), operands)


def _operand(
    network: Network, part: Pattern, drawn: Value | None, seed: Value | None, bound: dict[str, Value]
) -> Value:
    """An operand beside the leading one, from the value that was drawn for it."""
    if isinstance(part, OpPattern):
        return _planted(network, part, seed, bound)
    if isinstance(part, Variable | Constant) and part.name in bound:
        return bound[part.name]
    if drawn is None or (isinstance(part, Constant) and drawn.const is None):
        reject()
    if isinstance(part, Literal):
        return as_value(part.array.astype(drawn.type.dtype.numpy))
    if isinstance(part, Variable) and drawn.const is not None and network.draw.choice([False, False, True]):
        drawn = network.input(drawn.type)
    if isinstance(part, Variable | Constant):
        bound[part.name] = drawn
    return drawn


def _example(network: Network, pattern: OpPattern, bound: dict[str, Value]) -> Value:
    """The value of a pattern's innermost op, from the op's own examples."""
    instance = pattern.op.examples(network.draw)
    operands = []
    for i, array in enumerate(instance.operands):
        part = pattern.operands[i] if i < len(pattern.operands) else None
        value = as_value(array)
        if isinstance(part, Variable | Constant) and part.name in bound:
            value = bound[part.name]
        elif isinstance(part, Literal):
            value = as_value(np.broadcast_to(part.array, array.shape).astype(array.dtype))
        elif not isinstance(part, Constant) and i not in instance.constants:
            value = network.input(type_of(array))
        if isinstance(part, Variable | Constant):
            bound[part.name] = value
        operands.append(value)
    return _kept(network, instance.op.like(**pattern.attributes), operands)


def _kept(network: Network, op: Op, operands: Sequence[Value]) -> Value:
    """The op applied; later layers may use its result."""
    result = apply(op, *operands).results[0]
    network.values.append(result)
    return result
