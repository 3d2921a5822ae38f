"""What static quantization decides before it changes the graph: which nodes, which scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir import arithmetic
from ..ir.channels import components
from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value
from ..ir.ops.elementwise import Clip
from ..ir.quantized import QuantizedOperand, QuantizedResult, Refusal
from ..ir.types import F32, I8, Array, Quant, TensorType
from .calibration import Method, Statistics, quantization


@dataclass(frozen=True, eq=False)
class Unit:
    """A float node that may become integer, together with the clips that alone use its result.

    result: the value after those clips, the one whose range counts; so the clip becomes a clamp on the integers.
    """

    node: Node
    result: Value

    @property
    def activations(self) -> list[Value]:
        """Operands that are float tensors and not constants."""
        return [v for v in self.node.operands if v.const is None and v.type.dtype.is_float]

    def wants_symmetric(self, value: Value) -> bool:
        """Whether integers of this operand need zero point 0."""
        pairs = zip(self.node.operands, self.node.roles, strict=True)
        return any(role.symmetric for operand, role in pairs if operand is value)

    @property
    def place(self) -> tuple[str, str]:
        """Op and source, as refusals are reported."""
        return self.node.op.name, str(self.node.loc) if self.node.loc else f"%{self.node.result.name or '?'}"

    @property
    def gains(self) -> bool:
        """Whether integers pay even between two float neighbours."""
        return not (self.node.op.keeps_scale or self.node.op.elementwise)


def units(graph: Graph) -> Iterator[Unit]:
    """All candidates of a float graph, in order."""
    absorbed: set[Node] = set()
    for node in graph.nodes:
        if node in absorbed or isinstance(node.op, Const) or len(node.results) != 1:
            continue
        if not node.result.type.dtype.is_float or not any(v.type.dtype.is_float for v in node.operands):
            continue
        result = node.result
        while (user := graph.only_user(result)) is not None and isinstance(user.op, Clip):
            absorbed.add(user)
            result = user.result
        if (unit := Unit(node, result)).activations:
            yield unit


def activation_quants(
    graph: Graph,
    candidates: Sequence[Unit],
    statistics: Mapping[Value, Statistics],
    method: Method,
) -> dict[Value, Quant]:
    """One scale per activation; those that an op only moves or compares share theirs with its result, so it is free.

    candidates: units that may become integer. Where the op has several operands, one keeps a scale of its own if it has
    other users, or if a common scale would lose it or another.
    """
    groups = _Groups(statistics)
    for unit in candidates:
        if unit.node.op.keeps_scale:
            for v in unit.activations:
                if len(unit.activations) == 1 or (
                    graph.only_user(v) is unit.node and groups.may_unite(v, unit.result, method)
                ):
                    groups.unite(v, unit.result)
    producers: dict[Value, list[Unit]] = {}
    for unit in candidates:
        if not unit.node.op.keeps_scale:
            producers.setdefault(groups.find(unit.result), []).append(unit)
    symmetric = {groups.find(v) for unit in candidates for v in unit.activations if unit.wants_symmetric(v)}

    quants: dict[Value, Quant] = {}
    for root, group in groups.members.items():
        natural = {u.node.op.natural_quant if u.node.result is u.result else None for u in producers.get(root, [])}
        fixed = natural.pop() if len(natural) == 1 and not any(v.producer is None for v in group) else None
        if fixed is None or root in symmetric:
            chosen = method(Statistics.of([statistics[v] for v in group]), root in symmetric)
            # No scale is finer than that of the op's own integer form: there are no steps between its steps.
            fixed = chosen if fixed is None else Quant.of(max(chosen.scale[0], fixed.scale[0]), chosen.zero[0])
        quants.update(dict.fromkeys(group, fixed))
    return quants


class _Groups:
    """Values that share a scale."""

    def __init__(self, statistics: Mapping[Value, Statistics]) -> None:
        self.statistics = statistics
        self._root = {v: v for v in statistics}
        self.members = {v: [v] for v in statistics}

    def find(self, value: Value) -> Value:
        """The value that stands for a group."""
        while self._root[value] is not value:
            value = self._root[value]
        return value

    def unite(self, a: Value, b: Value) -> None:
        """Let the groups of two values share one scale; the first's representative is that of both."""
        kept, gone = self.find(a), self.find(b)
        if kept is not gone:
            self._root[gone] = kept
            self.members[kept] += self.members.pop(gone)

    def may_unite(self, a: Value, b: Value, method: Method) -> bool:
        """Whether none of both groups would lose too much at one scale."""
        seen = [self.statistics[v] for v in (*self.members[self.find(a)], *self.members[self.find(b)])]
        quant = quantization(min(s.lo for s in seen), max(s.hi for s in seen))
        return not any(s.is_lost(quant, method) for s in seen)


