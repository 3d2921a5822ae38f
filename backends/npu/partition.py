"""Who computes what: every node of a lowered graph on the NPU or on the host, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...ir.constant import Const
from ...ir.graph import Graph, Node, Value
from ...ir.ops.fused import Fused
from ...ir.ops.shape import Reshape
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
        return Unsupported(f"{node.op.name} has {len(node.results)} results")
    if not isinstance(node.op, Fused):
        return translate([node])
    body = node.op.body
    outer = dict(zip(body.inputs, node.operands, strict=True)) | {body.outputs[0]: node.results[0]}

    def top(value: Value) -> Value:
        return outer.get(value, value)

    chain = [n for n in body.nodes if not isinstance(n.op, Const)]
    if not _is_chain(chain):
        return Unsupported("the group is no chain of nodes")
    return translate(chain, top)


def _is_chain(nodes: Sequence[Node]) -> bool:
    pairs = pairwise(nodes)
    return all(len(a.results) == 1 and a.result in b.operands and len(a.result.users) == 1 for a, b in pairs)


def _split(graph: Graph, node: Node) -> None:
    """Take a group apart, and put together again the longest beginning that the NPU takes.

    Where it takes none, a layer stays whole on the host: what follows it costs least there.
    """
    chain = [n for n in node.op.bodies()[0].nodes if not isinstance(n.op, Const)]
    outer = dict(zip(node.op.bodies()[0].inputs, node.operands, strict=True))

    def taken(count: int) -> bool:
        head = chain[:count]
        return _is_chain(head) and not isinstance(translate(head, lambda v: outer.get(v, v)), Unsupported)

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
