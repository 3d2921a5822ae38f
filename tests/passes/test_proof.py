"""Every pass and rule against its contract on generated graphs, and deliberately wrong ones that must be caught."""

import os
import re
from dataclasses import asdict

import hypothesis
import numpy as np
import pytest
from hypothesis import given

from planish.ir.equality import same
from planish.ir.evaluate import evaluate
from planish.ir.op import Op
from planish.ir.ops import BUILT_IN
from planish.ir.ops.elementwise import add, mul
from planish.ir.pattern import Either, OpPattern, const
from planish.ir.rewrite import NodeRule, Rule, no_match
from planish.ir.text import parse_graph
from planish.ir.types import Sym
from planish.ir.verifier import verify
from planish.passes import PASSES, pass_named
from planish.passes.dead_channels import DeadChannels
from planish.passes.decompose import Decompose
from planish.passes.dequantize_constants import DequantizeConstants
from planish.passes.fold_quantization import FoldQuantization
from planish.passes.fuse import Fuse
from planish.passes.group import Group
from planish.passes.layout import Layout
from planish.passes.pipeline import run_pipeline
from planish.passes.quantize import Quantize
from planish.passes.simplify import Simplify
from planish.passes.widen import Widen
from planish.runtime.contracts import REASSOCIATING, Promise
from planish.testing import (
    Counterexample,
    Unchanged,
    check_pass,
    check_rule,
    graphs,
    graphs_with,
    graphs_with_dead_channels,
    quantized_graphs,
    rescaled_twins,
)
from planish.testing.contracts import outcome, samples
from planish.testing.counterexample import size
from tests.passes.mutants import MUTANTS
from tests.support.passes import halved

PROOF = os.environ.get("PLANISH_PROFILE") == "proof"


def of_op(op):
    """A rule that looks for this op, for graphs that contain it."""
    return type(op.__name__, (NodeRule,), {"root": op})()


#: A mutant must be caught within so many examples; the same ones each time, so that it is or is not.
CAUGHT_WITHIN = hypothesis.settings(
    max_examples=200, derandomize=True, database=None, deadline=None, phases=(hypothesis.Phase.generate,)
)

#: What is drawn now and then is found long before so many examples.
SOME = hypothesis.settings(CAUGHT_WITHIN, max_examples=2000)

#: Graphs for each pass. Of these a pass that must be equal in exact mode changes at least `PROVEN`.
CONTRACT = hypothesis.settings(max_examples=2000) if PROOF else hypothesis.settings()
PROVEN = 500

CHECKED = [
    Simplify(), Fuse(), Layout(), Layout("nchw"), Decompose(), Group(), Quantize(calibration="minmax"),
    FoldQuantization(), DequantizeConstants(), DeadChannels(), Widen(),
]  # fmt: skip
#: Composite ops in the midst of networks.
COMPOSITES = graphs_with([of_op(op) for op in BUILT_IN if op.definition is not Op.definition])


#: What is drawn for passes that find nothing to do in networks as they are.
DRAWN = {
    Layout("nchw"): graphs(4, 4).map(lambda g: run_pipeline(g, "layout").graph),
    Decompose(): COMPOSITES,
    DequantizeConstants(): quantized_graphs(folded=False),
    DeadChannels(): graphs_with_dead_channels(),
    Widen(): graphs(4, 4).map(halved),
}


def test_no_pass_is_forgotten():
    assert {type(p) for p in CHECKED} == set(PASSES)


@pytest.fixture
def noted(record_property):
    """Writes what was counted into the test report, of which bench/proof.py makes a page."""

    def note(tally):
        for name, count in asdict(tally).items():
            record_property(name, count)
        return tally

    return note


@pytest.mark.parametrize("applied", CHECKED, ids=str)
def test_contract(applied, noted):
    tally = noted(check_pass(applied, DRAWN.get(applied), CONTRACT))
    if PROOF and applied.contract.promise is Promise.REASSOCIATING:
        assert tally.proven >= PROVEN, "graphs on which the pass did something, and was equal in exact mode"


@pytest.mark.parametrize("applied", [Simplify(), Layout(), Group()], ids=str)
def test_contract_on_integers(applied, noted):
    noted(check_pass(applied, quantized_graphs()))


def test_folding_quantization_is_within_a_step(noted):
    noted(check_pass(FoldQuantization(), quantized_graphs(folded=False)))


@pytest.mark.parametrize("applied", [Simplify(), Fuse()], ids=str)
def test_contract_for_any_batch(applied, noted):
    noted(check_pass(applied, graphs_with(applied.rules, 3, symbolic=True)))


RULES = {rule.title: (rule, p.contract) for p in CHECKED for rule in p.rules}


