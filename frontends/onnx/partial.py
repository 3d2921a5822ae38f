"""Operators on tensors of dimensions: what exporters compute shapes with, while some sizes are symbols.

What is known while importing is an array of elements: numbers, multiples of a symbol, or unknown ones. Two ways serve
all operators, and both ask the operator's own adapter, so that its meaning stands once:

- What moves elements (`MOVED`) moves their positions, as constants; then the elements take their places.
- What computes element by element (`RULES`) computes the numbers among them; only for symbols a rule stands here. A
  dimension is at least 1, so N is neither 0 nor -1, and max(N, 1) is N.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from ...ir.builder import const_value
from ...ir.graph import Value
from ...ir.types import BOOL, Array, DType, Sym, dtype_of
from .adapters.reductions import axes_of, keepdims_of
from .source import MOST_ELEMENTS, Dims, Element, SourceNode, Tensor, Unknown, symbols_of

#: The results of the node's adapter, whose operands are all constants.
Compute = Callable[[SourceNode], list[Array]]

#: Of the result's dtype and the operands' elements, one of which at least is a symbol; None: it is no multiple of one.
Rule = Callable[..., Element | None]

#: Operators that move elements, and which operands hold these; the others say where to.
MOVED: dict[str, Sequence[int] | None] = {
    **dict.fromkeys((
        "Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Gather", "GatherElements", "GatherND",
        "Slice", "Split", "Expand", "Tile", "Compress", "Dropout",
    ), (0,)),
    "Concat": None, "Pad": (0, 2), "ScatterElements": (0, 2), "ScatterND": (0, 2),
}  # fmt: skip


def evaluated(node: SourceNode, compute: Compute) -> list[Dims] | None:
    """The results of a node that computes dimensions; None where it takes them only to know a shape, or has no rule."""
    op = node.proto.op_type
    if node.domain != "" or not any(isinstance(v, Dims) for v in node.operands):
        return None
    if op in MOVED:
        given = MOVED[op]
        held = [i for i in (range(len(node.operands)) if given is None else given) if node.given(i)]
        return _moved(node, compute, held) if any(isinstance(node.operands[i], Dims) for i in held) else None
    if op in REDUCED:
        return [_reduced(node, op)] if isinstance(node.operands[0], Dims) else None
    return [_elementwise(node, compute, op)] if op in RULES else None


def _dtype(node: SourceNode, operands: Sequence[int]) -> DType:
    """The one dtype of these operands."""
    held = (node.operands[i] for i in operands)
    dtypes = {v.dtype if isinstance(v, Dims) else v.type.dtype for v in held if isinstance(v, Dims | Value)}
    if len(dtypes) != 1:
        raise node.broken(f"dtypes differ: {', '.join(sorted(map(str, dtypes)))}")
    return dtypes.pop()


# ---- what moves elements


def _moved(node: SourceNode, compute: Compute, held: Sequence[int]) -> list[Dims]:
    dtype = _dtype(node, held)
    operands, table, count = list(node.operands), [np.array([0], object)], 1  # position 0 is the zero that Pad fills in
    for i in held:
        elements = node.elements(i)
        operands[i] = const_value(np.arange(count, count + elements.size).reshape(elements.shape))
        table.append(elements.reshape(-1))
        count += elements.size
    elements = np.concatenate(table)
    return [Dims(np.array(elements[positions], object), dtype) for positions in compute(node.on(operands))]


# ---- what computes element by element


def _elementwise(node: SourceNode, compute: Compute, op: str) -> Dims:
    given = [i for i in range(len(node.operands)) if node.given(i)]
    operands = [node.elements(i) for i in given]
    try:
        shape = np.broadcast_shapes(*(e.shape for e in operands))
    except ValueError:
        raise node.broken("the shapes of the operands do not broadcast") from None
    if math.prod(shape) > MOST_ELEMENTS:
        raise node.unsupported(f"{list(shape)} has more than {MOST_ELEMENTS} elements")
    rows = np.stack([np.broadcast_to(e, shape).reshape(-1) for e in operands], axis=1)
    known = np.array([not any(map(symbols_of, row)) for row in rows], bool)
    # The numbers, after a row of ones: no operand is empty. What is the same everywhere, such as a bound, is a scalar.
    twins: list[Tensor | None] = [None] * len(node.operands)
    for k, i in enumerate(given):
        column = [rows[known][0, k]] if operands[k].size == 1 and known.any() else [1, *rows[known][:, k]]
        array = np.array(column, _dtype(node, [i]).numpy)
        twins[i] = const_value(array.reshape(()) if operands[k].size == 1 else array)
    (computed,) = compute(node.on(twins))
    dtype, results = dtype_of(computed), np.empty(len(rows), object)
    results[known] = np.broadcast_to(computed, (1 + known.sum(),))[1:].astype(object)
    for j in np.flatnonzero(~known).tolist():
        results[j] = _ruled(op, dtype, rows[j])
    return Dims(results.reshape(shape), dtype)


def _ruled(op: str, dtype: DType, row: Sequence[Element]) -> Element:
    """What the operator's rule says of elements with symbols among them."""
    ruled = None
    if op in LENIENT or not any(isinstance(e, Unknown) for e in row):
        ruled = RULES[op](dtype, *row)
    if isinstance(ruled, Sym) and ruled.factor >= 2**31:
        ruled = None  # no dimension is that large
    if ruled is not None:
        return ruled
    text = f"{op}({', '.join(map(str, row))})"
    return Unknown(text if len(text) <= 80 else f"{text[:77]}...", frozenset().union(*map(symbols_of, row)))


