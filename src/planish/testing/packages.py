"""All that an installed package brings, held to what ours is held to."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.errors import UsageError
from ..ir.extensions import GROUPS, Extension, installed
from ..ir.op import Op
from ..ir.ops import op_named
from ..ir.rewrite import Rule
from ..passes import pass_named
from ..registry import target_named
from ..runtime.target import Target
from .kernels import check_kernel
from .ops import check_op
from .passes import check_pass, check_rule
from .quantized import check_quantized


def check_package(package: str, targets: Sequence[str] = (), programs: int = 2) -> dict[str, int]:
    """Check everything that an installed package brings; says how many of each group.

    Ops by `check_op` and `check_quantized`, passes by `check_pass` with their defaults, rules by `check_rule`;
    expressions and kernels by `check_kernel`, with so many programs, on the targets of these names and on those that
    the package brings. Adapters are imported: a model that needs them is the test. Raises AssertionError with the first
    counterexample, UsageError where the package is broken, or brings nothing.
    """
    brought = {group: [x for x in installed(group) if x.package == package] for group in GROUPS}
    if not any(brought.values()):
        known = sorted({x.package for group in GROUPS for x in installed(group)})
        raise UsageError(f"no installed package {package} extends planish", fix=f"those that do: {', '.join(known)}")
    executing = [target_named(name) for name in (*targets, *(x.name for x in brought["planish.targets"]))]
    for extension in brought["planish.ops"]:
        cls = _op(extension)
        check_op(cls)
        check_quantized(cls)
    for extension in brought["planish.passes"]:
        applied = pass_named(extension.name)
        assert applied is not None
        check_pass(applied())
    for extension in brought["planish.rules"]:
        for rule in extension.load((tuple,)):
            assert isinstance(rule, Rule), f"{rule!r} is no rule"
            check_rule(rule)
    for cls in dict.fromkeys([*map(_op, brought["planish.elements"]), *_anchors(brought["planish.kernels"])]):
        _executes(cls, executing, programs)
    for extension in (*brought["planish.importers"], *brought["planish.exporters"]):
        extension.load()
    return {group: len(found) for group, found in brought.items() if found}


def _op(extension: Extension) -> type[Op]:
    """The op that an entry point names."""
    cls = op_named(extension.name)
    if cls is None:
        raise extension.broken("there is no op of that name")
    return cls


def _anchors(kernels: Sequence[Extension]) -> list[type[Op]]:
    """The ops that kernels are for."""
    from ..backends.kernel import Kernel

    return [cls for extension in kernels for cls in extension.load(Kernel).ops]


def _executes(cls: type[Op], targets: Sequence[Target], programs: int) -> None:
    usable = [target for target in targets if all(need.present for need in target.needs())]
    counts = [check_kernel(target, cls, programs) for target in usable]
    assert any(counts) or not usable, f"no target executes an example of {cls.name}"
