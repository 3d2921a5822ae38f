"""The driver: an ONNX model becomes a graph, node by node; everything that is unsupported is reported at once."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ...ir.builder import const_value
from ...ir.constant import Const
from ...ir.errors import DTypeError, InferenceError, ModelError, PlanishError, UnsupportedError, UsageError
from ...ir.graph import Graph, Loc, Node, Value, graph_input
from ...ir.types import BOOL, Array, Dim, Shape, Sym, TensorType, sized, sizes_to_give, symbols_in, type_of
from .adapters import KEPT, adapter_for
from .constants import folded
from .domains import Opsets, domain_of, element_types_fit, unknown
from .partial import evaluated
from .reader import Folders, shown
from .source import Adapted, Adapter, Budget, Dims, Parts, SourceNode, Tensor, Unknown, UnknownSizeError
from .tensors import array_from, checked_shape, dtype_from, tensor_name
from .topology import Taken, free_names, node_name, unique, wired

if TYPE_CHECKING:
    import onnx


#: Constants that are computed while importing take together at most so many bytes, and so many times the stored ones.
MADE_BYTES, MADE_TIMES = 2**23, 4


@dataclass
class Problem:
    """Why a node cannot be taken. unsized: only for a dimension that is not known; node: id of its protobuf message."""

    text: str
    unsized: bool = False
    node: int = 0


@dataclass
class Importer:
    """Imports one model. `folders` hold its external data; `notes` collects what the user should know."""

    model: onnx.ModelProto
    folders: Folders
    dims: Mapping[str, int]
    bind: Mapping[str, Array]
    notes: list[str]
    static_batch: bool = False
    tensors: MutableMapping[str, Tensor] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _taken: Taken = field(default_factory=Taken)
    _symbols: set[str] = field(default_factory=set)
    _unnamed: dict[str, str] = field(default_factory=dict)  # symbols that we named, and what for
    _shapes: list[Shape] = field(default_factory=list)  # of the inputs
    _budget: Budget = field(default_factory=lambda: Budget(MADE_BYTES))
    _failure: Exception | None = None  # of an adapter, for those who ask for a traceback

    def run(self) -> Graph:
        """The graph. Raises ModelError, UnsupportedError or UsageError."""
        source = self.model.graph
        opsets = Opsets.of(self.model)
        for name, size in self.dims.items():
            if size < 1:
                raise UsageError(f"dimension {shown(name)} cannot be {size}", fix="give a size of at least 1")
        unique([o.name for o in source.output], "outputs")
        self._initializers(source)
        inputs = self._inputs(source)
        self._check_names_used(source)
        values = self._nodes(source, opsets)
        outputs = [self._output(o.name) for o in source.output]
        if self.problems:
            raise self._unsupported() from self._failure
        graph = _assemble(
            source.name or "main", inputs, values, [v for v in outputs if v], [o.name for o in source.output]
        )
        properties = {f"onnx.property.{p.key}": p.value for p in self.model.metadata_props}
        version = {"onnx.opset": str(opsets.versions[""])} if "" in opsets.versions else {}
        graph.metadata = {**version, **properties}
        return graph

    def _unsupported(self) -> UnsupportedError:
        """All problems as one error, with the sizes of all symbols in one line."""
        count, unsized, fixes = len(self.problems), sum(p.unsized for p in self.problems), []
        what = f"the model has {count} unsupported node{'s' * (count > 1)}"
        if count == unsized:
            what = f"{count} node{'s need' if count > 1 else ' needs'} dimensions that are not known"
        else:
            fixes.append("replace these nodes in the source model, or export it with another operator set")
        if unsized:
            fixes.append(sizes_to_give(self._shapes))
        return UnsupportedError(what, details=tuple(p.text for p in self.problems), fix="; ".join(fixes))

    # ---- inputs and initializers

    def _initializers(self, source: onnx.GraphProto) -> None:
        unique([t.name for t in source.initializer], "initializers")
        if source.sparse_initializer:
            raise UnsupportedError("the model has sparse initializers", fix="store the weights densely")
        for tensor in source.initializer:
            array = array_from(tensor, self.folders, tensor_name(tensor.name))
            self.tensors[tensor.name] = const_value(array, tensor.name)
            self._budget.left += MADE_TIMES * array.nbytes

    def _inputs(self, source: onnx.GraphProto) -> list[Value]:
        unique([i.name for i in source.input], "inputs")
        # Before IR version 4 every initializer was listed as an input, too.
        infos = [info for info in source.input if info.name not in self.tensors]
        types = {info.name: self._input_type(info) for info in infos}
        free = {name: type for name, type in types.items() if name not in self.bind}
        if self.static_batch and (batch := _lone_batch([type.shape for type in free.values()])):
            self.notes.append(f"the batch dimension {batch} is taken as 1 (--dim {batch}=... changes that)")
            free = {name: t.with_shape(tuple(1 if d == Sym(batch) else d for d in t.shape)) for name, t in free.items()}
            self._unnamed.pop(batch, None)
        self._shapes = [type.shape for type in free.values()]
        self.notes.extend(f"{what} has no name; --dim {symbol}=... fixes it" for symbol, what in self._unnamed.items())
        for name, type in types.items():
            if name in self.bind:
                self.tensors[name] = const_value(_bound(name, self.bind[name], type), name)
            else:
                self.tensors[name] = graph_input(name, free[name])
        return [self.tensors[name] for name in free]  # type: ignore[misc]  # they are values

    def _input_type(self, info: onnx.ValueInfoProto) -> TensorType:
        what = f"input {shown(info.name)}"
        if info.type.WhichOneof("value") != "tensor_type":
            raise UnsupportedError(f"{what} is not a tensor", fix="export the model with tensor inputs")
        tensor = info.type.tensor_type
        dtype = dtype_from(tensor.elem_type, what)
        if not tensor.HasField("shape"):
            raise ModelError(f"{what} has no shape", fix="export the model with the shapes of its inputs")
        shape: list[Dim] = []
        for axis, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value != -1:  # -1: not known, as old exporters write it
                shape.append(int(dim.dim_value))
                continue
            symbol = dim.dim_param or f"{info.name}_{axis}"
            if not dim.dim_param and symbol not in self.dims:
                self._unnamed[symbol] = f"dimension {axis} of {what}"
            self._symbols.add(symbol)
            shape.append(self.dims.get(symbol, Sym(symbol)))
        checked_shape([d for d in shape if isinstance(d, int)], dtype, what)
        if 0 in shape and info.name not in self.bind:
            raise UnsupportedError(f"{what} has a dimension of size 0", fix="export the model with its real shape")
        return TensorType(tuple(shape), dtype)

    def _check_names_used(self, source: onnx.GraphProto) -> None:
        for name in self.dims:
            if name not in self._symbols:
                known = ", ".join(sorted(self._symbols)) or "none"
                raise UsageError(f"the model has no dimension {shown(name)}", fix=f"its unknown dimensions: {known}")
        names = [i.name for i in source.input]
        for name in self.bind:
            if name not in names:
                raise UsageError(f"the model has no input {shown(name)}", fix=f"its inputs: {', '.join(names)}")

    # ---- nodes

    def _nodes(self, graph: onnx.GraphProto, opsets: Opsets) -> list[Value]:
        """Import the nodes that a graph's outputs need: their results are entered into `tensors`, and returned."""
        wiring, values, first = wired(graph, self.tensors), [], len(self.problems)
        for node in wiring.needed():
            known = len(self.problems)
            values.extend(self._import(node, opsets))
            for problem in self.problems[known:]:
                problem.node = id(node)
        if self.problems:  # what only the other branches need is no problem
            needed = wiring.still_needed(self._taken)
            self.problems[first:] = [p for p in self.problems[first:] if p.node in needed]
        return values

    def _import(self, proto: onnx.NodeProto, opsets: Opsets) -> list[Value]:
        """Import one node: its results are entered into `tensors`, and returned for the graph's order."""
        name, domain, version = node_name(proto), domain_of(proto), opsets.version(proto)
        adapter = adapter_for(domain, proto.op_type, version)
        branches = domain == "" and proto.op_type == "If"
        if adapter is None and not branches:
            self.problems.append(Problem(f"{proto.op_type} {shown(name)}: {unknown(domain, proto.op_type)}"))
            return []
        if any(o and o not in self.tensors for o in proto.input):
            return []  # what it needs is unsupported, and reported already
        operands = [self.tensors[o] if o else None for o in proto.input]
        node = SourceNode(proto, name, version, operands, self.folders, self._budget)
        try:
            if branches or adapter is None:
                return self._branch(node, opsets)
            shapes = evaluated(node, lambda twin: _arrays(twin, adapter))
            results = _results(node, adapter(node) if shapes is None else shapes)
            if unread := node.unread():
                raise node.unsupported(f"{', '.join(unread)} is not understood")
            if all(v is None or _const(v) for v in operands) and proto.op_type not in KEPT:
                results = [folded(v, node) for v in results]
        except UnsupportedError as error:
            self._refuse(node, error)
            return []
        except InferenceError as error:
            self._refuse(node, _refused(node, adapter, error))  # type: ignore[arg-type]  # an adapter raised it
            return []
        except PlanishError:
            raise
        except Exception as error:  # noqa: BLE001 - the one place where a mistake in an adapter becomes an error
            self._failure = error
            self._refuse(node, node.failed(error))
            return []
        _locate(results, Loc((name,)))
        for output, value in zip(proto.output, results, strict=False):
            if output:
                self._enter(output, value)
        return [v for v in results if isinstance(v, Value)]

    def _branch(self, node: SourceNode, opsets: Opsets) -> list[Value]:
        """Import the graph that an If with a constant condition takes. Its names are known inside it only."""
        condition = node.value(0)
        if condition.const is None:
            raise node.unsupported(
                "the condition is computed at run time; only branches that are known before are supported",
                fix="export the model with its control flow unrolled, or bind the input that decides",
            )
        if condition.type.dtype != BOOL or condition.type.size != 1:
            raise node.broken(f"the condition is {condition.type}, not one bool")
        branch = node.graph("then_branch" if condition.const.item() else "else_branch")
        if branch.input or len(branch.output) != len(node.proto.output):
            raise node.broken(f"a branch has {len(branch.input)} inputs and {len(branch.output)} outputs")
        self._taken.take(node.proto, branch)
        if self.problems and any(name not in self.tensors for name in free_names(branch, self._taken)):
            return []  # what it needs is unsupported, and reported already
        outer, self.tensors = self.tensors, ChainMap({}, self.tensors)
        try:
            self._initializers(branch)
            values = self._nodes(branch, opsets)
            results = [self.tensors.get(o.name) for o in branch.output]
        finally:
            self.tensors = outer
        for output, result in zip(node.proto.output, results, strict=True):
            if output and result is not None:
                self._enter(output, result)
        return values

    def _refuse(self, node: SourceNode, error: UnsupportedError) -> None:
        """Keep what is wrong with a node for the end, when everything is told at once."""
        fix = f"; {error.fix}" if error.fix else ""
        text = f"{error.where or node.place}: {error.what}{fix}"
        self.problems.append(Problem(text, isinstance(error, UnknownSizeError)))

    def _enter(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor
        if isinstance(tensor, Value):
            tensor.name = tensor.name or name
            shape = [d for d in tensor.type.shape if isinstance(d, int)]
            checked_shape(shape, tensor.type.dtype, tensor_name(name))

    def _output(self, name: str) -> Value | None:
        tensor = self.tensors.get(name)
        if isinstance(tensor, Dims):
            text = f"output {shown(name)} is computed from {', '.join(tensor.symbols)}"
            self.problems.append(Problem(text, unsized=True))
            return None
        if isinstance(tensor, Parts):
            text = f"output {shown(name)} is a sequence; export the model with tensor outputs"
            self.problems.append(Problem(text))
            return None
        if tensor is None and not self.problems:
            self.problems.append(Problem(f"output {shown(name)} is an optional result that planish does not compute"))
        return tensor


def _const(tensor: Tensor) -> bool:
    return isinstance(tensor, Value) and tensor.const is not None


def _bound(name: str, array: Array, type: TensorType) -> Array:
    given = np.asarray(array)
    cast = given.astype(type.dtype.numpy)
    fits = given.ndim == type.rank and all(
        isinstance(d, Sym) or d == n for d, n in zip(type.shape, given.shape, strict=True)
    )
    if not fits or not np.array_equal(cast, given, equal_nan=type.dtype.is_float):
        raise UsageError(
            f"the value bound to {shown(name)} is {type_of(given)}, the input is {type}",
            fix="bind an array of the input's type",
        )
    return cast


def _results(node: SourceNode, adapted: Adapted) -> list[Tensor]:
    """What an adapter returned, as a list; dims that are all known become constants."""
    tensors: Sequence[Tensor] = [adapted] if isinstance(adapted, Value | Dims | Parts) else adapted
    if len(node.proto.output) < len(tensors):
        raise node.broken(f"{len(tensors)} results, {len(node.proto.output)} are named")
    return [node.constant(t.array) if isinstance(t, Dims) and not t.symbols else t for t in tensors]


def _arrays(node: SourceNode, adapter: Adapter) -> list[Array]:
    """The results of a node whose operands are all constants."""
    results = [folded(v, node) for v in _results(node, adapter(node))]
    arrays = [v.const for v in results if isinstance(v, Value) and v.const is not None]
    if len(arrays) < len(results):
        raise node.unsupported("this is too large, or cannot be computed, while importing")
    return arrays


def _refused(node: SourceNode, adapter: Adapter, error: InferenceError) -> UnsupportedError:
    """An op refused its operands: a dimension is merely unknown, or else the model is to blame, and ModelError raised.

    Where planish asks for more than ONNX does, the adapter has refused already; or it takes fewer element types.
    """
    if isinstance(error, DTypeError) and element_types_fit(node):
        return UnsupportedError(error.what, node.place, "cast to float32 before it")
    if error.fix or any(_accepts(node, adapter, size) for size in _sizes(node)):
        return UnknownSizeError(error.what, node.place)
    raise ModelError(error.what, node.place, "check the shapes and types that this node is given")


def _sizes(node: SourceNode) -> list[int]:
    """Sizes to try for the symbols of the operands: small ones, many-divisible ones, those that stand beside them."""
    types = [v.type for v in node.operands if isinstance(v, Value)]
    if not symbols_in(t.shape for t in types) and not any(isinstance(v, Dims) for v in node.operands):
        return []
    arrays = [v.const for v in node.operands if isinstance(v, Value) and v.const is not None]
    ints = {int(i) for a in arrays if a.dtype.kind in "iu" and a.size <= 64 for i in a.flat}
    given = {d for t in types for d in t.shape if isinstance(d, int)} | ints
    return [*range(1, 33), 5040, *sorted(d for d in given if 32 < d <= 4096)[:64]]


def _accepts(node: SourceNode, adapter: Adapter, size: int) -> bool:
    """Whether the adapter takes the operands when every symbol has this size."""
    operands: list[Tensor | None] = [_sized(v, size) for v in node.operands]
    try:
        adapter(node.on(operands))
    except PlanishError:
        return False
    return True


def _sized(tensor: Tensor | None, size: int) -> Tensor | None:
    if isinstance(tensor, Dims):
        if any(isinstance(e, Unknown) for e in tensor.elements.flat):
            return tensor
        sizes = [e.factor * size if isinstance(e, Sym) else e for e in tensor.elements.flat]
        return const_value(np.array(sizes, tensor.dtype.numpy).reshape(tensor.elements.shape))
    if isinstance(tensor, Value) and tensor.const is None:
        shape = tensor.type.shape
        return Value(tensor.type.with_shape(sized(shape, dict.fromkeys(symbols_in([shape]), size))))
    return tensor


def _lone_batch(shapes: Sequence[Shape]) -> str | None:
    """The one symbol of the inputs, where it is the first dimension of them all and no other, or is called a batch."""
    symbols = symbols_in(shapes)
    first = all(shape and isinstance(shape[0], Sym) for shape in shapes)
    named = all(re.fullmatch(r"n|b|bs|.*batch.*", symbol, re.IGNORECASE) for symbol in symbols)
    lone = len(symbols) == 1 and (named or (first and not symbols_in(shape[1:] for shape in shapes)))
    return symbols[0] if lone else None


def _locate(results: Sequence[Tensor], loc: Loc) -> None:
    """Give the new nodes that make the results their source."""
    values = [part for v in results for part in (v.values if isinstance(v, Parts) else [v])]
    stack = [v.producer for v in values if isinstance(v, Value)]
    while stack:
        node = stack.pop()
        if node is not None and not node.loc and not isinstance(node.op, Const):
            node.loc = loc
            stack.extend(v.producer for v in node.operands)


def _assemble(name: str, inputs: list[Value], values: list[Value], outputs: list[Value], names: list[str]) -> Graph:
    """A graph with the nodes that the outputs need, in the order of the source."""
    needed: set[Node] = set()
    stack = [v.producer for v in outputs]
    while stack:
        node = stack.pop()
        if node is not None and node not in needed:
            needed.add(node)
            stack.extend(v.producer for v in node.operands)
    graph = Graph(inputs, [], name=name)
    for value in (*values, *outputs):
        if value.producer in needed:
            graph.adopt(value)
    graph.outputs, graph.output_names = outputs, names
    return graph
