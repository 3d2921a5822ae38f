"""The graph: adoption, erasure, use-def chains, and no recursion anywhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish.ir.equality import same
from planish.ir.errors import InferenceError, InvalidGraphError
from planish.ir.evaluate import evaluate
from planish.ir.graph import Graph, apply, graph_input
from planish.ir.ops.elementwise import Add, Sub, add, relu, sub
from planish.ir.types import F32, TensorType
from planish.ir.verifier import verify
from planish.testing import graphs

VECTOR = TensorType((2,), F32)


def test_only_what_the_outputs_need_is_adopted():
    x = graph_input("x", VECTOR)
    unused = relu(x)
    graph = Graph([x], [add(x, x)], ["y"])
    assert len(graph) == 1
    assert unused.producer.graph is None
    assert x.users == [graph.outputs[0].producer], "an abandoned node leaves a trace"


def test_a_value_of_another_graph_is_refused():
    x = graph_input("x", VECTOR)
    y = relu(x)
    Graph([x], [y], ["y"])
    with pytest.raises(InvalidGraphError, match="another graph"):
        Graph([x], [relu(y)], ["z"])


def test_a_cycle_is_refused():
    x = graph_input("x", VECTOR)
    first = apply(Add(), x, x)
    second = apply(Add(), first.result, x)
    first.operands = (second.result, x)
    with pytest.raises(InvalidGraphError, match="cycle"):
        Graph([x], [second.result], ["y"])


def test_a_used_node_cannot_be_erased_nor_inserted_twice():
    x = graph_input("x", VECTOR)
    y = relu(x)
    graph = Graph([x], [relu(y)], ["y"])
    with pytest.raises(InvalidGraphError, match="still used"):
        graph.erase(y.producer)
    with pytest.raises(InvalidGraphError, match="twice"):
        graph.insert(y.producer)


@pytest.mark.parametrize("operands", [0, 1, 3])
def test_a_wrong_count_of_operands_is_refused(operands):
    x = graph_input("x", VECTOR)
    with pytest.raises(InferenceError, match=f"does not take {operands} operands"):
        apply(Sub(), *[x] * operands)


def test_chains_of_ten_thousand():
    x = value = graph_input("x", VECTOR)
    for _ in range(10_000):
        value = relu(value)
    graph = Graph([x], [value], ["y"])
    verify(graph)
    copy = graph.clone()
    assert same(graph, copy)
    assert evaluate(copy, [np.array([-1, 2], np.float32)])[0].tolist() == [0, 2]
    last = graph.outputs[0].producer
    graph.outputs = [x]
    assert graph.prune_from([last]) == 10_000
    assert len(graph) == 0
    verify(graph)


def test_nodes_may_come_and_go_while_iterating():
    x = value = graph_input("x", VECTOR)
    for _ in range(5):
        value = relu(value)
    graph = Graph([x], [value], ["y"])
    for node in graph.nodes:
        fresh = sub(node.operands[0], np.zeros(2, np.float32))
        graph.adopt(fresh, before=node)
        graph.replace(node.result, fresh)
        graph.erase(node)
    assert [n.op.name for n in graph.nodes] == ["const", "sub"] * 5
    verify(graph)


@given(graphs(), st.randoms(use_true_random=False))
def test_a_copy_computes_the_same_and_shares_nothing(graph, random):
    copy = graph.clone()
    shape = graph.inputs[0].type.shape
    x = np.array([random.uniform(-2, 2) for _ in range(int(np.prod(shape)))], np.float32).reshape(shape)
    for mine, other in zip(evaluate(graph, [x]), evaluate(copy, [x]), strict=True):
        assert mine.tobytes() == other.tobytes()
    assert not {id(n) for n in graph.nodes} & {id(n) for n in copy.nodes}
