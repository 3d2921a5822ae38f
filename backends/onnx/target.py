"""Target `onnx`: the graph as a standard ONNX model, for everyone else's runtime."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...ir.constant import Const
from ...ir.errors import PlanishError, UnsupportedError, UsageError, VerificationError
from ...ir.graph import Graph, Node
from ...ir.types import Array, Sym
from ...runtime.target import Artifact, Customary, Execution, Layer, Limits, Need, Target, Unsupported
from ...runtime.unchained import Cut, unchained
from . import by_default, session
from .site import TooOldError
from .writer import OPSET, Written, constants_of, refusal, write

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

FILE = "model.onnx"
#: From here on all elementwise operators broadcast by today's rules; before, Min and Max do not at all.
OLDEST = 8
#: Unless it is asked for or an op needs it, no newer one is written: runtimes lag behind, and ONNX Runtime's optimizer
#: knows quantized models of 21 and above less well. Graphs that do not come from an ONNX model get this one.
DEFAULT = 20


class OnnxTarget(Target):
    """A file `model.onnx`: float, or quantized as QuantizeLinear and DequantizeLinear (QDQ).

    `onnx` writes the operator set of the source but at most 20, or the next one that has all that the graph needs;
    `onnx:17` that one. Composites need none that is newer than the source's: they are decomposed.
    """

    lowering = "decompose,layout{to=nchw},simplify"
    summary = "a standard ONNX model, float or QDQ, run by ONNX Runtime"

    def __init__(self, name: str) -> None:
        self.name = name
        self.opset = _opset(name.partition(":")[2])

    # ---- what may be asked

    def supports(self, node: Node) -> Unsupported | None:
        error = refusal(node, self.opset or newest())
        if error is None:
            return None
        later = isinstance(error, TooOldError) and refusal(node, newest()) is None
        return Unsupported(error.reason, error.hint or ("a newer --opset, or none" if later else ""))

    def decomposes(self, graph: Graph) -> list[Node]:
        """Composites that the operator set does not have: none is raised for their sake."""
        opset = self.opset or _lowest((n for n in graph.nodes if not n.op.is_composite), _source(graph)) or newest()
        return [n for n in graph.nodes if n.op.is_composite and refusal(n, opset) is not None]

    def needs(self) -> Sequence[Need]:
        return [Need("onnxruntime", session.is_installed(), session.INSTALL)]

    # ---- out

    def emit(self, graph: Graph, out: Path, name: str, limits: Limits) -> Artifact:
        self._require(graph)
        opset = self.opset or _lowest(graph.nodes, min(_source(graph), DEFAULT)) or newest()
        written = write(graph, opset)
        (out / FILE).write_bytes(_checked(written))
        facts = {
            "file": FILE,
            "opset": opset,
            "ir_version": written.model.ir_version,
            "nodes": len(written.model.graph.node),
            "constant_bytes": constants_of(written.model),
            "steps": written.steps,
        }
        layers = [_layer(node, became) for node, became in written.nodes.items()]
        return Artifact(self.name, out, graph, layers, facts)

    def _require(self, graph: Graph) -> None:
        """Raise UnsupportedError naming every node that cannot be written."""
        answers = ((node, self.supports(node)) for node in graph.nodes if not isinstance(node.op, Const))
        refused = [(node, answer) for node, answer in answers if answer is not None]
        if refused:
            later = _lowest(graph.nodes, self.opset or newest())
            raise UnsupportedError(
                f"{self.name} does not take {len(refused)} of the graph's nodes",
                details=tuple(f"{node.describe()}: {answer.reason}" for node, answer in refused),
                fix=next((answer.hint for _, answer in refused if answer.hint), "")
                if later is None
                else f"--opset {later}, or no --opset",
            )

    def load(self, path: Path, graph: Graph, facts: Mapping[str, Any]) -> Artifact:
        return Artifact(self.name, path, graph, [], dict(facts))

    # ---- running

    def run(self, artifact: Artifact, inputs: Mapping[str, Array], profile: bool = False) -> Execution:
        outputs = session.run_batch(artifact.path / FILE, inputs, list(artifact.graph.output_names))
        return Execution(outputs, len(next(iter(inputs.values()))))

    def customary(self, artifact: Artifact, inputs: Mapping[str, Array], expected: Mapping[str, Array]) -> Customary:
        return by_default.customary(artifact.path / FILE, artifact.graph, inputs, expected)

    def unchained(self, artifact: Artifact, out: Path) -> tuple[Artifact, Cut] | None:
        import onnx

        model = onnx.shape_inference.infer_shapes(onnx.load(artifact.path / FILE))
        cut = unchained(artifact.graph, artifact.facts["steps"])
        rename = dict(zip(cut.given, cut.made, strict=True))
        infos = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
        if missing := [name for name in cut.given if name not in infos]:
            raise VerificationError(
                f"{FILE} has no tensor {missing[0]!r}: it is not what was compiled", fix="compile again"
            )
        for node in model.graph.node:
            node.output[:] = [rename.get(tensor, tensor) for tensor in node.output]
        model.graph.input.extend(infos[name] for name in cut.given)
        kept = [info for info in model.graph.output if info.name not in rename]
        made = [onnx.ValueInfoProto(name=new, type=infos[old].type) for old, new in rename.items()]
        del model.graph.output[:]
        model.graph.output.extend([*kept, *made])
        onnx.save(model, out / FILE)
        return Artifact(self.name, out, cut.graph, [], {}), cut


def _opset(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and OLDEST <= int(text) <= newest()):
        raise UsageError(f"there is no target onnx:{text}", fix=f"operator sets are {OLDEST} to {newest()}: onnx:17")
    return int(text)


@functools.cache
def newest() -> int:
    """The newest operator set that the installed onnx knows."""
    import onnx

    return int(onnx.defs.onnx_opset_version())


def _source(graph: Graph) -> int:
    """The operator set that the graph's source used."""
    said = graph.metadata.get(OPSET, "")
    return max(OLDEST, min(int(said), newest())) if said.isascii() and said.isdigit() and len(said) < 4 else DEFAULT


def _lowest(nodes: Iterable[Node], opset: int) -> int | None:
    """This operator set or the next one in which every node can be written; None where there is none."""
    for node in nodes:
        while not isinstance(node.op, Const) and refusal(node, opset) is not None:
            opset += 1
            if opset > newest():
                return None
    return opset


def _checked(written: Written) -> bytes:
    """The bytes of a model that onnx's own checker accepts."""
    import onnx

    try:
        content = written.model.SerializeToString(deterministic=True)
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise PlanishError(f"planish wrote a model that onnx's checker refuses: {error}") from None
    return content


def _layer(node: Node, became: Sequence[gs.Node]) -> Layer:
    types = [v.type for v in node.operands]
    known = not any(isinstance(d, Sym) for v in (*node.operands, *node.results) for d in v.type.shape)
    return Layer(
        name=(became[-1].name or became[-1].outputs[0].name) if became else node.results[0].name,
        op=node.op.name,
        source=str(node.loc),
        shape=str(node.results[0].type),
        macs=node.op.cost(*types).macs if known else 0,
        kernel=" + ".join(one.op for one in became) or "(part of another)",
        constant_bytes=sum(v.const.nbytes for v in node.operands if v.const is not None),
    )
