"""What an op is: one frozen class whose fields are attributes and whose methods are pure functions of types and arrays.

    @op
    class Clip(Op):
        lo: float = -inf
        def infer(self, x): ...
        def ref(self, x): ...

The hooks below have defaults that suit most ops. A public method that is not a hook is an error at import, so a
misspelt hook cannot lie dead.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, dataclass_transform

import numpy as np

from .errors import InferenceError
from .types import Array, DType, Layout, Shape, TensorType, type_of

if TYPE_CHECKING:
    from .graph import Graph, Value
    from .quantized import QuantizedOperand, QuantizedResult, Refusal

Types = TensorType | tuple[TensorType, ...]
Arrays = Array | tuple[Array, ...]
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
        wide = value.astype(np.float64 if type.dtype.is_float else np.int64)
        return Bounds(type, wide, wide)

    @property
    def is_exact(self) -> bool:
        return self.lo is self.hi


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
class Op:
    """Base of all ops. A subclass is decorated with `@op` and listed in `ir/ops/__init__.py`."""

    #: Text name, from the class name: MaxPool2d -> max_pool2d. Or given by the class.
    name: ClassVar[str] = "op"
    #: The result's elements are the operands' elements, in another place or repeated: any dtype, any quantization.
    moves_data: ClassVar[bool] = False
    #: Result element i depends on operand elements i only (operands broadcast): fusable behind any producer.
    elementwise: ClassVar[bool] = False
    #: Operands may be swapped without changing the result.
    commutative: ClassVar[bool] = False

    HOOKS: ClassVar[frozenset[str]] = frozenset(
        {"infer", "ref", "cost", "bounds", "quantized", "permuted", "examples", "bodies"}
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        for key, member in cls.__dict__.items():
            is_method = callable(member) or isinstance(member, staticmethod | classmethod)
            if is_method and not key.startswith("_") and key not in cls.HOOKS:
                raise TypeError(f"{cls.__name__}.{key} is no hook of Op; hooks are {', '.join(sorted(cls.HOOKS))}")

    def infer(self, *operands: Any, **_: Any) -> Any:
        """Result type or types from operand types and attributes alone. Raises InferenceError."""
        raise TypeError(f"{type(self).__name__} does not define infer")

    def ref(self, *operands: Any, **_: Any) -> Any:
        """The meaning of the op: result array or arrays, in NumPy. One definition serves every dtype."""
        raise TypeError(f"{type(self).__name__} does not define ref")

    def cost(self, *operands: Any, **_: Any) -> Cost:
        """Work of one application to operands of these (static) types. Default: operands are read, results written."""
        return traffic(self, operands)

    def bounds(self, *operands: Any, **_: Any) -> Any:
        """Bounds of the result from those of the operands. Default: of a data movement the same, else the dtype's."""
        result = self.infer(*(b.type for b in operands))
        if self.moves_data and not isinstance(result, tuple) and operands:
            lo = np.min([b.lo.min() for b in operands if b.lo.size] or [0])
            hi = np.max([b.hi.max() for b in operands if b.hi.size] or [0])
            return Bounds(result, lo, hi)
        return tuple(Bounds.top(t) for t in result) if isinstance(result, tuple) else Bounds.top(result)

    def quantized(self, operands: Sequence[QuantizedOperand], result: QuantizedResult) -> Value | Refusal:
        """The integer graph that replaces dequantize -> self -> quantize. Default: refused, the node stays float."""
        from .quantized import Refusal, moved

        if self.moves_data:
            return moved(self, operands, result)
        return Refusal(f"{self.name} has no integer form")

    def permuted(self, perm: Perm, operands: Sequence[TensorType]) -> tuple[Self, tuple[Perm | None, ...], Perm] | None:
        """Move a transpose from operand 0 to the result.

        Returns (op', operand perms, result perm) such that
        `self(transpose(x0, perm), x1, ...) == transpose(op'(x0, transpose(x1, perms[1]), ...), result perm)`;
        a None among the perms leaves that operand as it is. Default None: transposes do not pass.
        """
        return None

    @staticmethod
    def examples(draw: Draw) -> Instance:
        """A valid random instance, for every generic test of this op and of its kernels."""
        raise TypeError("this op does not define examples")

    def bodies(self) -> tuple[Graph, ...]:
        """Graphs that the op carries."""
        return ()

    def attributes(self) -> dict[str, Any]:
        """Fields by name, in declaration order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def like(self, **changes: Any) -> Self:
        """The same op with some attributes changed."""
        return dataclasses.replace(self, **changes)


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


def same_dtype(*types: TensorType) -> DType:
    """The one dtype of all types, or InferenceError."""
    dtypes = {t.dtype for t in types}
    expect(len(dtypes) == 1, f"dtypes differ: {', '.join(str(t) for t in types)}")
    return types[0].dtype


def invert(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(int(i) for i in np.argsort(perm))


def product(shape: Shape) -> int:
    """Elements of a static shape."""
    return math.prod(d for d in shape if isinstance(d, int))
