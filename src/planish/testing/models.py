"""Random valid ONNX models: many operators, dtypes, ranks and sizes, with values at the limits of their types.

These are ONNX protobufs and not graphs of the IR, so that the importer, the passes and the back ends are all in the
loop. A seed names a model: it is the same everywhere, with every version of planish.

Executors may differ by roundings, and where a rounding decides (a comparison, a cast to integers) by more. So tensors
know whether they are exact: what was given, moved, chosen or compared, not computed in floats. Only such decide. And
floats that are large or not finite are only moved, chosen and compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir.types import Array
from .model_ops import RECIPES

if TYPE_CHECKING:
    import onnx

F32, F64, BOOL = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.bool_)
INTEGERS = tuple(np.dtype(t) for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
#: Sizes of axes: none, one, few, and more than a vector of floats or bytes holds.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 17, 33)
#: Tensors have at most so many elements.
LARGEST = 3000


@dataclass(frozen=True)
class Tensor:
    """A value of a model that is being drawn. exact: every executor computes the same. tame: finite and small."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    exact: bool = True
    tame: bool = True

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class DrawnModel:
    """A model, and the arrays that it is given, by name."""

    seed: int
    proto: onnx.ModelProto
    inputs: dict[str, Array]

    @property
    def operators(self) -> list[str]:
        return [node.op_type for node in self.proto.graph.node]


def drawn_model(seed: int, most: int = 8) -> DrawnModel:
    """The model of a seed: 1 to `most` operators, 1 to 3 inputs, every result that nothing reads an output."""
    return Drawing(seed).model(most)