# ---- what takes elements together

#: What reductions do with two elements.
REDUCED = {"ReduceProd": "Mul", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}
_NUMBERS = {"Mul": np.multiply, "Add": np.add, "Max": np.maximum, "Min": np.minimum}


def _reduced(node: SourceNode, op: str) -> Dims:
    elements, dtype, pair = node.elements(0), _dtype(node, [0]), REDUCED[op]
    twin = node.on([const_value(np.ones(elements.shape, np.float32)), *node.operands[1:]])
    axes, keepdims = axes_of(twin), keepdims_of(twin)
    if axes is None:
        return Dims(elements, dtype)
    shape = [d for i, d in enumerate(elements.shape) if i not in axes]
    rows = np.moveaxis(elements, axes, range(-len(axes), 0)).reshape(*shape, -1)  # those that come together, last
    results = np.empty(shape, object)
    for index in np.ndindex(*shape):
        symbols = [e for e in rows[index] if symbols_of(e)]
        numbers = np.array([e for e in rows[index] if not symbols_of(e)], dtype.numpy)
        first = [_NUMBERS[pair].reduce(numbers, dtype=dtype.numpy).item()] if numbers.size or not symbols else []
        results[index] = reduce(lambda a, b: _ruled(pair, dtype, (a, b)), [*first, *symbols])
    return Dims(results if not keepdims else np.expand_dims(results, axes), dtype)


# ---- rules


def _times(a: Sym, factor: Fraction) -> Element | None:
    product = a.factor * factor
    return a * int(product) if product.denominator == 1 and product >= 0 else None


def _exactly(number: Element) -> Fraction | None:
    return None if isinstance(number, Sym | Unknown) or not math.isfinite(number) else Fraction(number)


def _sum(dtype: DType, a: Element, b: Element) -> Element | None:
    if isinstance(a, Sym) and isinstance(b, Sym):
        return Sym(a.symbol, a.factor + b.factor) if a.symbol == b.symbol else None
    return a if b == 0 else b if a == 0 else None


def _difference(dtype: DType, a: Element, b: Element) -> Element | None:
    if isinstance(a, Sym) and isinstance(b, Sym):
        fits = a.symbol == b.symbol and a.factor >= b.factor
        return Sym(a.symbol, 1) * (a.factor - b.factor) if fits else None
    return a if b == 0 else None


def _product(dtype: DType, a: Element, b: Element) -> Element | None:
    symbol, number = (a, b) if isinstance(a, Sym) else (b, a)
    factor = _exactly(number)
    return None if factor is None or not isinstance(symbol, Sym) else _times(Sym(symbol.symbol), factor * symbol.factor)


