"""The wiring of an ONNX graph, checked: who makes which tensor, in which order nodes can run, what the outputs need."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ...ir.errors import ModelError
from .reader import shown

if TYPE_CHECKING:
    import onnx

AGAIN = "the file is damaged or was edited by hand; export the model again"


def node_name(node: onnx.NodeProto) -> str:
    """The node's name; the operator and its first output where it has none."""
    return node.name or f"{node.op_type}:{next((o for o in node.output if o), '')}"


def ordered(graph: onnx.GraphProto, sources: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that the outputs need, each after those it depends on, otherwise in the file's order.

    sources: names of inputs and initializers. Raises ModelError for a tensor that nobody or two make, and for cycles.
    """
    known = set(sources)
    nodes = list(graph.node)
    producers = _producers(nodes, known)
    for node in nodes:
        for name in node.input:
            if name and name not in known and name not in producers:
                raise ModelError(f"nothing produces tensor {shown(name)}, an operand of {_described(node)}", fix=AGAIN)
    for output in graph.output:
        if output.name not in known and output.name not in producers:
            raise ModelError(f"nothing produces the output {shown(output.name)}", fix=AGAIN)
    order = _sorted(nodes, producers)
    needed = _needed(nodes, producers, [o.name for o in graph.output])
    return [nodes[i] for i in order if i in needed]


def unique(names: Sequence[str], what: str) -> None:
    """Raise ModelError when a name is empty or used twice."""
    for name, count in Counter(names).items():
        if count > 1 or not name:
            raise ModelError(f"{count} {what} are called {shown(name)}", fix=AGAIN)


def _producers(nodes: Sequence[onnx.NodeProto], known: set[str]) -> dict[str, int]:
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


def _operands(node: onnx.NodeProto, producers: dict[str, int]) -> Iterator[int]:
    """Indices of the nodes that make this node's operands."""
    return (producers[name] for name in dict.fromkeys(node.input) if name in producers)


def _sorted(nodes: Sequence[onnx.NodeProto], producers: dict[str, int]) -> list[int]:
    """Kahn's algorithm; a file that is sorted already keeps its order."""
    waiting = [len(set(_operands(node, producers))) for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for j in set(_operands(node, producers)):
            users[j].append(i)
    if all(j < i for i, node in enumerate(nodes) for j in _operands(node, producers)):
        return list(range(len(nodes)))
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


def _needed(nodes: Sequence[onnx.NodeProto], producers: dict[str, int], outputs: Sequence[str]) -> set[int]:
    stack, needed = [producers[name] for name in outputs if name in producers], set()
    while stack:
        i = stack.pop()
        if i not in needed:
            needed.add(i)
            stack.extend(_operands(nodes[i], producers))
    return needed
