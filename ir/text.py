"""Graphs as text: `print_graph`, `parse_graph`, and both with a sidecar of constants on disk.

    graph @kws(%x: i8[1,49,10,1] q<0.58:83>) -> ("out": i8[1,12] q<0.0039:-128>) {
      %w0 = const @w0 : i8[64,10,4,1] q<axis 0: @w0.scale>
      %c = conv2d(%x, %w0, %b0) {strides=[2,2], layout=NHWC} : i32[1,25,5,64] loc("conv_1")
      ...
      return %y
    }

Attributes at their defaults are left out, and so are the names of outputs that are called like their values. A name
that is no plain word is a JSON string. Small constants stand in the text. Inside a body, operand i is input i under
the operand's name; where that does not say it all, the body lists its inputs between bars.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from .constant import Const
from .errors import ModelError
from .graph import Graph, Node, Value
from .op import Op
from .parser import literal, parse_graph
from .types import Array, DType, Quant, Sym, TensorType, dtype_of

__all__ = ["load", "parse_graph", "print_graph", "save"]

#: Constants of up to this many elements are printed in the text, so that it can be pasted.
INLINE = 16
_WORD = re.compile(r"[A-Za-z0-9_.]+")
_NO_WORD = re.compile(r"[^A-Za-z0-9_.]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def print_graph(graph: Graph, inline: int = INLINE) -> tuple[str, dict[str, Array]]:
    """The text of a graph, and the arrays it refers to as `@name`: those of more than `inline` elements."""
    printer = _Printer(inline)
    return printer.graph(graph), printer.tensors


def save(graph: Graph, path: Path) -> None:
    """Write the text to `path` (`x.planish`); large constants go to `x.safetensors` beside it."""
    from safetensors.numpy import save_file

    text, tensors = print_graph(graph)
    path.write_text(text, encoding="utf-8")
    if tensors:
        save_file({name: _stored(array) for name, array in tensors.items()}, path.with_suffix(".safetensors"))


def load(path: Path) -> Graph:
    """Read what `save` wrote. Raises ModelError for text or tensors that are broken."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    sidecar = path.with_suffix(".safetensors")
    try:
        text = path.read_text(encoding="utf-8")
        tensors = load_file(sidecar) if sidecar.exists() else {}
    except (UnicodeDecodeError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"the graph cannot be read: {error}", str(path)) from None
    return parse_graph(text, tensors)


def _stored(array: Array) -> Array:
    """The array as safetensors takes it: contiguous, native bytes, sub-byte integers in a byte, bf16 as its bits."""
    dtype = dtype_of(array)
    if dtype.bits < 8:
        array = array.astype(np.int8 if dtype.kind == "int" else np.uint8)
    elif dtype.name == "bf16":
        array = np.array(array, order="C").view(np.uint16)
    return np.array(array, array.dtype.newbyteorder("="), order="C")


