"""The driver: an ONNX model becomes a graph, node by node; everything that is unsupported is reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...ir.builder import const_value
from ...ir.constant import Const
from ...ir.errors import InferenceError, ModelError, UnsupportedError, UsageError
from ...ir.evaluate import evaluate_node
from ...ir.graph import Graph, Loc, Node, Value, graph_input
from ...ir.types import Array, Dim, Sym, TensorType, type_of
from .adapters import ADAPTERS, DOMAINS, KEPT
from .adapters.dims import PARTIAL
from .reader import shown
from .source import Adapted, Dims, Parts, SourceNode, Tensor
from .tensors import array_from, checked_shape, dtype_from, tensor_name
from .topology import AGAIN, node_name, ordered, unique

if TYPE_CHECKING:
    import onnx

#: Older operator sets broadcast by other rules.
MIN_OPSET = 7
#: Constants are folded while importing up to this size, or up to the size of what they are computed from.
FOLDED_BYTES = 2**20
FOLDED_MACS = 10**7


@dataclass
class Importer:
    """Imports one model. `folder` holds its external data; `notes` collects what the user should know."""

    model: onnx.ModelProto
    folder: Path
    dims: Mapping[str, int]
    bind: Mapping[str, Array]
    notes: list[str]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    _symbols: set[str] = field(default_factory=set)

    def run(self) -> Graph:
        """The graph. Raises ModelError, UnsupportedError or UsageError."""
        source = self.model.graph
        opsets = self._opsets()
        for name, size in self.dims.items():
            if size < 1:
                raise UsageError(f"dimension {shown(name)} cannot be {size}", fix="give a size of at least 1")
        unique([o.name for o in source.output], "outputs")
        self._initializers(source)
        inputs = self._inputs(source)
        self._check_names_used(source)
        values: list[Value] = []
        for node in ordered(source, self.tensors):
            values.extend(self._import(node, opsets))
        outputs = [self._output(o.name) for o in source.output]
        if self.problems:
            raise UnsupportedError(
                f"the model has {len(self.problems)} unsupported node{'s' * (len(self.problems) > 1)}",
                details=tuple(self.problems),
                fix="replace these nodes in the source model, or export it with another operator set",
            )
        graph = _assemble(
            source.name or "main", inputs, values, [v for v in outputs if v], [o.name for o in source.output]
        )
        properties = {f"onnx.property.{p.key}": p.value for p in self.model.metadata_props}
        graph.metadata = {"onnx.opset": str(opsets[""]), **properties}
        return graph

    # ---- inputs and initializers

    def _opsets(self) -> dict[str, int]:
        import onnx

        opsets = {"" if e.domain == "ai.onnx" else e.domain: e.version for e in self.model.opset_import}
        newest = onnx.defs.onnx_opset_version()
        version = opsets.get("")
        if version is None:
            raise ModelError("the model does not say which version of ONNX's operators it uses", fix=AGAIN)
        if not MIN_OPSET <= version <= newest:
            raise UnsupportedError(
                f"the model uses operator set {version}; planish knows {MIN_OPSET} to {newest}",
                fix="convert it with onnx.version_converter, or export it with another opset_version",
            )
        return opsets

    def _initializers(self, source: onnx.GraphProto) -> None:
        unique([t.name for t in source.initializer], "initializers")
        if source.sparse_initializer:
            raise UnsupportedError("the model has sparse initializers", fix="store the weights densely")
        for tensor in source.initializer:
            array = array_from(tensor, self.folder, tensor_name(tensor.name))
            self.tensors[tensor.name] = const_value(array, tensor.name)

    def _inputs(self, source: onnx.GraphProto) -> list[Value]:
        unique([i.name for i in source.input], "inputs")
        inputs = []
        for info in source.input:
            if info.name in self.tensors:
                continue  # before IR version 4 every initializer was listed as an input, too
            type = self._input_type(info)
            if info.name in self.bind:
                self.tensors[info.name] = const_value(_bound(info.name, self.bind[info.name], type), info.name)
            else:
                inputs.append(graph_input(info.name, type))
                self.tensors[info.name] = inputs[-1]
        return inputs

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
            kind = dim.WhichOneof("value")
            if kind == "dim_value":
                shape.append(int(dim.dim_value))
                continue
            symbol = dim.dim_param if kind == "dim_param" and dim.dim_param else f"{info.name}_{axis}"
            if symbol not in self._symbols and not (kind == "dim_param" and dim.dim_param):
                self.notes.append(f"dimension {axis} of {what} has no name; --dim {symbol}=... fixes it")
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

    def _import(self, proto: onnx.NodeProto, opsets: Mapping[str, int]) -> list[Value]:
        """Import one node: its results are entered into `tensors`, and returned for the graph's order."""
        name = node_name(proto)
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        adapter = ADAPTERS.get((domain, proto.op_type))
        if adapter is None:
            self.problems.append(f"{proto.op_type} {shown(name)}: {_unknown(domain, proto.op_type)}")
            return []
        if any(o and o not in self.tensors for o in proto.input):
            return []  # what it needs is unsupported, and reported already
        operands = [self.tensors[o] if o else None for o in proto.input]
        node = SourceNode(proto, name, opsets.get(domain, DOMAINS[domain]), operands, self.folder)
        try:
            if any(isinstance(v, Dims) for v in operands) and proto.op_type in PARTIAL and domain == "":
                adapter = PARTIAL[proto.op_type]
            results = _results(node, adapter(node))
            if unread := node.unread():
                raise node.unsupported(f"{', '.join(unread)} is not understood")
            if all(v is None or _const(v) for v in operands) and proto.op_type not in KEPT:
                results = [_folded(v, operands) for v in results]
        except UnsupportedError as error:
            fix = f"; {error.fix}" if error.fix else ""
            self.problems.append(f"{error.where or node.place}: {error.what}{fix}")
            return []
        except InferenceError as error:
            raise _refused(node, error) from None
        _locate(results, Loc((name,)))
        for output, value in zip(proto.output, results, strict=False):
            if output:
                self._enter(output, value)
        return [v for v in results if isinstance(v, Value)]

    def _enter(self, name: str, tensor: Tensor) -> None:
        self.tensors[name] = tensor
        if isinstance(tensor, Value):
            tensor.name = tensor.name or name
            shape = [d for d in tensor.type.shape if isinstance(d, int)]
            checked_shape(shape, tensor.type.dtype, tensor_name(name))

    def _output(self, name: str) -> Value | None:
        tensor = self.tensors.get(name)
        if isinstance(tensor, Dims):
            symbol = tensor.symbols[0]
            self.problems.append(f"output {shown(name)} is computed from {symbol}; give --dim {symbol}=...")
            return None
        if isinstance(tensor, Parts):
            self.problems.append(f"output {shown(name)} is a sequence; export the model with tensor outputs")
            return None
        if tensor is None and not self.problems:
            self.problems.append(f"output {shown(name)} is an optional result that planish does not compute")
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


