"""A graph as an ONNX model: names, constants and order; what a node becomes is in `adapters`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...ir.constant import Const
from ...ir.errors import UnsupportedError
from ...ir.graph import Graph, Loc, Node, Value
from ...ir.ops.fused import Fused
from ...ir.ops.quant import Quantize
from ...ir.types import Array
from ...passes.parallel import Shares
from . import compact, pairs, reshaped
from .adapters import adapter_of
from .affine import Affine, affines
from .composed import COMPOSED
from .forms import FINDERS, Form, forms
from .padded import by_rule
from .site import Operand, RefusedError, Site, constant, content, element_type, fill, shape_of, size_of
from .splits import emit_split, splits

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

#: Where a graph says which operator set its source used, and what else the source said about itself.
OPSET, PROPERTY = "onnx.opset", "onnx.property."
#: A protobuf message holds no more; names and structure need little beside the constants.
MAX_BYTES = 2**31 - 2**20
#: Before that, initializers were inputs as well.
LEAST_IR_VERSION = 4


@dataclass(frozen=True)
class Written:
    """A model, and what became of a graph's nodes in it.

    nodes: the ONNX nodes that each node of the graph (constants left out) became. steps: names of the tensors that
    `quantize` nodes gave, in their order; where all consumers of these are given their values, layers run on their own.
    """

    model: onnx.ModelProto
    nodes: dict[Node, list[gs.Node]]
    steps: list[str]


def write(graph: Graph, opset: int) -> Written:
    """The model of a graph in this operator set. Raises RefusedError for the first node that it does not take."""
    import onnx
    import onnx_graphsurgeon as gs

    log = gs.logger.G_LOGGER  # pyright: ignore[reportAttributeAccessIssue]
    log.severity = log.ERROR  # it writes on stdout
    _check_names(graph)
    written = [_written(graph, opset, rows) for rows in {False, any(map(reshaped.starts, graph.nodes))}]
    writer, source = min(written, key=lambda pair: len(pair[0].nodes))
    model = gs.export_onnx(source)
    del model.graph.value_info[:]  # it follows from the rest
    model.ClearField("producer_name")
    model.ClearField("producer_version")
    fill(model, writer.arrays)
    model.ir_version = max(LEAST_IR_VERSION, onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))
    properties = {k.removeprefix(PROPERTY): v for k, v in graph.metadata.items() if k.startswith(PROPERTY)}
    onnx.helper.set_model_props(model, properties)
    return Written(model, writer.became, writer.steps)


def _written(graph: Graph, opset: int, rows: bool) -> tuple[_Writer, Any]:
    writer = _Writer(opset, _Names([*graph.input_names, *graph.output_names]), rows)
    return writer, writer.graph(graph)


def refusal(node: Node, opset: int) -> RefusedError | None:
    """Why a node cannot be written in this operator set; None when it can."""
    try:
        _Writer(opset, _Names(())).node(node, {v: _operand(v) for v in node.operands})
    except RefusedError as error:
        return error
    return None


def _check_names(graph: Graph) -> None:
    """Inputs and outputs keep their names, so these must be ones that ONNX can tell apart."""
    passed_on = {v.name for v in graph.inputs if graph.is_output(v)}
    for name in graph.output_names:
        if name in graph.input_names and name not in passed_on:
            raise UnsupportedError(f"an input and an output are both called {name!r}", fix="rename one of them")
    if "" in (*graph.input_names, *graph.output_names):
        raise UnsupportedError("an input or output has no name; in ONNX that means that it is absent", fix="name it")
    size = sum(array.nbytes for array in graph.constants.values())
    if size > MAX_BYTES:
        raise UnsupportedError(
            f"the constants take {size:,} bytes; an ONNX file holds less than {2**31:,}",
            fix="quantize the weights, or split the model",
        )


def _variable(value: Value, name: str) -> Operand:
    import onnx_graphsurgeon as gs

    type = value.type
    return Operand(gs.Variable(name, dtype=element_type(type.dtype), shape=shape_of(type.shape)), type)


def _operand(value: Value) -> Operand:
    """An operand to ask with: a constant is not copied into a tensor."""
    return replace(_variable(value, ""), const=value.const)


def _tensor_of(name: str) -> str:
    """The tensor after which a node of the source is called that has no name of its own, `Relu:y`; else nothing."""
    import onnx

    kind, _, tensor = name.partition(":")
    return tensor if onnx.defs.has(kind) else ""


class _Names:
    """Names that nobody else has: the first to ask gets what it wants, others a numbered one."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self.numbers: dict[str, int] = {}

    def __call__(self, wanted: str) -> str:
        name = wanted
        while not name or name in self.taken:
            self.numbers[wanted] = self.numbers.get(wanted, 0) + 1
            name = f"{wanted}_{self.numbers[wanted]}"
        self.taken.add(name)
        return name


