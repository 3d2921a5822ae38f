"""Transposes as data: composing them, passing them through an op, moving constants by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir.builder import const_value
from ..ir.constant import Const
from ..ir.graph import NOWHERE, Value, apply
from ..ir.op import Op, Perm, invert
from ..ir.types import Array, Quant, Shape, TensorType, static

#: What `Op.permuted` answers: the op, the permutation of each operand (None: as it is), that of the result.
Passage = tuple[Op, tuple[Perm | None, ...], Perm]


def composed(first: Perm, second: Perm) -> Perm:
    """The permutation of transpose(transpose(x, first), second)."""
    return tuple(first[i] for i in second)


def is_identity(perm: Perm) -> bool:
    """Whether a transpose by this permutation changes nothing."""
    return perm == tuple(range(len(perm)))


def is_reshape(perm: Perm, shape: Shape) -> bool:
    """Whether a transpose of this shape keeps the order of its elements: only axes of length 1 change places."""
    longer = [i for i in perm if shape[i] != 1]
    return longer == sorted(longer)


def is_single(type: TensorType, rank: int) -> bool:
    """Whether an operand is one element that broadcasts to any shape of this rank, transposed or not."""
    return type.rank < rank and set(type.shape) <= {1}


def full_rank(shape: Shape, rank: int) -> Shape:
    """The shape with the leading ones that broadcasting thinks of."""
    return (*(1,) * (rank - len(shape)), *shape)


def passage(op: Op, perm: Perm, operands: list[TensorType]) -> Passage | None:
    """`Op.permuted`, with the operands of elementwise ops seen at full rank; the answer speaks of those.

    The first of the permutations is that which operand 0 takes: the inverse of `perm`.
    """
    if op.elementwise:
        rank = len(perm)
        operands = [t if is_single(t, rank) else t.with_shape(full_rank(t.shape, rank)) for t in operands]
    answer = op.permuted(perm, operands)
    if answer is None:
        return None
    permuted, perms, result = answer
    first = None if op.elementwise and is_single(operands[0], len(perm)) else invert(perm)
    return permuted, (first, *perms[1:]), result


#: Nodes of a constant expression at most, one that is used twice counted twice: what moves one writes all of them anew.
MOST_NODES = 32


def is_constant_expression(value: Value) -> bool:
    """Whether a value is a constant, or a few elementwise ops on constants: such as dequantize(weights)."""
    stack = [value]
    for _ in range(MOST_NODES):
        node = stack.pop().producer
        if node is None or not (isinstance(node.op, Const) or (node.op.elementwise and len(node.results) == 1)):
            return False
        stack.extend(node.operands)
        if not stack:
            return True
    return False


def moved_constant(value: Value, perm: Perm) -> Value | None:
    """transpose(value at full rank, perm) as new constants and elementwise ops on them; None where it cannot be."""
    node = value.producer
    if node is None or not is_constant_expression(value):
        return None
    if isinstance(node.op, Const):
        full = node.op.data.reshape(static(full_rank(value.type.shape, len(perm))))
        return replaced_constant(value, np.ascontiguousarray(full.transpose(perm)), moved_quant(value.type, perm))
    through = passage(node.op, invert(perm), [v.type for v in node.operands])
    if through is None or through[2] != invert(perm):
        return None
    op, perms, _ = through
    moved = [v if p is None else moved_constant(v, p) for v, p in zip(node.operands, perms, strict=True)]
    operands = [v for v in moved if v is not None]
    if len(operands) < len(moved):
        return None
    result = apply(op, *operands, loc=node.loc, name=value.name).result
    result.type = result.type.with_quant(moved_quant(value.type, perm))
    return result


def replaced_constant(value: Value, array: Array, quant: Quant | None) -> Value:
    """A new constant with the name and the source of another."""
    loc = value.producer.loc if value.producer is not None else NOWHERE
    result = const_value(array, value.name, loc)
    result.type = result.type.with_quant(quant)
    return result


def moved_quant(type: TensorType, perm: Perm) -> Quant | None:
    """The annotation of transpose(value of this type at full rank, perm): a channel axis moves along."""
    quant = type.quant
    if quant is None or quant.axis is None:
        return quant
    return replace(quant, axis=perm.index(quant.axis + len(perm) - type.rank))


def taken_constant(value: Value, order: Array) -> Value | None:
    """A constant expression with the elements along its last axis in another order; None where it cannot be."""
    node = value.producer
    if node is None or not is_constant_expression(value):
        return None
    if isinstance(node.op, Const):
        data = node.op.data
        return replaced_constant(value, data if data.shape[-1] == 1 else data[..., order], value.type.quant)
    rank = value.type.rank
    through = passage(node.op, tuple(range(rank)), [v.type for v in node.operands])
    if through is None:
        return None
    taken = [v if p is None else taken_constant(v, order) for v, p in zip(node.operands, through[1], strict=True)]
    operands = [v for v in taken if v is not None]
    if len(operands) < len(taken):
        return None
    result = apply(node.op, *operands, loc=node.loc, name=value.name).result
    result.type = result.type.with_quant(value.type.quant)
    return result


def regrouped(shape: Shape, perm: Perm, wanted: Shape) -> tuple[Shape, Perm] | None:
    """Swap a transpose and the reshape after it; `shape` is that of x.

    Returns (s, p) such that reshape(transpose(x, perm), wanted) == transpose(reshape(x, s), p), or None where the
    reshape merges or splits axes that do not lie together in x.
    """
    groups = axis_groups(tuple(shape[i] for i in perm), wanted)
    if groups is None:
        return None
    longer = [i for i, d in enumerate(shape) if d != 1]
    places: list[tuple[int, int, tuple[int, ...]]] = []  # where a group's axes lie in x, its number, its wanted axes
    last = -1
    for number, (before, after) in enumerate(groups):
        axes = [longer.index(perm[i]) for i in before if shape[perm[i]] != 1]
        if axes and axes != list(range(axes[0], axes[0] + len(axes))):
            return None
        last = axes[0] if axes else last
        places.append((last, number, after))
    order = [axis for _, _, after in sorted(places) for axis in after]
    return tuple(wanted[i] for i in order), invert(tuple(order))


def axis_groups(before: Shape, after: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Runs of axes of two shapes with equal products, as short as can be; axes of length 1 may stand alone."""
    groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and (before[i] == 1 or (j < len(after) and before[i] == after[j])):
            both = j < len(after) and before[i] == after[j]
            groups.append(((i,), (j,) if both else ()))
            i, j = i + 1, j + both
            continue
        if j < len(after) and after[j] == 1:
            groups.append(((), (j,)))
            j += 1
            continue
        start, left, right = (i, j), 1, 1
        while left != right or left == 1:
            shorter_is_left = left <= right
            dims, at = (before, i) if shorter_is_left else (after, j)
            if at >= len(dims) or not isinstance(dim := dims[at], int) or not dim:
                return None
            if shorter_is_left:
                left, i = left * dim, i + 1
            else:
                right, j = right * dim, j + 1
        groups.append((tuple(range(start[0], i)), tuple(range(start[1], j))))
    return groups
