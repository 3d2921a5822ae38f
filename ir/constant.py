"""Constants: the one op that holds an array."""

from __future__ import annotations

from dataclasses import field

import numpy as np

from .exact import bits, exact
from .op import Bounds, Cost, Draw, Instance, Op, op
from .types import F32, I8, I32, Array, TensorType, type_of

#: About so many elements of a constant go into its hash.
SAMPLE = 1024


@op
class Const(Op):
    """A constant tensor, row-major. Text form: `const @name`, the array itself lies in a sidecar."""

    data: Array = field()  # type: ignore[misc]  # of every other op it is None

    def __post_init__(self) -> None:
        data = np.asarray(self.data, order="C")
        object.__setattr__(self, "data", exact(data) if data.dtype == object else data)
        self.data.setflags(write=False)

    def infer(self) -> TensorType:
        return type_of(self.data)

    def ref(self) -> Array:
        return self.data

    def cost(self) -> Cost:
        return Cost()

    def bounds(self) -> Bounds:
        return Bounds.exactly(self.data)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Const)
            and self.data.dtype == other.data.dtype
            and self.data.shape == other.data.shape
            and bits(self.data) == bits(other.data)  # by bits: NaN equals itself, -0.0 is not 0.0
        )

    def __hash__(self) -> int:
        sample = self.data.reshape(-1)[:: max(1, self.data.size // SAMPLE)]  # large weights are told apart by `==`
        return hash((self.data.dtype.str, self.data.shape, bits(sample)))

    @staticmethod
    def examples(draw: Draw) -> Instance:
        return Instance.of(Const(draw.array(draw.shape(), draw.dtype(F32, I8, I32))))