def _unknown(domain: str, op_type: str) -> str:
    import onnx

    if op_type in ("If", "Loop", "Scan"):
        return "sub-graphs are not supported; export the model with its control flow unrolled"
    if domain not in DOMAINS:
        return f"operators of domain {shown(domain)} are not supported"
    if not onnx.defs.has(op_type, domain=domain):
        return "not an ONNX operator"
    return "this operator is not supported"


def _results(node: SourceNode, adapted: Adapted) -> list[Tensor]:
    """What an adapter returned, as a list; dims that are all known become constants."""
    tensors: Sequence[Tensor] = [adapted] if isinstance(adapted, Value | Dims | Parts) else adapted
    if len(node.proto.output) < len(tensors):
        raise node.broken(f"{len(tensors)} results, {len(node.proto.output)} are named")
    return [node.constant(t.elements.astype(np.int64)) if isinstance(t, Dims) and not t.symbols else t for t in tensors]


def _refused(node: SourceNode, error: InferenceError) -> ModelError | UnsupportedError:
    """An op refused its operands: the model is to blame, unless a dimension is merely unknown.

    Where planish asks for more than ONNX does, the adapter has refused already.
    """
    operands = [v for v in node.operands if isinstance(v, Value)]
    symbols = [d.symbol for v in operands for d in v.type.shape if isinstance(d, Sym)]
    if error.fix or symbols:
        return UnsupportedError(error.what, node.place, error.fix or f"give --dim {symbols[0]}=...")
    return ModelError(error.what, node.place, "check the shapes and types that this node is given")


def _locate(results: Sequence[Tensor], loc: Loc) -> None:
    """Give the new nodes that make the results their source."""
    values = [part for v in results for part in (v.values if isinstance(v, Parts) else [v])]
    stack = [v.producer for v in values if isinstance(v, Value)]
    while stack:
        node = stack.pop()
        if node is not None and not node.loc and not isinstance(node.op, Const):
            node.loc = loc
            stack.extend(v.producer for v in node.operands)


def _folded(result: Tensor, operands: Sequence[Tensor | None]) -> Tensor:
    """A result of constant operands as a constant, where that does not take too much memory or time."""
    if not isinstance(result, Value) or result.const is not None:
        return result
    limit = max(FOLDED_BYTES, 2 * sum(v.type.nbytes for v in operands if isinstance(v, Value)))
    arrays: dict[Value, Array] = {}
    stack: list[tuple[Node, bool]] = [(result.producer, False)] if result.producer else []
    while stack:
        node, ready = stack.pop()
        if node.results[0] in arrays:
            continue
        if not ready:
            if sum(v.type.nbytes for v in node.results) > limit:
                return result
            if node.op.cost(*(v.type for v in node.operands)).macs > FOLDED_MACS:
                return result
            stack.append((node, True))
            stack.extend((v.producer, False) for v in node.operands if v.producer)
            continue
        try:
            values = evaluate_node(node, [arrays[v] for v in node.operands])
        except (ValueError, ArithmeticError, IndexError) as error:  # for instance the maximum of no elements
            raise UnsupportedError(f"its value cannot be computed: {error}") from None
        arrays.update(zip(node.results, values, strict=True))
    return const_value(np.array(arrays[result], order="C"), result.name)


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
