"""Reads the text form of graphs: lark makes statements of the text, and these become nodes, with types inferred again.

Text may come from anywhere: every mistake is a ModelError with line and column, and says what was expected.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken, v_args

from .constant import Const
from .errors import InferenceError, ModelError
from .graph import Graph, Loc, Node, Value, graph_input, infer
from .op import Op
from .types import DTYPES, F64, I64, Array, Dim, DType, Quant, Shape, Sym, TensorType, dtype_of, type_of

#: Bodies in bodies: deeper than anything real, shallow enough for recursion.
MAX_DEPTH = 32


# ---- statements, as the grammar gives them


@dataclass(frozen=True)
class _Type:
    dtype: Token
    shape: Shape
    quant: tuple[Token | None, Any, Any] | None


@dataclass(frozen=True)
class _Statement:
    """`results = op(operands) regions {attributes} : types loc`; of a constant, `literal` is a reference or a list."""

    results: list[Token]
    op: Token
    types: list[_Type]
    loc: Loc
    operands: list[Token] = dataclasses.field(default_factory=list)
    regions: list[_Body] = dataclasses.field(default_factory=list)
    attributes: list[tuple[Token, Any]] = dataclasses.field(default_factory=list)
    literal: Any = None


@dataclass(frozen=True)
class _Body:
    statements: list[_Statement]
    returned: list[Token]
    inputs: list[tuple[Token, _Type]] | None = None


@v_args(inline=True)
class _Statements(Transformer[Token, Any]):
    """Callbacks of the parser, rule by rule; names of the methods are those of the grammar."""

    def start(self, name: Token, inputs: Any, outputs: Any, metadata: Any, body: _Body) -> Any:
        return name, inputs or [], outputs or [], metadata or {}, body

    def metadata(self, *entries: tuple[str, str]) -> dict[str, str]:
        return dict(entries)

    def entry(self, key: Token, value: Token) -> tuple[str, str]:
        return json.loads(key), json.loads(value)

    def inputs(self, *inputs: Any) -> Any:
        return [x for x in inputs if x is not None]

    outputs = locals = list = attributes = inputs

    def input(self, name: Token, type: _Type) -> Any:
        return name, type

    output = attribute = input

    def body(self, *parts: Any) -> _Body:
        return _Body(list(parts[:-1]), parts[-1] or [])

    def region(self, inputs: Any, body: _Body) -> _Body:
        return dataclasses.replace(body, inputs=inputs)

    def node(self, results: Any, op: Token, operands: Any, *rest: Any) -> _Statement:
        *regions, attributes, types, loc = rest
        return _Statement(results, op, types, loc or Loc(), operands or [], regions, attributes or [])

    def const(self, results: Any, literal: Any, type: _Type, loc: Loc | None) -> _Statement:
        return _Statement(results, results[0], [type], loc or Loc(), literal=literal)

    def location(self, *names: Token) -> Loc:
        return Loc(tuple(map(json.loads, names)))

    def types(self, *types: Any) -> Any:
        return [t for t in types if t is not None]

    def type(self, dtype: Token, *rest: Any) -> _Type:
        *dims, quant = rest
        return _Type(dtype, tuple(_dim(d) for d in dims if d is not None), quant)

    def quant(self, axis: Token | None, scale: Any, zero: Any) -> Any:
        return axis, scale, zero

    def symbol(self, factor: Token | None, name: Token) -> Sym:
        return Sym(_unquoted(name), 1 if factor is None else int(factor))


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("text.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Statements(), maybe_placeholders=True)


# ---- from statements to graphs


def parse_graph(text: str, tensors: Mapping[str, Array] | None = None) -> Graph:
    """The graph that a text describes; `tensors` has the arrays that it refers to as `@name`.

    Raises ModelError, with line and column, for anything that is not a well-typed graph.
    """
    try:
        parsed: Any = _parser().parse(text)
        name, inputs, outputs, metadata, body = parsed
    except UnexpectedInput as error:
        raise _syntax_error(error, text) from None
    except ValueError as error:  # an integer of thousands of digits
        raise ModelError(f"the text cannot be read: {error}") from None
    builder = _Builder(tensors or {})
    graph = builder.body(body, [graph_input(_unquoted(n), builder.type(t)) for n, t in inputs], _unquoted(name))
    if len(outputs) != len(graph.outputs):
        _fail(name, f"{len(outputs)} outputs are declared, {len(graph.outputs)} are returned")
    for i, (public, declared) in enumerate(outputs):
        value = graph.outputs[i]
        if builder.type(declared) != value.type:
            _fail(
                declared.dtype, f"the output is declared as {builder.type(declared)} and %{value.name} is {value.type}"
            )
        if public is not None:
            graph.output_names[i] = json.loads(public)
    graph.metadata = metadata
    return graph


class _Builder:
    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors
        self.depth = 0

    def body(self, body: _Body, inputs: Sequence[Value], name: str) -> Graph:
        """A graph of the statements; only what they define, and the inputs, can be used."""
        graph = Graph(inputs, [], name=name)
        known = {v.name: v for v in inputs}
        for statement in body.statements:
            node = self.constant(statement) if statement.literal is not None else self.node(statement, known)
            for token, value in zip(statement.results, node.results, strict=True):
                value.name = _unquoted(token)
                if value.name in known:
                    _fail(token, f"{token} is defined twice")
                known[value.name] = value
            graph.insert(node)
        graph.outputs = [_lookup(token, known) for token in body.returned]
        graph.output_names = [v.name for v in graph.outputs]
        return graph

    def node(self, statement: _Statement, known: Mapping[str, Value]) -> Node:
        operands = [_lookup(token, known) for token in statement.operands]
        op = self.op(statement, operands)
        declared = [self.type(t) for t in statement.types]
        try:
            inferred = infer(op, [v.type for v in operands])
        except InferenceError as error:
            _fail(statement.op, f"{op.name} does not take these operands: {error.what}", error.fix)
        if [t.bare for t in inferred] != [t.bare for t in declared]:
            _fail(statement.op, f"{op.name} gives {_list(inferred)}, the text says {_list(declared)}")
        if len(statement.results) != len(declared):
            _fail(statement.op, f"{op.name} has {len(declared)} results, {len(statement.results)} are named")
        return Node(op, operands, declared, statement.loc)

    def constant(self, statement: _Statement) -> Node:
        (declared,), where = [self.type(t) for t in statement.types], statement.types[0].dtype
        if len(statement.results) != 1:
            _fail(statement.op, "a constant has one result")
        if any(isinstance(d, Sym) for d in declared.shape):
            _fail(where, "a constant has no symbolic dimensions")
        if isinstance(statement.literal, Token):
            array = _as_dtype(self.tensor(statement.literal), declared.dtype)
        else:
            array = self.literal(statement.literal, declared, where)
        if type_of(array) != declared.bare:
            _fail(where, f"the constant is {type_of(array)}, the text says {declared.bare}")
        return Node(Const(array), [], [declared], statement.loc)

    def literal(self, values: list[Any], type: TensorType, where: Token) -> Array:
        if len(values) != type.size:
            _fail(where, f"{len(values)} elements for a constant {type.bare}")
        try:
            return literal(values, type.shape, type.dtype)  # type: ignore[arg-type]
        except (ValueError, TypeError, OverflowError):
            _fail(where, f"an element is no {type.dtype}")

    def op(self, statement: _Statement, operands: Sequence[Value]) -> Op:
        from .ops import op_named, op_names

        cls = op_named(statement.op)
        if cls is None:
            _fail(statement.op, f"there is no op {statement.op}", f"ops are {', '.join(op_names())}")
        hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
        bodies = [name for name, hint in hints.items() if hint is Graph]
        if len(bodies) != len(statement.regions):
            _fail(statement.op, f"{cls.name} has {len(bodies)} bodies, {len(statement.regions)} are given")
        arguments: dict[str, Any] = {
            name: self.region(region, operands, statement)
            for name, region in zip(bodies, statement.regions, strict=True)
        }
        for name, value in statement.attributes:
            if name not in hints or name in arguments:
                known = ", ".join(hints) or "none"
                _fail(name, f"{cls.name} has no attribute {name}, or has it twice", f"attributes are {known}")
            try:
                arguments[str(name)] = _converted(value, hints[str(name)])
            except ValueError as error:
                _fail(name, f"{cls.name}: {name} {error}")
        required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in arguments]:
            _fail(statement.op, f"{cls.name} needs the attribute {missing[0]}")
        return cls(**arguments)

    def region(self, region: _Body, operands: Sequence[Value], statement: _Statement) -> Graph:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            _fail(statement.op, f"bodies are nested more than {MAX_DEPTH} deep")
        if region.inputs is not None:
            inputs = [graph_input(_unquoted(n), self.type(t)) for n, t in region.inputs]
        else:
            inputs = [graph_input(v.name, v.type) for v in operands]
        graph = self.body(region, inputs, "body")
        self.depth -= 1
        return graph

    def type(self, type: _Type) -> TensorType:
        dtype = DTYPES.get(type.dtype)
        if dtype is None:
            _fail(type.dtype, f"there is no element type {type.dtype}", f"there are {', '.join(DTYPES)}")
        if any((d.factor < 1) if isinstance(d, Sym) else (d < 0) for d in type.shape):
            _fail(type.dtype, "a dimension is negative")
        if type.quant is None:
            return TensorType(type.shape, dtype)
        axis, scale, zero = type.quant
        scales = tuple(map(float, self.numbers(scale, F64, type.dtype)))
        zeros = (0,) * len(scales) if zero is None else tuple(map(int, self.numbers(zero, I64, type.dtype)))
        return TensorType(type.shape, dtype, Quant(scales, zeros, None if axis is None else int(axis)))

    def numbers(self, raw: Any, dtype: DType, where: Token) -> list[Any]:
        """Numbers of a quantization: one, a list, or a reference."""
        if isinstance(raw, Token) and raw.type == "GLOBAL":
            return self.tensor(raw).ravel().tolist()
        values = raw if isinstance(raw, list) else [raw]
        try:
            return literal(values, (len(values),), dtype).tolist()
        except (ValueError, TypeError, OverflowError):
            _fail(where, "a scale or zero point is no number")

    def tensor(self, token: Token) -> Array:
        name = _unquoted(token)
        if name not in self.tensors:
            _fail(token, f"there is no tensor {token}", "give the tensors that were printed with the text")
        return self.tensors[name]


def literal(values: Sequence[Any], shape: Sequence[int], dtype: DType) -> Array:
    """An array of number texts. Raises ValueError, TypeError or OverflowError for what is no number of this dtype."""
    flat: list[Any]
    if dtype.kind == "bool":
        flat = [_converted(v, bool) for v in values]
    else:
        flat = [float(v) if dtype.is_float else int(v) for v in values]
        if dtype.is_integer and not all(dtype.min <= v <= dtype.max for v in flat):
            raise ValueError(f"out of range for {dtype}")
    with np.errstate(over="ignore"):
        wide = np.array([np.float32(v) for v in values]) if dtype.name == "f32" else np.array(flat or [0])
        if dtype.name == "u64":
            wide = np.array(flat, np.uint64)
        return wide[: len(values)].astype(dtype.numpy).reshape(shape)


# ---- attributes, by the type of the field


@cache
def _hints(cls: type[Op]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _converted(value: Any, hint: Any) -> Any:
    """The value as the field's type wants it. Raises ValueError, saying what it wants."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        for option in arguments:
            try:
                return _converted(value, option)
            except ValueError:
                continue
        raise ValueError(f"is none of {', '.join(getattr(a, '__name__', str(a)) for a in arguments)}")
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError("wants a list")
        parts = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(parts) != len(value):
            raise ValueError(f"wants {len(parts)} elements, not {len(value)}")
        return tuple(_converted(v, p) for v, p in zip(value, parts, strict=True))
    return _scalar(value, hint)


