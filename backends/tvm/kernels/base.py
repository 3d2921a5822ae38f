"""What the kernels share."""

from __future__ import annotations

from abc import abstractmethod

from ....runtime.target import Unsupported
from ...group import Group
from ...kernel import Kernel
from .. import scalars
from ..code import Code

#: No vector of 8-bit elements is asked for that is wider than this many elements: LLVM splits wider ones.
LANES = 16


class TirKernel(Kernel):
    """Loops as TIR, with any epilogue that `scalars` knows. Nothing is done in place: pointers do not alias."""

    def accepts(self, group: Group) -> Unsupported | None:
        return scalars.refusal(group)

    @abstractmethod
    def emit(self, group: Group, code: Code) -> None: ...
