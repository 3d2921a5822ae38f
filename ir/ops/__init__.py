"""All ops, listed by hand: text names, documentation and the generic tests read this list."""

from __future__ import annotations

from ..constant import Const
from ..op import Op
from .conv import Conv2d
from .dense import Dense, Matmul
from .elementwise import Add, Clip, Div, Maximum, Minimum, Mul, Pow, Sub
from .fused import Fused
from .index import Expand, Gather, Take
from .logic import Equal, Less, LessEqual, Not, Where
from .norm import BatchNorm, LayerNorm, Lrn
from .pool import AvgPool2d, MaxPool2d, SumPool2d
from .quant import Dequantize, Quantize, Rescale, RescaleAdd, Table
from .recurrent import Lstm
from .reduce import ReduceMax, ReduceMean, ReduceSum
from .shape import Concat, DepthToSpace, Pad, Reshape, Slice, Transpose
from .softmax import IntegerSoftmax, Softmax
from .unary import Cast, Erf, Exp, Gelu, HardSigmoid, HardSwish, Log, Sigmoid, Silu, Sqrt, Tanh

BUILT_IN: tuple[type[Op], ...] = (
    Const, Fused,
    Conv2d, Dense, Matmul,
    MaxPool2d, AvgPool2d, SumPool2d,
    BatchNorm, LayerNorm, Lrn, Softmax, IntegerSoftmax,
    ReduceMean, ReduceSum, ReduceMax,
    Add, Sub, Mul, Div, Minimum, Maximum, Pow, Clip,
    Exp, Log, Sqrt, Erf, Sigmoid, Tanh, Gelu, HardSigmoid, HardSwish, Silu, Cast,
    Equal, Less, LessEqual, Not, Where,
    Lstm,
    Quantize, Dequantize, Rescale, RescaleAdd, Table,
    Reshape, Transpose, Concat, Slice, Pad, DepthToSpace, Gather, Take, Expand,
)  # fmt: skip

_registry: dict[str, type[Op]] = {}


def register(op: type[Op]) -> None:
    """Make an op known by its text name. Raises ValueError when the name is taken by another op."""
    if _registry.setdefault(op.name, op) is not op:
        raise ValueError(f"op name {op.name} is taken by {_registry[op.name].__module__}")


def op_named(name: str) -> type[Op] | None:
    """The op class with this text name, or None."""
    return _registry.get(name)


def all_ops() -> tuple[type[Op], ...]:
    """All registered ops, in order of registration."""
    return tuple(_registry.values())


for _op in BUILT_IN:
    register(_op)
