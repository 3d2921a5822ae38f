"""The generated project: header, source, tables, CMakeLists and readme of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from ...ir.constant import Const
from ...ir.graph import Graph, Node, Value
from ...ir.types import F32, DType, TensorType, dtype_of
from ..kernel import Choice, Choices, Kernel
from ..memory import Plan, Space
from . import cores
from .code import CTYPES, OWN, Code, Module, Table, tidy
from .names import plain
from .render import CRenderer

TEMPLATES = Path(__file__).parent / "templates"
WIDTH = 100


@dataclass(frozen=True)
class Function:
    """The C function of one layer."""

    name: str
    node: Node
    choice: Choice
    kernel: Kernel
    text: str
    table_bytes: int


@dataclass(frozen=True)
class Public:
    """An input or output, as the header declares and describes it."""

    ctype: str
    name: str
    size: int
    described: str


@dataclass(frozen=True)
class Project:
    """The files' texts by name, and what reports say about them."""

    files: Mapping[str, str | bytes]
    functions: tuple[Function, ...]
    table_bytes: int


def generate(graph: Graph, name: str, plan: Plan, choices: Choices, flags: str) -> Project:
    """All files of a model whose C name is `name`; every node of the plan's order has a kernel."""
    module = Module(name)
    functions = tuple(_function(module, i, node, choices[node]) for i, node in enumerate(plan.order))
    constants = {v: _constant_table(module, i, v) for i, v in enumerate(_read_constants(graph, plan, functions))}
    tables = [_table(module, t) for t in module.tables.values()]  # before the headers, which it may add to
    values = {
        "name": name,
        "macro": name.upper(),
        "arena_bytes": plan.arena_bytes,
        "alignment": plan.alignment,
        "inputs": [public("input", i, v.name, v.type) for i, v in enumerate(graph.inputs)],
        "outputs": [
            public("output", i, n, v.type)
            for i, (n, v) in enumerate(zip(graph.output_names, graph.outputs, strict=True))
        ],
        "calls": [module.named(_call(plan, f, constants)) for f in functions],
        "copies": [module.named(copy(plan, graph.outputs[i], i, constants)) for i in plan.copies],
        "headers": sorted(module.headers | ({"string.h"} if plan.copies else set())),
        "functions": functions,
        "helpers": [module.named(text) for text in module.helpers.values()],
        "tables": tables,
        "table_bytes": sum(t.nbytes for t in module.tables.values()),
        "flags": flags,
        "warnings": " ".join(cores.WARNINGS),
    }
    outputs = {
        f"{name}.h": "model.h.j2",
        f"{name}.c": "model.c.j2",
        f"{name}_tables.h": "tables.h.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
        "README.txt": "README.txt.j2",
    }
    templates = environment(TEMPLATES)
    files: dict[str, str | bytes] = {
        file: templates.get_template(template).render(values) for file, template in outputs.items()
    }
    return Project(files, functions, sum(t.nbytes for t in module.tables.values()))


