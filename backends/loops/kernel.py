"""Kernels that are written once, for every target that renders the loop language."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from ...runtime.target import Unsupported
from ..group import Group
from ..kernel import Kernel
from . import epilogue
from .code import Code
from .statements import Statement


class LoopKernel(Kernel):
    """Plain loops, with any epilogue that `elements` knows; last in every list."""

    def accepts(self, group: Group) -> Unsupported | None:
        return epilogue.refusal(group)

    def in_place(self, group: Group) -> tuple[int, ...]:
        return epilogue.residuals(group)

    @abstractmethod
    def write(self, group: Group, code: Code) -> None:
        """Write the group's function."""

    def emit(self, group: Group, code: Any = None) -> Sequence[Statement]:
        """The function's statements; the target's own context is not asked."""
        own = Code(group)
        self.write(group, own)
        return own.statements
