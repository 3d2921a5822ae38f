"""Roles of operands: `check_op` holds every op to them, and finds wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from planish.ir.op import Draw, Instance, op
from planish.ir.ops.dense import Dense
from planish.ir.ops.recurrent import Gru
from planish.ir.roles import ACTIVATION, BIAS, Kind, Role, weight
from planish.ir.types import TensorType
from planish.testing import check_op


@op
class Swapped(Dense):
    """A dense layer that mistakes its reduction for its outputs."""

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return ACTIVATION, weight(1, (0,)), BIAS

    @staticmethod
    def examples(draw: Draw) -> Instance:
        given = Dense.examples(draw)
        return Instance(Swapped(given.op.input_zero), given.operands, given.constants)  # type: ignore[attr-defined]


@op
class OneAxis(Swapped):
    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return ACTIVATION, weight(0, ()), BIAS

    @staticmethod
    def examples(draw: Draw) -> Instance:
        given = Dense.examples(draw)
        return Instance(OneAxis(given.op.input_zero), given.operands, given.constants)  # type: ignore[attr-defined]


@op
class Forgetful(OneAxis):
    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        return ACTIVATION, weight(0, (1,))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        given = Dense.examples(draw)
        return Instance(Forgetful(given.op.input_zero), given.operands, given.constants)  # type: ignore[attr-defined]


@op
class Sideways(Gru):
    """A recurrent layer that takes its inputs for gates."""

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        inputs = weight(2, (1,), batch=(0,))
        return ACTIVATION, inputs, inputs, BIAS, ACTIVATION

    @staticmethod
    def examples(draw: Draw) -> Instance:
        given = Gru.examples(draw)
        return Instance(Sideways(**given.op.attributes()), given.operands, given.constants)


@pytest.mark.parametrize(
    ("wrong", "law"), [(Swapped, "no output"), (OneAxis, "not all"), (Forgetful, "2 roles for 3"), (Sideways, "is no")]
)
def test_wrong_roles_are_found(wrong, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_op(wrong)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Role(Kind.weight), "has an output axis"),
        (lambda: weight(0, (0, 1)), "different numbers"),
        (lambda: weight(0, (-1,)), "different numbers"),
        (lambda: Role(Kind.activation, output=0), "only weights"),
    ],
)
def test_roles_that_cannot_be_are_refused(make, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()