def environment(*folders: Path) -> jinja2.Environment:
    """Templates of C text, found in these folders in order."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        auto_reload=False,  # templates do not change while we run
    )


# ------------------------------------------------------------------------------------------------------------- layers


def _function(module: Module, index: int, node: Node, choice: Choice) -> Function:
    group, kernel = choice.group, choice.kernel
    assert kernel is not None
    code = Code(module, f"layer_{index:02d}_{plain(group.anchor.op.name, 40)}")
    body = kernel.emit(group, code)
    if not isinstance(body, str):
        body = CRenderer(code).statements(body)
    may_be_equal = kernel.in_place(group)
    parameters = [
        f"const {CTYPES[v.type.dtype]} *{'' if i in may_be_equal else 'restrict '}x{i}"
        for i, v in enumerate(group.parameters)
    ]
    parameters.append(f"{CTYPES[node.results[0].type.dtype]} *{'' if may_be_equal else 'restrict '}y")
    if kernel.scratch(group):
        parameters.append("uint8_t *restrict scratch")
    comment = f"/* {group.describe()}; kernel {kernel.name}; from {plain(str(node.loc))} */"
    head = f"static {OWN}NOINLINE void {OWN}{code.name}({', '.join(parameters)})"
    text = tidy(module.named(f"{head}\n{{\n{body}\n}}\n"))
    return Function(code.name, node, choice, kernel, f"{comment}\n{text}", code.table_bytes)


def _call(plan: Plan, function: Function, constants: dict[Value, str]) -> str:
    group = function.choice.group
    arguments = [pointer(plan, v, constants) for v in (*group.parameters, function.node.results[0])]
    if function.kernel.scratch(group):
        arguments.append(f"arena + {plan.scratch[function.node]}")
    return f"{OWN}{function.name}({', '.join(arguments)});"


def pointer(plan: Plan, value: Value, constants: Mapping[Value, str]) -> str:
    """C: the first element of a value."""
    place = plan.places[value]
    if place.space is Space.INPUT:
        return f"input{place.index}"
    if place.space is Space.OUTPUT:
        return f"output{place.index}"
    if place.space is Space.CONSTANT:
        return constants[plan.constants[value]]
    return f"({CTYPES[value.type.dtype]} *)(void *)(arena + {place.offset})"


def copy(plan: Plan, value: Value, index: int, constants: Mapping[Value, str]) -> str:
    """C: copy an output that no layer writes."""
    return f"memcpy(output{index}, {pointer(plan, value, constants)}, {value.type.nbytes});"


# ------------------------------------------------------------------------------------------------------------- tables


def _read_constants(graph: Graph, plan: Plan, functions: Sequence[Function]) -> list[Value]:
    """Constants that a call or a copy points to: outputs, and operands that are constants by way of a reshape."""
    values = [v for f in functions for v in f.choice.group.parameters] + [graph.outputs[i] for i in plan.copies]
    return list(dict.fromkeys(plan.constants[v] for v in values if plan.places[v].space is Space.CONSTANT))


def _constant_table(module: Module, index: int, value: Value) -> str:
    assert value.producer is not None
    assert isinstance(value.producer.op, Const)
    return Code(module, f"constant_{index:02d}").table("data", value.producer.op.data)


def _table(module: Module, table: Table) -> str:
    dtype = dtype_of(table.data)
    aligned = f"{OWN}ALIGNED({table.align}) " if table.align else ""
    head = f"static const {CTYPES[dtype]} {aligned}{table.name}[{table.data.size}] = {{\n"
    return module.named(head) + "".join(_rows(_numbers(module, table, dtype))) + "};\n"


def _numbers(module: Module, table: Table, dtype: DType) -> list[str]:
    """C of each element. There are many: what NumPy and Python write of whole arrays is left to them."""
    if dtype.is_integer and dtype.bits <= 16:
        return list(map(str, table.data.tolist()))
    if dtype == F32 and np.isfinite(table.data).all():
        return [f"{text}f" for text in table.data.astype(np.str_).tolist()]  # the shortest that reads back
    return [text[1:-1] if text.startswith("(") else text for text in (module.number(v, dtype) for v in table.data)]


def _rows(numbers: Sequence[str]) -> list[str]:
    """Lines of at most WIDTH characters, of as many numbers each as the longest allow."""
    count = (WIDTH - 3) // (max(map(len, numbers)) + 2)
    return [f"    {', '.join(numbers[i : i + count])},\n" for i in range(0, len(numbers), count)]


# ------------------------------------------------------------------------------------------------------------- public


def public(kind: str, index: int, name: str, type: TensorType) -> Public:
    """What the header says about input or output `index`."""
    shape = ", ".join(map(str, type.shape))
    described = f"[{shape}], {plain(name) or 'without a name'}"
    if type.quant is not None and len(type.quant.scale) == 1:
        scale, zero = type.quant.scale[0], type.quant.zero[0]
        described += (
            f"; real value = {scale!r} * (q - {zero})" if zero >= 0 else f"; real value = {scale!r} * (q + {-zero})"
        )
    return Public(CTYPES[type.dtype], f"{kind}{index}", type.size, described)