@dataclass
class _Writer:
    """Writes one graph. rows: dense layers of several axes as layers of a matrix."""

    opset: int
    tensor_name: _Names
    rows: bool = False
    nodes: list[gs.Node] = field(default_factory=list)
    layers: list[tuple[Loc, list[gs.Node]]] = field(default_factory=list)
    became: dict[Node, list[gs.Node]] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    spare: list[gs.Node] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)

    def graph(self, graph: Graph) -> Any:
        """The graph as one of graphsurgeon."""
        import onnx_graphsurgeon as gs

        inputs = {v: _variable(v, v.name) for v in graph.inputs}
        public: dict[Value, str] = {}
        for value, name in zip(graph.outputs, graph.output_names, strict=True):
            if value.const is None and value not in inputs:
                public.setdefault(value, name)
        tensors = dict(inputs)
        self.public = set(public.values())
        self.body(graph, tensors, public)
        outputs = [self.output(tensors[v], v, name) for v, name in zip(graph.outputs, graph.output_names, strict=True)]
        self.drop_spare({y.tensor.name for y in outputs})
        if self.opset >= pairs.SINCE:
            self.nodes = pairs.with_pairs(self.nodes, [y.tensor for y in outputs], self.tensor_name)
        self.name_nodes()
        self.share_constants()
        return gs.Graph(
            nodes=self.nodes, inputs=[x.tensor for x in inputs.values()], outputs=[y.tensor for y in outputs],
            name=graph.name, opset=self.opset,
        )  # fmt: skip

    def output(self, tensor: Operand, value: Value, name: str) -> Operand:
        """The tensor under this public name: a copy where it is called otherwise."""
        if tensor.const is None and tensor.tensor.name == name:
            return tensor
        site = Site(self.opset, value.type)
        copy = site.emit("Identity", tensor)
        copy.tensor.name = name
        self.nodes.extend(site.nodes)
        return copy

    def drop_spare(self, outputs: set[str]) -> None:
        """Take away spare nodes whose results nobody uses."""
        gone = {id(n) for n in self.spare if not n.outputs[0].outputs and n.outputs[0].name not in outputs}
        for written in (self.nodes, *self.became.values(), *(nodes for _, nodes in self.layers)):
            written[:] = [n for n in written if id(n) not in gone]

    def share_constants(self) -> None:
        """Equal constants become one, the first; but not quantized weights and their zero points.

        ONNX Runtime 1.32 with session.x64quantprecision=1 rewrites these for each use, and trips over the second.
        """
        import onnx_graphsurgeon as gs

        first: dict[Any, Any] = {}
        for node in self.nodes:
            stored = node.op == "DequantizeLinear" and isinstance(node.inputs[0], gs.Constant)
            for i, tensor in enumerate(node.inputs):
                if isinstance(tensor, gs.Constant) and not (stored and i != 1):
                    node.inputs[i] = first.setdefault(content(self.arrays[tensor.name]), tensor)

    def name_nodes(self) -> None:
        """A layer's node is called as in the source; then come those beside it, and those called after tensors.

        What had no name there gets none.
        """
        claim = _Names(())
        beside: list[tuple[gs.Node, str]] = []
        nameless = set[int]()
        for loc, written in self.layers:
            if loc and _tensor_of(loc.names[0]):
                nameless.update(map(id, written))
                continue
            for i, one in enumerate(reversed(written)):
                if i == 0 and loc:
                    one.name = claim(loc.names[0])
                elif loc:
                    beside.append((one, loc.names[0]))
        for one, wanted in beside:
            one.name = claim(wanted)
        for one in self.nodes:
            if id(one) not in nameless:
                one.name = one.name or claim(one.outputs[0].name)

    def body(self, graph: Graph, tensors: dict[Value, Operand], public: Mapping[Value, str]) -> None:
        """Write the nodes of a graph whose inputs are in `tensors`; its other values are entered."""
        shares = splits(graph)

        def fits(form: Form) -> bool:
            return shares.keys().isdisjoint(form.inside) and form.fits(self.opset, _operand)

        whole = {form.root: form for form in forms(graph, (*COMPOSED, *FINDERS, by_rule), fits)}
        absorbed = {node for form in whole.values() for node in form.inside}
        free = absorbed.isdisjoint
        sums = {
            n: a
            for n, a in affines(graph).items()
            if n not in whole and free((n, a.product)) and a.product not in whole
        }
        absorbed |= {affine.product for affine in sums.values()}
        for node in graph.nodes:
            if isinstance(node.op, Const):
                self.constant(node, node.op.data, tensors)
            elif node in absorbed or node.results[0] in tensors:
                self.became[node] = []
            elif node in shares:
                self.split(node, shares[node], tensors, public)
            else:
                self.node(node, tensors, public, whole.get(node) or sums.get(node))

    def node(
        self,
        node: Node,
        tensors: dict[Value, Operand],
        public: Mapping[Value, str] | None = None,
        form: Form | Affine | None = None,
    ) -> None:
        """Write one node, or the form whose root it is; raises RefusedError."""
        if isinstance(node.op, Fused):
            self.inlined(node, node.op.body, tensors, public or {})
            return
        site = Site(self.opset, node.results[0].type)
        if form is not None:
            results: tuple[Operand, ...] = (form.emit(site, *(tensors[v] for v in form.operands)),)
        elif (adapter := adapter_of(node.op)) is None:
            raise RefusedError(f"{node.op.name} has no form in ONNX", "write it with other ops")
        elif self.rows and (reshaped.starts(node) or reshaped.follows(node, [tensors[v] for v in node.operands])):
            for v in node.operands:
                tensors[v] = tensors[v] if v.const is not None else reshaped.matrix(site, tensors[v])
            results = (reshaped.by_rows(site, node.op, adapter, [tensors[v] for v in node.operands]),)
        else:
            made = adapter(site, node.op, *(tensors[v] for v in node.operands))
            results = made if isinstance(made, tuple) else (made,)
        self.enter(node, site, dict(zip(node.results, results, strict=True)), tensors, public or {})
        if isinstance(node.op, Quantize):
            self.steps.append(results[0].tensor.name)

    def constant(self, node: Node, array: Array, tensors: dict[Value, Operand]) -> None:
        """Write a constant: as it is, or as what it was computed of where that is smaller."""
        site = Site(self.opset, node.result.type)
        if compact.may_be_computed(node) and (made := compact.recomputed(site, array)) is not None:
            self.enter(node, site, {node.result: made}, tensors, {})
            tensors[node.result] = replace(made, const=array)
            self.became.pop(node)
            self.spare.extend(site.nodes)
            return
        tensors[node.result] = constant(array)
        tensors[node.result].tensor.name = self.tensor_name(node.result.name or "constant")
        self.arrays[tensors[node.result].tensor.name] = array

    def split(self, node: Node, shares: Shares, tensors: dict[Value, Operand], public: Mapping[Value, str]) -> None:
        """Write the first of the slices that are one Split, with the results of all of them."""
        site = Site(self.opset, node.result.type)
        results = emit_split(site, shares, tensors[node.operands[0]], self.rows)
        made = dict(zip((part.result for part in shares.slices), results, strict=True))
        self.enter(node, site, made, tensors, public)

    def enter(
        self,
        node: Node,
        site: Site,
        made: dict[Value, Operand],
        tensors: dict[Value, Operand],
        public: Mapping[Value, str],
    ) -> None:
        """Name what was written for a node, and enter the values that it gave."""
        self.name(node, site, made, public)
        self.nodes.extend(site.nodes)
        self.spare.extend(site.spare)
        self.became[node] = site.nodes
        self.layers.append((node.loc, site.nodes))
        tensors.update(made)

    def inlined(self, node: Node, body: Graph, tensors: dict[Value, Operand], public: Mapping[Value, str]) -> None:
        """A group is its body; the group's results have their names."""
        inside = {v: tensors[operand] for v, operand in zip(body.inputs, node.operands, strict=True)}
        names = {b: public[r] for b, r in zip(body.outputs, node.results, strict=True) if r in public}
        self.body(body, inside, names)
        tensors.update((r, inside[b]) for b, r in zip(body.outputs, node.results, strict=True))
        self.became[node] = [one for inner in body.nodes for one in self.became.pop(inner, [])]

    def name(self, node: Node, site: Site, made: Mapping[Value, Operand], public: Mapping[Value, str]) -> None:
        """Names of the tensors that a node gave: its results' for the last. One that was there keeps a public name."""
        own, new = "", {id(part.tensor) for _, part in site.roles}
        results = {id(result.tensor) for result in made.values()}
        for value, result in reversed(list(made.items())):
            if id(result.tensor) not in new and (not result.tensor.inputs or result.tensor.name in self.public):
                continue
            name = next(iter(node.loc.names), node.op.name)
            own = public.get(value) or self.tensor_name(value.name or _tensor_of(name) or name)
            result.tensor.name = own
        for role, part in site.roles:
            if id(part.tensor) not in results:
                part.tensor.name = self.tensor_name(f"{own}_{role}" if part.const is None else role)
            if part.const is not None:
                self.arrays[part.tensor.name] = part.const


def constants_of(model: onnx.ModelProto) -> int:
    """Bytes of a model's initializers."""
    return sum(map(size_of, model.graph.initializer))
