"""Types of values: dtypes, dimensions, image layouts, quantization parameters, tensor types."""

from __future__ import annotations

import enum
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from .errors import InferenceError
from .exact import Exact, exact

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DType:
    """An element type. `name` is its text form (`f32`), `bits` its width in memory, `numpy` its array dtype."""

    name: str
    bits: int
    kind: str  # "float", "int", "uint" or "bool"
    numpy: np.dtype[Any]

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def min(self) -> int:
        """Smallest value of an integer dtype."""
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def max(self) -> int:
        """Largest value of an integer dtype."""
        return (1 << (self.bits - (self.kind == "int"))) - 1

    @property
    def limits(self) -> Any:
        """Of a float dtype what `numpy.finfo` says, which knows no bfloat16."""
        return ml_dtypes.finfo(self.numpy)  # type: ignore[no-untyped-call]

    def number(self, value: float) -> Any:
        """An attribute's value as an element: rounded; as an integer the nearest towards 0 that the dtype has."""
        if self.is_integer:
            value = min(max(value, self.min), self.max)  # as Python's numbers, which compare exactly
            return self.numpy.type(0 if math.isnan(value) else int(value))
        return self.numpy.type(value)

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


F64 = DType("f64", 64, "float", np.dtype(np.float64))
F32 = DType("f32", 32, "float", np.dtype(np.float32))
F16 = DType("f16", 16, "float", np.dtype(np.float16))
BF16 = DType("bf16", 16, "float", np.dtype(ml_dtypes.bfloat16))
I64 = DType("i64", 64, "int", np.dtype(np.int64))
I32 = DType("i32", 32, "int", np.dtype(np.int32))
I16 = DType("i16", 16, "int", np.dtype(np.int16))
I8 = DType("i8", 8, "int", np.dtype(np.int8))
I4 = DType("i4", 4, "int", np.dtype(ml_dtypes.int4))
U64 = DType("u64", 64, "uint", np.dtype(np.uint64))
U32 = DType("u32", 32, "uint", np.dtype(np.uint32))
U16 = DType("u16", 16, "uint", np.dtype(np.uint16))
U8 = DType("u8", 8, "uint", np.dtype(np.uint8))
U4 = DType("u4", 4, "uint", np.dtype(ml_dtypes.uint4))
BOOL = DType("bool", 8, "bool", np.dtype(np.bool_))
#: Rational numbers (`ir/exact.py`), for proofs: no model has them, and no file holds them.
EXACT = DType("exact", 64, "float", np.dtype(np.object_))

DTYPES: dict[str, DType] = {
    d.name: d for d in (F64, F32, F16, BF16, I64, I32, I16, I8, I4, U64, U32, U16, U8, U4, BOOL)
}
_BY_NUMPY = {d.numpy: d for d in DTYPES.values()}


def dtype_of(array: Array) -> DType:
    """The DType of a NumPy array. Raises InferenceError for dtypes that the IR does not have (strings, complex)."""
    if array.dtype == EXACT.numpy and (not array.size or isinstance(array.flat[0], Exact)):
        return EXACT
    try:
        return _BY_NUMPY[array.dtype.newbyteorder("=")]
    except KeyError:
        raise InferenceError(f"the IR has no element type for NumPy's {array.dtype}") from None


def converted(array: Any, dtype: DType) -> Array:
    """The array in another dtype, row-major; floats become exact numbers as they are."""
    return exact(array) if dtype is EXACT else np.asarray(array, dtype.numpy, order="C")


@dataclass(frozen=True)
class Sym:
    """A dimension that is not known yet: `factor * symbol`, for instance `2*N`."""

    symbol: str
    factor: int = 1

    def __mul__(self, other: int) -> Dim:
        return Sym(self.symbol, self.factor * other) if other else 0

    __rmul__ = __mul__

    def __str__(self) -> str:
        return self.symbol if self.factor == 1 else f"{self.factor}*{self.symbol}"

    __repr__ = __str__


Dim = int | Sym
Shape = tuple[Dim, ...]


def static(shape: Shape) -> tuple[int, ...]:
    """The shape as ints. Raises InferenceError where a symbol is left: executors and backends need ints."""
    for dim in shape:
        if isinstance(dim, Sym):
            raise InferenceError(f"dimension {dim.symbol} is not known", fix=f"give --dim {dim.symbol}=...")
    return tuple(d for d in shape if isinstance(d, int))


def sized(shape: Shape, sizes: Mapping[str, int]) -> Shape:
    """The shape with the sizes of these symbols; others stay."""
    return tuple(d.factor * sizes[d.symbol] if isinstance(d, Sym) and d.symbol in sizes else d for d in shape)


