"""Nodes of several results: what nothing uses is not written; layers of many steps are one loop."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planish import api
from planish.backends.c.target import CTarget
from planish.backends.group import Group
from planish.backends.kernel import Choices
from planish.backends.loops.kernels import SHARED
from planish.backends.memory import check, plan
from planish.ir.builder import const_value
from planish.ir.constant import Const
from planish.ir.errors import InvalidGraphError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, Value, apply, graph_input
from planish.ir.op import Op
from planish.ir.ops.elementwise import add, relu
from planish.ir.ops.fused import Fused
from planish.ir.ops.recurrent import Gru, Lstm, Rnn
from planish.ir.types import F32, TensorType
from planish.ir.verifier import verify
from planish.passes.base import Context
from planish.passes.group import ungroup
from planish.passes.pipeline import run_pipeline
from planish.runtime.oracle import judge
from planish.runtime.target import Limits, Target
from tests.support.emitted import run_sanitized

INPUTS, HIDDEN = 3, 5


def layer(
    op: Any, steps: int = 4, batch: int = 1, directions: int = 1, computed: bool = False, name: str = ""
) -> list[Value]:
    """A recurrent layer on an input; its weights are constants, or inputs too. name: what names begin with."""
    random = np.random.default_rng(1)
    rows = op.gates * HIDDEN
    shapes = [(directions, rows, n) for n in (INPUTS, HIDDEN)] + [(directions, 2 * rows)]
    shapes += [(directions, batch, HIDDEN)] * op.states
    arrays = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    rest = [
        graph_input(f"{name}w{i}", TensorType(a.shape, F32)) if computed else const_value(a)
        for i, a in enumerate(arrays)
    ]
    return list(apply(op, graph_input(f"{name}x", TensorType((steps, batch, INPUTS), F32)), *rest).results)


def graph_of(*outputs: Value) -> Graph:
    inputs: dict[Value, None] = {}
    seen = [v for v in outputs if v.producer is not None]
    for value in seen:
        assert value.producer is not None
        for v in value.producer.operands:
            if v.producer is None:
                inputs[v] = None
            elif v not in seen:
                seen.append(v)
    return Graph(list(inputs), outputs, [f"y{i}" for i in range(len(outputs))])


def sample(graph: Graph) -> list[Any]:
    random = np.random.default_rng(2)
    return [random.normal(size=v.type.shape).astype(np.float32) for v in graph.inputs]  # type: ignore[arg-type]


def require_right(graph: Graph, require_tool: Any) -> None:
    """Executed as C, under the sanitizers, it is what the interpreter says."""
    require_tool("cc")
    arrays = sample(graph)
    (outputs,) = run_sanitized(graph, [arrays])
    found = dict(zip(graph.output_names, outputs, strict=True))
    inputs = dict(zip(graph.input_names, arrays, strict=True))
    assert all(v.agrees for v in judge(graph, inputs, found).values())


def text_of(graph: Graph, folder: Path, target: Target) -> str:
    folder.mkdir()
    artifact = target.emit(graph, folder, "net", Limits())
    return (artifact.path / "net.c").read_text()


CHOSEN = [c for n in (1, 2) for c in itertools.combinations(range(3), n)]


def test_those_that_are_written_are_right(require_tool: Any) -> None:
    layers = [layer(Lstm(), name=f"{i}_") for i in range(len(CHOSEN))]
    require_right(graph_of(*(rs[i] for rs, chosen in zip(layers, CHOSEN, strict=True) for i in chosen)), require_tool)


@pytest.mark.parametrize("chosen", CHOSEN, ids=str)
def test_results_that_nothing_uses_are_not_written(chosen: tuple[int, ...], tmp_path: Path) -> None:
    results = layer(Lstm())
    graph = graph_of(*(results[i] for i in chosen))
    memory = plan(graph, Choices(SHARED), 8)
    check(graph, memory, Choices(SHARED))
    assert {v for v in results if v in memory.places} == {results[i] for i in chosen}
    assert memory.arena_bytes == -(-(2 + 4) * HIDDEN * 4 // 8) * 8  # states and gates of one step
    names = ["y"] if len(chosen) == 1 else [f"y{i}" for i in chosen]
    text = text_of(graph, tmp_path / "c", CTarget("c"))
    assert re.findall(r"float \*restrict (y\w*)", text) == names


def test_reading_what_is_not_written_is_caught() -> None:
    hidden, last, _ = layer(Lstm())
    graph = graph_of(hidden, relu(last))
    memory = plan(graph, Choices(SHARED), 8)
    check(graph, memory, Choices(SHARED))
    places = {v: p for v, p in memory.places.items() if v is not last}
    with pytest.raises(InvalidGraphError, match="no place"):
        check(graph, dataclasses.replace(memory, places=places), Choices(SHARED))


def test_two_directions_a_batch_and_computed_weights(require_tool: Any) -> None:
    ops: list[Any] = [Lstm(), Lstm(reverse=True), Gru(reset_after=True), Gru(), Rnn(relu=True)]
    layers = [
        layer(op, steps=3, batch=2, directions=1 if op.reverse else 2, computed=True, name=f"{i}_")
        for i, op in enumerate(ops)
    ]
    require_right(graph_of(*(v for results in layers for v in results)), require_tool)


@pytest.mark.parametrize("op", [Lstm(), Gru(reset_after=True), Rnn()], ids=str)
def test_code_does_not_grow_with_the_steps(op: Op, tmp_path: Path) -> None:
    target = CTarget("c")
    few, many = (text_of(graph_of(*layer(op, steps)), tmp_path / str(steps), target) for steps in (7, 900))
    assert few != many
    assert re.sub(r"\d+", "", few) == re.sub(r"\d+", "", many)


@pytest.mark.parametrize("op", [Lstm(), Gru(reset_after=True), Rnn()], ids=str)
def test_machine_code_does_not_grow_with_the_steps(op: Any, tvm: None) -> None:
    from planish.backends.tvm.code import Code
    from planish.backends.tvm.machines import machine_named
    from planish.backends.tvm.render import TirRenderer

    def text(steps: int) -> str:
        node = layer(op, steps)[0].producer
        assert node is not None
        choice = Choices(SHARED)[node]
        assert choice.kernel is not None
        code = Code(choice.group, machine_named("tvm"))
        TirRenderer(code).statements(choice.kernel.emit(choice.group, code))
        return str(code.function())

    few, many = text(7), text(900)
    assert few != many
    assert re.sub(r"\d+", "", few) == re.sub(r"\d+", "", many)


def fused(results: list[Value], outputs: list[Value]) -> Group:
    """A group of all that computes the outputs."""
    body = graph_of(*outputs)
    return Group.of(apply(Fused(body), *body.inputs))


def test_what_follows_the_first_result_is_in_its_group(require_tool: Any) -> None:
    results = layer(Lstm(), computed=True)
    body = graph_of(relu(results[0]), results[2])
    inputs = [graph_input(v.name, v.type) for v in body.inputs]
    node = apply(Fused(body), *inputs)
    graph = Graph(inputs, node.results, ["y0", "y1"])
    assert Choices(SHARED).problem(node) is None
    assert np.min(evaluate(graph, sample(graph))[0]) == 0
    require_right(graph, require_tool)


def test_a_group_on_a_later_result_is_refused() -> None:
    hidden, last, _ = layer(Lstm(), computed=True)
    later = fused([hidden], [add(hidden, last)]).problem
    assert later is not None
    assert "result 1 of lstm is read in its group; only result 0 may be" in later.reason
    hidden, *_ = layer(Rnn(), computed=True)
    beside = fused([hidden], [hidden, relu(hidden)]).problem
    assert beside is not None
    assert "result 1 of the group is none of rnn's later results" in beside.reason


def grouped(graph: Graph) -> list[str]:
    made = run_pipeline(graph, "group", Context(target=CTarget("c"))).graph
    verify(made)
    ungrouped = made.clone()
    ungroup(ungrouped)
    verify(ungrouped)
    for one in (made, ungrouped):
        for a, b in zip(evaluate(graph, sample(graph)), evaluate(one, sample(graph)), strict=True):
            np.testing.assert_array_equal(a, b)
    return ["+".join(n.op.name for n in Group.of(n).nodes) for n in made.nodes if not isinstance(n.op, Const)]


def test_grouping_takes_what_follows_the_first_result() -> None:
    hidden, last, cell = layer(Lstm())
    # What reads the last state stands before what follows the first result.
    graph = graph_of(relu(last), add(relu(hidden), np.ones((1, 1, 1, HIDDEN), np.float32)), cell)
    assert grouped(graph) == ["lstm+clip+add", "clip"]


def test_grouping_leaves_what_needs_a_later_result() -> None:
    hidden, last, _ = layer(Lstm())
    assert grouped(graph_of(add(relu(hidden), last))) == ["lstm+clip", "add"]
    hidden, last, _ = layer(Lstm())
    assert grouped(graph_of(add(hidden, relu(last)))) == ["lstm", "clip", "add"]
    hidden, last, _ = layer(Lstm())
    assert grouped(graph_of(last, relu(last))) == ["lstm", "clip"]


def test_groups_of_several_results_are_executed_by_the_host_of_the_npu(tmp_path: Path, require_tool: Any) -> None:
    require_tool("cc")
    hidden, last, _ = layer(Lstm())
    graph = graph_of(add(relu(hidden), np.ones((1, 1, 1, HIDDEN), np.float32)), relu(last))
    api.compile(graph, target="npu:64", out=tmp_path / "out")
    assert api.verify(tmp_path / "out", data="random:-2,2", samples=2).passed


@pytest.mark.parametrize(("folder", "file", "name"), [("kws_gru_s", "model.onnx", "tvm"), ("digits", "lstm.onnx", "c")])
def test_recurrent_models(
    folder: str, file: str, name: str, models: Path, tvm: None, tmp_path: Path, require_tool: Any
) -> None:
    require_tool("cc")
    graph = api.load(models / folder / file, dims={"N": 1} if folder == "digits" else {})
    api.compile(graph, target=name, out=tmp_path / "out")
    assert api.verify(tmp_path / "out", data=str(models / folder / "eval.npz"), samples=2).passed
