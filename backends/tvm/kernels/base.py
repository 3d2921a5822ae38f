"""What the kernels share."""

from __future__ import annotations

from abc import abstractmethod

from ....runtime.target import Unsupported
from ...group import Group
from ...kernel import Kernel
from ...loops import epilogue
from ..code import Code


class TirKernel(Kernel):
    """Loops as TIR, with any epilogue that `scalars` knows. Nothing is done in place: pointers do not alias."""

    def accepts(self, group: Group) -> Unsupported | None:
        return epilogue.refusal(group)

    @abstractmethod
    def emit(self, group: Group, code: Code) -> None: ...
