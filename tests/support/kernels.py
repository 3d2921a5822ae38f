"""What kernels are to execute: every op, but for a few."""

from __future__ import annotations

from collections.abc import Iterable

from planish.backends.kernel import Kernel
from planish.ir.constant import Const
from planish.ir.op import Op
from planish.ir.ops import all_ops
from planish.ir.ops.index import Take
from planish.ir.ops.norm import Lrn
from planish.ir.ops.shape import Reshape

#: No device has a kernel for these yet: a graph with one is refused, with the reason. That is a fact about the kernels,
#: so it stands here by hand: a kernel that gets lost does not become one of these.
WITHOUT = frozenset({Lrn, Take})


#: What is executed: constants are not, and groups are as their bodies.
EXECUTED = [op for op in all_ops() if op is not Const and op.bodies is Op.bodies]
TESTED = [op for op in EXECUTED if op not in WITHOUT]


def taken(kernels: Iterable[Kernel]) -> set[type[Op]]:
    """Ops that kernels execute, and Reshape, which is an alias."""
    return {op for kernel in kernels for op in kernel.ops} | {Reshape}


def missing(kernels: Iterable[Kernel]) -> set[type[Op]]:
    """Ops that no kernel takes, and that are not made of simpler ones, which then would be."""
    found = taken(kernels)
    return {op for op in EXECUTED if op not in found and op.definition is Op.definition}
