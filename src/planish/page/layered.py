"""A layered drawing of a graph: ranks from top to bottom, and where that is too tall, columns as in a newspaper.

The method of Sugiyama, Tagawa and Toda (1981): ranks by the longest path, bends where an edge crosses a rank, an order
within each rank by medians of the neighbours, and then positions: each vertex as near to its neighbours as the
distances between vertices allow, which is an isotonic regression. Same graph, same drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean, median_low

Edge = tuple[int, int]

#: Of a box, in pixels; of the lane of an edge that passes a rank; between neighbours, and between ranks.
BOX, BOX_HEIGHT, LANE, GAP, RANK_GAP = 156, 52, 14, 14, 20
ROW = BOX_HEIGHT + RANK_GAP
#: Between columns: room for the edges that go from the foot of one to the head of the next.
GUTTER, MARGIN = 36, 22
_SWEEPS = 6


@dataclass(frozen=True)
class Drawing:
    """width and height in pixels; the top left corner of each node's box; an SVG path for each edge."""

    width: int
    height: int
    corners: list[tuple[int, int]]
    paths: list[str]


def draw(count: int, edges: Sequence[Edge], width: int) -> Drawing:
    """Draw nodes 0 ... count-1, at most `width` pixels wide where columns fit. Edges lead to higher nodes."""
    ranks = _ranks(count, edges)
    chains, rank_of = _with_bends(edges, ranks)
    rows = _ordered(chains, rank_of)
    across = _across(rows, chains, rank_of, count)
    columns = _columns(rows, chains, rank_of, across, width, count)
    return _routed(chains, rank_of, across, columns, count)


def _ranks(count: int, edges: Sequence[Edge]) -> list[int]:
    """The longest path from any source; a source stands right above its first user."""
    ranks = [0] * count
    for a, b in sorted(edges, key=lambda edge: edge[1]):
        ranks[b] = max(ranks[b], ranks[a] + 1)
    targets = {b for _, b in edges}
    users: dict[int, int] = {}
    for a, b in edges:
        users[a] = min(users.get(a, ranks[b]), ranks[b])
    return [users[n] - 1 if n not in targets and n in users else rank for n, rank in enumerate(ranks)]


