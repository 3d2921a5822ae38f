"""Two executions of one model, layer by layer: how far a transformed graph is from the one that it came from.

Layers are values that both graphs name alike; passes keep the names of what they replace. Each is measured twice:

- as it is: the noise that has come together up to here;
- its own: with what comes before it exact, every operand being the reference's value in the layer's own integers;
- its effects: what each output would be, were that the only noise there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..ir import arithmetic
from ..ir.constant import Const
from ..ir.evaluate import evaluate_node
from ..ir.graph import Graph, Node, Value
from ..ir.types import Array, Layout, TensorType
from ..measuring import taken
from ..runtime.oracle import sqnr_db
from .sources import inlined

#: Samples on which effects are measured: each layer wants a run of its own.
EFFECTS = 8


@dataclass(frozen=True)
class Layer:
    """How far one value is from the reference's, over all samples.

    node: that computes it, of the transformed graph; None for an input. sqnr_db, own_sqnr_db: signal to noise, infinite
    where nothing differs. effects_db: that of each output, with this layer's own noise alone. max_error is absolute;
    steps are that in quantization steps, None for floats.
    """

    name: str
    node: Node | None
    type: TensorType
    sqnr_db: float
    own_sqnr_db: float
    effects_db: dict[str, float]
    max_error: float
    max_steps: float | None
    own_max_steps: float | None

    @property
    def source(self) -> str:
        """Where it came from in the source model."""
        return str(self.node.loc) if self.node is not None and self.node.loc else self.name

    @property
    def effect_db(self) -> float:
        """On the output that suffers most."""
        return min(self.effects_db.values(), default=math.inf)

    def effect_on(self, output: str) -> float:
        """On one output; infinite where the noise does not reach it."""
        return self.effects_db.get(output, math.inf)

    @property
    def op(self) -> str:
        """The operation; the integer one for a layer that was quantized."""
        return "input" if self.node is None else self.node.op.name


def layer_noise(reference: Graph, tested: Graph, samples: Iterable[Mapping[str, Array]]) -> list[Layer]:
    """Every layer that both graphs have, in the order of the transformed one's execution.

    samples: inputs of the reference by name; where the transformed graph takes integers, they are quantized for it.
    """
    reference, tested = inlined(reference), inlined(tested)
    pairs = _pairs(reference, tested)
    found: dict[Value, _Seen] = {value: _Seen() for value in pairs}
    for count, sample in enumerate(samples):
        exact = dict(executed(reference, {v: np.asarray(sample[v.name]) for v in reference.inputs}))
        batch = taken(tested, {name: np.asarray(array)[None] for name, array in sample.items()})
        inputs = {v: batch[v.name][0] for v in tested.inputs}
        for value, array in executed(tested, inputs):
            if value in pairs:
                found[value].add(value, array, pairs[value], exact[pairs[value]])
        _measure_alone(tested, inputs, pairs, exact, found)
        for value, seen in found.items() if count < EFFECTS else ():
            seen.add_effect(reference, exact, pairs[value])
    return [_layer(value, value.name or pairs[value].name, seen) for value, seen in found.items()]


def matched_names(reference: Graph, tested: Graph) -> tuple[int, int]:
    """How many values of the reference have a counterpart, and how many there are."""
    reference, tested = inlined(reference), inlined(tested)
    values = [v for v in _values(reference) if v.producer is not None]
    return len({p for p in _pairs(reference, tested).values() if p.producer is not None}), len(values)


# ---- which values are the same layer


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        if not isinstance(node.op, Const):
            yield from node.results


def _pairs(reference: Graph, tested: Graph) -> dict[Value, Value]:
    """Counterparts in the reference, by values of the transformed graph, in order of execution."""
    named = {v.name: v for v in _values(reference) if v.name}
    outputs = dict(zip(reference.output_names, reference.outputs, strict=True))
    public = {v: outputs.get(name) for name, v in zip(tested.output_names, tested.outputs, strict=True)}
    pairs: dict[Value, Value] = {}
    for value in _values(tested):
        twin = named.get(value.name)
        if twin is None or not _same_source(value, twin):
            twin = public.get(value)
        untouched = value.producer is None and twin is not None and value.type.bare == twin.type.bare
        if twin is not None and not untouched and _comparable(value.type, twin.type):
            pairs[value] = twin
    return pairs


def _same_source(a: Value, b: Value) -> bool:
    """Whether values of one name are the same thing: a number for a name may be the printer's, not the model's."""
    if not a.name.isdigit() or a.producer is None or b.producer is None:
        return True
    return bool(set(a.producer.loc.names) & set(b.producer.loc.names))


def _comparable(a: TensorType, b: TensorType) -> bool:
    """Whether elements of both are real numbers, or the same integers; and the shapes are those of one tensor."""
    meant = all(t.dtype.is_float or t.quant is not None for t in (a, b)) or a.dtype == b.dtype
    return meant and bool(_layouts(a.shape, b.shape))


def _layouts(shape: tuple[object, ...], wanted: tuple[object, ...]) -> list[tuple[int, ...]]:
    """Permutations that give the wanted shape: none at all, and from channels last to channels first."""
    rank = len(shape)
    candidates = [tuple(range(rank)), *([Layout.NHWC.to(Layout.NCHW)] if rank == 4 else [])]
    return [perm for perm in candidates if tuple(shape[i] for i in perm) == wanted]


# ---- executing and measuring


def executed(graph: Graph, inputs: Mapping[Value, Array]) -> Iterator[tuple[Value, Array]]:
    """Every value that is not a constant, with its array, in order of execution."""
    live = dict(inputs)
    yield from inputs.items()
    for node in graph.nodes:
        if not isinstance(node.op, Const):
            results = evaluate_node(node, [_operand(v, live) for v in node.operands])
            live.update(zip(node.results, results, strict=True))
            yield from zip(node.results, results, strict=True)


def _operand(value: Value, live: Mapping[Value, Array]) -> Array:
    constant = value.const
    return live[value] if constant is None else constant


def _measure_alone(
    tested: Graph,
    inputs: Mapping[Value, Array],
    pairs: Mapping[Value, Value],
    exact: Mapping[Value, Array],
    found: Mapping[Value, _Seen],
) -> None:
    """Execute once more; what a layer made is measured, and then replaced by what it should have been."""
    live = dict(inputs)
    for value, array in inputs.items():
        if value in pairs:
            found[value].add_own(value, array, pairs[value], exact[pairs[value]])
            live[value] = _encoded(value, exact[pairs[value]], found[value].perm)
    for node in tested.nodes:
        if isinstance(node.op, Const):
            continue
        results = evaluate_node(node, [_operand(v, live) for v in node.operands])
        for value, array in zip(node.results, results, strict=True):
            live[value] = array
            if value in pairs:
                found[value].add_own(value, array, pairs[value], exact[pairs[value]])
                live[value] = _encoded(value, exact[pairs[value]], found[value].perm)


def _propagated(graph: Graph, exact: Mapping[Value, Array], value: Value, array: Array) -> list[Array]:
    """Outputs of a graph that computed `exact`, had one value been another; only what depends on it is computed."""
    live = {value: array}
    for node in graph.nodes:
        if any(v in live for v in node.operands):
            results = evaluate_node(
                node, [_operand(v, live) if v in live else _operand(v, exact) for v in node.operands]
            )
            live.update(zip(node.results, results, strict=True))
    return [live.get(v, exact[v]) for v in graph.outputs if v in exact]


def _decoded(value: Value, array: Array) -> Array:
    """Real numbers, in double precision."""
    wide, quant = array.astype(np.float64), value.type.quant
    return wide if quant is None or value.type.dtype.is_float else (wide - quant.zero[0]) * quant.scale[0]


def _encoded(value: Value, exact: Array, perm: tuple[int, ...]) -> Array:
    """The reference's numbers as the transformed graph would hold them, in its layout."""
    array = np.transpose(exact, np.argsort(perm))
    dtype, quant = value.type.dtype, value.type.quant
    if dtype.is_integer and quant is not None and array.dtype.kind == "f":
        scale, zero = np.array(quant.scale[0], np.float32), np.array(quant.zero[0])
        array = arithmetic.quantize(array, scale, zero, dtype.min, dtype.max)
    return np.ascontiguousarray(array, dtype.numpy)


