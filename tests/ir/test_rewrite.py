"""Patterns and rules: what matches, what does not and why, and that rewriting is linear and comes to an end."""

import numpy as np
import pytest

from planish.ir.errors import InvalidGraphError
from planish.ir.graph import Graph, Loc, graph_input
from planish.ir.ops.elementwise import add, clip, mul, relu, sub
from planish.ir.ops.recurrent import Rnn, rnn
from planish.ir.ops.shape import reshape, transpose
from planish.ir.pattern import const, either, only_use, result
from planish.ir.rewrite import NodeRule, Rule, no_match, rewrite
from planish.ir.types import F32, TensorType
from planish.ir.verifier import verify

SQUARE = TensorType((2, 2), F32)


def square(name="x"):
    return graph_input(name, SQUARE)


def ops(graph):
    return [n.op.name for n in graph.nodes]


class TwoTransposes(Rule):
    def pattern(self, x):
        return transpose(transpose(x, as_="inner"), as_="outer")

    def rewrite(self, m, x):
        return transpose(x, perm=tuple(m.inner.perm[i] for i in m.outer.perm))


class AddConstant(Rule):
    """x + c, in either order, becomes x - (-c)."""

    def pattern(self, x, c):
        return add(x, const(c))

    def rewrite(self, m, x, c):
        return sub(x, -c) if c.any() else no_match("the constant is zero")


class ReluOfSum(Rule):
    def pattern(self, x, y):
        return clip(only_use(add(x, y)), lo=0.0)

    def rewrite(self, m, x, y):
        return add(relu(x), relu(y))


class Doubled(Rule):
    def pattern(self, x):
        return add(x, x)

    def rewrite(self, m, x):
        return mul(x, np.float32(2))


class PlusOne(Rule):
    """A literal in a pattern matches a constant of any shape that it broadcasts to."""

    def pattern(self, x):
        return add(x, np.float32(1))

    def rewrite(self, m, x):
        return relu(x)


def test_an_op_twice_is_told_apart_by_name():
    x = graph_input("x", TensorType((2, 3, 4), F32))
    graph = Graph([x], [transpose(transpose(x, perm=(1, 2, 0)), perm=(0, 2, 1))], ["y"])
    before = graph.outputs[0].type
    assert rewrite(graph, [TwoTransposes()]).applied == {"TwoTransposes": 1}
    assert [n.op.perm for n in graph.nodes] == [(1, 0, 2)]
    assert graph.outputs[0].type == before


@pytest.mark.parametrize("swapped", [False, True])
def test_commutative_operands_match_in_either_order(swapped):
    x, c = square(), np.full((2, 2), 3, np.float32)
    graph = Graph([x], [add(c, x) if swapped else add(x, c)], ["y"])
    assert rewrite(graph, [AddConstant()]).changed
    assert ops(graph) == ["const", "sub"]
    assert graph.outputs[0].producer.operands[1].const.tolist() == [[-3, -3], [-3, -3]]


def test_operands_of_other_ops_do_not_swap():
    class SubConstant(AddConstant):
        def pattern(self, x, c):
            return sub(x, const(c))

    graph = Graph([x := square()], [sub(np.ones((2, 2), np.float32), x)], ["y"])
    log = rewrite(graph, [SubConstant()])
    assert not log.changed
    assert list(log.refused.values()) == ["c is not a constant"]


def test_a_rule_may_decline_and_its_reason_is_kept():
    graph = Graph([x := square()], [add(x, np.zeros((2, 2), np.float32), named="sum")], ["y"])
    assert rewrite(graph, [AddConstant()]).refused == {("AddConstant", "sum"): "the constant is zero"}


def test_only_use_guards_against_other_users_and_outputs():
    def build(kind):
        x, y = square("x"), square("y")
        s = add(x, y, named="s")
        return Graph([x, y], [relu(s, named="r"), *{"none": [], "output": [s], "user": [relu(sub(s, x))]}[kind]])

    assert rewrite(build("none"), [ReluOfSum()]).changed
    for kind in ("output", "user"):
        log = rewrite(build(kind), [ReluOfSum()])
        assert not log.changed
        assert log.refused["ReluOfSum", "r"] == "the result of add has other uses"


def test_attributes_are_compared_when_given_and_the_reason_names_both():
    graph = Graph([x := square()], [clip(add(x, x), lo=-1.0, named="c")], ["y"])
    assert rewrite(graph, [ReluOfSum()]).refused["ReluOfSum", "c"] == "clip has lo=-1.0, expected 0.0"


def test_a_variable_twice_is_the_same_value():
    x, y = square("x"), square("y")
    graph = Graph([x, y], [add(x, y, named="xy"), add(x, x, named="xx")])
    log = rewrite(graph, [Doubled()])
    assert log.applied == {"Doubled": 1}
    assert log.refused == {("Doubled", "xy"): "x would be two different values"}


