"""What there is: targets and passes."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .ir.errors import UsageError
from .registry import TARGETS, installed_targets, target_named
from .screen import Column, Screen, error_as_json

if TYPE_CHECKING:
    from .ir.rewrite import Rule
    from .passes.base import Pass


def list_targets(screen: Screen) -> None:
    """Every target, with the tools that it wants on this machine, and the package that brings it."""
    known, broken = [(target_named(name), "") for name in TARGETS], []
    for extension, target in installed_targets():
        if isinstance(target, UsageError):
            broken.append(target)
        else:
            known.append((target, extension.package))
    found: list[dict[str, Any]] = [
        {"name": t.name, "summary": t.summary, "needs": [dataclasses.asdict(need) for need in t.needs()],
         "package": package}
        for t, package in known
    ]  # fmt: skip
    screen.result({"targets": found, "broken": [error_as_json(e) for e in broken]})
    _tell(screen, broken)
    rows = []
    for row in found:
        missing = [need for need in row["needs"] if not need["present"]]
        state = "; ".join(f"{need['name']} is missing: {need['fix']}" for need in missing) or "ready"
        rows.append([row["name"], _from(row["summary"], row["package"]), state])
    screen.table((Column("target"), Column("what it is"), Column("verify on this machine")), rows)


def list_passes(screen: Screen) -> None:
    """Every pass: contract, options with their defaults, and the first line of its documentation."""
    from .passes import PASSES, passes_by_package
    from .passes.options import usage

    passes = [(p, "") for p in PASSES]
    broken = []
    for extension, cls in passes_by_package():
        if isinstance(cls, UsageError):
            broken.append(cls)
        else:
            passes.append((cls, extension.package))
    found: list[dict[str, Any]] = [
        {
            "name": p.name,
            "contract": str(p.contract),
            "options": {f.name: str(f.default) for f in dataclasses.fields(p)},
            "usage": usage(p),
            "rules": list(dict.fromkeys(type(rule).__name__ for rule in _rules(p, broken))),
            "summary": (inspect.getdoc(p) or "").partition("\n")[0],
            "package": package,
        }
        for p, package in passes
    ]
    screen.result({"passes": found, "broken": [error_as_json(e) for e in broken]})
    _tell(screen, broken)
    rows = [
        [
            p["name"],
            p["contract"],
            ", ".join(f"{n}={d}" for n, d in p["options"].items()),
            _from(p["summary"], p["package"]),
        ]
        for p in found
    ]
    screen.table((Column("pass"), Column("contract"), Column("options"), Column("what it does")), rows)
    for p in found if screen.verbosity > 0 else ():
        screen.say(f"{p['usage']}")
        screen.say(f"  rules: {', '.join(p['rules']) or 'none'}")


def _rules(cls: type[Pass], broken: list[UsageError]) -> tuple[Rule, ...]:
    """A pass's rules; where those that join it are broken, its own."""
    try:
        return cls.all_rules()
    except UsageError as error:
        if error.what not in [known.what for known in broken]:
            broken.append(error)
        return cls.rules


def _from(summary: str, package: str) -> str:
    """A summary, with the package that brings what it is about; none is ours."""
    return f"{summary} (from {package})" if package else summary


def _tell(screen: Screen, broken: Sequence[UsageError]) -> None:
    """What installed packages bring that cannot be listed, and why."""
    for error in broken:
        screen.note(f"{error.what}; {error.fix}")