class _Seen:
    """What the samples gave for one layer so far."""

    def __init__(self) -> None:
        self.perm: tuple[int, ...] = ()
        self.wanted: list[Array] = []
        self.noise: list[Array] = []
        self.own: list[Array] = []
        self.signal: dict[str, float] = {}
        self.spread: dict[str, float] = {}

    def add(self, value: Value, array: Array, twin: Value, exact: Array) -> None:
        """A sample; the first one decides which layout the value has, where its shape leaves that open."""
        wanted, found = _decoded(twin, exact), _decoded(value, array)
        if not self.wanted:
            perms = _layouts(array.shape, exact.shape)
            self.perm = max(perms, key=lambda perm: sqnr_db(wanted, np.transpose(found, perm)))
        self.wanted.append(wanted.ravel())
        self.noise.append(_noise(wanted, np.transpose(found, self.perm)))

    def add_own(self, value: Value, array: Array, twin: Value, exact: Array) -> None:
        """A sample of the layer alone."""
        self.own.append(_noise(_decoded(twin, exact), np.transpose(_decoded(value, array), self.perm)))

    def add_effect(self, reference: Graph, exact: Mapping[Value, Array], twin: Value) -> None:
        """What the noise of the last sample, of this layer alone, does to the outputs."""
        if not twin.type.dtype.is_float or not np.any(self.own[-1]):
            return
        array = (exact[twin] + self.own[-1].reshape(exact[twin].shape)).astype(exact[twin].dtype)
        found = _propagated(reference, exact, twin, array)
        outputs = [(n, v) for n, v in zip(reference.output_names, reference.outputs, strict=True) if v in exact]
        for (name, v), changed in zip(outputs, found, strict=True):
            before, after = _decoded(v, exact[v]), _decoded(v, changed)
            known = np.isfinite(before) & np.isfinite(after)
            self.signal[name] = self.signal.get(name, 0.0) + float(np.sum(np.square(before[known])))
            self.spread[name] = self.spread.get(name, 0.0) + float(np.sum(np.square((after - before)[known])))


def _noise(wanted: Array, found: Array) -> Array:
    """What is wrong with each element, flat. Of an infinite one nothing: integers have the end of a range for it."""
    known = np.isfinite(wanted)
    return np.where(known, found - np.where(known, wanted, 0.0), 0.0).ravel()


def _layer(value: Value, name: str, seen: _Seen) -> Layer:
    wanted, noise, own = (np.concatenate(parts) for parts in (seen.wanted, seen.noise, seen.own))
    quant = value.type.quant if value.type.dtype.is_integer else None
    largest, own_largest = (float(np.max(np.abs(x), initial=0)) for x in (noise, own))
    steps, own_steps = (None if quant is None else x / quant.scale[0] for x in (largest, own_largest))
    noise_db, own_db = (sqnr_db(wanted, wanted + x) for x in (noise, own))
    effects = {
        output: 10 * math.log10(seen.signal[output] / spread) if seen.signal[output] and spread else math.inf
        for output, spread in seen.spread.items()
    }
    return Layer(name, value.producer, value.type, noise_db, own_db, effects, largest, steps, own_steps)
