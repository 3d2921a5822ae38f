"""What an adapter sees of an ONNX node: typed attributes and operands. What it does not read is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.builder import const_value
from ...ir.errors import ModelError, UnsupportedError
from ...ir.graph import Value
from ...ir.types import I64, Array, Dim, DType, Shape, Sym, TensorType, dtype_of
from .reader import Folders, shown
from .tensors import array_from, checked_shape

if TYPE_CHECKING:
    import onnx


#: Shapes, and what is computed with them, have no more elements.
MOST_ELEMENTS = 2**16


@dataclass(frozen=True)
class Unknown:
    """An element that is computed from symbols and is no multiple of one, such as N - 1; only who needs it fails."""

    text: str
    symbols: frozenset[str]

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


#: What a tensor that is known while importing holds: numbers of its dtype, multiples of a symbol, or neither.
Element = int | float | Sym | Unknown


@dataclass(frozen=True, eq=False)
class Dims:
    """A small tensor some of whose elements are symbols: what Shape gives, and what is computed from it.

    elements: an array of objects, each an `Element`.
    """

    elements: Array
    dtype: DType = I64

    @property
    def symbols(self) -> list[str]:
        """Symbols that the elements are computed from."""
        return sorted(set().union(*map(symbols_of, self.elements.flat)))

    @property
    def array(self) -> Array:
        """The elements as numbers, where they all are."""
        return self.elements.astype(self.dtype.numpy)

    def __str__(self) -> str:
        return f"{self.dtype}{self.elements.tolist()}" if self.elements.size <= 16 else f"{self.dtype} dims"


def symbols_of(element: Element) -> frozenset[str]:
    """The symbols that an element is computed from."""
    if isinstance(element, Unknown):
        return element.symbols
    return frozenset({element.symbol} if isinstance(element, Sym) else ())


class AdapterError(UnsupportedError):
    """An adapter failed on a node that it should have read or refused."""


class UnknownSizeError(UnsupportedError):
    """A dimension must be known, and is a symbol: whoever reports it says how to give its size."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A sequence of tensors, all known by their places: what SplitToSequence gives."""

    values: tuple[Value, ...]


Tensor = Value | Dims | Parts
Adapted = Value | Dims | Parts | Sequence[Value] | Sequence[Dims]


@dataclass(eq=False)
class Budget:
    """Bytes that may still be computed into constants: a small file must not ask for much memory."""

    left: int

    def take(self, nbytes: int) -> bool:
        """Take so many, if they are there."""
        if nbytes > self.left:
            return False
        self.left -= nbytes
        return True


