"""The laws of `Op.roles`: what an op says of its weights' axes agrees with its types and with what it computes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from ..ir.errors import InferenceError
from ..ir.graph import infer
from ..ir.op import Instance, Op
from ..ir.roles import Kind, Role
from ..ir.types import Array, TensorType, static, type_of

#: An axis of an operand: (operand, axis).
Axis = tuple[int, int]
#: Axes of other operands that may have to grow together with one: the rows of a gate, in recurrent layers.
MOST_TIED = 5


def check_roles(instance: Instance) -> None:
    """Hold `Op.roles` to its laws on one instance.

    There is one role for each operand. The output, reduction and batch axes of a weight are all of its axes, each once.
    Twice as many outputs make results and biases larger; a longer reduction needs no longer bias, unless the weights
    are square by definition. Where the op is proportional to a weight, a factor for each index of the output axis
    becomes a factor of whole elements of the result: so scales may be taken out of the sum. Raises AssertionError with
    the law that is broken.
    """
    op, types = instance.op, [type_of(x) for x in instance.operands]
    roles = op.roles(types)
    what = f"{op}: {', '.join(map(str, types))}"
    assert len(roles) == len(types), f"{len(roles)} roles for {len(types)} operands of {what}"
    for i, role in enumerate(roles):
        if role.is_weight:
            axes = sorted(role.axes)
            assert axes == list(range(types[i].rank)), f"the role of operand {i} has the axes {axes}, not all, {what}"
            _grows(op, types, roles, i, what)
            _factors_out(instance, roles, i, what)


def _grows(op: Op, types: Sequence[TensorType], roles: Sequence[Role], i: int, what: str) -> None:
    before, role = _elements(op, types), roles[i]
    assert before is not None
    assert role.output is not None
    biases = {k for k, other in enumerate(roles) if other.kind is Kind.bias}
    for axis in (role.output, *role.reduction):
        found = _grown(op, types, (i, axis))
        assert found is not None, f"axis {axis} of operand {i} cannot be twice as long, {what}"
        elements, tied = found
        longer = biases & {k for k, _ in tied}
        if axis == role.output:
            grows = elements > before and longer == biases
            assert grows, f"axis {axis} of operand {i} is no output: results or biases do not grow, {what}"
        else:
            square = (i, role.output) in tied
            assert square or not longer, f"axis {axis} of operand {i} is no reduction: the biases grow, {what}"


def _grown(op: Op, types: Sequence[TensorType], axis: Axis) -> tuple[int, tuple[Axis, ...]] | None:
    """Elements of the results where this axis, and as few others as will do, are twice as long; and those others."""
    sizes = {(i, a): d for i, type in enumerate(types) for a, d in enumerate(static(type.shape))}
    size = sizes.pop(axis)
    related = [other for other, d in sizes.items() if d % size == 0 or size % d == 0]  # mostly these are tied
    for tied in (some for pool in (related, sizes) for n in range(MOST_TIED + 1) for some in combinations(pool, n)):
        elements = _elements(op, list(_doubled(types, {axis, *tied})))
        if elements is not None:
            return elements, tied
    return None


def _doubled(types: Sequence[TensorType], axes: set[Axis]) -> Iterator[TensorType]:
    for i, type in enumerate(types):
        yield type.with_shape(tuple(d * (1 + ((i, a) in axes)) for a, d in enumerate(type.shape)))


def _elements(op: Op, types: Sequence[TensorType]) -> int | None:
    """How many elements the results have; None where the op does not take such operands."""
    try:
        return sum(type.size for type in infer(op, types))
    except InferenceError:
        return None


#: Factors of outputs: powers of two, so that floats do not round.
FACTORS = (1.0, 0.5, 2.0, 4.0)


def _factors_out(instance: Instance, roles: Sequence[Role], i: int, what: str) -> None:
    operands = [np.zeros_like(x) if r.kind is Kind.bias else x for x, r in zip(instance.operands, roles, strict=True)]
    w, axis = operands[i], roles[i].output
    if w.dtype.kind != "f" or axis is None:
        return
    plain = _results(instance.op, operands, i, w)
    twice = _results(instance.op, operands, i, 2 * w)
    if not np.array_equal(twice, 2 * plain):  # a nonlinear function comes after the sum
        return
    of_output = np.resize(FACTORS, w.shape[axis]).astype(w.dtype)
    shape = [-1 if a == axis else 1 for a in range(w.ndim)]
    scaled = _results(instance.op, operands, i, w * of_output.reshape(shape))
    known = np.any([scaled == f * plain for f in of_output], axis=0)
    assert known.all(), f"a factor per index of axis {axis} of operand {i} cannot be taken out of the sum, {what}"


def _results(op: Op, operands: Sequence[Array], i: int, w: Array) -> Array:
    """All elements of all results with another operand i."""
    with np.errstate(all="ignore"):
        results = op.ref(*(w if j == i else x for j, x in enumerate(operands)))
    results = results if isinstance(results, tuple) else (results,)
    return np.concatenate([np.asarray(r, np.float64).reshape(-1) for r in results])
