"""The lowered graph as boxes and arrows, with the figures of the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..names import short_source
from .layered import BOX, BOX_HEIGHT, draw

#: Beyond so many nodes a drawing says less than the table.
MOST = 400
#: Pixels: a window on a desk, and a phone (one column).
_WIDTHS = {"wide": 1080, "narrow": 0}
_KINDS = {
    "linear": "convolution, dense, matmul",
    "elementwise": "elementwise",
    "reduce": "pooling, reduction, softmax",
    "quantize": "quantize, rescale",
    "move": "data movement",
    "io": "input, output",
}


def graph_drawings(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The drawing for wide and narrow screens, and the legend; None without a graph, or where it is too large."""
    nodes = report.get("graph") or []
    if not 0 < len(nodes) <= MOST:
        return None
    edges = [(a, b) for b, node in enumerate(nodes) for a in node["from"]]
    boxes = [_box(node, report["layers"]) for node in nodes]
    sizes = {}
    for name, width in _WIDTHS.items():
        drawing = draw(len(nodes), edges, width)
        placed = [{**box, "x": x, "y": y} for box, (x, y) in zip(boxes, drawing.corners, strict=True)]
        sizes[name] = {"width": drawing.width, "height": drawing.height, "boxes": placed, "paths": drawing.paths}
    present = {box["kind"] for box in boxes}
    legend = [(kind, text) for kind, text in _KINDS.items() if kind in present]
    return {"sizes": sizes, "legend": legend, "box": (BOX, BOX_HEIGHT)}


def _box(node: Mapping[str, Any], layers: Any) -> dict[str, Any]:
    """Three lines, a text for those who point at it, the number of its layer or None, and its share of all MACs."""
    ends = node["kind"] in ("input", "output")
    layer = layers[node["layer"]] if node["layer"] is not None else None
    title, _, rest = node["title"].partition(" + ")
    more = f" +{rest.count(' + ') + 1}" if rest else ""
    most = max((row["macs"] for row in layers), default=0) or 1
    about = [node["title"], node["source"], node["type"]]
    if layer is not None:
        about += [f"kernel {layer['kernel']}"] if layer["kernel"] else []
        units = (("macs", "MACs"), ("constant_bytes", "bytes of constants"), ("ram_bytes", "bytes of arena in use"))
        about += [f"{layer[key]:,} {unit}" for key, unit in units if layer[key]]
    return {
        "kind": "io" if ends else node["kind"],
        "lines": [
            _cut(node["kind"] if ends else title + more, 22),
            _cut(node["title"], 22) if ends else short_source(node["source"], "added by planish", 22),
            _cut(node["type"], 22),
        ],
        "about": "\n".join(text for text in about if text),
        "layer": node["layer"],
        "share": round((BOX - 16) * layer["macs"] / most, 1) if layer is not None else 0,
    }


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"
