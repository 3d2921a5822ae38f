"""Constants are computed while importing: by the meaning of our ops, or by ONNX's own reference implementation.

The latter for operators that adapters do not take: only those whose result is determined, and where that implementation
says what the specification says. How much each allocates and does is known before it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...ir.builder import const_value
from ...ir.errors import InferenceError, UnsupportedError
from ...ir.evaluate import evaluate_node
from ...ir.graph import Loc, Node, Value
from ...ir.types import Array, dtype_of
from .source import Adapted, Adapter, SourceNode, Tensor

#: Constants are folded up to this size, or up to the size of what they are computed from.
FOLDED_BYTES = 2**20
FOLDED_MACS = 10**7
#: Elements that the reference may make, or visit, for one node.
MOST_ELEMENTS = 2**20


def folded(result: Tensor, node: SourceNode) -> Tensor:
    """A result of a node with constant operands as a constant, where that does not take too much memory or time."""
    if not isinstance(result, Value) or result.const is not None:
        return result
    limit = max(FOLDED_BYTES, 2 * sum(v.type.nbytes for v in node.operands if isinstance(v, Value)))
    if result.type.nbytes > limit or not node.budget.take(result.type.nbytes):
        return result
    arrays: dict[Value, Array] = {}
    stack: list[tuple[Node, bool]] = [(result.producer, False)] if result.producer else []
    while stack:
        step, ready = stack.pop()
        if step.results[0] in arrays:
            continue
        if not ready:
            if sum(v.type.nbytes for v in step.results) > limit:
                return result
            if step.op.cost(*(v.type for v in step.operands)).macs > FOLDED_MACS:
                return result
            stack.append((step, True))
            stack.extend((v.producer, False) for v in step.operands if v.producer)
            continue
        try:
            values = evaluate_node(step, [arrays[v] for v in step.operands])
        except (ValueError, ArithmeticError, IndexError) as error:  # for instance the maximum of no elements
            raise UnsupportedError(f"its value cannot be computed: {error}") from None
        arrays.update(zip(step.results, values, strict=True))
    constant = const_value(np.array(arrays[result], order="C"), result.name)
    if constant.producer is not None:
        constant.producer.loc = Loc((node.name,))  # it was computed there, and is not stored in the file
    return constant


#: The elements that an operator makes or visits, from its node and its operands; absent ones are None.
Work = Callable[[SourceNode, Sequence[Array | None]], int]


def _given(arrays: Sequence[Array | None]) -> list[Array]:
    return [a for a in arrays if a is not None]


def _broadcast(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    return math.prod(np.broadcast_shapes(*(a.shape for a in _given(arrays))))


def _largest(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    return max((a.size for a in _given(arrays)), default=0)


def _sorts(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    """Python loops over elements, or sorts: ten times as much work as a formula."""
    return 10 * _largest(node, arrays)


def _one_hot(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    indices, depth = _given(arrays)[:2]
    return indices.size * max(1, int(depth.reshape(-1)[0]))


def _einsum(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    """The product of the sizes of all letters; of what no letter stands for, the whole operands."""
    terms = node.text("equation", "").replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    rest = 1
    for term, array in zip(terms, _given(arrays), strict=True):
        letters = term.replace(".", "")
        if len(letters) == array.ndim:
            sizes |= {c: max(n, sizes.get(c, 1)) for c, n in zip(letters, array.shape, strict=True)}
        else:
            rest *= array.size
    return rest * math.prod(sizes.values())


def _window(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    return int(_given(arrays)[0].reshape(-1)[0])


def _determinant(node: SourceNode, arrays: Sequence[Array | None]) -> int:
    (matrices,) = _given(arrays)
    return matrices.size * matrices.shape[-1]


#: The operators of the domain "" that are computed here.
WORK: Mapping[str, Work] = {
    **dict.fromkeys(
        (
            "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Floor", "Round", "Sign", "Sin",
            "Sinh", "Tan", "IsInf", "IsNaN", "BitwiseNot", "Shrink", "EyeLike", "Trilu", "CumSum", "CumProd", "ArgMax",
            "ArgMin", "Hardmax", "ReduceMin", "ReduceMax", "ReduceProd", "ReduceSum", "ReduceL1", "ReduceL2",
            "ReduceSumSquare", "ReduceMean", "Abs", "Neg",
        ), _largest,
    ),
    **dict.fromkeys(("Pow", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Xor"), _broadcast),
    **dict.fromkeys(
        (
            "TopK", "NonZero", "Unique", "Compress", "GatherND", "GatherElements", "ScatterND", "ScatterElements",
            "ReverseSequence",
        ), _sorts,
    ),
    **dict.fromkeys(("BlackmanWindow", "HannWindow", "HammingWindow"), _window),
    "OneHot": _one_hot, "Einsum": _einsum, "Det": _determinant,
}  # fmt: skip


def only_constants(node: SourceNode) -> list[Value]:
    """The adapter of operators that are known on constants alone."""
    results = by_reference(node)
    if results is None:
        raise node.unsupported(
            "this operator is supported on constants only",
            fix="replace it in the source model, or bind the inputs that determine its operands",
        )
    return results


def or_by_reference(adapter: Adapter) -> Adapter:
    """The adapter; where it does not support what are constants, the reference."""

    def adapt(node: SourceNode) -> Adapted:
        try:
            return adapter(node)
        except UnsupportedError:
            if (results := by_reference(node)) is None:
                raise
            return results

    return adapt


def by_reference(node: SourceNode) -> list[Value] | None:
    """The results of a node whose operands are all constants; None where it is not computed here.

    Raises ModelError where the operator refuses its operands, UnsupportedError where it would be too much work.
    """
    work = WORK.get(node.proto.op_type)
    if work is None or not all(v is None or (isinstance(v, Value) and v.const is not None) for v in node.operands):
        return None
    values = [node.optional(i) for i in range(len(node.operands))]
    arrays = [None if v is None else v.const for v in values]
    node.ignore(*(a.name for a in node.proto.attribute))
    try:
        elements = work(node, arrays)
    except (ValueError, IndexError) as error:
        raise node.broken(f"operands that do not fit: {error}") from None
    if elements > MOST_ELEMENTS:
        raise node.unsupported(f"constants of {elements} elements are not computed while importing")
    return [_constant(node, result) for result in _run(node, arrays)]


def _run(node: SourceNode, arrays: Sequence[Array | None]) -> list[Array]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    inner = helper.make_node(node.proto.op_type, names, [f"y{i}" for i in range(len(node.proto.output))])
    inner.attribute.extend(node.proto.attribute)
    given = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    inputs, outputs = (
        [helper.make_empty_tensor_value_info(name) for name in of] for of in (given, inner.output)
    )  # fmt: skip
    graph = helper.make_graph([inner], "constant", inputs, outputs)
    try:
        with np.errstate(all="ignore"):
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
            results = ReferenceEvaluator(model).run(None, given)
    except Exception as error:  # noqa: BLE001 - it raises whatever NumPy and its own code raise
        raise node.broken(f"its value cannot be computed: {error}") from None
    return [np.asarray(r) for r in results]


def _constant(node: SourceNode, array: Array) -> Value:
    try:
        dtype_of(array)
    except InferenceError as error:
        raise node.unsupported(str(error)) from None
    if not node.budget.take(array.nbytes):
        raise node.unsupported("this is too much to be computed while importing", fix="store it in the model")
    return const_value(np.array(array, order="C"))