@dataclass
class Plan:
    """Units that become integer, the integers and scales of their weights, and constants that are rounded for them.

    largest: the magnitude that integers of weights have at most.
    """

    quants: Mapping[Value, Quant]
    units: list[Unit] = field(default_factory=list)
    weights: dict[tuple[Node, int], tuple[Array, Array]] = field(default_factory=dict)
    largest: int = 127
    rounded: dict[tuple[Node, int], Array] = field(default_factory=dict)

    def attempt(self, unit: Unit, per_channel: bool) -> str | None:
        """Take the unit if its op accepts the operands as they would be; else say why not.

        Where only the proof against overflow fails, the weights' scales grow until it holds; where only a bias lies
        between the steps of its products, it moves to the nearest.
        """
        node, quant = unit.node, self.quants[unit.result]
        result = QuantizedResult(unit.result.type, I8, quant.scale[0], quant.zero[0], I8.min, I8.max)
        scales = {
            i: weight_scale(w, role.output if per_channel else None, self.largest)
            for i, role in node.weights.items()
            if (w := node.operands[i].const) is not None and w.dtype == F32.numpy
        }
        reason, rounded = "", dict[int, Array]()
        for _ in range(4):
            weights = {
                i: quantized_weights(np.asarray(node.operands[i].const), scale, self.largest)
                for i, scale in scales.items()
            }
            operands = [self._operand(v, weights.get(i), scales.get(i)) for i, v in enumerate(node.operands)]
            operands = [replace(o, real=rounded.get(i, o.real)) for i, o in enumerate(operands)]
            outcome = node.op.quantized(operands, result)
            if not isinstance(outcome, Refusal):
                self.units.append(unit)
                self.weights.update({(node, i): (weights[i], scales[i]) for i in scales})
                self.rounded.update({(node, i): array for i, array in rounded.items()})
                return None
            reason, excess, rounded = outcome.reason, outcome.excess, dict(outcome.rounded)
            if excess is not None:
                scales = {i: enlarged(scale, excess) for i, scale in scales.items()}
            elif not rounded:
                break
        return reason

    def _operand(self, value: Value, weights: Array | None, scale: Array | None) -> QuantizedOperand:
        from ..ir.builder import const_value

        if weights is not None and scale is not None:
            return QuantizedOperand(
                value.type, const_value(weights), scale.astype(np.float64), np.array(0), value.const
            )
        if value.const is not None or value not in self.quants:
            return QuantizedOperand(value.type, None, np.array(1.0), np.array(0), value.const)
        quant = self.quants[value]
        integers = Value(TensorType(value.type.shape, I8, quant), value.name)
        return QuantizedOperand(value.type, integers, np.array(quant.scale[0]), np.array(quant.zero[0]))

    def drop_lone(self) -> None:
        """Leave out what lies between floats and gains nothing: integers would only lose precision.

        That are regions of movements, however many, and single elementwise ops.
        """
        regions = _regions(self.units)
        members: dict[int, list[Unit]] = {}
        for unit, region in zip(self.units, regions, strict=True):
            members.setdefault(region, []).append(unit)
        self.units = [unit for unit, region in zip(self.units, regions, strict=True) if _pays(members[region])]


def _regions(units: Sequence[Unit]) -> list[int]:
    """A number for each unit, the same for those that are connected by integers that one makes and another takes."""
    number = {unit.result: i for i, unit in enumerate(units)}
    edges = [(number[v], i) for i, unit in enumerate(units) for v in unit.activations if v in number]
    a, b = np.array(edges, int).reshape(-1, 2).T
    regions: list[int] = components(a, b, len(units))[0].tolist()
    return regions


def _pays(region: Sequence[Unit]) -> bool:
    if any(unit.gains for unit in region):
        return True
    return len(region) > 1 and not all(unit.node.op.keeps_scale for unit in region)


def weight_scale(w: Array, axis: int | None, limit: int) -> Array:
    """Symmetric scales (float32) for weights in [-limit, limit]: for each index of an axis, [1, O, 1], or one, [].

    Channels of zeros take the largest scale of the others.
    """
    others = tuple(i for i in range(w.ndim) if i != axis)
    largest = np.abs(w).max() if axis is None else np.abs(w).max(axis=others, keepdims=True)
    largest = np.where(largest > 0, largest, largest.max()).astype(np.float64)
    scale = np.where(largest > 0, largest, 1.0) / limit
    return np.asarray(np.maximum(scale, np.finfo(np.float32).tiny), np.float32)


def enlarged(scale: Array, excess: Array) -> Array:
    """Scales large enough that what was `excess` [O] times too large fits; a little more, for rounding."""
    factor = np.where(excess > 1, excess * 1.01, 1.0)
    factor = factor.reshape(scale.shape) if scale.size > 1 else factor.max()
    return np.asarray(scale * factor, np.float32)


def quantized_weights(w: Array, scale: Array, limit: int) -> Array:
    """Weights as i8 in [-limit, limit]."""
    return arithmetic.quantize(w, scale, np.array(0), -limit, limit).astype(np.int8)