def _scalar(value: Any, hint: Any) -> Any:
    kind = value.type if isinstance(value, Token) else ""
    if hint is Sym and (isinstance(value, Sym) or kind in ("NAME", "STRING")):
        return value if isinstance(value, Sym) else Sym(_unquoted(value))
    if hint is bool and value in ("true", "false"):
        return value == "true"
    if hint is int and kind == "INT":
        return int(value)
    if hint is float and (kind in ("INT", "FLOAT") or value in ("inf", "nan")):
        return float(value)
    if hint is str and kind == "STRING":
        return json.loads(value)
    if hint is type(None) and value == "none":
        return None
    if hint is DType and value in DTYPES:
        return DTYPES[value]
    if isinstance(hint, type) and issubclass(hint, Enum) and value in hint.__members__:
        return hint[value]
    choices = f" ({', '.join(hint.__members__)})" if isinstance(hint, type) and issubclass(hint, Enum) else ""
    raise ValueError(f"wants a {getattr(hint, '__name__', hint)}{choices}, not {value}")


# ---- small things


def _unquoted(token: str) -> str:
    """The name in `%name`, `@name`, `"name"`, `%"na me"`."""
    text = token[1:] if token[0] in "%@" else token
    name: str = json.loads(text) if text.startswith('"') else str(text)
    return name


