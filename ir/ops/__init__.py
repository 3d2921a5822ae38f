"""All ops, listed by hand: text names, documentation and the generic tests read this list."""

from __future__ import annotations

from ..constant import Const
from ..extensions import Catalog
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

_catalog: Catalog[type[Op]] = Catalog("planish.ops", {}, Op, lambda op: op.name)


def register(op: type[Op]) -> None:
    """Make an op known by its text name. Raises ValueError when the name is taken by another op."""
    _catalog.add(op.name, op)


def op_named(name: str) -> type[Op] | None:
    """The op class with this text name, ours or an installed package's, or None."""
    return _catalog.get(name)


def op_names() -> list[str]:
    """The names of all ops, ours and those of installed packages; nothing is imported."""
    return _catalog.names()


def all_ops() -> tuple[type[Op], ...]:
    """All ops, ours and those of installed packages, in order of registration."""
    return tuple(_catalog.all())


for _op in BUILT_IN:
    register(_op)
