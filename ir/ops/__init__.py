"""All ops, listed by hand: text names, documentation and the generic tests read this list."""

from __future__ import annotations

from ..constant import Const
from ..errors import UsageError
from ..extensions import extensions
from ..op import Op
from .activations import Elu, Mish, Softplus
from .attention import Attention
from .conv import Conv2d
from .conv_transpose import ConvTranspose2d
from .dense import Dense, Matmul
from .elementwise import Add, Clip, Div, Maximum, Minimum, Mul, Pow, Sub
from .fused import Fused
from .index import Expand, Gather, Take
from .logic import Equal, Less, LessEqual, Not, Where
from .norm import BatchNorm, LayerNorm, Lrn
from .pool import AvgPool2d, MaxPool2d, SumPool2d
from .quant import Dequantize, Quantize, Rescale, RescaleAdd, Table
from .recurrent import Gru, Lstm, Rnn
from .reduce import ReduceMax, ReduceMean, ReduceMin, ReduceSum
from .resize import ResizeLinear, ResizeNearest
from .shape import Concat, DepthToSpace, Pad, Reshape, Slice, Transpose
from .softmax import IntegerSoftmax, Softmax
from .unary import Abs, Cast, Erf, Exp, Floor, Gelu, HardSigmoid, HardSwish, Log, Sigmoid, Silu, Sqrt, Tanh

BUILT_IN: tuple[type[Op], ...] = (
    Const, Fused,
    Conv2d, ConvTranspose2d, Dense, Matmul,
    MaxPool2d, AvgPool2d, SumPool2d, ResizeNearest, ResizeLinear,
    BatchNorm, LayerNorm, Lrn, Softmax, IntegerSoftmax, Attention,
    ReduceMean, ReduceSum, ReduceMax, ReduceMin,
    Add, Sub, Mul, Div, Minimum, Maximum, Pow, Clip,
    Abs, Exp, Floor, Log, Sqrt, Erf, Sigmoid, Tanh, Gelu, HardSigmoid, HardSwish, Silu, Elu, Softplus, Mish, Cast,
    Equal, Less, LessEqual, Not, Where,
    Lstm, Gru, Rnn,
    Quantize, Dequantize, Rescale, RescaleAdd, Table,
    Reshape, Transpose, Concat, Slice, Pad, DepthToSpace, Gather, Take, Expand,
)  # fmt: skip

_registry: dict[str, type[Op]] = {}


def register(op: type[Op]) -> None:
    """Make an op known by its text name. Raises ValueError when the name is taken by another op."""
    if _registry.setdefault(op.name, op) is not op:
        raise ValueError(f"op name {op.name} is taken by {_registry[op.name].__module__}")


def op_named(name: str) -> type[Op] | None:
    """The op class with this text name, ours or an installed package's, or None."""
    if name not in _registry:
        _extend(name)
    return _registry.get(name)


def all_ops() -> tuple[type[Op], ...]:
    """All ops, ours and those of installed packages, in order of registration."""
    _extend()
    return tuple(_registry.values())


def _extend(name: str | None = None) -> None:
    for entry, op in extensions("planish.ops", Op, name):
        if entry != op.name:
            raise UsageError(f"the entry point {entry} of planish.ops is the op {op.name}", fix="give both one name")
        if (ours := _registry.setdefault(entry, op)) is not op:
            raise UsageError(f"two ops are named {entry}: {ours.__module__} and {op.__module__}")


for _op in BUILT_IN:
    register(_op)