class _Names:
    """Unique names: the first to ask gets its name, others a numbered one."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.taken = set(reserved)
        self.numbers: dict[str, int] = {}

    def __call__(self, wanted: str) -> str:
        name = wanted or "0"
        while name in self.taken:
            self.numbers[wanted] = self.numbers.get(wanted, 0) + 1
            name = f"{wanted}_{self.numbers[wanted]}" if wanted else str(self.numbers[wanted])
        self.taken.add(name)
        return name


class _Printer:
    def __init__(self, inline: int = INLINE) -> None:
        self.inline = inline
        self.tensors: dict[str, Array] = {}
        self.keys = _Names(["__metadata__"])  # which safetensors keeps for itself

    def graph(self, graph: Graph) -> str:
        names: dict[Value, str] = {}
        claim = _Names()
        for value in graph.inputs:
            names[value] = claim(value.name)
        inputs = ", ".join(self.input(v, names) for v in graph.inputs)
        lines = self.body(graph, names, "  ")
        outputs = ", ".join(
            ("" if names[value] == name else f"{json.dumps(name)}: ") + self.type(value.type, name)
            for value, name in zip(graph.outputs, graph.output_names, strict=True)
        )
        header = f"graph @{word(graph.name)}({inputs}) -> ({outputs}){_metadata(graph)} {{"
        return "\n".join([header, *lines, "}"]) + "\n"

    def body(self, graph: Graph, names: dict[Value, str], indent: str) -> list[str]:
        """The statements, for values of which `names` has the inputs and gets the rest."""
        own = [v for n in graph.nodes for v in n.results]
        claim = _Names(names.values())
        # Given names come first, so that no number takes one of them.
        names |= {v: claim(v.name) for v in own if v.name}
        names |= {v: claim("") for v in own if not v.name}
        lines = [line for node in graph.nodes for line in self.node(node, names, indent)]
        return [*lines, f"{indent}return {_locals(graph.outputs, names)}".rstrip()]

    def node(self, node: Node, names: dict[Value, str], indent: str) -> list[str]:
        results, loc = _locals(node.results, names), _loc(node)
        own = names[node.results[0]] if node.results else node.op.name
        types = ", ".join(self.type(v.type, names[v]) for v in node.results)
        if isinstance(node.op, Const):
            return [f"{indent}{results} = const {self.constant(node.op.data, own)} : {types}{loc}"]
        lines = [f"{indent}{results} = {node.op.name}({_locals(node.operands, names)})"]
        for body in node.op.bodies():
            inside, bars = self.region(body, node, names)
            lines[-1] += f" {{{bars}"
            lines += self.body(body, inside, indent + "  ")
            lines.append(f"{indent}}}")
        lines[-1] += _attributes(node.op) + (f" : {types}" if len(node.results) == 1 else f" : ({types})") + loc
        return lines

    def region(self, body: Graph, node: Node, names: dict[Value, str]) -> tuple[dict[Value, str], str]:
        """Names of a body's inputs, and their list between bars where the operands do not imply it."""
        operands = node.operands
        implied = len(set(operands)) == len(operands) and [v.type for v in operands] == [v.type for v in body.inputs]
        if implied:
            return {v: names[operand] for v, operand in zip(body.inputs, operands, strict=True)}, ""
        claim = _Names()
        inside = {v: claim(v.name) for v in body.inputs}
        return inside, f" |{', '.join(self.input(v, inside) for v in body.inputs)}|"

    def input(self, value: Value, names: dict[Value, str]) -> str:
        return f"%{word(names[value])}: {self.type(value.type, names[value])}"

    def constant(self, array: Array, name: str) -> str:
        """The array itself, where it is small and decimal text holds its exact bits; else a reference."""
        if array.size <= self.inline:
            elements = [number(x) for x in array.ravel()]
            if literal(elements, array.shape, dtype_of(array)).tobytes() == array.tobytes():
                return f"[{', '.join(elements)}]"
        return self.reference(array, name)

    def reference(self, array: Array, name: str) -> str:
        key = self.keys(_NO_WORD.sub("_", name))
        self.tensors[key] = array
        return f"@{key}"

    def type(self, type: TensorType, name: str) -> str:
        shape = ",".join(map(_dim, type.shape))
        quant = "" if type.quant is None else f" q<{self.quant(type.quant, name)}>"
        return f"{type.dtype}[{shape}]{quant}"

    def quant(self, quant: Quant, name: str) -> str:
        scale = self.numbers(quant.scale, np.float64, f"{name}.scale")
        zero = self.numbers(quant.zero, np.int64, f"{name}.zero")
        if quant.axis is None:
            return f"{scale}:{zero}"
        symmetric = quant.zero == (0,) * len(quant.scale)
        return f"axis {quant.axis}: {scale}" + ("" if symmetric else f" : {zero}")

    def numbers(self, values: tuple[Any, ...], dtype: Any, name: str) -> str:
        if len(values) == 1:
            return number(values[0])
        if len(values) > self.inline:
            return self.reference(np.array(values, dtype), name)
        return f"[{', '.join(map(number, values))}]"


def word(name: str) -> str:
    """A name as it is, where it is a plain word; else a JSON string."""
    return name if _WORD.fullmatch(name) else json.dumps(name)


def number(x: Any) -> str:
    """A number so that reading it in its own dtype gives it back."""
    if isinstance(x, bool | np.bool_):
        return str(bool(x)).lower()
    if isinstance(x, np.generic):
        dtype = dtype_of(np.asarray(x))
        if dtype.name == "bf16":
            return repr(float(x))
        return str(x) if dtype.is_float else str(int(x))
    return repr(x)


def _dim(dim: int | Sym) -> str:
    if not isinstance(dim, Sym):
        return str(dim)
    symbol = dim.symbol if _NAME.fullmatch(dim.symbol) else json.dumps(dim.symbol)
    return symbol if dim.factor == 1 else f"{dim.factor}*{symbol}"


def _locals(values: Iterable[Value], names: Mapping[Value, str]) -> str:
    return ", ".join(f"%{word(names[v])}" for v in values)


def _loc(node: Node) -> str:
    return f" loc({', '.join(map(json.dumps, node.loc.names))})" if node.loc else ""


def _metadata(graph: Graph) -> str:
    entries = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in graph.metadata.items())
    return f" metadata({', '.join(entries)})" if graph.metadata else ""


def _attributes(op: Op) -> str:
    shown = [
        f"{field.name}={_attribute(value)}"
        for field in dataclasses.fields(op)
        if not isinstance(value := getattr(op, field.name), Graph) and not _is_default(field, value)
    ]
    return f" {{{', '.join(shown)}}}" if shown else ""


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    return field.default is not dataclasses.MISSING and repr(field.default) == repr(value)


def _attribute(value: Any) -> str:
    if isinstance(value, tuple):
        shown = repr if set(map(type, value)) == {int} else _attribute  # indices are many
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, Sym):
        return _dim(value)
    if isinstance(value, DType):
        return value.name
    if value is None:
        return "none"
    return number(value)
