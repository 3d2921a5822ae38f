"""The SSA graph: values, nodes, use-def chains, and the graph that owns them.

Nodes are born detached (`apply`, or the builders in `ir/builder.py`): they know their operands, but no operand knows
them. `Graph(inputs, outputs)` collects what its outputs need; `Graph.insert` adopts detached nodes later. So a builder
needs no insertion point and an abandoned rewrite leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from .errors import InferenceError, InvalidGraphError
from .op import Op, takes
from .roles import Role
from .types import Array, TensorType


class Loc:
    """Where a node came from: names of nodes of the source model, in order, each once, and their source operators.

    The union of two places is kept as the two of them until its names are asked for: a chain of any length may become
    one node.
    """

    __slots__ = ("_names", "_parts")

    def __init__(self, names: tuple[str, ...] = ()) -> None:
        self._names: tuple[str, ...] | None = names
        self._parts: tuple[Loc, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        if self._names is None:
            self._names = tuple(dict.fromkeys(name for part in self._leaves() for name in part._names or ()))
            self._parts = ()
        return self._names

    def _leaves(self) -> Iterator[Loc]:
        """The parts of parts whose names are known, from left to right, each once."""
        seen: set[int] = set()
        stack = [self]
        while stack:
            loc = stack.pop()
            if id(loc) in seen:
                continue
            seen.add(id(loc))
            if loc._names is None:
                stack.extend(reversed(loc._parts))
            else:
                yield loc

    def __or__(self, other: Loc) -> Loc:
        if self is other or not other:
            return self
        if not self:
            return other
        union = Loc()
        union._names, union._parts = None, (self, other)
        return union

    def __bool__(self) -> bool:
        return self._names != ()

    def __eq__(self, other: object) -> bool:
        return self.names == other.names if isinstance(other, Loc) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def __reduce__(self) -> tuple[type[Loc], tuple[tuple[str, ...]]]:
        return Loc, (self.names,)

    def __repr__(self) -> str:
        return f"Loc({self.names!r})"

    def __str__(self) -> str:
        return " + ".join(self.names) if self.names else "(no source)"


class Value:
    """A tensor in the graph: an input of the graph (`producer` None) or result `index` of a node."""

    __slots__ = ("index", "name", "producer", "type", "uses")

    def __init__(self, type: TensorType, name: str = "", producer: Node | None = None, index: int = 0) -> None:
        self.type = type
        self.name = name
        self.producer = producer
        self.index = index
        #: (node, operand index) of every use by a node that is in a graph; a dict keeps them ordered.
        self.uses: dict[tuple[Node, int], None] = {}

    @property
    def users(self) -> list[Node]:
        """Nodes that use this value, each once, in order of their first use."""
        return list(dict.fromkeys(node for node, _ in self.uses))

    @property
    def const(self) -> Array | None:
        """The array, where the producer is a constant; else None."""
        return self.producer.op.data if self.producer is not None else None

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


class Node:
    """One application of an op. Operands are changed through the graph, so that uses stay true."""

    __slots__ = ("graph", "loc", "next", "op", "operands", "prev", "results")

    def __init__(self, op: Op, operands: Sequence[Value], types: Sequence[TensorType], loc: Loc) -> None:
        self.op = op
        self.operands: tuple[Value, ...] = tuple(operands)
        self.results: tuple[Value, ...] = tuple(Value(t, producer=self, index=i) for i, t in enumerate(types))
        self.loc = loc
        self.graph: Graph | None = None
        self.prev: Node | None = None
        self.next: Node | None = None

    @property
    def result(self) -> Value:
        """The only result."""
        (result,) = self.results
        return result

    @property
    def live_results(self) -> tuple[Value, ...]:
        """Results that other nodes or the graph's outputs use; all of them where nothing uses any."""
        live = [v for v in self.results if v.uses or (self.graph is not None and self.graph.is_output(v))]
        return tuple(live) or self.results

    @property
    def roles(self) -> tuple[Role, ...]:
        """What each operand is to the op."""
        return self.op.roles([v.type.bare for v in self.operands])

    @property
    def weights(self) -> dict[int, Role]:
        """The roles of the operands that are weights, by position."""
        return {i: role for i, role in enumerate(self.roles) if role.is_weight}

    def describe(self) -> str:
        """For errors: op, operand types, source names."""
        operands = ", ".join(str(v.type) for v in self.operands)
        return f"{self.op.name}({operands}) from {self.loc}"

    def __repr__(self) -> str:
        return f"<{self.describe()}>"


NOWHERE = Loc()


