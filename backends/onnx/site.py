"""Where an adapter writes: ONNX nodes of one node of ours, each held against the operator set that is written for."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.types import DTYPES, Array, DType, Shape, Sym, TensorType, type_of

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

#: Element types as operator schemas spell them.
_SPELLED = {
    "f64": "double", "f32": "float", "f16": "float16", "bf16": "bfloat16",
    "i64": "int64", "i32": "int32", "i16": "int16", "i8": "int8", "i4": "int4",
    "u64": "uint64", "u32": "uint32", "u16": "uint16", "u8": "uint8", "u4": "uint4", "bool": "bool",
}  # fmt: skip

#: What windows are where nothing is said of them, from this operator set on; it stands in the operators' text alone.
_WINDOWS, _WINDOWS_SINCE = {"strides": 1, "dilations": 1, "pads": 0}, 11


class RefusedError(Exception):
    """A node that standard ONNX (of the operator set at hand) cannot say. `hint` is what would help."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


class TooOldError(RefusedError):
    """The operator set is too old for a node; a newer one may do."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor of the model: its type, and its array where it is a constant; None for an operand that is left out.

    made_of: the same elements in another shape, where this is only a reshape of them.
    """

    tensor: Any  # a gs.Variable or gs.Constant: both have a name, their common base has none
    type: TensorType
    const: Array | None = None
    made_of: Operand | None = None


@dataclass(frozen=True)
class Site:
    """Where the adapter of one node writes. `type` is the result's.

    nodes collects what was written; spare, those of them that go when nobody uses their result; roles, what the tensors
    made on the way are, for their names.
    """

    opset: int
    type: TensorType
    nodes: list[gs.Node] = field(default_factory=list)
    spare: list[gs.Node] = field(default_factory=list)
    roles: list[tuple[str, Operand]] = field(default_factory=list)

    def emit(self, kind: str, *operands: Operand | None, type: TensorType | None = None, **attributes: Any) -> Operand:
        """Write one ONNX node; its only result, of `type` or the site's own.

        Attributes that are None or say what the schema takes for granted are left out, so are trailing operands. Raises
        TooOldError where the operator set does not have the operator, an attribute, an operand or an element type.
        """
        return self.emit_all(kind, *operands, types=[self.type if type is None else type], **attributes)[0]

    def emit_all(
        self, kind: str, *operands: Operand | None, types: Sequence[TensorType], **attributes: Any
    ) -> tuple[Operand, ...]:
        """As `emit`, with a result of each of the types."""
        import onnx_graphsurgeon as gs

        given = {name: value for name, value in attributes.items() if value is not None}
        inputs = list(operands)
        while inputs and inputs[-1] is None:
            inputs.pop()
        given = _said(_hold_to_schema(kind, self.opset, inputs, given), self.opset, given)
        variables = [gs.Variable("", dtype=element_type(t.dtype), shape=shape_of(t.shape)) for t in types]
        tensors = [gs.Variable.empty() if operand is None else operand.tensor for operand in inputs]
        self.nodes.append(gs.Node(kind, attrs=given, inputs=tensors, outputs=variables))  # pyright: ignore[reportArgumentType]
        made = tuple(map(Operand, variables, types))
        self.roles.extend((kind.lower(), operand) for operand in made)
        return made

    def array(self, role: str, array: Array | Sequence[int]) -> Operand:
        """A constant, called after its role; a sequence of ints is a vector of int64."""
        made = constant(array if isinstance(array, np.ndarray) else np.array(array, np.int64))
        self.roles.append((role, made))
        return made

    def transposed(self, x: Operand, perm: Sequence[int]) -> Operand:
        """X with axis i being axis perm[i]: done now to a constant."""
        if x.const is not None:
            return self.array("transposed", np.array(x.const.transpose(perm), order="C"))
        type = x.type.with_shape(tuple(x.type.shape[i] for i in perm))
        return self.emit("Transpose", x, type=type, perm=list(perm))

    def of(self, type: TensorType) -> Site:
        """The same place, for a result of another type."""
        return replace(self, type=type)


def constant(array: Array) -> Operand:
    """An array as an initializer, without its elements: every step on the way to a model would copy them. `fill`."""
    import onnx
    import onnx_graphsurgeon as gs

    type = type_of(array)
    lazy = gs.ir.tensor.LazyValues(onnx.TensorProto(data_type=element_type(type.dtype), dims=array.shape))  # pyright: ignore[reportAttributeAccessIssue]
    return Operand(gs.Constant("", lazy), type, array)


def content(array: Array) -> tuple[Any, ...]:
    """What tells a constant from others: type, shape and elements."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    digest = hashlib.blake2b(flat.data, digest_size=16)
    return array.dtype.str, array.dtype.name, array.shape, digest.digest()


def fill(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> None:
    """Give the initializers their elements, by name; those of less than a byte are packed."""
    import onnx

    for tensor in model.graph.initializer:
        array = arrays[tensor.name]
        whole = np.asarray(array, array.dtype.newbyteorder("="), order="C")
        tensor.CopyFrom(onnx.numpy_helper.from_array(whole, tensor.name))


def element_type(dtype: DType) -> int:
    """The number of TensorProto.DataType."""
    import onnx

    return int(onnx.TensorProto.DataType.Value(_SPELLED[dtype.name].upper()))


def size_of(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's elements. Its `raw_data` would be copied to be counted."""
    bits = next(
        dtype.bits for name, dtype in DTYPES.items() if name in _SPELLED and element_type(dtype) == tensor.data_type
    )
    return (math.prod(tensor.dims) * bits + 7) // 8


def shape_of(shape: Shape) -> list[int | str]:
    """Dimensions as ONNX has them; symbols are names."""
    return [str(d) if isinstance(d, Sym) else d for d in shape]


def _hold_to_schema(
    kind: str, opset: int, operands: Sequence[Operand | None], attributes: dict[str, Any]
) -> onnx.defs.OpSchema:
    import onnx

    try:
        schema = onnx.defs.get_schema(kind, opset, "")
    except onnx.defs.SchemaError:
        raise TooOldError(f"opset {opset} has no {kind}") from None
    if later := [name for name in attributes if name not in schema.attributes]:
        raise TooOldError(f"{kind} of opset {opset} has no attribute {later[0]}")
    if not schema.min_input <= len(operands) <= schema.max_input:
        raise TooOldError(f"{kind} of opset {opset} does not take {len(operands)} operands")
    for i, operand in enumerate(operands):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        if operand is not None and not _takes(formal, operand.type.dtype):
            raise TooOldError(f"{kind} of opset {opset} does not take {operand.type.dtype}")
    return schema


def _said(schema: onnx.defs.OpSchema, opset: int, attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes that say something: not those that are what the operator takes for granted."""
    return {name: value for name, value in attributes.items() if not _is_default(schema, opset, name, value)}


def _is_default(schema: onnx.defs.OpSchema, opset: int, name: str, value: Any) -> bool:
    import onnx

    if name in _WINDOWS and opset >= _WINDOWS_SINCE:
        return set(value) == {_WINDOWS[name]}
    default = schema.attributes[name].default_value
    if not default.name:
        return False
    known = onnx.helper.get_attribute_value(default)
    if isinstance(known, float):
        return bool(np.float32(value) == np.float32(known))
    return bool(value == (known.decode() if isinstance(known, bytes) else known))


def _takes(formal: onnx.defs.OpSchema.FormalParameter, dtype: DType) -> bool:
    return f"tensor({_SPELLED[dtype.name]})" in formal.types
