"""What the portable kernels share."""

from __future__ import annotations

from ....runtime.target import Unsupported
from ...group import Group
from ...kernel import Kernel
from ...loops import epilogue


class Portable(Kernel):
    """Plain loops in C99, with any epilogue that `elements` knows; last in every list."""

    def accepts(self, group: Group) -> Unsupported | None:
        return epilogue.refusal(group)

    def in_place(self, group: Group) -> tuple[int, ...]:
        return epilogue.residuals(group)