class Drawing:
    """A model on its way. Recipes (`model_ops.py`) pick operands, and add a node."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self.opset = self.choice([13, 14, 16, 17, 17, 18, 20])
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: dict[str, Array] = {}
        self.tensors: list[Tensor] = []

    # ---- chance

    def choice(self, options: Sequence[Any]) -> Any:
        return options[int(self.random.integers(len(options)))]

    def chance(self, one_in: int) -> bool:
        return int(self.random.integers(one_in)) == 0

    def integer(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def shape(self) -> tuple[int, ...]:
        """Mostly small, sometimes an image, now and then without elements."""
        if self.chance(3):
            pixels = (self.integer(3, 9) for _ in range(self.integer(1, 2)))
            return self.integer(1, 2), self.choice([1, 2, 3, 4, 8]), *pixels
        rank = self.choice([0, 1, 1, 2, 2, 3, 3, 4, 5])
        while True:
            shape = tuple(self.choice(SIZES) for _ in range(rank))
            if math.prod(shape) <= LARGEST:
                break
        return (*shape[:-1], 0) if rank and self.chance(40) else shape

    def values(self, dtype: np.dtype[Any], shape: Sequence[int], tame: bool = True, constant: bool = True) -> Array:
        """Small numbers; unless tame, with limits of the dtype among them."""
        if dtype == BOOL:
            return self.random.integers(0, 2, shape).astype(bool)
        if dtype.kind == "f":
            array = self.random.uniform(-3, 3, shape).astype(dtype)
            if self.chance(3):
                array = np.rint(array)
            special: list[Any] = [-0.0, np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal]
            if not constant:  # of weights the importer says that their training diverged
                special += [np.inf, -np.inf, np.nan]
            elif math.prod(shape) == 1:  # what is compared with
                special += [np.inf, -np.inf]
        else:
            info = np.iinfo(dtype)
            array = self.random.integers(max(info.min, -5), 6, shape).astype(dtype)
            special = [info.min, info.max, info.min + 1, info.max - 1, 0]
        array = np.array(array)
        if not tame and array.size:
            if self.chance(4):
                array[...] = self.choice(special)
            for value in special:
                array.flat[int(self.random.integers(array.size))] = value
        return array

    # ---- tensors

    def input(self) -> Tensor:
        """A new input."""
        dtype = self.choice([F32, F32, F32, F32, *INTEGERS, np.dtype(np.int32), np.dtype(np.int64), BOOL])
        shape, tame = self.shape(), not self.chance(4)
        tensor = Tensor(f"x{len(self.inputs)}", dtype, shape, tame=tame)
        self.inputs[tensor.name] = self.values(dtype, shape, tame, constant=False)
        self.tensors.append(tensor)
        return tensor

    def constant(self, array: Any, tame: bool = True) -> Tensor:
        """An initializer."""
        from onnx import numpy_helper

        array = np.asarray(array)
        tensor = Tensor(f"c{len(self.constants)}", array.dtype, array.shape, tame=tame)
        self.constants.append(numpy_helper.from_array(array, tensor.name))
        return tensor

    def weights(self, *shape: int) -> Tensor:
        return self.constant(self.values(F32, shape))

    def pick(self, fits: Callable[[Tensor], bool]) -> Tensor | None:
        """A tensor that fits, rather a late one."""
        found = [t for t in self.tensors if fits(t)]
        return self.choice(found[-3:] if found and self.chance(2) else found) if found else None

    def partner(self, x: Tensor, exact: bool = False, any_value: bool = True) -> Tensor:
        """Another tensor of x's dtype that broadcasts with it: one that is there, or a constant."""

        def fits(t: Tensor) -> bool:
            if t.dtype != x.dtype or (exact and not t.exact) or not (t.tame or any_value):
                return False
            shape = broadcast(t.shape, x.shape)
            return shape is not None and math.prod(shape) <= LARGEST

        found = self.pick(fits) if self.chance(2) else None
        if found is not None:
            return found
        shape = tuple(1 if self.chance(3) else d for d in x.shape)[self.choice([0, 0, min(1, x.rank)]) :]
        tame = not (any_value and self.chance(2))
        return self.constant(self.values(x.dtype, self.choice([shape, shape, ()]), tame), tame)

    def emit(self, operator: str, operands: Sequence[Tensor | None], like: Tensor, **attributes: Any) -> Tensor:
        """A node; its result has the type of `like`, whose name does not matter."""
        (result,) = self.emit_several(operator, operands, [like], **attributes)
        return result

    def emit_several(
        self, operator: str, operands: Sequence[Tensor | None], like: Sequence[Tensor], **attributes: Any
    ) -> list[Tensor]:
        """A node with several results."""
        from onnx import helper

        results = [Tensor(f"t{len(self.nodes)}_{i}", t.dtype, t.shape, t.exact, t.tame) for i, t in enumerate(like)]
        given = {k: v for k, v in attributes.items() if v is not None}
        names = ["" if t is None else t.name for t in operands]
        self.nodes.append(helper.make_node(operator, names, [r.name for r in results], f"n{len(self.nodes)}", **given))
        self.tensors += results
        return results

    # ---- the model

    def model(self, most: int) -> DrawnModel:
        """Draw inputs and nodes, and put them together."""
        from onnx import checker, helper

        for _ in range(self.integer(1, 3)):
            self.input()
        wanted = self.integer(1, most)
        for _ in range(4 * wanted):
            if len(self.nodes) < wanted:
                self.choice(RECIPES)(self)
        if not self.nodes:
            self.emit("Identity", [self.tensors[0]], self.tensors[0])
        read = {name for node in self.nodes for name in node.input}
        outputs = [t for t in self.tensors if t.name not in read and t.name not in self.inputs]
        outputs += [t for t in self.tensors if t.name in read and t.name not in self.inputs and self.chance(6)]
        unused = [name for name in self.inputs if name not in read]
        for name in unused:
            del self.inputs[name]
        graph = helper.make_graph(
            self.nodes, f"drawn_{self.seed}",
            [_info(t) for t in self.tensors if t.name in self.inputs], [_info(t) for t in outputs], self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 9
        checker.check_model(model, full_check=True)
        return DrawnModel(self.seed, model, self.inputs)


def _info(tensor: Tensor) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that these broadcast to, or None."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None
