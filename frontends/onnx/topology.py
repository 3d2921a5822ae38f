"""The wiring of an ONNX graph, checked: who makes which tensor, in which order nodes can run, what the outputs need."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...ir.errors import ModelError
from .reader import shown

if TYPE_CHECKING:
    import onnx

AGAIN = "the file is damaged or was edited by hand; export the model again"


def node_name(node: onnx.NodeProto) -> str:
    """The node's name; the operator and its first output where it has none."""
    return node.name or f"{node.op_type}:{next((o for o in node.output if o), '')}"


@dataclass(frozen=True, eq=False)
class Taken:
    """Of nodes with branches the one that is taken, where it is known."""

    graphs: dict[int, tuple[onnx.NodeProto, onnx.GraphProto]] = field(
        default_factory=dict
    )  # nodes are kept for their ids

    def take(self, node: onnx.NodeProto, branch: onnx.GraphProto) -> None:
        """This one."""
        self.graphs[id(node)] = node, branch

    def inside(self, node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
        """The graphs inside a node that count."""
        return [self.graphs[id(node)][1]] if id(node) in self.graphs else graphs_of(node)


_NONE = Taken()


@dataclass(frozen=True, eq=False)
class Wiring:
    """The nodes of a graph, in the file's order, and which of them make the operands of each."""

    nodes: list[onnx.NodeProto]
    outputs: list[int]
    operands: list[list[int]]

    def needed(self) -> list[onnx.NodeProto]:
        """The nodes that the outputs need, each after those it depends on, otherwise in the file's order."""
        order, needed = _sorted(self.nodes, self.operands), _reached(self.outputs, self.operands)
        return [self.nodes[i] for i in order if i in needed]

    def still_needed(self, taken: Taken) -> set[int]:
        """Ids of the nodes that the outputs need where only the branches count that are taken."""
        producers = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        operands = [_indices(_read(node, taken), producers) for node in self.nodes]
        return {id(self.nodes[i]) for i in _reached(self.outputs, operands)}


def wired(graph: onnx.GraphProto, sources: Container[str]) -> Wiring:
    """The wiring of a graph; results beside others that nobody reads lose their names.

    sources: names of inputs and initializers. Raises ModelError for a tensor that nobody or two make, and for cycles.
    """
    nodes = list(graph.node)
    producers = _producers(nodes, sources)
    reads = [list(dict.fromkeys(_read(node))) for node in nodes]
    for node in nodes:
        for name in node.input:
            if name and name not in sources and name not in producers:
                raise ModelError(f"nothing produces tensor {shown(name)}, an operand of {_described(node)}", fix=AGAIN)
    for output in graph.output:
        if output.name not in sources and output.name not in producers:
            raise ModelError(f"nothing produces the output {shown(output.name)}", fix=AGAIN)
    _forget_unread(nodes, {name for names in (*reads, (o.name for o in graph.output)) for name in names})
    outputs = _indices([o.name for o in graph.output], producers)
    return Wiring(nodes, outputs, [_indices(names, producers) for names in reads])


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node: branches and bodies of loops."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def free_names(graph: onnx.GraphProto, taken: Taken = _NONE) -> Iterator[str]:
    """The tensors of the graphs around it that a graph reads."""
    bound = {v.name for v in (*graph.input, *graph.initializer)}
    bound.update(name for node in graph.node for name in node.output)
    read = (name for node in graph.node for name in _read(node, taken))
    yield from (name for name in (*read, *(o.name for o in graph.output)) if name and name not in bound)


def _read(node: onnx.NodeProto, taken: Taken = _NONE) -> Iterator[str]:
    """The tensors that a node reads, those inside its graphs included."""
    yield from filter(None, node.input)
    for graph in taken.inside(node):
        yield from free_names(graph, taken)


def _forget_unread(nodes: Sequence[onnx.NodeProto], read: set[str]) -> None:
    """Optional results are those that have a name; some exporters name all."""
    for node in nodes:
        if len(node.output) > 1:
            for i, name in enumerate(node.output):
                if name not in read:
                    node.output[i] = ""


def unique(names: Sequence[str], what: str) -> None:
    """Raise ModelError when a name is empty or used twice."""
    for name, count in Counter(names).items():
        if count > 1 or not name:
            raise ModelError(f"{count} {what} are called {shown(name)}", fix=AGAIN)


def _producers(nodes: Sequence[onnx.NodeProto], known: Container[str]) -> dict[str, int]:
    producers: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name not in known and name not in producers:
                producers[name] = i
                continue
            other = "an input or initializer" if name in known else _described(nodes[producers[name]])
            raise ModelError(
                f"tensor {shown(name)} is produced twice: by {_described(node)} and by {other}",
                fix=AGAIN,
            )
    return producers


def _described(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {shown(node_name(node))}"


def _indices(names: Iterable[str], producers: Mapping[str, int]) -> list[int]:
    """The nodes that make these tensors, each once."""
    return list(dict.fromkeys(producers[name] for name in names if name in producers))


def _sorted(nodes: Sequence[onnx.NodeProto], operands: Sequence[Sequence[int]]) -> list[int]:
    """Kahn's algorithm; a file that is sorted already keeps its order."""
    if all(j < i for i, made in enumerate(operands) for j in made):
        return list(range(len(nodes)))
    waiting = [len(made) for made in operands]
    users: list[list[int]] = [[] for _ in nodes]
    for i, made in enumerate(operands):
        for j in made:
            users[j].append(i)
    ready, order = deque(i for i, n in enumerate(waiting) if n == 0), []
    while ready:
        i = ready.popleft()
        order.append(i)
        for user in users[i]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    if len(order) < len(nodes):
        stuck = [_described(nodes[i]) for i, n in enumerate(waiting) if n]
        raise ModelError("the graph has a cycle", where=", ".join(stuck[:5]), fix=AGAIN)
    return order


def _reached(outputs: Iterable[int], operands: Sequence[Sequence[int]]) -> set[int]:
    stack, reached = list(outputs), set()
    while stack:
        i = stack.pop()
        if i not in reached:
            reached.add(i)
            stack.extend(operands[i])
    return reached
