"""Groups of elementwise ops alone."""

from __future__ import annotations

from ....ir.types import TensorType
from ....runtime.target import Unsupported
from .. import scalars
from ..code import Code
from ..group import Group
from ..kernel import Kernel
from ..scalars import Position


class Elementwise(Kernel):
    """One loop over the elements where operands are of the result's shape or single numbers; nested loops elsewhere."""

    name = "elementwise"
    ops = tuple(scalars.EMITTERS)

    def accepts(self, group: Group) -> Unsupported | None:
        return scalars.refusal(group)

    def emit(self, group: Group, code: Code) -> str:
        shape = group.shape(group.result)
        return loops(shape, scalars.store(group, code, flat_position(shape)), flat=self._is_flat(group))

    def in_place(self, group: Group) -> tuple[int, ...]:
        result = group.result.type
        return tuple(
            i for i, v in enumerate(group.parameters) if v.type.shape == result.shape and same_width(v.type, result)
        )

    def _is_flat(self, group: Group) -> bool:
        """Whether no operand is read by coordinates."""
        shape = group.shape(group.result)
        outside = [v for n in group.nodes for v in n.operands if v.producer not in group.nodes]
        arrays = [
            v for v in outside if (c := group.constant(v)) is None or c.tobytes() != c.flat[:1].tobytes() * c.size
        ]
        return all(group.shape(v) == shape or v.type.size == 1 for v in arrays)


def same_width(a: TensorType, b: TensorType) -> bool:
    """Whether elements take the same memory, so that element i lies at one place in both."""
    return a.dtype.bits == b.dtype.bits


def flat_position(shape: tuple[int, ...]) -> Position:
    """The position that `loops` walks through: index i, coordinates i0, i1, ..."""
    return Position("i", tuple(f"i{axis}" for axis in range(len(shape))))


def loops(shape: tuple[int, ...], body: str, flat: bool) -> str:
    """`body` for each element in row-major order, with its index `i` and, unless `flat`, its coordinates."""
    size = 1
    for d in shape:
        size *= d
    if flat:
        return f"for (int32_t i = 0; i < {size}; ++i) {{\n{body}}}\n"
    text = f"{body}++i;\n"
    for axis, d in reversed(list(enumerate(shape))):
        text = f"for (int32_t i{axis} = 0; i{axis} < {d}; ++i{axis}) {{\n{text}}}\n"
    return f"int32_t i = 0;\n{text}"
