"""ONNX tensors and types as ours; every size is checked, in Python integers, before memory is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...ir.errors import ModelError, UnsupportedError
from ...ir.types import BF16, BOOL, F16, F32, F64, I4, I8, I16, I32, I64, U4, U8, U16, U32, U64, Array, DType
from .reader import Folders, external_bytes, shown

if TYPE_CHECKING:
    import onnx

#: No tensor of a model for small machines is larger: 2 GiB.
MAX_TENSOR_BYTES = 2**31
MAX_RANK = 16

#: TensorProto.DataType by number; strings, complex numbers and 8-bit floats have no counterpart.
DTYPES: dict[int, DType] = {
    1: F32, 2: U8, 3: I8, 4: U16, 5: I16, 6: I32, 7: I64, 9: BOOL, 10: F16, 11: F64, 12: U32, 13: U64, 16: BF16,
    21: U4, 22: I4,
}  # fmt: skip


def dtype_from(elem_type: int, what: str) -> DType:
    """The dtype for a TensorProto.DataType. Raises ModelError or UnsupportedError naming `what`."""
    if elem_type in DTYPES:
        return DTYPES[elem_type]
    import onnx

    names = {number: name for name, number in onnx.TensorProto.DataType.items()}
    if elem_type == 0 or elem_type not in names:
        raise ModelError(f"{what} has no element type", fix="export the model again")
    raise UnsupportedError(f"{what} has elements of type {names[elem_type]}", fix="convert them to float32 or int8")


def checked_shape(dims: Sequence[int], dtype: DType, what: str) -> tuple[int, ...]:
    """The dims, none negative, the tensor not above MAX_TENSOR_BYTES. Raises ModelError naming `what`."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"{what} has a negative dimension: {list(shape)}", fix="export the model again")
    if len(shape) > MAX_RANK or math.prod(shape) * dtype.bits > 8 * MAX_TENSOR_BYTES or max(shape, default=0) >= 2**31:
        raise ModelError(f"{what} is too large: {list(shape)[:MAX_RANK]}", fix="no tensor may exceed 2 GiB")
    return shape


def array_from(tensor: onnx.TensorProto, folders: Folders, what: str) -> Array:
    """The array of a tensor, its elements finite but for bounds and masks. Raises ModelError or UnsupportedError."""
    import onnx

    dtype = dtype_from(tensor.data_type, what)
    shape = checked_shape(tensor.dims, dtype, what)
    size = (math.prod(shape) * dtype.bits + 7) // 8
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        embedded = onnx.TensorProto(data_type=tensor.data_type, dims=shape)
        embedded.raw_data = external_bytes(tensor, folders, size)
        tensor = embedded
    elif tensor.HasField("raw_data") and len(tensor.raw_data) != size:
        raise ModelError(
            f"{what} holds {len(tensor.raw_data)} bytes; {dtype}{list(shape)} needs {size}",
            fix="the file is damaged; export the model again",
        )
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise ModelError(f"{what} does not hold {dtype}{list(shape)}: {error}", fix="export the model again") from None
    if array.shape != shape or array.dtype != dtype.numpy:
        raise ModelError(f"{what} holds {array.dtype}{list(array.shape)}, not {dtype}{list(shape)}")
    if dtype.is_float:
        check_finite(array, what)
    return array


def check_finite(array: Array, what: str) -> None:
    """Raise ModelError where a NaN or an infinity says that training diverged.

    Allowed are a single element, such as the bound of a clip or what is compared with, and a mask: infinities of one
    sign among zeros.
    """
    finite = np.isfinite(array)
    if finite.all() or array.size == 1:
        return
    infinite = array[~finite]
    if not np.isnan(infinite).any() and not array[finite].any() and (infinite == infinite.flat[0]).all():
        return
    first = [int(i) for i in np.argwhere(~finite)[0]]
    raise ModelError(
        f"{what} has {infinite.size} of {array.size} elements that are not finite; "
        f"the first is {array[tuple(first)]} at {first}",
        fix="the training diverged or the file is damaged: export a checkpoint with finite weights",
    )


def tensor_name(name: str) -> str:
    """How messages call an initializer."""
    return f"tensor {shown(name)}"
