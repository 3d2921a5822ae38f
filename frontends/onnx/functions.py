"""Functions of a model's own: their calls become the nodes that they stand for, once it is known how many these are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...ir.errors import ModelError, UnsupportedError
from .reader import shown
from .topology import AGAIN, graphs_of

if TYPE_CHECKING:
    import onnx

#: Functions that call functions double with every level, so that a small file can mean any number of nodes.
MOST_NODES = 2**17
#: Each call repeats the constants that stand in the body; beyond the size of the file itself.
MOST_BYTES = 2**26
#: Calls within calls. The inliner calls itself for each level.
MOST_LEVELS = 64

_Key = tuple[str, str]


@dataclass(frozen=True)
class _Size:
    """What a function becomes: nodes, bytes, and levels of calls."""

    nodes: int
    nbytes: int
    levels: int


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without calls of functions of its own; the model itself where it has none.

    Raises ModelError for functions that call themselves or are defined twice, UnsupportedError where they become more
    than MOST_NODES nodes.
    """
    if not model.functions:
        return model
    bodies = {}
    for function in model.functions:
        key = _key(function.domain, function.name)
        if key in bodies:
            raise ModelError(f"function {_shown(key)} is defined twice", fix=AGAIN)
        bodies[key] = function
    _checked(model, bodies)
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model, convert_version=False)
    except Exception as error:  # noqa: BLE001 - the inliner raises what C++ threw, of no class of its own
        raise ModelError(f"the model's functions cannot be inlined: {error}", fix=AGAIN) from None


def _checked(model: onnx.ModelProto, bodies: dict[_Key, onnx.FunctionProto]) -> None:
    """Raise an error unless all calls that are reached fit their functions, end, and become few enough nodes."""
    sizes: dict[_Key, _Size] = {}
    opsets = {e.domain: e.version for e in model.opset_import}
    called = [_called(node, bodies) for node in nodes_within(model.graph)]
    for key in filter(None, called):
        _measure(key, bodies, sizes, opsets)
    nodes = sum(sizes[key].nodes if key else 1 for key in called)
    nbytes = sum(sizes[key].nbytes for key in called if key)
    if nodes > MOST_NODES or nbytes > MOST_BYTES + 2 * model.ByteSize():
        raise UnsupportedError(
            f"with its functions written out the model has {nodes} nodes and {nbytes >> 20} MiB beside its weights",
            fix=f"export it without functions; at most {MOST_NODES} nodes and {MOST_BYTES >> 20} MiB are inlined",
        )


def _measure(
    key: _Key, bodies: dict[_Key, onnx.FunctionProto], sizes: dict[_Key, _Size], opsets: dict[str, int]
) -> None:
    """Enter into `sizes` what a function becomes, and those that it calls. On a stack of its own: nesting is data."""
    stack: list[tuple[_Key, bool]] = [(key, False)]
    open_: set[_Key] = set()
    while stack:
        this, ready = stack.pop()
        if this in sizes:
            continue
        body = bodies[this]
        calls = [_called(node, bodies) for node in _body_nodes(body)]
        inner = [c for c in calls if c is not None]
        if not ready:
            if this in open_:
                raise ModelError(
                    f"function {_shown(this)} calls itself", fix="a function may not be recursive; " + AGAIN
                )
            _fits_opsets(this, body, opsets)
            open_.add(this)
            stack.append((this, True))
            stack.extend((c, False) for c in dict.fromkeys(inner))
            continue
        open_.discard(this)
        levels = 1 + max((sizes[c].levels for c in inner), default=0)
        if levels > MOST_LEVELS:
            raise UnsupportedError(f"functions are nested more than {MOST_LEVELS} deep", fix="export without functions")
        sizes[this] = _Size(
            sum(sizes[c].nodes if c else 1 for c in calls),
            min(body.ByteSize() + sum(sizes[c].nbytes for c in inner), 2**62),
            levels,
        )


def _fits_opsets(key: _Key, body: onnx.FunctionProto, opsets: dict[str, int]) -> None:
    for entry in body.opset_import:
        version = opsets.get(entry.domain, entry.version)
        if version != entry.version:
            raise UnsupportedError(
                f"function {_shown(key)} uses version {entry.version} of domain {shown(entry.domain)}, "
                f"the model {version}",
                fix="inline it with onnx.inliner.inline_local_functions(model, convert_version=True)",
            )


def _called(node: onnx.NodeProto, bodies: dict[_Key, onnx.FunctionProto]) -> _Key | None:
    """Which function a node calls, where the number of its operands is right."""
    key = _key(node.domain, node.op_type)
    if key not in bodies:
        return None
    for kind, given, taken in (("inputs", node.input, bodies[key].input), ("outputs", node.output, bodies[key].output)):
        if len(given) > len(taken):
            what = f"a call of function {_shown(key)} has {len(given)} {kind}, the function {len(taken)}"
            raise ModelError(what, f"node {shown(node.name)}", AGAIN)
    return key


def nodes_within(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield from _with_inner(node)


def _body_nodes(function: onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    for node in function.node:
        yield from _with_inner(node)


def _with_inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    for graph in graphs_of(node):
        yield from nodes_within(graph)


def _key(domain: str, name: str) -> _Key:
    return ("" if domain == "ai.onnx" else domain), name


def _shown(key: _Key) -> str:
    return shown(".".join(filter(None, key)))