def infer(op: Op, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """Result types of an op, always as a tuple. Quantization annotations of the operands are not seen by the op."""
    if not takes(type(op), len(operands)):  # type: ignore[arg-type]  # classes are hashable
        raise InferenceError(f"{op.name} does not take {len(operands)} operands")
    bare = tuple(t.bare for t in operands)
    return _infer(op, bare) if op.bodies() or not operands else _infer_once(op, bare)


def _infer(op: Op, operands: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    types = op.infer(*operands)
    return types if isinstance(types, tuple) else (types,)


#: Ops are values, and inference is a function of them: each layer is asked about after every pass.
_infer_once = lru_cache(maxsize=1024)(_infer)


def apply(op: Op, *operands: Value, loc: Loc = NOWHERE, name: str = "") -> Node:
    """A detached node. Raises InferenceError, with the place, when the op refuses the operands.

    A data movement whose operands all carry the same quantization annotation of whole tensors hands it on.
    """
    types = [v.type for v in operands]
    try:
        results = infer(op, types)
    except InferenceError as error:
        error.where = error.where or f"{op.name}({', '.join(map(str, types))}) from {loc}"
        raise
    if op.moves_data and len({t.quant for t in types}) == 1 and (quant := types[0].quant) and quant.axis is None:
        results = tuple(t.with_quant(quant) if t.dtype == types[0].dtype else t for t in results)
    node = Node(op, operands, results, loc)
    if name:
        node.results[0].name = name
    return node


@dataclass
class Limits:
    """How many nodes a graph may have, and how often it may still be changed."""

    nodes: int
    changes_left: int


class Graph:
    """A function: inputs, nodes in a valid order, outputs with their names.

    Everything that the outputs need is adopted at construction; raises InvalidGraphError when that reaches a value that
    is neither an input nor produced by a free node. `metadata` is what the source said about itself (`onnx.opset`), for
    ways out that want to say it again; no semantics reads it. `origin` is the graph that passes made this one of, where
    that is known: what figures of accuracy are about.
    """

    def __init__(
        self, inputs: Sequence[Value], outputs: Sequence[Value], output_names: Sequence[str] = (), name: str = "main"
    ) -> None:
        self.name = name
        self.metadata: dict[str, str] = {}
        self.origin: Graph | None = None
        self._limits: Limits | None = None
        self.inputs: list[Value] = list(inputs)
        self._outputs: list[Value] = []
        self._places: dict[Value, list[int]] = {}  # of each value that is an output, among the outputs
        self.output_names: list[str] = list(output_names) or [v.name for v in outputs]
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0
        for value in outputs:
            self.adopt(value)
        self.outputs = outputs

    # ---- reading

    @property
    def nodes(self) -> Iterator[Node]:
        """Nodes in order. The node at hand may be erased and others inserted while iterating."""
        node = self._first
        while node is not None:
            following = node.next
            yield node
            node = following if node.graph is None else node.next

    def __len__(self) -> int:
        return self._count

    @property
    def constants(self) -> dict[Value, Array]:
        """Values that are constants, with their arrays."""
        return {n.results[0]: data for n in self.nodes if n.results and (data := n.results[0].const) is not None}

    @property
    def input_names(self) -> list[str]:
        return [v.name for v in self.inputs]

    @property
    def outputs(self) -> tuple[Value, ...]:
        return tuple(self._outputs)

    @outputs.setter
    def outputs(self, values: Sequence[Value]) -> None:
        self._outputs, self._places = list(values), {}
        for place, value in enumerate(self._outputs):
            self._places.setdefault(value, []).append(place)

    def set_output(self, place: int, value: Value) -> None:
        """Let one of the outputs be another value."""
        self.outputs = (*self._outputs[:place], value, *self._outputs[place + 1 :])

    def is_output(self, value: Value) -> bool:
        return value in self._places

    def only_user(self, value: Value) -> Node | None:
        """The node that is the value's only use (one operand of it), else None; an output has no only user."""
        if len(value.uses) != 1 or self.is_output(value):
            return None
        return next(iter(value.uses))[0]

    # ---- changing

    @contextmanager
    def bounded(self, nodes: int, changes: int) -> Iterator[None]:
        """Within, the graph refuses to have more nodes, or to be changed more often: what loops comes to an end.

        Then InvalidGraphError is raised, with the node that was one too many.
        """
        self._limits = Limits(nodes, changes)
        try:
            yield
        finally:
            self._limits = None

    def _count_change(self, node: Node) -> None:
        if self._limits is None:
            return
        self._limits.changes_left -= 1
        if self._limits.changes_left < 0:
            raise InvalidGraphError("the graph is changed over and over and does not grow", node.describe())

    def insert(self, node: Node, before: Node | None = None) -> None:
        """Put a detached node before another one, or at the end."""
        if node.graph is not None:
            raise InvalidGraphError("a node is inserted twice", node.describe())
        if self._limits is not None and self._count >= self._limits.nodes:
            raise InvalidGraphError(f"the graph grows beyond {self._limits.nodes} nodes", node.describe())
        self._count_change(node)
        after = before.prev if before is not None else self._last
        node.graph, node.prev, node.next = self, after, before
        if after is None:
            self._first = node
        else:
            after.next = node
        if before is None:
            self._last = node
        else:
            before.prev = node
        self._count += 1
        for i, operand in enumerate(node.operands):
            operand.uses[node, i] = None

    def adopt(self, value: Value, before: Node | None = None) -> list[Node]:
        """Insert the detached nodes that `value` needs, operands first; returns them. No recursion: chains are long."""
        adopted: list[Node] = []
        path: set[Node] = set()  # nodes whose operands are being visited
        stack = [(value.producer, False)]
        while stack:
            node, operands_done = stack.pop()
            if node is None or node.graph is self:
                continue
            if node.graph is not None:
                raise InvalidGraphError("a value of another graph is used", node.describe())
            if operands_done:
                path.discard(node)
                self.insert(node, before)
                adopted.append(node)
            elif node in path:
                raise InvalidGraphError("the graph has a cycle", node.describe())
            else:
                path.add(node)
                stack.append((node, True))
                stack.extend((v.producer, False) for v in reversed(node.operands))
        return adopted

    def erase(self, node: Node) -> None:
        """Remove a node whose results have no uses left."""
        if any(v.uses or self.is_output(v) for v in node.results):
            raise InvalidGraphError("a node is erased that is still used", node.describe())
        for i, operand in enumerate(node.operands):
            del operand.uses[node, i]
        if node.prev is None:
            self._first = node.next
        else:
            node.prev.next = node.next
        if node.next is None:
            self._last = node.prev
        else:
            node.next.prev = node.prev
        node.graph = node.prev = node.next = None
        self._count -= 1

    def set_operand(self, node: Node, index: int, value: Value) -> None:
        """Change one operand of a node of this graph."""
        self._count_change(node)
        del node.operands[index].uses[node, index]
        node.operands = (*node.operands[:index], value, *node.operands[index + 1 :])
        value.uses[node, index] = None

    def replace(self, old: Value, new: Value) -> None:
        """Let every user and output of `old` use `new` instead. The output keeps its public name."""
        for node, index in list(old.uses):
            self.set_operand(node, index, new)
        for place in self._places.get(old, ()):
            self._outputs[place] = new
        if places := self._places.pop(old, []):
            self._places.setdefault(new, []).extend(places)
        if not new.name:
            new.name = old.name

    def prune_from(self, nodes: Iterable[Node]) -> int:
        """Erase those of the nodes that nobody uses, and then their operands' producers; returns how many went."""
        stack, erased = list(nodes), 0
        while stack:
            node = stack.pop()
            if node.graph is not self or any(v.uses or self.is_output(v) for v in node.results):
                continue
            producers = [v.producer for v in node.operands if v.producer is not None]
            self.erase(node)
            erased += 1
            stack.extend(producers)
        return erased

    def clone(self) -> Graph:
        """A deep copy of nodes and values; ops and arrays are shared, being immutable."""
        values: dict[Value, Value] = {v: Value(v.type, v.name) for v in self.inputs}
        copy = Graph(list(values.values()), [], name=self.name)
        for node in self.nodes:
            twin = Node(node.op, [values[v] for v in node.operands], [v.type for v in node.results], node.loc)
            for old, new in zip(node.results, twin.results, strict=True):
                new.name = old.name
                values[old] = new
            copy.insert(twin)
        copy.outputs = [values[v] for v in self.outputs]
        copy.output_names = list(self.output_names)
        copy.metadata = dict(self.metadata)
        copy.origin = self.origin
        return copy

    def __copy__(self) -> Graph:
        """Nodes belong to one graph: a copy has its own."""
        return self.clone()

    def __deepcopy__(self, memo: dict[int, object]) -> Graph:
        """Node by node: the generic way recurses as deep as the graph is."""
        return self.clone()

    def __repr__(self) -> str:
        return f"<graph {self.name}: {len(self.inputs)} inputs, {self._count} nodes, {len(self.outputs)} outputs>"


def graph_input(name: str, type: TensorType) -> Value:
    """A value to be used as an input of a graph that is about to be built."""
    return Value(type, name)
