"""The generated project of one model: the C that calls the kernels, their object, the constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...ir.constant import Const
from ...ir.graph import Graph, Node, Value
from ...ir.types import Array
from ..cortexm.code import CTYPES
from ..cortexm.names import plain
from ..cortexm.project import TEMPLATES as C_TEMPLATES
from ..cortexm.project import Function, Project, copy, environment, pointer, public
from ..kernel import Choice, Choices
from ..memory import Plan, Space
from .build import compile_functions
from .code import Code
from .machines import Machine
from .render import TirRenderer

#: Of constants and of values in the arena, in bytes: a cache line, and the widest vector.
ALIGNMENT = 64


@dataclass(frozen=True)
class Layer(Function):
    """A layer. called: the C function in the object, which equal layers share. tables: constants passed to it."""

    called: str
    tables: tuple[Array, ...]


@dataclass
class Weights:
    """All constants behind one another, each aligned; equal ones once."""

    blob: bytearray = field(default_factory=bytearray)
    offsets: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def add(self, array: Array) -> int:
        """Where a constant begins."""
        key = (array.dtype.str, array.tobytes())
        if key not in self.offsets:
            self.blob += bytes(-len(self.blob) % ALIGNMENT)
            self.offsets[key] = len(self.blob)
            self.blob += key[1]
        return self.offsets[key]


def generate(graph: Graph, name: str, plan: Plan, choices: Choices, machine: Machine, made_for: str) -> Project:
    """All files of a model whose C name is `name`; every node of the plan's order has a kernel."""
    kernels: dict[str, Any] = {}
    functions = tuple(_function(kernels, name, i, node, choices[node], machine) for i, node in enumerate(plan.order))
    weights = Weights()
    constants = {v: f"({name}_weights + {weights.add(_data(v))})" for v in _constants_read(graph, plan)}
    calls = [_call(plan, f, constants, weights, name) for f in functions]
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
        "prototypes": list(dict.fromkeys(_prototype(f) for f in functions)),
        "calls": calls,
        "copies": [copy(plan, graph.outputs[i], i, constants) for i in plan.copies],
        "headers": ["string.h"] if plan.copies else [],
        "flags": made_for,
    }
    templates = environment(Path(__file__).parent / "templates", C_TEMPLATES)
    outputs = {
        f"{name}.h": "model.h.j2",
        f"{name}.c": "model.c.j2",
        f"{name}_weights.S": "weights.S.j2",
        "CMakeLists.txt": "CMakeLists.txt.j2",
        "README.txt": "README.txt.j2",
    }
    files: dict[str, str | bytes] = {
        file: templates.get_template(template).render(values) for file, template in outputs.items()
    }
    files[f"{name}_weights.bin"] = bytes(weights.blob)
    files[f"{name}_kernels.o"] = compile_functions(kernels, machine)
    return Project(files, functions, len(weights.blob))


def _function(kernels: dict[str, Any], model: str, index: int, node: Node, choice: Choice, machine: Machine) -> Layer:
    """The layer's kernel, added to `kernels` unless an equal one is there."""
    from tvm_ffi import structural_equal

    group, kernel = choice.group, choice.kernel
    assert kernel is not None
    code = Code(group, machine)
    statements = kernel.emit(group, code)
    if statements is not None:
        TirRenderer(code).statements(statements)
    name = f"layer_{index:02d}_{plain(group.anchor.op.name, 40)}"
    function = code.function()
    same = next((n for n, f in kernels.items() if structural_equal(f, function)), None)
    called = same or f"{model}_{name}"
    kernels[called] = function if same is None else kernels[same]
    tables = tuple(code.tables)
    return Layer(name, node, choice, kernel, "", sum(t.nbytes for t in tables), called, tables)


def _prototype(f: Layer) -> str:
    """The C declaration of a kernel: the operands, the result, working memory, constants."""
    operands = [f"const {CTYPES[v.type.dtype]} *" for v in f.choice.group.parameters]
    parameters = [*operands, f"{CTYPES[f.node.results[0].type.dtype]} *"]
    parameters += ["void *"] if f.kernel.scratch(f.choice.group) else []
    parameters += ["const void *"] * len(f.tables)
    return f"extern void {f.called}({', '.join(parameters)});"


def _call(plan: Plan, f: Layer, constants: dict[Value, str], weights: Weights, name: str) -> str:
    group = f.choice.group
    arguments = [_typed(plan, v, constants) for v in group.parameters]
    arguments.append(pointer(plan, f.node.results[0], constants))
    if f.kernel.scratch(group):
        arguments.append(f"arena + {plan.scratch[f.node]}")
    arguments += [f"{name}_weights + {weights.add(t)}" for t in f.tables]
    return f"{f.called}({', '.join(arguments)}); /* from {plain(str(f.node.loc))} */"


def _typed(plan: Plan, value: Value, constants: dict[Value, str]) -> str:
    """The C pointer to a value, in its element's type."""
    text = pointer(plan, value, constants)
    if plan.places[value].space is Space.CONSTANT:
        return f"(const {CTYPES[value.type.dtype]} *)(const void *){text}"
    return text


def _constants_read(graph: Graph, plan: Plan) -> list[Value]:
    """Constants that a call or a copy points to: outputs, and operands that are constants by way of a reshape."""
    values = [v for n in plan.order for v in n.operands if v.const is None]
    values += [graph.outputs[i] for i in plan.copies]
    return list(dict.fromkeys(plan.constants[v] for v in values if plan.places[v].space is Space.CONSTANT))


def _data(value: Value) -> Array:
    assert value.producer is not None
    assert isinstance(value.producer.op, Const)
    return np.ascontiguousarray(value.producer.op.data)
