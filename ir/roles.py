"""What an operand is to its op: an activation, a weight, a bias, or a parameter. `Op.roles` says it of each operand.

Quantization asks nothing else about an op's operands; how a role is quantized stands in a `Scheme` (`ir/scheme.py`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """The four roles.

    activation: what flows through the model. weight: what activations are multiplied with, and the products summed.
    bias: what is added to these sums, so its steps are those of the products. parameter: anything else, such as the
    statistics of a normalization, a condition, indices.
    """

    activation = "activation"
    weight = "weight"
    bias = "bias"
    parameter = "parameter"


@dataclass(frozen=True)
class Role:
    """The role of one operand, and of a weight what its axes are. Axes count from 0.

    output: each index of this axis of a weight makes sums of its own, so it may have a scale of its own.
    reduction: axes that the sums run over, the first being the one along which groups of weights share a scale.
    batch: axes along which whole sets of weights lie, such as the directions of a recurrent layer.
    symmetric: the integer form of the op wants this operand with zero point 0.
    Raises ValueError for a weight without an output axis or with an axis twice, and for axes of anything else.
    """

    kind: Kind
    output: int | None = None
    reduction: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    symmetric: bool = False

    def __post_init__(self) -> None:
        axes = self.axes
        if self.kind is Kind.weight:
            if self.output is None:
                raise ValueError("a weight has an output axis")
            if len(set(axes)) != len(axes) or min(axes) < 0:
                raise ValueError(f"a weight's axes are different numbers from 0, not {list(axes)}")
        elif axes:
            raise ValueError(f"only weights have output and reduction axes, not {self.kind.value} operands")

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes that the role speaks of: the output axis, then reduction, then batch."""
        return (*(() if self.output is None else (self.output,)), *self.reduction, *self.batch)

    @property
    def is_weight(self) -> bool:
        return self.kind is Kind.weight


ACTIVATION, BIAS, PARAMETER = Role(Kind.activation), Role(Kind.bias), Role(Kind.parameter)
#: An activation that integer forms take with zero point 0 only.
SYMMETRIC = Role(Kind.activation, symmetric=True)


def weight(output: int, reduction: tuple[int, ...], batch: tuple[int, ...] = ()) -> Role:
    """The role of a weight with these axes."""
    return Role(Kind.weight, output, reduction, batch)