@pytest.mark.parametrize(("value", "matches"), [(1, True), (2, False)])
def test_literals_match_by_value(value, matches):
    graph = Graph([x := square()], [add(x, np.full((2, 1), value, np.float32))], ["y"])
    assert rewrite(graph, [PlusOne()]).changed == matches


def test_source_locations_move_to_the_replacement():
    x = graph_input("x", TensorType((2, 3), F32))
    inner = transpose(x, perm=(1, 0), loc=Loc(("a",)))
    graph = Graph([x], [transpose(inner, perm=(1, 0), loc=Loc(("b",)))], ["y"])
    rewrite(graph, [TwoTransposes()])
    assert graph.outputs[0].producer.loc == Loc(("a", "b"))


def test_a_rule_may_not_change_a_type():
    class Wrong(Rule):
        def pattern(self, x):
            return clip(x)

        def rewrite(self, m, x):
            return reshape(x, shape=(4,))

    with pytest.raises(InvalidGraphError, match="Wrong changes the type"):
        rewrite(Graph([x := square()], [relu(x)], ["y"]), [Wrong()])


def test_rules_that_undo_each_other_come_to_an_end():
    class Swap(Rule):
        def pattern(self, x, y):
            return add(x, y)

        def rewrite(self, m, x, y):
            return add(y, x)

    x, y = square("x"), square("y")
    with pytest.raises(InvalidGraphError, match="Swap does not come to an end"):
        rewrite(Graph([x, y], [add(x, y)], ["z"]), [Swap()])


def test_a_misnamed_attribute_or_variable_is_an_error_of_the_rule():
    class Misspelt(Rule):
        def pattern(self, x):
            return clip(x, low=0.0)

    with pytest.raises(TypeError, match="clip has no attribute low"):
        Misspelt().compiled  # noqa: B018
    graph = Graph([x := graph_input("x", TensorType((2, 3), F32))], [transpose(x, perm=(1, 0))], ["y"])

    class Unnamed(Rule):
        def pattern(self, x):
            return transpose(x)

        def rewrite(self, m, x):
            return m.reshape.value

    with pytest.raises(AttributeError, match="names no reshape; it names transpose"):
        rewrite(graph, [Unnamed()])


class TwoSpellings(Rule):
    """x * 2 or x + x, clipped: at its root, too."""

    def pattern(self, x, c):
        return either(clip(either(mul(x, 2.0), add(x, x)), lo=0.0), relu(sub(x, const(c))))

    def rewrite(self, m, x, c):
        assert (c is None) is ("sub" not in m.nodes)
        return relu(x)


def test_alternatives_match_what_any_of_them_does():
    x = square()
    two, three = np.float32(2), np.float32(3)
    for y in (relu(mul(x, two)), relu(add(x, x)), relu(sub(x, three))):
        changed = graph_of(y)
        rewrite(changed, [TwoSpellings()])
        assert ops(changed) == ["clip"]
    for y in (relu(mul(x, three)), relu(add(x, square("y")))):
        log = rewrite(graph_of(y), [TwoSpellings()])
        assert not log.changed
    assert TwoSpellings().roots == (type(relu(x).producer.op),)


class SamePermutation(Rule):
    """Two transposes by one permutation."""

    def pattern(self, x, perm):
        return transpose(transpose(x, perm=perm), perm=perm)

    def rewrite(self, m, x, perm):
        return x if tuple(perm[i] for i in perm) == (0, 1, 2) else no_match("they do not cancel")


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ((1, 0, 2), (1, 0, 2), None),
        ((1, 2, 0), (1, 2, 0), "they do not cancel"),
        ((1, 2, 0), (2, 0, 1), "transpose has perm=(1, 2, 0), expected (2, 0, 1)"),
    ],
)
def test_an_attribute_that_is_a_variable_is_bound(first, second, why):
    x = graph_input("x", TensorType((3, 3, 3), F32))
    log = rewrite(graph := graph_of(transpose(transpose(x, perm=first), perm=second)), [SamePermutation()])
    assert log.changed is (why is None)
    assert ops(graph) == ([] if why is None else ["transpose"] * 2)
    assert why is None or why in log.refused.values()


class Whole(ReluOfSum):
    whole = True

    def pattern(self, x, y):
        return clip(add(x, y), lo=0.0)


def test_a_whole_pattern_shares_nothing():
    x, y = square("x"), square("y")
    assert rewrite(graph_of(relu(add(x, y))), [Whole()]).changed
    for extra in (lambda s: s, relu, transpose):
        total = add(x, y)
        outputs = [relu(total), extra(total) if extra is not transpose else transpose(total, perm=(1, 0))]
        graph = Graph([x, y], outputs, ["a", "b"])
        merged = rewrite(graph, [Whole()])
        assert not merged.changed
        assert set(merged.refused.values()) == {"the result of add inside has other uses"}
        x, y = square("x"), square("y")


