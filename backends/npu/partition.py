"""Who computes what: every node of a lowered graph on the NPU or on the host, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...ir.constant import Const
from ...ir.graph import Graph, Node, Value
from ...ir.ops.fused import Fused
from ...ir.ops.shape import Reshape
from ...ir.types import I8
from ...passes.group import fuse, inline
from ...runtime.target import Unsupported
from .jobs import Job
from .translate import translate


@dataclass(frozen=True, eq=False)
class Placement:
    """Where one node of the partitioned graph runs. jobs: on the NPU; refusal: why it runs on the host."""

    node: Node
    jobs: tuple[Job, ...] = ()
    refusal: Unsupported | None = None

    @property
    def on_host(self) -> bool:
        return self.refusal is not None


@dataclass(frozen=True, eq=False)
class Partition:
    """A copy of the lowered graph whose groups end where the NPU ends; its nodes in order, without constants.

    Reshapes are not placed: their results are their operands' bytes.
    """

    graph: Graph
    placements: tuple[Placement, ...]


def partition(graph: Graph) -> Partition:
    """Place every node. A group whose tail the NPU does not take is split there."""
    copy = graph.clone()
    for node in list(copy.nodes):
        if isinstance(node.op, Fused) and isinstance(jobs_of(node), Unsupported):
            _split(copy, node)
    placements = []
    for node in copy.nodes:
        if isinstance(node.op, Const | Reshape):
            continue
        answer = jobs_of(node)
        placements.append(
            Placement(node, refusal=answer) if isinstance(answer, Unsupported) else Placement(node, answer)
        )
    return Partition(copy, tuple(placements))


def jobs_of(node: Node) -> tuple[Job, ...] | Unsupported:
    """The jobs of one node, or why the host computes it."""
    if len(node.results) != 1:
        return Unsupported(f"the NPU has no {node.op.name}")
    if not isinstance(node.op, Fused):
        return translate([node])
    chain, top = _members(node)
    if not _is_chain(chain):
        return Unsupported("the group is no chain of nodes")
    answer = translate(chain, top)
    return _reason(chain, top, answer) if isinstance(answer, Unsupported) else answer


def _members(node: Node) -> tuple[list[Node], Callable[[Value], Value]]:
    """The nodes of a group, in order, and the way from their values to the graph's."""
    (body,) = node.op.bodies()
    outer = dict(zip((*body.inputs, body.outputs[0]), (*node.operands, node.results[0]), strict=True))
    return [n for n in body.nodes if not isinstance(n.op, Const)], lambda value: outer.get(value, value)


def _reason(chain: Sequence[Node], top: Callable[[Value], Value], answer: Unsupported) -> Unsupported:
    """What stands in the way of a group: the layer itself, rather than what makes floats of its result."""
    heads = [n for n in range(1, len(chain)) if chain[n - 1].result.type.dtype == I8]
    if heads and chain[-1].result.type.dtype != I8:
        head = translate(chain[: heads[-1]], top)
        return head if isinstance(head, Unsupported) else answer
    return answer


def _is_chain(nodes: Sequence[Node]) -> bool:
    pairs = pairwise(nodes)
    return all(len(a.results) == 1 and a.result in b.operands and len(a.result.users) == 1 for a, b in pairs)


def _split(graph: Graph, node: Node) -> None:
    """Take a group apart, and put together again the longest beginning that the NPU takes.

    Where it takes none, a layer stays whole on the host: what follows it costs least there.
    """
    chain, top = _members(node)

    def taken(count: int) -> bool:
        return _is_chain(chain[:count]) and not isinstance(translate(chain[:count], top), Unsupported)

    count = next(filter(taken, range(len(chain) - 1, 0, -1)), 0)
    if not count and not chain[0].op.elementwise:
        return
    before, after = node.prev, node.next
    inline(graph, node)
    chain, walk = [], before.next if before is not None else next(graph.nodes)
    while walk is not after and walk is not None:
        if not isinstance(walk.op, Const):
            chain.append(walk)
        walk = walk.next
    if count > 1:
        fuse(graph, chain[:count])
