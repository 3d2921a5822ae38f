"""`passes explain`: why a rewrite rule did not fire, at every node where it might have; or a pass left something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..backends.lowering import INTEGERS
from ..driver import FLOAT
from ..ir.errors import UsageError
from ..ir.graph import Graph, Node
from ..ir.pattern import Mismatch, match
from ..ir.rewrite import NodeRule, NoMatch, Rule
from ..passes import all_passes, pass_named
from ..passes.base import Pass
from ..passes.pipeline import Pipeline, parse_pipeline, run_pipeline
from ..screen import Column, Screen, counted
from .sources import Request

#: Nodes that are listed for each reason; --json has them all.
LISTED = 8


@dataclass(frozen=True)
class NearMiss:
    """A node of the op at the pattern's root, and why the rule did not fire there.

    depth: how many ops of the pattern matched before one did not, the root included; all of them where the rule itself
    declined. reason is "" where it would fire.
    """

    node: Node
    reason: str
    depth: int


def rules_named(name: str) -> list[tuple[type[Pass], Rule]]:
    """Rules by title, or all rules of a class by its name, with their passes. Raises UsageError for no such rule."""
    everything = [(cls, rule) for cls in all_passes() for rule in cls.all_rules()]
    found = [x for x in everything if name.lower() in (x[1].title.lower(), type(x[1]).__name__.lower())]
    if not found:
        known = list(dict.fromkeys(type(rule).__name__ for _, rule in everything))
        near = get_close_matches(name, known, n=1)
        did_you_mean = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no rule {name!r}", fix=f"{did_you_mean}rules are {', '.join(known)}")
    return found


def near_misses(graph: Graph, rule: Rule) -> Iterator[NearMiss]:
    """Every node that the rule looks at, in order."""
    pattern = rule.compiled
    for node in graph.nodes:
        if type(node.op) not in rule.roots:
            continue
        old = rule.replaced(node)
        found = None if isinstance(rule, NodeRule) or isinstance(old, NoMatch) else match(pattern, old)
        if isinstance(found, Mismatch):
            yield NearMiss(node, found.reason, found.depth)
            continue
        outcome = rule.attempt(node)
        depth = 1 if found is None else len(found.matched)
        yield NearMiss(node, outcome.reason if isinstance(outcome, NoMatch) else "", depth)


def passes_before(cls: type[Pass]) -> Pipeline:
    """What runs before a pass by default, a device's integers included."""
    passes = parse_pipeline(f"{FLOAT},{INTEGERS}").passes
    places = [i for i, p in enumerate(passes) if type(p) is cls]
    return Pipeline(passes[: places[0]] if places else ())


def explain_rule(request: Request, name: str, screen: Screen) -> int:
    """Run the passes up to the rule's own, and that one; then ask the rule at every node that it left.

    Of a pass without rules, what it said about what it left.
    """
    prefix = request.passes()  # makes the user's own passes known
    if (cls := pass_named(name)) is not None and not cls.all_rules():
        return _explain_pass(request, prefix, cls, screen)
    answers = [_explained(request, prefix, cls, rule) for cls, rule in rules_named(name)]
    screen.result({"rules": answers})
    for answer in answers:
        _show(screen, answer)
    return 0


def _explain_pass(request: Request, prefix: Pipeline | None, cls: type[Pass], screen: Screen) -> int:
    before, own = _split(passes_before(cls) if prefix is None else prefix, cls)
    graph = request.graph()
    changes = run_pipeline(graph, [*before, own], request.context(graph)).steps[-1].changes
    after = str(Pipeline((*before, own)))
    rows = [[reason, pattern, at] for (pattern, at), reason in changes.refused.items()]
    refused = [dict(zip(("reason", "pattern", "node"), row, strict=True)) for row in rows]
    screen.result({"pass": cls.name, "after": after, "applied": dict(changes.applied), "refused": refused})
    if not screen.json:
        did = ", ".join(f"{action} x{times}" for action, times in changes.applied.items()) or "nothing"
        screen.say(f"{cls.name}: did {did}; after {after} it left {counted(len(rows), 'thing')} for a reason")
        if rows:
            screen.table((Column("why not"), Column("what"), Column("at")), rows)
    return 0


def _explained(request: Request, prefix: Pipeline | None, cls: type[Pass], rule: Rule) -> dict[str, Any]:
    before, own = _split(passes_before(cls) if prefix is None else prefix, cls)
    graph = request.graph()
    result = run_pipeline(graph, [*before, own], request.context(graph))
    misses = list(near_misses(result.graph, rule))
    groups: dict[tuple[int, str], list[Node]] = {}
    for miss in misses:
        groups.setdefault((miss.depth, miss.reason), []).append(miss.node)
    ordered = sorted(groups.items(), key=lambda group: (-group[0][0], -len(group[1])))
    return {
        "rule": rule.title,
        "pass": cls.name,
        "after": str(Pipeline((*before, own))),
        "root": " or ".join(op.name for op in rule.roots),
        "fired": result.steps[-1].changes.applied.get(rule.title, 0),
        "near_misses": [
            {"reason": reason, "matched_ops": depth, "nodes": [_node(node) for node in nodes]}
            for (depth, reason), nodes in ordered
        ],
    }


def _split(pipeline: Pipeline, cls: type[Pass]) -> tuple[tuple[Pass, ...], Pass]:
    """The passes before the first one of this class, and that one; with default options where there is none.

    Raises UsageError for a pass that wants options.
    """
    for i, applied in enumerate(pipeline.passes):
        if type(applied) is cls:
            return pipeline.passes[:i], applied
    return pipeline.passes, parse_pipeline(cls.name).passes[0]


def _node(node: Node) -> dict[str, Any]:
    return {
        "name": node.results[0].name,
        "source": str(node.loc),
        "operands": [str(v.type) for v in node.operands],
        "result": str(node.results[0].type),
    }


def _show(screen: Screen, answer: dict[str, Any]) -> None:
    if screen.json:
        return
    fired = f"{answer['rule']} of {answer['pass']}: fired {counted(answer['fired'], 'time')}"
    if not answer["near_misses"]:
        screen.say(f"{fired}; after {answer['after']} there is no {answer['root']} to look at")
        return
    looked = sum(len(group["nodes"]) for group in answer["near_misses"])
    screen.say(f"{fired}; after {answer['after']} it looked at {counted(looked, answer['root'])}")
    rows = []
    for group in answer["near_misses"]:
        reason = group["reason"] or "it would fire here"
        nodes = group["nodes"]
        for i, node in enumerate(nodes[:LISTED]):
            head = [reason, group["matched_ops"], len(nodes)] if i == 0 else ["", None, None]
            rows.append([*head, node["source"], ", ".join(node["operands"])])
        if len(nodes) > LISTED:
            rows.append(["", None, None, f"and {len(nodes) - LISTED} more (--json has them all)", ""])
    columns = (Column("why not"), Column("ops matched", number=True), Column("nodes", number=True))
    screen.table((*columns, Column("at"), Column("operands")), rows)