@pytest.mark.parametrize("title", RULES)
def test_rules(title, noted):
    """Each fires on graphs that are drawn for it; one that seldom does needs `Rule.examples`."""
    rule, contract = RULES[title]
    few = hypothesis.settings().max_examples
    try:
        tally = check_rule(rule, contract)
    except Unchanged:
        tally = None
    if tally is None or tally.proven < max(1, few // 50):  # by bad luck with few, but not with more
        tally = check_rule(rule, contract, hypothesis.settings(max_examples=max(100, few)))
    noted(tally)
    assert tally.proven >= max(1, tally.drawn // 50)


@pytest.mark.parametrize(
    ("name", "mutant"),
    [pytest.param(n, m, id=f"{n}-{i}-{m.name}") for n, ms in MUTANTS.items() for i, m in enumerate(ms)],
)
def test_mutants_are_caught(name, mutant, record_property):
    drawn = {"fold-quantization": quantized_graphs(folded=False)}.get(name, DRAWN.get(pass_named(name)()))
    with pytest.raises(Counterexample) as caught:
        check_pass(mutant, drawn, CAUGHT_WITHIN)
    text = str(caught.value)
    graph = parse_graph(text[text.index("graph @") : text.index("\n}\n") + 3])
    record_property("examples", caught.value.drawn)
    record_property("nodes", size(graph))
    needed = [getattr(mutant, "smallest", 0), *(len(nodes_for(rule.compiled)) for rule in mutant.rules)]
    assert size(graph) <= max(6, *needed)
    assert outcome(mutant, graph).failure is not None, "what is printed fails when it is pasted"


def nodes_for(pattern):
    """The nodes that a pattern matches at most: of spellings the longest, for a counterexample stays in its own."""
    match pattern:
        case Either(alternatives):
            return max(map(nodes_for, alternatives), key=len)
        case OpPattern():
            return {pattern}.union(*map(nodes_for, pattern.operands))
    return set()


def test_every_pass_has_a_mutant():
    assert set(MUTANTS) == {p.name for p in PASSES}


class NotNeutral(Rule):
    """x * c is x + c."""

    contract = REASSOCIATING

    def pattern(self, x, c):
        return mul(x, const(c))

    def rewrite(self, m, x, c):
        return add(x, c)


def test_the_counterexample_reads_well():
    with pytest.raises(AssertionError) as caught:
        check_rule(NotNeutral(), settings=CAUGHT_WITHIN)
    assert re.fullmatch(
        r"NotNeutral: counterexample after \d+ examples?, reduced to 1 node "
        r"\(contract REASSOCIATING, exact mode: not equal\):\n"
        r"graph @\w+\(%\w+: f32\[.*\]\) -> \(.*\) \{\n(  .*\n)+\}\n"
        r"before: -?[\d/]+   after: -?[\d/]+   first difference at %\w+\[[\d,]*\]; the pass did: NotNeutral x1",
        str(caught.value),
    ), str(caught.value)


class NeverLikesIt(NotNeutral):
    """Declines whatever it is given."""

    def rewrite(self, m, x, c):
        return no_match("not this one")


def test_a_rule_that_never_fires_is_told():
    with pytest.raises(AssertionError, match=r"NeverLikesIt changed none of 200 graphs\n  \d+ times: not this one"):
        check_rule(NeverLikesIt(), settings=CAUGHT_WITHIN)


@given(graphs(symbolic=True))
def test_drawn_graphs_verify(graph):
    verify(graph)
    for sample in samples(graph):
        evaluate(graph, [sample[v.name] for v in graph.inputs])


def shared(values):
    return any(len(v.users) > 1 for v in values)


DRAWN_NOW_AND_THEN = {
    "a branch": lambda g: shared(v for n in g.nodes for v in n.results if v.const is None),
    "shared weights": lambda g: shared(v for v in g.constants if v.type.rank == 4),
    "any batch": lambda g: any(isinstance(v.type.shape[0], Sym) for v in g.inputs),
    "two outputs": lambda g: len(g.outputs) == 2,
    **{name: lambda g, name=name: name in {n.op.name for n in g.nodes}
       for name in ("add", "concat", "conv2d", "dense", "slice")},
}  # fmt: skip


@pytest.mark.parametrize("what", DRAWN_NOW_AND_THEN)
def test_drawn_graphs_have_everything(what):
    hypothesis.find(graphs(symbolic=True), DRAWN_NOW_AND_THEN[what], settings=SOME)


@given(rescaled_twins())
def test_rescaled_twins_compute_the_same_bits(twins):
    original, twin = twins
    verify(twin)
    for sample in samples(original):
        inputs = [sample[v.name] for v in original.inputs]
        for a, b in zip(evaluate(original, inputs), evaluate(twin, inputs), strict=True):
            assert np.array_equal(a, b)


def test_rescaled_twins_are_not_copies():
    hypothesis.find(rescaled_twins(), lambda twins: not same(*twins), settings=SOME)
