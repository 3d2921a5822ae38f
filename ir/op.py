"""What an op is: one frozen class whose fields are attributes and whose methods are pure functions of types and arrays.

    @op
    class Clip(Op):
        lo: float = -inf
        def infer(self, x): ...
        def ref(self, x): ...

The hooks below have defaults that suit most ops. A public name that is no hook is an error at import (`ir/hooks.py`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, dataclass_transform, final

import numpy as np

from .channels import Channels, Kept, one_batch, tied_by_labels, tied_in_order
from .errors import DTypeError, InferenceError
from .hooks import Hooked
from .roles import ACTIVATION, Role
from .rounding import rounding_error
from .types import (
    EXACT,
    I32,
    Array,
    DType,
    Layout,
    Shape,
    Sym,
    TensorType,
    sized,
    symbols_in,
    type_of,
)

if TYPE_CHECKING:
    from .graph import Graph, Value
    from .ops.quantized import QuantizedOperand, QuantizedResult, Refusal

Perm = tuple[int, ...]


@dataclass(frozen=True)
class Bounds:
    """An enclosure of a tensor's values: `lo <= value <= hi`, both arrays that broadcast to the tensor's shape.

    A constant's bounds are the constant itself, twice; an unknown activation's are two scalars. Held in float64 for
    floats and in int64 for integers, so that the arithmetic of `Op.bounds` does not wrap.
    """

    type: TensorType
    lo: Array
    hi: Array

    @staticmethod
    def top(type: TensorType) -> Bounds:
        """Nothing is known but the dtype."""
        if type.dtype.is_float:
            return Bounds(type, np.array(-np.inf), np.array(np.inf))
        if type.dtype.kind == "bool":
            return Bounds(type, np.array(0, np.int64), np.array(1, np.int64))
        info = np.iinfo(np.int64)
        return Bounds(type, np.array(max(type.dtype.min, info.min)), np.array(min(type.dtype.max, info.max)))

    @staticmethod
    def exactly(value: Array) -> Bounds:
        """A constant."""
        type = type_of(value)
        if type.dtype is EXACT:  # no float encloses a rational as tightly as this promises
            return Bounds.top(type)
        wide = value.astype(np.float64 if type.dtype.is_float else np.int64)
        return Bounds(type, wide, wide)

    @property
    def is_exact(self) -> bool:
        return self.lo is self.hi

    def over(self, axes: Sequence[int]) -> tuple[Array, Array]:
        """The lowest and the highest end along these axes, which keep length 1; the others as far as they are known."""
        ends = [e.reshape((1,) * (self.type.rank - e.ndim) + e.shape) for e in (self.lo, self.hi)]
        if not all(e.size for e in ends):  # a tensor without elements
            return (np.zeros((1,) * self.type.rank, self.lo.dtype),) * 2
        return ends[0].min(axis=tuple(axes), keepdims=True), ends[1].max(axis=tuple(axes), keepdims=True)


@dataclass(frozen=True)
class Cost:
    """Work of one node for one inference: multiply-accumulates, and bytes read and written."""

    macs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


class Draw(Protocol):
    """What `Op.examples` draws from; `planish.testing` implements it with hypothesis, so `ir` never imports that."""

    def integer(self, low: int, high: int) -> int:
        """An int in [low, high]."""
        ...

    def boolean(self) -> bool: ...

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        ...

    def real(self, low: float, high: float) -> float:
        """A float in [low, high] that float32 represents."""
        ...

    def dtype(self, *allowed: DType) -> DType:
        """One of the allowed dtypes (all the op's own choice; floats first)."""
        ...

    def shape(self, min_rank: int = 0, max_rank: int = 4, max_dim: int = 5) -> tuple[int, ...]: ...

    def array(self, shape: Sequence[int], dtype: DType, low: float | None = None, high: float | None = None) -> Array:
        """Values of moderate size within [low, high]."""
        ...

    def size2(self, low: int, high: int) -> tuple[int, int]:
        """Two ints in [low, high]: a window, a stride."""
        ...

    def layout(self) -> Layout: ...


@dataclass(frozen=True)
class Instance:
    """A valid use of an op: the op and its operands. Operands listed in `constants` must be constants in a graph."""

    op: Op
    operands: tuple[Array, ...]
    constants: frozenset[int] = frozenset()

    @staticmethod
    def of(op: Op, *operands: Array, constants: Sequence[int] = ()) -> Instance:
        return Instance(op, operands, frozenset(constants))


@dataclass(frozen=True)
class Op(Hooked):
    """Base of all ops. A subclass is decorated with `@op` and listed in `ir/ops/__init__.py`."""

    #: Text name, from the class name: MaxPool2d -> max_pool2d. Or given by the class.
    name: ClassVar[str] = "op"
    #: The result's elements are the operands' elements, in another place or repeated: any dtype, any quantization.
    moves_data: ClassVar[bool] = False
    #: Result element i depends on operand elements i only (operands broadcast): fusable behind any producer.
    elementwise: ClassVar[bool] = False
    #: As `moves_data`, but which elements is decided by comparing them (a maximum): the integer form is the op itself.
    selects: ClassVar[bool] = False
    #: Every result lies in [lo, hi), but for rounding; None: its range is calibrated.
    natural_range: ClassVar[tuple[float, float] | None] = None
    #: The array, of a constant.
    data: ClassVar[Array | None] = None
    #: Nothing is known of the op but its `definition`: its rounding error, too, is that of its parts.
    only_defined: ClassVar[bool] = False
    #: Operands may be swapped without changing the result.
    commutative: ClassVar[bool] = False
    #: Largest error of the op's own function in units in the last place: 0.5 is correctly rounded, 0 is exact, and what
    #: mathematical libraries promise for a transcendental one.
    ulps: ClassVar[float] = 0.5

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def infer(self, *operands: Any, **_: Any) -> Any:
        """Result type or types from operand types and attributes alone. Raises InferenceError."""
        raise TypeError(f"{type(self).__name__} does not define infer")

    def ref(self, *operands: Any, **_: Any) -> Any:
        """The meaning of the op: result array or arrays, in NumPy. One definition serves every dtype."""
        raise TypeError(f"{type(self).__name__} does not define ref")

    def error(self, *operands: Any, **_: Any) -> Any:
        """Largest rounding error of each element of a float result, in float64, whatever the order of the sums.

        Default: gamma_n * max(ref(|x|), |ref(x)|), where n is the multiply-accumulates per element and 2 per ulp.
        """
        if self.moves_data:
            return rounding_error(self.ref, operands, terms=0, ulps=0)
        types = [type_of(x) for x in operands]
        macs, result = self.cost(*types).macs, self.infer(*types)
        elements = 1 if isinstance(result, tuple) else max(1, result.size)
        return rounding_error(self.ref, operands, terms=macs // elements + 1 if macs else 0, ulps=self.ulps)

    def cost(self, *operands: Any, **_: Any) -> Cost:
        """Work of one application to operands of these (static) types. Default: operands are read, results written."""
        return traffic(self, operands)

    def bounds(self, *operands: Any, **_: Any) -> Any:
        """Bounds of the result from those of the operands. Default: of a data movement the same, else the dtype's."""
        result = self.infer(*(b.type for b in operands))
        if self.moves_data and not isinstance(result, tuple) and operands:
            return moved_bounds(self, result, operands)
        return tuple(Bounds.top(t) for t in result) if isinstance(result, tuple) else Bounds.top(result)

    def accumulator(self, *operands: Any, **_: Any) -> Bounds | None:
        """Bounds of the sum that executors hold in 32 bits, for the verifier; None where there is none.

        Default: the result, where narrower integers give an i32.
        """
        result = self.infer(*(b.type for b in operands))
        narrow = bool(operands) and operands[0].type.dtype.is_integer and operands[0].type.dtype.bits < 32
        summed: Bounds | None = self.bounds(*operands) if narrow and getattr(result, "dtype", None) == I32 else None
        return summed

    def noticed(self, x: Array) -> Array:
        """The elements of the only operand as far as they decide the result, for the choice of its range.

        What makes no difference to the integer result is moved nearer to the rest, or left out. Default: all of x.
        """
        return x

    def roles(self, operands: Sequence[TensorType]) -> tuple[Role, ...]:
        """What each operand is to the op: how it is quantized follows from that. Default: all are activations.

        What has the role of a weight is one where it is constant; computed weights are quantized as activations.
        """
        return (ACTIVATION,) * len(operands)

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal | None:
        """The integer graph that replaces dequantize -> self -> quantize, proven not to overflow; or why there is none.

        Default None: what `integer_form` (`ir/ops/quantized.py`) makes of any op.
        """
        return None

    def dequantized(self, operands: Sequence[QuantizedOperand]) -> Value | Refusal | None:
        """Where the result stays float: the same of an integer sum, proven not to overflow; or why there is none.

        Equal over the reals. Default None: there is none, for integers pay where weights are stored.
        """
        return None

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        """Move a transpose from operand 0 to the result.

        Returns (op', operand perms, result perm) such that
        `self(transpose(x0, perm), x1, ...) == transpose(op'(x0, transpose(x1, perms[1]), ...), result perm)`;
        a None among the perms leaves that operand as it is. Default None: transposes do not pass.
        """
        return None

    def channels(self, operands: Sequence[TensorType]) -> tuple[Channels, ...]:
        """Which slices of operands and results go together; of an axis in more than one answer the first counts.

        Default: corresponding ones of elementwise ops, of data movements what labels show; else nothing.
        """
        result = self.infer(*operands)
        if self.elementwise:
            return tied_in_order(operands, result if isinstance(result, tuple) else (result,))
        if not self.moves_data or isinstance(result, tuple):
            return ()
        return tied_by_labels(self.of_one_batch().ref, operands, result)

    def resized(self, operands: Sequence[TensorType], kept: Kept) -> Op | None:
        """The op for operands (now of these types) of which these slices are left; None where no attributes fit."""
        return self

    @staticmethod
    def examples(draw: Draw) -> Instance:
        """A valid random instance, for every generic test of this op and of its kernels."""
        raise TypeError("this op does not define examples")

    def bodies(self) -> tuple[Graph, ...]:
        """Graphs that the op carries."""
        return ()

    def definition(self, *operands: Any, **_: Any) -> Any:
        """The result or results (values) of simpler ops, detached: what executes the op where no kernel does.

        Equal to `ref` over the reals. Default None: the op is simple.
        """
        return None

    @property
    @final
    def is_composite(self) -> bool:
        """Whether the op has a definition by other ops."""
        return type(self).definition is not Op.definition

    @property
    @final
    def keeps_scale(self) -> bool:
        """Result elements are operand elements (or constants): integers of one scale give integers of that scale."""
        return self.moves_data or self.selects

    @final
    def attributes(self) -> dict[str, Any]:
        """Fields by name, in declaration order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @final
    def like(self, **changes: Any) -> Self:
        """The same op with some attributes changed."""
        return dataclasses.replace(self, **changes)

    @final
    def sized(self, sizes: Mapping[str, int]) -> Self:
        """The same op with the sizes of these symbols in its attributes."""
        changes = {name: sized(shape, sizes) for name, shape in self._shapes().items()}
        return self.like(**changes) if changes else self

    @final
    def of_one_batch(self) -> Self:
        """The same op where every symbol is 1."""
        return self.sized(dict.fromkeys(symbols_in(self._shapes().values()), 1))

    def _shapes(self) -> dict[str, Shape]:
        """Attributes that hold symbols."""
        tuples = {name: value for name, value in self.attributes().items() if isinstance(value, tuple)}
        return {name: value for name, value in tuples.items() if any(isinstance(d, Sym) for d in value)}


#: Bounds of a data movement are not held element by element beyond so many elements.
MOST_BOUNDS = 1 << 22


def moved_bounds(op: Op, result: TensorType, operands: Sequence[Bounds]) -> Bounds:
    """Bounds of a data movement: its operands' bounds, moved; one for all where they do not differ, or are many."""
    *shapes, moved = one_batch(*(b.type for b in operands), result) or [()]
    alike = (
        all(b.lo.size == b.hi.size == 1 for b in operands) and len({(b.lo.item(), b.hi.item()) for b in operands}) == 1
    )
    if shapes and not alike and math.prod(moved) <= MOST_BOUNDS:
        whole = op.of_one_batch()
        lo, hi = (
            whole.ref(*(np.broadcast_to(end, shape) for end, shape in zip(ends, shapes, strict=True)))
            for ends in ([b.lo for b in operands], [b.hi for b in operands])
        )
        return Bounds(result, lo, hi)
    lo = np.min([b.lo.min() for b in operands if b.lo.size] or [0])
    hi = np.max([b.hi.max() for b in operands if b.hi.size] or [0])
    return Bounds(result, lo, hi)


def traffic(op: Op, operands: Sequence[TensorType], macs: int = 0) -> Cost:
    """Cost of an op that reads each operand once and writes each result once."""
    inferred = op.infer(*operands)
    results = inferred if isinstance(inferred, tuple) else (inferred,)
    return Cost(macs, sum(t.nbytes for t in operands), sum(t.nbytes for t in results))


T = TypeVar("T", bound=Op)


@dataclass_transform(frozen_default=True)
def op(cls: type[T]) -> type[T]:
    """Make a class an op: a frozen dataclass with keyword attributes."""
    return dataclass(frozen=True)(cls)


def expect(condition: bool, message: str) -> None:
    """Raise InferenceError unless the condition holds."""
    if not condition:
        raise InferenceError(message)


def expect_dtype(condition: bool, message: str) -> None:
    """Raise DTypeError unless the condition, which is about element types alone, holds."""
    if not condition:
        raise DTypeError(message)


def same_dtype(*types: TensorType) -> DType:
    """The one dtype of all types, or DTypeError."""
    dtypes = {t.dtype for t in types}
    expect_dtype(len(dtypes) == 1, f"dtypes differ: {', '.join(str(t) for t in types)}")
    return types[0].dtype


def last_axis_permuted(op: T, perm: Perm, operands: int) -> tuple[T, tuple[Perm | None, ...], Perm] | None:
    """`Op.permuted` of an op that works along the last axis of operand 0: a transpose of the others passes."""
    return (op, (None,) * operands, perm) if perm[-1] == len(perm) - 1 else None


def elementwise_permuted(
    op: Any, perm: Perm, operands: Sequence[TensorType]
) -> tuple[Any, tuple[Perm | None, ...], Perm] | None:
    """`Op.permuted` of any op whose operands broadcast: all of full rank move alike, single elements stay."""
    if any(t.rank > len(perm) for t in operands):
        return None
    stays = [set(t.shape) <= {1} and t.rank < len(perm) for t in operands]
    if any(t.rank != len(perm) and not stay for t, stay in zip(operands, stays, strict=True)):
        return None
    return op, tuple(None if i == 0 or stay else invert(perm) for i, stay in enumerate(stays)), perm


def invert(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def product(shape: Shape) -> int:
    """Elements of a static shape."""
    return math.prod(d for d in shape if isinstance(d, int))


@cache
def takes(cls: type[Op], count: int) -> bool:
    """Whether the op takes so many operands: one of these is the op's own, others may be shared by ops of any arity."""
    try:
        for hook in (cls.infer, cls.ref, cls.definition):
            signature(hook).bind(None, *range(count))
    except TypeError:
        return False
    return True
