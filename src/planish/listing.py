"""What there is: targets and passes."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from .registry import TARGETS, target_named
from .screen import Column, Screen


def list_targets(screen: Screen) -> None:
    """Every target, with the tools that it wants on this machine."""
    targets = [target_named(name) for name in TARGETS]
    found: list[dict[str, Any]] = [
        {"name": t.name, "summary": t.summary, "needs": [dataclasses.asdict(need) for need in t.needs()]}
        for t in targets
    ]
    screen.result({"targets": found})
    rows = []
    for target in found:
        missing = [need for need in target["needs"] if not need["present"]]
        state = "; ".join(f"{need['name']} is missing: {need['fix']}" for need in missing) or "ready"
        rows.append([target["name"], target["summary"], state])
    screen.table((Column("target"), Column("what it is"), Column("verify on this machine")), rows)


def list_passes(screen: Screen) -> None:
    """Every pass: contract, options with their defaults, and the first line of its documentation."""
    from .passes import all_passes
    from .passes.options import usage

    found: list[dict[str, Any]] = [
        {
            "name": p.name,
            "contract": str(p.contract),
            "options": {f.name: str(f.default) for f in dataclasses.fields(p)},
            "usage": usage(p),
            "rules": list(dict.fromkeys(type(rule).__name__ for rule in p.rules)),
            "summary": (inspect.getdoc(p) or "").partition("\n")[0],
        }
        for p in all_passes()
    ]
    screen.result({"passes": found})
    rows = [
        [p["name"], p["contract"], ", ".join(f"{n}={d}" for n, d in p["options"].items()), p["summary"]] for p in found
    ]
    screen.table((Column("pass"), Column("contract"), Column("options"), Column("what it does")), rows)
    for p in found if screen.verbosity > 0 else ():
        screen.say(f"{p['usage']}")
        screen.say(f"  rules: {', '.join(p['rules']) or 'none'}")
