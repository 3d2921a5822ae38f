"""One element of a group's result in C: the epilogue of every portable kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...ir.graph import Node, Value
from ...ir.ops.elementwise import Div
from ...ir.ops.quant import Rescale, Table
from ...runtime.target import Unsupported
from ..group import Group, uniform
from .code import CTYPES, Code, scalar
from .emitters import EMITTERS, Scalar


@dataclass(frozen=True)
class Position:
    """Where the result's element lies: C expressions for its index in memory and for its coordinates."""

    flat: str
    axes: tuple[str, ...]


def store(group: Group, code: Code, at: Position, acc: str = "", of: Value | None = None) -> str:
    """Statements that compute one element of the result from `acc`, the anchor's, and store it in `y`.

    Without `acc` the anchor is elementwise as well, and computed here. `of`: that `acc` is this later value's, and what
    comes before it is done.
    """
    known: dict[Value, Scalar] = {}
    value = of or group.anchor.result
    if acc:
        known[value] = Scalar(acc, value.type.dtype)
    first = group.nodes.index(of.producer) if of is not None and of.producer is not None else 0
    lines: list[str] = []
    for node in group.nodes[first:]:
        if node.result in known:
            continue
        operands = [known.get(v) or load(group, code, v, at) for v in node.operands]
        dtype = node.result.type.dtype
        name = f"v{len(lines)}"
        lines.append(f"const {scalar(dtype)} {name} = {EMITTERS[type(node.op)](node.op, operands, code)};\n")
        known[node.result] = Scalar(name, dtype)
    dtype = group.result.type.dtype
    text = known[group.result].text
    cast = text if scalar(dtype) == CTYPES[dtype] else f"({CTYPES[dtype]}){text}"
    return "".join([*lines, f"y[{at.flat}] = {cast};\n"])


def load(group: Group, code: Code, value: Value, at: Position) -> Scalar:
    """One element of an operand, broadcast to the result's element `at`."""
    dtype = value.type.dtype
    array = group.constant(value)
    if array is not None and (number := uniform(array)) is not None:
        return Scalar(code.number(number, dtype), dtype, array)
    name = pointer(group, code, value)
    index = _index(group.shape(value), group.shape(group.result), at)
    text = f"{name}[{index}]"
    return Scalar(text if scalar(dtype) == CTYPES[dtype] else f"(int32_t){text}", dtype, array)


def pointer(group: Group, code: Code, value: Value, label: str = "table") -> str:
    """C: the first element of an operand, in a table or behind a parameter."""
    array = group.constant(value)
    if array is not None:
        return code.table(label, array)
    name = group.parameter(value)
    assert name is not None
    return name


def residuals(group: Group) -> tuple[int, ...]:
    """Parameters that only the epilogue reads, element by element just before the result's is written: `in_place`."""
    result = group.result.type
    anchored = {group.parameter(v) for v in group.anchor.operands} if not group.is_elementwise else set()
    return tuple(
        i
        for i, v in enumerate(group.parameters)
        if f"x{i}" not in anchored and v.type.shape == result.shape and v.type.dtype.bits == result.dtype.bits
    )


def _index(shape: Sequence[int], result: Sequence[int], at: Position) -> str:
    """The index of a broadcast operand's element."""
    if tuple(shape) == tuple(result):
        return at.flat
    terms, stride = [], 1
    for size, axis in zip(reversed(shape), reversed(at.axes), strict=False):
        if size != 1:
            terms.append(axis if stride == 1 else f"({axis}) * {stride}")
        stride *= size
    return " + ".join(reversed(terms)) or "0"


def refusal(group: Group) -> Unsupported | None:
    """Why an elementwise op of the group cannot be computed here; None where all can."""
    for node in group.nodes:
        if node is group.anchor and not group.is_elementwise:
            continue
        if type(node.op) not in EMITTERS:
            return Unsupported(f"there is no C for {node.op.name}")
        if isinstance(node.op, Rescale | Table) and any(group.constant(v) is None for v in node.operands[1:]):
            return Unsupported(f"the parameters of {node.op.name} are computed, not constant")
        if (
            isinstance(node.op, Rescale)
            and not 0 <= (shift := group.array(node.operands[2])).min() <= shift.max() <= 31
        ):
            return Unsupported("rescale has a shift that is negative, or of more than 31 bits")
        if isinstance(node.op, Div) and (problem := _divisor_problem(group, node)) is not None:
            return problem
    return None


def _divisor_problem(group: Group, node: Node) -> Unsupported | None:
    """Why integers cannot be divided: by zero nothing is defined, and by -1 the lowest number overflows."""
    divisor = group.constant(node.operands[1])
    if node.result.type.dtype.is_float or (divisor is not None and not np.isin(divisor, (0, -1)).any()):
        return None
    return Unsupported("division of integers by what may be 0 or -1", "divide by a constant, or use rescale")
