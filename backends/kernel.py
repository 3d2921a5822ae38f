"""What a kernel is, and how one is chosen. docs/kernels.md is the guide."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..ir.constant import Const
from ..ir.graph import Node
from ..ir.op import Op
from ..ir.ops.shape import Reshape
from ..ir.types import BOOL, F32, I8, I16, I32, I64, U8, U16, U32, U64, Sym, TensorType
from ..runtime.target import Unsupported
from .group import Group

#: What C and its callers can hold.
STORED = frozenset((F32, I8, I16, I32, I64, U8, U16, U32, U64, BOOL))


class Kernel(ABC):
    """How one kind of group becomes one function. Stateless; listed by target in a backend's `kernels/__init__.py`."""

    #: As reports name it.
    name: ClassVar[str]
    #: Classes of the anchors that it is asked about.
    ops: ClassVar[tuple[type[Op], ...]]

    @abstractmethod
    def accepts(self, group: Group) -> Unsupported | None:
        """None when it implements this group exactly; else why not, for the report."""

    @abstractmethod
    def emit(self, group: Group, code: Any) -> Any:
        """The body of the function, specialised to the group, in the backend's own form; `code` is its context.

        In scope: x0, x1, ... (`group.parameters`), y (the result) and, where `scratch` is not 0, so many bytes.
        """

    def scratch(self, group: Group) -> int:
        """Bytes of the arena that the function needs while it runs."""
        return 0

    def in_place(self, group: Group) -> tuple[int, ...]:
        """Parameters (indices of `group.parameters`) that the result may overwrite.

        Legal where every element is read for the last time before the result's elements at its place, or before it in
        memory, are written.
        """
        return ()

    def instructions(self, group: Group) -> int | None:
        """Estimate of the instructions for one inference, for costs; None where nobody has measured."""
        return None


@dataclass(frozen=True)
class Choice:
    """The kernel of a group, or None; and the kernels before it in the list, with their reasons."""

    group: Group
    kernel: Kernel | None
    refused: tuple[tuple[str, Unsupported], ...]

    @property
    def reason(self) -> Unsupported:
        """Why there is no kernel: what the last, most general one said."""
        return self.refused[-1][1]


class Choices:
    """Which kernel executes each node of one lowered graph: decided once, when a node is first asked about.

    What legality, memory planning (this is its `MemoryModel`) and code generation ask. The graph must stay as it is.
    in_place: whether results may overwrite operands at all.
    """

    def __init__(self, kernels: Sequence[Kernel], in_place: bool = True) -> None:
        self._kernels = kernels
        self._in_place = in_place
        self._choices: dict[Node, Choice] = {}

    def __getitem__(self, node: Node) -> Choice:
        """Of a node that executes."""
        choice = self._choices.get(node)
        if choice is None:
            choice = self._choices[node] = choose(node, self._kernels)
        return choice

    def problem(self, node: Node) -> Unsupported | None:
        """Why no kernel executes a node; constants and aliases need none, but C must hold them."""
        if isinstance(node.op, Const) or self.is_alias(node):
            return next((problem for v in node.results if (problem := unfit(v.type))), None)
        return None if self[node].kernel is not None else self[node].reason

    def is_alias(self, node: Node) -> bool:
        """Whether the result is operand 0's bytes as they are, so that nothing is executed."""
        return isinstance(node.op, Reshape)

    def scratch(self, node: Node) -> int:
        """Bytes of the arena that the node's kernel needs beside operands and results."""
        kernel = self[node].kernel
        return kernel.scratch(self[node].group) if kernel is not None else 0

    def in_place(self, node: Node) -> tuple[int, ...]:
        """Operands whose memory the result may take, as the kernel reads each element before it is overwritten."""
        group, kernel = self[node].group, self[node].kernel
        if kernel is None or not self._in_place:
            return ()
        legal = {group.parameters[i] for i in kernel.in_place(group)}
        return tuple(i for i, v in enumerate(node.operands) if v in legal)


def choose(node: Node, kernels: Sequence[Kernel]) -> Choice:
    """The first kernel of the list that accepts the node."""
    group = Group.of(node)
    problem = group.problem or _types(group)
    if problem is not None:
        return Choice(group, None, (("all", problem),))
    refused: list[tuple[str, Unsupported]] = []
    for kernel in kernels:
        if not isinstance(group.op, kernel.ops):
            continue
        answer = kernel.accepts(group)
        if answer is None:
            return Choice(group, kernel, tuple(refused))
        refused.append((kernel.name, answer))
    if not refused:
        refused.append(
            ("all", Unsupported(f"there is no kernel for {group.op.name}", "rewrite it, or run it elsewhere"))
        )
    return Choice(group, None, tuple(refused))


def _types(group: Group) -> Unsupported | None:
    """Shapes must be known and dtypes be C's."""
    values = [v for n in group.nodes for v in (*n.operands, *n.results)]
    return next((problem for v in values if (problem := unfit(v.type))), None)


def unfit(type: TensorType) -> Unsupported | None:
    """Why C cannot hold a tensor of this type."""
    unknown = [d for d in type.shape if isinstance(d, Sym)]
    if unknown:
        return Unsupported(f"dimension {unknown[0].symbol} is not known", f"give --dim {unknown[0].symbol}=...")
    if type.dtype not in STORED:
        return Unsupported(f"C99 has no {type.dtype}", "use f32, or integers of 8, 16 or 32 bits")
    if not 0 < type.nbytes < 1 << 31:
        return Unsupported(f"{type} has {type.nbytes} bytes", "tensors have at least one element and less than 2 GiB")
    return None
