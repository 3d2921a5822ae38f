"""What static quantization decides before it changes the graph: which nodes, which scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir.builder import const_value
from ..ir.channels import components
from ..ir.constant import Const
from ..ir.graph import Graph, Node, Value
from ..ir.ops.elementwise import Clip
from ..ir.ops.quant import dequantize
from ..ir.ops.quantized import QuantizedOperand, QuantizedResult, Refusal, integer_form
from ..ir.roles import Role
from ..ir.scheme import Encoding, Recipe, Scheme
from ..ir.types import F32, Array, TensorType
from .calibration import Calibrator, Statistics


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


def activation_encodings(
    graph: Graph,
    candidates: Sequence[Unit],
    statistics: Mapping[Value, Statistics],
    calibrator: Calibrator,
) -> dict[Value, Encoding]:
    """One scale per activation; those that an op only moves or compares share theirs with its result, so it is free.

    candidates: units that may become integer. Where the op has several operands, one keeps a scale of its own if it has
    other users, or if a common scale would lose it or another.
    """
    groups = _Groups(statistics)
    for unit in candidates:
        if unit.node.op.keeps_scale:
            for v in unit.activations:
                if len(unit.activations) == 1 or (
                    graph.only_user(v) is unit.node and groups.may_unite(v, unit.result, calibrator)
                ):
                    groups.unite(v, unit.result)
    producers: dict[Value, list[Unit]] = {}
    for unit in candidates:
        if not unit.node.op.keeps_scale:
            producers.setdefault(groups.find(unit.result), []).append(unit)
    symmetric = {groups.find(v) for unit in candidates for v in unit.activations if unit.wants_symmetric(v)}

    encodings: dict[Value, Encoding] = {}
    for root, group in groups.members.items():
        known = {u.node.op.natural_range if u.node.result is u.result else None for u in producers.get(root, [])}
        ends = known.pop() if len(known) == 1 and not any(v.producer is None for v in group) else None
        natural = None if ends is None else calibrator.scheme.natural(*ends)
        if natural is None or root in symmetric:
            chosen = calibrator.encoding(Statistics.of([statistics[v] for v in group]), root in symmetric)
            # No scale is finer than that of the op's own integer form: there are no steps between its steps.
            natural = chosen if natural is None else replace(chosen, scale=max(chosen.scale, natural.scale))
        encodings.update(dict.fromkeys(group, natural))
    return encodings


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

    def may_unite(self, a: Value, b: Value, calibrator: Calibrator) -> bool:
        """Whether none of both groups would lose too much at one scale."""
        seen = [self.statistics[v] for v in (*self.members[self.find(a)], *self.members[self.find(b)])]
        common = calibrator.scheme.encoding(min(s.lo for s in seen), max(s.hi for s in seen))
        return not any(calibrator.is_lost(s, common) for s in seen)


@dataclass(frozen=True)
class Weights:
    """A weight as integers: codes, and scales (float32) and zero points (int64) that broadcast to them."""

    scheme: Scheme
    codes: Array
    scale: Array
    zero: Array

    @staticmethod
    def of(w: Array, role: Role, scheme: Scheme) -> Weights:
        """The nearest codes. Raises ValueError for weights that are not finite."""
        return Weights._coded(w, scheme, *scheme.of_weights(w, role))

    @staticmethod
    def _coded(w: Array, scheme: Scheme, scale: Array, zero: Array) -> Weights:
        codes = scheme.codes(w, scale, zero)
        return Weights(scheme, codes, *(scheme.spread(part, w.shape) for part in (scale, zero)))

    @property
    def is_smaller(self) -> bool:
        """Whether codes and scales take fewer bytes than floats."""
        codes = TensorType(self.codes.shape, self.scheme.dtype)
        return bool(codes.nbytes + self.scale.nbytes < self.codes.size * F32.bits // 8)

    def enlarged(self, w: Array, role: Role, excess: Array) -> Weights:
        """With scales so large that what was `excess` [O] times too large fits; a little larger, for rounding."""
        factor = np.where(excess > 1, excess * 1.01, 1.0)
        per_output = [-1 if axis == role.output else 1 for axis in range(w.ndim)]
        factor = factor.reshape(per_output) if self.scale.size > 1 else factor.max()
        return self._coded(w, self.scheme, np.asarray(self.scale * factor, np.float32), self.zero)

    def reals(self, named: str = "") -> Value:
        """A node that dequantizes the codes, detached."""
        zero = self.zero if self.zero.any() else np.array(0)
        value: Value = dequantize(self.codes, self.scale, zero.astype(self.codes.dtype), named=named)
        return value


@dataclass
class Plan:
    """Units that become integer, the integers of their weights, and constants that are rounded for them."""

    recipe: Recipe
    encodings: Mapping[Value, Encoding]
    units: list[Unit] = field(default_factory=list)
    weights: dict[tuple[Node, int], Weights] = field(default_factory=dict)
    rounded: dict[tuple[Node, int], Array] = field(default_factory=dict)

    def attempt(self, unit: Unit) -> str | None:
        """Take the unit if its op accepts the operands as they would be; else say why not.

        Where only the proof against overflow fails, the weights' scales grow until it holds; where only a bias lies
        between the steps of its products, it moves to the nearest.
        """
        node, encoding = unit.node, self.encodings[unit.result]
        result = QuantizedResult(
            unit.result.type, encoding.dtype, encoding.scale, encoding.zero, encoding.lo, encoding.hi
        )
        roles, rounded, reason = node.weights, dict[int, Array](), ""
        reals = {i: w for i in roles if (w := node.operands[i].const) is not None and w.dtype == F32.numpy}
        if not all(np.isfinite(w).all() for w in reals.values()):
            return "its weights are not finite"
        schemes = {i: scheme for i in reals if (scheme := self.recipe.of(roles[i])) is not None}
        weights = {i: Weights.of(reals[i], roles[i], scheme) for i, scheme in schemes.items()}
        for _ in range(4):
            operands = [self._operand(v, weights.get(i)) for i, v in enumerate(node.operands)]
            operands = [replace(o, real=rounded.get(i, o.real)) for i, o in enumerate(operands)]
            outcome = integer_form(node.op, operands, result)
            if not isinstance(outcome, Refusal):
                self.units.append(unit)
                self.weights.update({(node, i): found for i, found in weights.items()})
                self.rounded.update({(node, i): array for i, array in rounded.items()})
                return None
            reason, excess, rounded = outcome.reason, outcome.excess, dict(outcome.rounded)
            if excess is not None:
                weights = {i: found.enlarged(reals[i], roles[i], excess) for i, found in weights.items()}
            elif not rounded:
                break
        return reason

    def _operand(self, value: Value, weights: Weights | None) -> QuantizedOperand:
        if weights is not None:
            scale, zero = weights.scale.astype(np.float64), weights.zero if weights.zero.any() else np.array(0)
            return QuantizedOperand(value.type, const_value(weights.codes), scale, zero, value.const)
        if value.const is not None or value not in self.encodings:
            return QuantizedOperand(value.type, None, np.array(1.0), np.array(0), value.const)
        encoding = self.encodings[value]
        integers = Value(TensorType(value.type.shape, encoding.dtype, encoding.quant), value.name)
        return QuantizedOperand(value.type, integers, np.array(encoding.scale), np.array(encoding.zero))

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