def count(shape: Shape) -> Dim:
    """Number of elements: an int, or an int times one symbol. Raises InferenceError for a product of two symbols."""
    fixed = math.prod(d if isinstance(d, int) else d.factor for d in shape)
    symbols = [d.symbol for d in shape if isinstance(d, Sym)]
    if len(symbols) > 1 and fixed:
        raise InferenceError(
            f"{' * '.join(symbols)} is more than one unknown", fix=f"give --dim {symbols[0]}=... (or another of them)"
        )
    return Sym(symbols[0], fixed) if symbols and fixed else fixed


def symbols_in(shapes: Iterable[Shape]) -> list[str]:
    """The symbols of these shapes, each once, in order."""
    return list(dict.fromkeys(d.symbol for shape in shapes for d in shape if isinstance(d, Sym)))


def sizes_to_give(shapes: Iterable[Shape]) -> str:
    """What to type so that no symbol of these shapes is left; 1 for what is a first dimension and no other."""
    shapes = list(shapes)
    inner = symbols_in(shape[1:] for shape in shapes)
    sizes = {s: "..." if s in inner else "1" for s in symbols_in(shapes)}
    return "give " + " ".join(f"--dim {shlex.quote(f'{symbol}={size}')}" for symbol, size in sizes.items())


class Layout(enum.Enum):
    """Which axis of a four-dimensional image holds the channels."""

    NCHW = "NCHW"
    NHWC = "NHWC"

    @property
    def channel(self) -> int:
        return 1 if self is Layout.NCHW else 3

    @property
    def spatial(self) -> tuple[int, int]:
        return (2, 3) if self is Layout.NCHW else (1, 2)

    @property
    def other(self) -> Layout:
        return Layout.NHWC if self is Layout.NCHW else Layout.NCHW

    def to(self, target: Layout) -> tuple[int, ...]:
        """The permutation for `transpose` that turns an image of this layout into one of `target`."""
        if self is target:
            return (0, 1, 2, 3)
        return (0, 2, 3, 1) if target is Layout.NHWC else (0, 3, 1, 2)

    def shape(self, batch: Dim, channels: Dim, height: Dim, width: Dim) -> Shape:
        """The image's shape in this layout."""
        return (batch, channels, height, width) if self is Layout.NCHW else (batch, height, width, channels)

    def per_channel(self, vector: Array) -> Array:
        """Reshape a [C] vector so that it broadcasts over the channels of an image."""
        return vector.reshape(-1, 1, 1) if self is Layout.NCHW else vector

    def __str__(self) -> str:
        return self.value

    __repr__ = __str__


NCHW, NHWC = Layout.NCHW, Layout.NHWC


@dataclass(frozen=True)
class Quant:
    """What integers mean: real = scale * (q - zero). Per axis (`axis` not None) on constants only.

    An annotation for people, reports and calibration: no op's semantics ever reads it.
    """

    scale: tuple[float, ...]
    zero: tuple[int, ...]
    axis: int | None = None

    @staticmethod
    def of(scale: float, zero: int) -> Quant:
        """One scale and zero point for a whole tensor."""
        return Quant((float(scale),), (int(zero),))


@dataclass(frozen=True)
class TensorType:
    """Shape, dtype and the quantization annotation of a value."""

    shape: Shape
    dtype: DType
    quant: Quant | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements; the shape must be static."""
        return math.prod(static(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes in memory, sub-byte elements packed; the shape must be static."""
        return (self.size * self.dtype.bits + 7) // 8

    def with_shape(self, shape: Shape) -> TensorType:
        """The same elements in another shape; the quantization annotation is dropped."""
        return TensorType(tuple(shape), self.dtype)

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another dtype; the quantization annotation is dropped."""
        return TensorType(self.shape, dtype)

    def with_quant(self, quant: Quant | None) -> TensorType:
        return replace(self, quant=quant)

    @property
    def bare(self) -> TensorType:
        """The type without its quantization annotation: what inference sees and compares."""
        return self if self.quant is None else replace(self, quant=None)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def type_of(array: Array) -> TensorType:
    """The type of a NumPy array."""
    return TensorType(array.shape, dtype_of(array))


def broadcast(*shapes: Shape) -> Shape:
    """NumPy broadcasting over shapes that may hold symbols. Raises InferenceError when they do not fit."""
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for i, dim in enumerate(shape, start=rank - len(shape)):
            if result[i] == 1:
                result[i] = dim
            elif dim not in (1, result[i]):
                raise InferenceError(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
    return tuple(result)
