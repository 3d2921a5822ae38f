"""The rows and figures of the page, as the template shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..names import short_source
from ..screen import counted

#: Reasons that a page shows of each pass; report.json has them all.
_REASONS = 12

Report = Mapping[str, Any]


def headline(report: Report, verdict: Report | None) -> list[tuple[str, str, str]]:
    """Figure, what it is, and a remark: sizes and work, and where something was verified what was measured."""
    found = verdict or {}
    model = found.get("reference", "float model")
    tiles = [
        (_bytes(report.get("arena_bytes")), "arena (RAM)", _optimal(report)),
        (_bytes(found.get("flash_bytes") or report.get("flash_bytes")), "flash", _flash_remark(report, found)),
        ("" if report.get("flash_bytes") else _bytes(report.get("constant_bytes")), "constants", "weights and tables"),
        (_count(report["macs"]), "MACs", "per inference"),
        (_count(found.get("instructions")), "instructions", _ratio(found.get("instructions"), report["macs"])),
        (_count(found.get("cycles")), "cycles", "per inference"),
        (_time(report["facts"].get("total_microseconds")), "time", "per inference, the host's included"),
        (_bytes(found.get("stack_bytes")), "stack", "deepest"),
        (percent(found.get("accuracy")), "accuracy", _float_accuracy(found)),
        (percent(found.get("agreement")), "agreement", f"of top-1 with the {model}{_worst(report)}"),
        (_decibel(found.get("sqnr_db")), "SQNR", f"against the {model}{_worst(report)}"),
    ]
    return [tile for tile in tiles if tile[0]]


def _optimal(report: Report) -> str:
    return "no plan needs less" if report["facts"].get("arena_optimal") else "planned statically"


def _flash_remark(report: Report, found: Report) -> str:
    parts = f"constants {_bytes(report.get('constant_bytes'))} and code"
    error = report.get("flash_error")
    return f"{parts}, estimated within {error:.0%}" if error and not found.get("flash_bytes") else parts


def _worst(report: Report) -> str:
    return ", of the worst output" if len(report["outputs"]) > 1 else ""


def output_rows(report: Report, verdict: Report | None) -> list[tuple[str, str, str, str]]:
    """Of each output its name, type, and what was measured on it: SQNR and agreement of top-1."""
    found = (verdict or {}).get("outputs") or {}
    rows = []
    for name, about in report["outputs"].items():
        figures = found.get(name)
        level = "" if figures is None else _decibel(figures["sqnr_db"]) or "equal"
        rows.append((name, about["type"], level, "" if figures is None else percent(figures["agreement"])))
    return rows


def _float_accuracy(found: Report) -> str:
    value = percent(found.get("accuracy_float"))
    return f"float model: {value}" if value else ""


def _ratio(instructions: int | None, macs: int) -> str:
    return f"{instructions / macs:.2f} per MAC" if instructions and macs else "per inference"


def percent(fraction: float | None) -> str:
    """A fraction for people; nothing for None."""
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def _decibel(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"


def _bytes(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number:,} B" if number < 100_000 else f"{number / 1024:,.0f} KiB"


def _time(microseconds: float | None) -> str:
    return "" if microseconds is None else f"{microseconds:,.1f} us"


def _count(number: int | None) -> str:
    if number is None:
        return ""
    scale, unit = next(((s, u) for s, u in ((1e9, " G"), (1e6, " M"), (1e4, " k")) if number >= s), (1.0, ""))
    return f"{number:,}" if scale == 1 else f"{number / (1e3 if unit == ' k' else scale):.4g}{unit}"


# ---- tables


def cost_rows(report: Report, verdict: Report | None) -> list[dict[str, Any]]:
    """A row per layer: its names, and for each cost (number or "", percent of the greatest, percent of the sum)."""
    layers = (verdict or {}).get("layers") or report["layers"]
    bars = {key: _bars([layer.get(key) for layer in layers]) for key in COSTS}
    return [
        {
            "number": number,
            "name": short_source(layer["source"], layer["name"]),
            "source": layer["source"],
            **{key: layer[key] for key in ("op", "shape", "kernel")},
            "costs": [bars[key][number] for key in COSTS],
        }
        for number, layer in enumerate(layers)
    ]


COSTS = ("macs", "instructions", "constant_bytes", "ram_bytes")
COST_NAMES = ("MACs", "instructions", "constant bytes", "RAM bytes")


def _bars(numbers: Sequence[int | None]) -> list[tuple[int | str, float, float]]:
    greatest, total = (reduce(n or 0 for n in numbers) or 1 for reduce in (lambda ns: max(ns, default=0), sum))
    return [(n or "", round(100 * (n or 0) / greatest, 1), 100 * (n or 0) / total) for n in numbers]


def kernel_rows(report: Report) -> list[dict[str, Any]]:
    """What ran where: a row per kernel and set of refusals, with the layers that it executes."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, layer in enumerate(_detailed(report)):
        refused = tuple(sorted((layer.get("refused") or {}).items()))
        groups.setdefault((layer["kernel"], refused), []).append(number)
    return [{"kernel": kernel, "refused": refused, "layers": ls} for (kernel, refused), ls in groups.items() if kernel]


def _detailed(report: Report) -> Sequence[Report]:
    """The target's own rows, which may say what refused a layer, where there are as many of them."""
    own = report["facts"].get("layers")
    return own if isinstance(own, list) and len(own) == len(report["layers"]) else report["layers"]


def pass_rows(report: Report) -> list[dict[str, Any]]:
    """What each pass did, and the reasons of the patterns that did not match, the commonest first."""
    rows = []
    for step in report["passes"]:
        reasons: dict[tuple[str, str], int] = {}
        for refusal in step["refused"]:
            key = refusal["pattern"], refusal["reason"]
            reasons[key] = reasons.get(key, 0) + 1
        ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        rows.append(
            {
                "pass": step["pass"],
                "contract": step["contract"],
                "applied": [f"{name} {count}x" for name, count in step["applied"].items()],
                "refused": counted(len(step["refused"]), "refusal") if ordered else "",
                "reasons": [(pattern, reason, count) for (pattern, reason), count in ordered[:_REASONS]],
                "more": max(0, len(ordered) - _REASONS),
            }
        )
    return rows