@dataclass(eq=False)
class SourceNode:
    """An ONNX node with its operands already imported.

    opset: version of the node's domain. name: the ONNX name, or operator and first output where it has none.
    budget: of the whole model.
    """

    proto: onnx.NodeProto
    name: str
    opset: int
    operands: list[Tensor | None]
    folders: Folders
    budget: Budget
    _read: set[str | int] = field(default_factory=set)
    _attributes: dict[str, onnx.AttributeProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._attributes = {a.name: a for a in self.proto.attribute}
        if len(self._attributes) < len(self.proto.attribute):
            names = [a.name for a in self.proto.attribute]
            twice = next(name for name in names if names.count(name) > 1)
            raise self.broken(f"attribute {shown(twice)} is given {names.count(twice)} times")

    @property
    def domain(self) -> str:
        """Empty for ONNX's own operators."""
        return "" if self.proto.domain == "ai.onnx" else self.proto.domain

    # ---- errors

    @property
    def place(self) -> str:
        """For messages: operator, name, operand types."""
        types = ", ".join(map(_described, self.operands))
        return f"{self.proto.op_type} {shown(self.name)} ({types})"

    def unsupported(self, what: str, fix: str = "") -> UnsupportedError:
        """The model is fine, planish cannot take it."""
        return UnsupportedError(what, self.place, fix)

    def broken(self, what: str, fix: str = "export the model again") -> ModelError:
        """The model contradicts the ONNX specification."""
        return ModelError(what, self.place, fix)

    def unknown(self, what: str) -> UnknownSizeError:
        """A symbol stands where a number is needed."""
        return UnknownSizeError(what, self.place)

    def failed(self, error: Exception) -> AdapterError:
        """The adapter raised what it should not: a bug of ours, on this node."""
        return AdapterError(
            f"reading this node failed: {type(error).__name__}: {error}"[:300],
            self.place,
            "this is a bug in planish; please report it with the node and, if you may share it, the model",
        )

    def on(self, operands: list[Tensor | None]) -> SourceNode:
        """The same node with other operands; what is read of one is read of both."""
        return SourceNode(self.proto, self.name, self.opset, operands, self.folders, self.budget, self._read)

    # ---- attributes

    def has(self, name: str) -> bool:
        return name in self._attributes

    def _attribute(self, name: str, field: str, default: Any, convert: Callable[[Any], Any]) -> Any:
        from onnx import AttributeProto as A

        self._read.add(name)
        if name not in self._attributes:
            return default
        attribute = self._attributes[name]
        kinds = {"i": A.INT, "f": A.FLOAT, "s": A.STRING, "ints": A.INTS, "floats": A.FLOATS, "t": A.TENSOR}
        kinds |= {"strings": A.STRINGS, "g": A.GRAPH}
        if attribute.type != kinds[field]:
            raise self.broken(f"attribute {name} is not of type {field}")
        return convert(getattr(attribute, field))

    def integer(self, name: str, default: int) -> int:
        return self._attribute(name, "i", default, int)

    def real(self, name: str, default: float) -> float:
        return self._attribute(name, "f", default, float)

    def text(self, name: str, default: str) -> str:
        return self._attribute(name, "s", default, lambda s: s.decode("utf-8", "replace"))

    def texts(self, name: str) -> list[str]:
        return self._attribute(name, "strings", [], lambda v: [s.decode("utf-8", "replace") for s in v])

    def integers(self, name: str) -> tuple[int, ...] | None:
        return self._attribute(name, "ints", None, lambda v: tuple(int(i) for i in v))

    def reals(self, name: str) -> tuple[float, ...] | None:
        return self._attribute(name, "floats", None, tuple)

    def tensor(self, name: str) -> Array | None:
        return self._attribute(
            name, "t", None, lambda t: array_from(t, self.folders, f"attribute {name} of {shown(self.name)}")
        )

    def graph(self, name: str) -> onnx.GraphProto:
        """A graph inside the node."""
        graph: onnx.GraphProto | None = self._attribute(name, "g", None, lambda g: g)
        if graph is None:
            raise self.broken(f"attribute {name} is missing")
        return graph

    def give(self, attribute: onnx.AttributeProto) -> None:
        """Give the node an attribute, which takes the place of one of this name."""
        self._attributes[attribute.name] = attribute

    def rename(self, old: str, new: str) -> None:
        """Read an attribute that the node has under another name."""
        self._read.add(old)
        if old in self._attributes:
            self._attributes[new] = self._attributes.pop(old)

    def ignore(self, *names: str) -> None:
        """These attributes do not change the result."""
        self._read.update(names)

    # ---- operands

    def given(self, index: int) -> bool:
        """Whether the operand is there; an empty name says that it is not."""
        return index < len(self.operands) and self.operands[index] is not None

    def value(self, index: int) -> Value:
        """An operand that must be there, as a tensor of the graph."""
        value = self.optional(index)
        if value is None:
            raise self.broken(f"operand {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        self._read.add(index)
        value = self.operands[index] if self.given(index) else None
        if isinstance(value, Parts):
            raise self.unsupported(f"operand {index} is a sequence", fix="export the model with tensors")
        if isinstance(value, Dims):
            raise self.unknown(f"operand {index} is computed from {', '.join(value.symbols)}, which is not known")
        return value

    def parts(self, index: int) -> Parts:
        """An operand that is a sequence."""
        self._read.add(index)
        value = self.operands[index] if self.given(index) else None
        if not isinstance(value, Parts):
            raise self.broken(f"operand {index} is no sequence")
        return value

    def array(self, index: int) -> Array | None:
        """A constant operand, None where it is absent. Raises UnsupportedError where it is computed at run time."""
        value = self.optional(index)
        if value is None:
            return None
        if value.const is None:
            raise self.unsupported(
                f"operand {index} is computed at run time; it must be a constant",
                fix="fold the constants of the model, or bind the input that determines it",
            )
        return value.const

    def number(self, index: int) -> Array | None:
        """A constant operand that is a single number, as an array of rank 0; None where it is absent."""
        return self.single(self.array(index), f"operand {index}")

    def single(self, array: Array | None, what: str) -> Array | None:
        """The number of an array that has one element; `what` names it in the error."""
        if array is not None and array.size != 1:
            raise self.broken(f"{what} is a single number, not {dtype_of(array)}{list(array.shape)}")
        return None if array is None else array.reshape(())

    def dims(self, index: int) -> tuple[Dim, ...] | None:
        """A constant vector of integers, symbols allowed; None where it is absent."""
        elements = self.elements(index) if self.given(index) else None
        if elements is None:
            return None
        for element in elements.flat:
            if isinstance(element, Unknown):
                raise self.unknown(f"operand {index} holds {element}, which must be known")
            if not isinstance(element, int | Sym) or isinstance(element, bool):
                raise self.broken(f"operand {index} must hold integers")
        return tuple(elements.flat)

    def elements(self, index: int) -> Array:
        """A constant operand, or one of dimensions: an array of objects, each an `Element`."""
        if self.given(index) and isinstance(value := self.operands[index], Dims):
            self._read.add(index)
            return value.elements
        array = self.array(index)
        if array is None:
            raise self.broken(f"operand {index} is missing")
        self._few(index, array)
        return array.astype(object)

    def shape(self, index: int) -> Shape:
        """The shape of an operand that may be a tensor of dimensions, too."""
        if self.given(index) and isinstance(value := self.operands[index], Dims):
            self._read.add(index)
            return value.elements.shape
        return self.value(index).type.shape

    def ints(self, index: int) -> tuple[int, ...] | None:
        """A constant vector of integers; None where it is absent."""
        array = self.array(index)
        if array is None:
            return None
        if not dtype_of(array).is_integer:
            raise self.broken(f"operand {index} must hold integers")
        self._few(index, array)
        return tuple(int(i) for i in array.flat)

    def _few(self, index: int, array: Array) -> None:
        """Shapes, axes and pads are short; what is long must not become Python objects."""
        if array.size > MOST_ELEMENTS:
            raise self.unsupported(f"operand {index} holds {array.size} elements; {MOST_ELEMENTS} are the most")

    def ints_of(self, name: str, index: int) -> tuple[int, ...] | None:
        """Integers that older operator sets keep in an attribute and newer ones in an operand."""
        return self.integers(name) if self.has(name) else self.ints(index)

    def axis(self, axis: int, rank: int) -> int:
        """An axis as counted from the front."""
        if not -rank <= axis < rank:
            raise self.broken(f"axis {axis} is not an axis of a tensor of rank {rank}")
        return axis % rank

    def known(self, dim: Dim) -> int:
        """A dimension that must be known."""
        if isinstance(dim, Sym):
            raise self.unknown(f"dimension {dim} must be known here")
        return dim

    def static(self, shape: Shape) -> tuple[int, ...]:
        """Dimensions that must all be known."""
        return tuple(self.known(d) for d in shape)

    def constant(self, array: Array) -> Value:
        """A new constant of the graph, its size checked."""
        value = const_value(np.asarray(array))
        checked_shape(array.shape, value.type.dtype, f"the result of {shown(self.name)}")
        return value

    def made(self, shape: tuple[int, ...], dtype: DType, make: Callable[[], Array]) -> Value:
        """A new constant of this type that a few numbers ask for: it is made only where the budget allows."""
        checked_shape(shape, dtype, f"the result of {shown(self.name)}")
        if not self.budget.take(TensorType(shape, dtype).nbytes):
            raise self.unsupported(
                f"{TensorType(shape, dtype)} is too much to be computed while importing", fix="store it in the model"
            )
        return const_value(make())

    def unread(self) -> list[str]:
        """Attributes and operands that the model gives and the adapter did not look at."""
        attributes = [f"attribute {shown(name)}" for name in self._attributes if name not in self._read]
        operands = [f"operand {i}" for i in range(len(self.operands)) if self.given(i) and i not in self._read]
        return attributes + operands


def _described(tensor: Tensor | None) -> str:
    if isinstance(tensor, Value):
        return str(tensor.type)
    return "-" if tensor is None else str(tensor) if isinstance(tensor, Dims) else "sequence"


Adapter = Callable[[SourceNode], Adapted]