def _with_bends(edges: Sequence[Edge], ranks: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    """Each edge as a chain of vertices, one on every rank that it crosses; and the ranks of all vertices."""
    rank_of = list(ranks)
    chains = []
    for a, b in dict.fromkeys(edges):
        bends = range(len(rank_of), len(rank_of) + ranks[b] - ranks[a] - 1)
        rank_of.extend(range(ranks[a] + 1, ranks[b]))
        chains.append([a, *bends, b])
    return chains, rank_of


def _neighbours(chains: Sequence[Sequence[int]], count: int) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for chain in chains:
        for a, b in pairwise(chain):
            below[a].append(b)
            above[b].append(a)
    return above, below


def _ordered(chains: Sequence[Sequence[int]], rank_of: Sequence[int]) -> list[list[int]]:
    """The vertices of each rank from left to right: sweeps down and up by the median place of the neighbours."""
    rows: list[list[int]] = [[] for _ in range(max(rank_of, default=-1) + 1)]
    for vertex, rank in enumerate(rank_of):
        rows[rank].append(vertex)
    above, below = _neighbours(chains, len(rank_of))
    place = {v: i for row in rows for i, v in enumerate(row)}
    for sweep in range(_SWEEPS):
        near = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            row.sort(key=lambda v: median_low([place[n] for n in near[v]]) if near[v] else place[v])
            place.update((v, i) for i, v in enumerate(row))
    return rows


def _across(
    rows: Sequence[Sequence[int]], chains: Sequence[Sequence[int]], rank_of: Sequence[int], count: int
) -> list[float]:
    """The horizontal centre of every vertex. A box pulls more than a bend, so that bends make way."""
    above, below = _neighbours(chains, len(rank_of))
    at = [0.0] * len(rank_of)
    for sweep in range(_SWEEPS):
        near = below if sweep % 2 else above
        for row in reversed(rows) if sweep % 2 else rows:
            wanted = [fmean(at[n] for n in near[v]) if near[v] else at[v] for v in row]
            weights = [8.0 if v < count else 1.0 for v in row]
            for vertex, x in zip(row, _spaced(wanted, weights, [_width(v, count) for v in row]), strict=True):
                at[vertex] = x
    return at


def _width(vertex: int, count: int) -> int:
    return BOX if vertex < count else LANE


def _spaced(wanted: Sequence[float], weights: Sequence[float], widths: Sequence[int]) -> list[float]:
    """The places nearest to the wanted ones (least squares) at which neighbours do not touch."""
    steps = [(a + b) / 2 + GAP for a, b in pairwise(widths)]
    shifts = list(accumulate(steps, initial=0.0))
    blocks: list[tuple[float, float, int]] = []  # mean, weight and number of vertices that touch: pool violators
    for x, weight, shift in zip(wanted, weights, shifts, strict=False):
        mean, total, size = x - shift, weight, 1
        while blocks and blocks[-1][0] >= mean:
            m, w, s = blocks.pop()
            mean, total, size = (mean * total + m * w) / (total + w), total + w, size + s
        blocks.append((mean, total, size))
    means = [mean for mean, _, size in blocks for _ in range(size)]
    return [mean + shift for mean, shift in zip(means, shifts, strict=False)]


# ---- columns


@dataclass(frozen=True)
class _Column:
    """Ranks `first` ... `end`-1, drawn `left` pixels from the left; `origin` is what is leftmost in them."""

    first: int
    end: int
    left: float
    origin: float
    width: float


def _columns(
    rows: Sequence[Sequence[int]],
    chains: Sequence[Sequence[int]],
    rank_of: Sequence[int],
    across: Sequence[float],
    width: int,
    count: int,
) -> list[_Column]:
    """As many columns as fit side by side and are taller than wide; cut where few edges are."""
    crossing = [0] * (len(rows) + 1)
    for chain in chains:
        for vertex in chain[1:]:
            crossing[rank_of[vertex]] += 1
    best: list[_Column] = []
    for number in range(1, 1 + max(1, len(rows) // 4)):
        columns = _cut(_cuts(len(rows), number, crossing), rows, across, count)
        total = columns[-1].left + columns[-1].width if columns else 0
        if best and total > width:
            break
        best = columns
        if max((c.end - c.first) * ROW for c in columns) <= total * 0.6:
            break
    return best


def _cuts(length: int, number: int, crossing: Sequence[int]) -> list[int]:
    """Where columns begin and end: near equal parts, where the fewest edges cross."""
    inner = []
    for i in range(1, number):
        ideal = round(i * length / number)
        near = range(max(1, ideal - 2), min(length - 1, ideal + 2) + 1)
        inner.append(min(near, key=lambda rank: (crossing[rank], abs(rank - ideal), rank)))
    return sorted({0, *inner, length})


def _cut(cuts: Sequence[int], rows: Sequence[Sequence[int]], across: Sequence[float], count: int) -> list[_Column]:
    columns: list[_Column] = []
    left = float(MARGIN)
    for first, end in pairwise(cuts):
        vertices = [v for row in rows[first:end] for v in row]
        low = min(across[v] - _width(v, count) / 2 for v in vertices)
        high = max(across[v] + _width(v, count) / 2 for v in vertices)
        columns.append(_Column(first, end, left, low, high - low))
        left += high - low + GUTTER
    return columns


def _routed(
    chains: Sequence[Sequence[int]],
    rank_of: Sequence[int],
    across: Sequence[float],
    columns: Sequence[_Column],
    count: int,
) -> Drawing:
    column_of = [c for c in columns for _ in range(c.first, c.end)]
    xs = [round(across[v] - (c := column_of[r]).origin + c.left) for v, r in enumerate(rank_of)]
    ys = [(r - column_of[r].first) * ROW + MARGIN for r in rank_of]
    foot = max((y + BOX_HEIGHT for y in ys), default=0)
    jumps: dict[int, int] = {}  # edges that leave a column so far, by its first rank

    def path(chain: Sequence[int]) -> str:
        parts = [f"M{xs[chain[0]]} {ys[chain[0]] + BOX_HEIGHT}"]
        for a, b in pairwise(chain):
            here, there = column_of[rank_of[a]], column_of[rank_of[b]]
            start, end = ys[a] + BOX_HEIGHT, ys[b]
            if here is there:
                middle = (start + end) // 2
                parts.append(f"C{xs[a]} {middle} {xs[b]} {middle} {xs[b]} {end}")
            else:
                nth = jumps[here.first] = jumps.get(here.first, -1) + 1
                aside = 5 * (nth % 4)
                gutter = round(there.left - GUTTER / 2 - 6 + aside)
                parts.append(f"V{start + 8 + aside // 2}H{gutter}V{end - 14 + aside // 2}H{xs[b]}V{end}")
            if b >= count:
                parts.append(f"V{end + BOX_HEIGHT}")
        return "".join(parts)

    width = columns[-1].left + columns[-1].width + MARGIN if columns else 0
    corners = [(xs[v] - BOX // 2, ys[v]) for v in range(count)]
    return Drawing(round(width), foot + MARGIN, corners, [path(chain) for chain in chains])