def test_rewriting_may_begin_at_some_nodes():
    x = graph_input("x", TensorType((2, 3), F32))
    pairs = [transpose(transpose(relu(x), perm=(1, 0)), perm=(1, 0)) for _ in range(2)]
    graph = Graph([x], pairs, ["a", "b"])
    assert rewrite(graph, [TwoTransposes()], start=[pairs[1].producer]).applied == {"TwoTransposes": 1}
    assert ops(graph).count("transpose") == 3


def graph_of(y):
    inputs, stack = {}, [y]
    while stack:
        value = stack.pop()
        if value.producer is None:
            inputs[value] = None
        else:
            stack.extend(value.producer.operands)
    return Graph(list(inputs), [y], ["y"])


class LastState(Rule):
    """The state after the only step is the hidden one."""

    def pattern(self, x, w, r, b, h):
        return result(rnn(x, w, r, b, h), 1)

    def rewrite(self, m, x, w, r, b, h):
        (hidden, state) = m.rnn.node.results
        return reshape(hidden, shape=state.type.shape)


class EveryState(NodeRule):
    """The same, of whatever node."""

    root, which = Rnn, 1

    def replacement(self, node):
        return reshape(node.results[0], shape=node.results[1].type.shape)


def layer():
    rows = [np.ones(shape, np.float32) for shape in ((1, 4, 3), (1, 4, 4), (1, 8), (1, 1, 4))]
    return rnn(graph_input("x", TensorType((1, 1, 3), F32)), *rows, loc=Loc(("memory",)))


@pytest.mark.parametrize("rule", [LastState(), EveryState()], ids=lambda rule: rule.title)
def test_a_rule_may_be_about_a_later_result(rule):
    hidden, state = layer()
    graph = Graph([hidden.producer.operands[0]], [relu(state), relu(hidden)], ["last", "all"])
    assert rewrite(graph, [rule]).applied == {rule.title: 1}
    verify(graph)
    assert [n for n in ops(graph) if n != "const"] == ["rnn", "reshape", "clip", "clip"]
    assert not state.uses
    (reshaped,) = (n for n in graph.nodes if n.op.name == "reshape")
    assert reshaped.operands == (hidden,)
    assert reshaped.loc.names == ("memory",)
    # The layer is there still, and a result that nothing uses is replaced by nothing.
    log = rewrite(graph, [rule])
    assert not log.changed
    assert list(log.refused.values()) == ["nothing uses result 1 of rnn"]


def test_a_pattern_on_a_later_result_is_about_no_other():
    class Sliced(Rule):
        def pattern(self, x, w, r, b, h):
            return relu(result(rnn(x, w, r, b, h), 1))

        def rewrite(self, m, x, w, r, b, h):
            return x

    class Late(Sliced):
        def pattern(self, x, w, r, b, h):
            return result(rnn(x, w, r, b, h), 5)

    hidden, state = layer()
    graph = Graph([hidden.producer.operands[0]], [relu(hidden), state], ["all", "last"])
    assert list(rewrite(graph, [Sliced()]).refused.values()) == ["expected result 1 of rnn, found result 0 of rnn"]
    assert list(rewrite(graph, [Late()]).refused.values()) == ["rnn has no result 5"]
    with pytest.raises(TypeError, match="takes an op in a pattern"):
        result(const, 1)


def test_alternatives_are_about_one_result():
    class Either(Rule):
        def pattern(self, x, w, r, b, h):
            return either(rnn(x, w, r, b, h), result(rnn(x, w, r, b, h), 1))

    with pytest.raises(TypeError, match="alternatives that are results 0 and 1"):
        Either().index  # noqa: B018


def test_work_is_linear_in_the_graph(monkeypatch):
    """5,000 pairs of transposes: every node is attempted a bounded number of times, whatever the length."""
    attempts = 0
    attempt = TwoTransposes.attempt

    def counted(self, node):
        nonlocal attempts
        attempts += 1
        return attempt(self, node)

    monkeypatch.setattr(TwoTransposes, "attempt", counted)
    x = value = graph_input("x", TensorType((2, 3), F32))
    for _ in range(5_000):
        value = relu(transpose(transpose(value, perm=(1, 0)), perm=(1, 0)))
    graph = Graph([x], [value], ["y"])
    assert rewrite(graph, [TwoTransposes()]).applied == {"TwoTransposes": 5_000}
    assert attempts <= 3 * 10_000
    verify(graph)


def test_a_constant_replacement_frees_what_computed_it():
    class Zero(Rule):
        def pattern(self, x):
            return sub(x, x)

        def rewrite(self, m, x):
            return np.zeros(m.sub.value.type.shape, np.float32)

    x = square()
    y = relu(x)
    graph = Graph([x], [sub(y, y)], ["y"])
    rewrite(graph, [Zero()])
    assert ops(graph) == ["const"]
    assert not x.uses
    verify(graph)