def _dim(raw: Any) -> Dim:
    return raw if isinstance(raw, Sym) else int(raw)


def _as_dtype(array: Array, dtype: DType) -> Array:
    """A stored array in its own dtype: bf16 is stored as bits, sub-byte integers in bytes."""
    stored = dtype_of(array)
    if dtype.name == "bf16" and stored.name == "u16":
        return array.view(ml_dtypes.bfloat16)
    if dtype.bits < 8 and stored.bits == 8 and stored.is_integer:
        inside = not array.size or (dtype.min <= int(array.min()) and int(array.max()) <= dtype.max)
        return array.astype(dtype.numpy) if inside else array
    return array


def _lookup(token: Token, known: Mapping[str, Value]) -> Value:
    value = known.get(_unquoted(token))
    if value is None:
        _fail(token, f"{token} is not defined before it is used")
    return value


def _list(found: Sequence[TensorType]) -> str:
    return ", ".join(str(t) for t in found)


def _fail(token: Token, what: str, fix: str = "") -> NoReturn:
    raise ModelError(what, f"line {token.line}, column {token.column}", fix)


#: What terminals of the grammar are called in errors.
_NAMES = {
    "LOCAL": "a value (%name)", "GLOBAL": "a name (@name)", "NAME": "a word", "STRING": "a string", "INT": "an integer",
    "FLOAT": "a number", "LPAR": "(", "RPAR": ")", "LBRACE": "{", "RBRACE": "}", "LSQB": "[", "RSQB": "]",
    "COMMA": ",", "COLON": ":", "EQUAL": "=", "LESSTHAN": "<", "MORETHAN": ">", "STAR": "*", "VBAR": "|",
    "__ANON_0": "->", "$END": "the end",
}  # fmt: skip


def _syntax_error(error: UnexpectedInput, text: str) -> ModelError:
    expected: set[str] = getattr(error, "expected", None) or getattr(error, "allowed", None) or set()
    if isinstance(error, UnexpectedCharacters):
        what = f"{text[error.pos_in_stream or 0]!r} was not expected"
    elif isinstance(error, UnexpectedToken) and error.token.type != "$END":
        what = f"{str(error.token)[:40]!r} was not expected"
    else:
        what = "the text ends too early"
    wanted = sorted(_NAMES.get(name, name.lower()) for name in expected)
    line, column = (text.count("\n") + 1, 1) if isinstance(error, UnexpectedEOF) else (error.line, error.column)
    return ModelError(what, f"line {line}, column {column}", f"expected {' or '.join(wanted)}")