def _quotient(dtype: DType, a: Element, b: Element) -> Element | None:
    if isinstance(b, Sym):
        if isinstance(a, Sym):
            ratio = Fraction(a.factor, b.factor)
            return None if a.symbol != b.symbol else float(ratio) if dtype.is_float else int(ratio)
        return a if a == 0 else None
    divisor = _exactly(b)
    return _product(dtype, a, 1 / divisor) if divisor else None  # type: ignore[arg-type]


def _remainder(dtype: DType, a: Element, b: Element) -> Element | None:
    quotient = _quotient(dtype, a, b)
    return None if quotient is None or _product(dtype, b, quotient) != a else 0


def _outcomes(a: Element, b: Element) -> str | None:
    """How a may stand to b, for all sizes: some of `<=>`."""
    if isinstance(a, Sym) and isinstance(b, Sym):
        if a.symbol != b.symbol:
            return "<=>"
        return "<" if a.factor < b.factor else ">" if a.factor > b.factor else "="
    if isinstance(a, Sym):
        turned = _outcomes(b, a)
        return None if turned is None else turned.translate(str.maketrans("<>", "><"))
    number = _exactly(a)
    if number is None or not isinstance(b, Sym):
        return None
    if number < b.factor:
        return "<"
    return ("<" if number == b.factor else "<>") + "=" * (number % b.factor == 0)


def _compared(allowed: str) -> Rule:
    """Whether a stands to b in one of the allowed ways: for all sizes, for none, or it depends."""

    def rule(dtype: DType, a: Element, b: Element) -> bool | None:
        outcomes = _outcomes(a, b)
        if outcomes is None:
            return None
        return True if set(outcomes) <= set(allowed) else None if set(outcomes) & set(allowed) else False

    return rule


def _most(dtype: DType, a: Element, b: Element) -> Element | None:
    less = _compared("<=")(dtype, a, b)
    return None if less is None else b if less else a


def _least(dtype: DType, a: Element, b: Element) -> Element | None:
    less = _compared("<=")(dtype, a, b)
    return None if less is None else a if less else b


def _variadic(pair: Rule, numbers: Callable[[Any, Any], Element]) -> Rule:
    """A rule of two elements, for any number of them."""

    def rule(dtype: DType, *row: Element) -> Element | None:
        result: Element | None = row[0]
        for element in row[1:]:
            if result is None:
                return None
            both = symbols_of(result) | symbols_of(element)
            result = pair(dtype, result, element) if both else numbers(result, element)
        return result

    return rule


def _same(dtype: DType, a: Element, *others: Element) -> Element | None:
    """What leaves whole numbers as they are; of dtypes that hold any size."""
    if dtype is BOOL:
        return True
    return a if dtype.bits >= 32 else None


def _where(dtype: DType, condition: Element, a: Element, b: Element) -> Element | None:
    if isinstance(condition, Unknown):
        return a if a == b else None
    return a if condition else b


def _and(dtype: DType, a: Element, b: Element) -> Element | None:
    return False if a is False or b is False else a if b is True else b if a is True else None


def _or(dtype: DType, a: Element, b: Element) -> Element | None:
    return True if a is True or b is True else a if b is False else b if a is False else None


def _nothing(dtype: DType, *row: Element) -> None:
    """Only numbers are computed."""


#: Rules that say something of elements that are unknown.
LENIENT = {"Where", "And", "Or"}

RULES: dict[str, Rule] = {
    **dict.fromkeys(("Cast", "CastLike", "Abs", "Relu", "Floor", "Ceil", "Round"), _same),
    **dict.fromkeys(("Neg", "Sqrt", "Reciprocal", "Pow", "Exp", "Log", "Sign", "Not", "Xor", "Clip"), _nothing),
    "Add": _sum, "Sub": _difference, "Mul": _product, "Div": _quotient, "Mod": _remainder,
    "Sum": _variadic(_sum, operator.add), "Max": _variadic(_most, max), "Min": _variadic(_least, min),
    "Equal": _compared("="), "Less": _compared("<"), "LessOrEqual": _compared("<="), "Greater": _compared(">"),
    "GreaterOrEqual": _compared(">="), "Where": _where, "And": _and, "Or": _or,
}  # fmt: skip
