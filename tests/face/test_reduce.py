"""What is left of a failing model is small, fails in the same way, and holds none of the model's weights."""

import subprocess
import sys
from dataclasses import dataclass

import hypothesis
import numpy as np
import pytest

import planish as api
from planish.debugging import shrink
from planish.debugging.checks import Check, Contract, Crash, Failure, Trial, parse_check
from planish.debugging.reduce import Budget, reduce
from planish.ir.evaluate import evaluate_by_name
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import Sub, clip, sub
from planish.ir.rewrite import Rule, no_match
from planish.ir.text import print_graph
from planish.ir.verifier import verify
from planish.passes.base import Changes, Pass, RulePass
from planish.passes.pipeline import parse_pipeline
from planish.runtime.data import read
from planish.testing.graphs import graphs

PLUGIN = """
from dataclasses import dataclass
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import clip
from planish.ir.rewrite import Rule, no_match
from planish.passes.base import RulePass

class DropClip(Rule):
    def pattern(self, x, w, b):
        return clip(conv2d(x, w, b))
    def rewrite(self, m, x, w, b):
        return m.conv2d.like(x, w, b)

@dataclass(frozen=True)
class LosesClips(RulePass):
    "Wrong: a clip does something."
    rules = (DropClip(),)
"""


@dataclass(frozen=True)
class SwapsOperands(Pass):
    """Wrong: a difference is not commutative."""

    def run(self, graph, context):
        changes = Changes()
        for node in [n for n in graph.nodes if isinstance(n.op, Sub) and n.operands[0] is not n.operands[1]]:
            a, b = node.operands
            graph.set_operand(node, 0, b)
            graph.set_operand(node, 1, a)
            changes.count("swapped", 1)
        return changes


class TruncatesWeights(Rule):
    """Wrong: half of the weights are lost."""

    def pattern(self, x, w, b):
        return clip(conv2d(x, w, b))

    def rewrite(self, m, x, w, b):
        weights = w.const.copy()
        if not weights.any():
            return no_match("nothing is left to lose")
        weights[:] = 0
        return clip(m.conv2d.like(x, weights, b), lo=m.clip.lo, hi=m.clip.hi)


@dataclass(frozen=True)
class FailsInTwoWays(Pass):
    """A KeyError where there is an `add`, else a TypeError where there is a clip."""

    def run(self, graph, context):
        names = {node.op.name for node in graph.nodes}
        if "add" in names:
            raise KeyError("add")
        if "clip" in names:
            raise TypeError("clip")
        return Changes()


@pytest.fixture(scope="module")
def digits_graph(digits):
    return api.load(digits / "dscnn.onnx", dims={"N": 1})


def trial(graph, *passes):
    return Trial(graph, passes, read("random:-1,1").of(graph, 4))


def kinds(graph):
    return sorted(node.op.name for node in shrink.nodes_of(graph))


def simple():
    return parse_pipeline("simplify,fuse").passes


def test_a_wrong_pass_from_a_file_is_found(planish, digits, tmp_path, digits_graph):
    (tmp_path / "wrong.py").write_text(PLUGIN)
    command = ("debug", "reduce", digits / "dscnn.onnx", "--check", "contract", "--load", tmp_path / "wrong.py")
    done = planish(*command, "--pipeline", "simplify,fuse,loses-clips,layout", "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert (done.json["pipeline"], done.json["failure"]["pass"]) == ("loses-clips", "loses-clips")
    assert done.json["nodes"] <= 4
    assert done.json["complete"]
    assert done.json["original_weights"] == []
    assert done.json["constants_beside"] == []
    (tmp_path / "wrong.py").unlink()  # the folder has all that the test needs
    test = tmp_path / "out/test_repro.py"
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert ran.returncode == 1
    assert "loses-clips breaks its contract EXACT" in ran.stdout
    graph = api.load(tmp_path / "out/repro.planish")
    original = {x for array in digits_graph.constants.values() for x in array.ravel().tolist()}
    assert not original & {x for array in graph.constants.values() for x in array.ravel().tolist() if x}


def test_the_pass_and_the_operation_at_fault_are_left(digits_graph):
    @dataclass(frozen=True)
    class Truncates(RulePass):
        rules = (TruncatesWeights(),)

    found = reduce(trial(digits_graph, *simple(), Truncates(), *simple()), Contract())
    assert [type(p) for p in found.trial.passes] == [Truncates]
    assert kinds(found.trial.graph) == ["clip", "conv2d"]


def test_a_crash_stays_the_same_crash(digits_graph):
    found = reduce(trial(digits_graph, *simple(), FailsInTwoWays()), Crash())
    assert (found.failure.where, found.failure.what) == ("fails-in-two-ways", "KeyError")
    assert kinds(found.trial.graph) == ["add"]
    assert shrink.sizes(found.trial.graph) == []


@dataclass(frozen=True)
class Holds(Check):
    """Fails where a graph holds all of these ops; counts how often it was asked."""

    ops: frozenset[str]
    text: str = "holds"

    def failure(self, trial, seconds):
        verify(trial.graph)
        return Failure("holds", "", "", "") if self.ops <= set(kinds(trial.graph)) else None


@hypothesis.given(graphs(), hypothesis.strategies.data())
def test_two_operations_anywhere_are_all_that_is_left(graph, data):
    present = sorted(set(kinds(graph)))
    ops = frozenset(
        data.draw(hypothesis.strategies.sets(hypothesis.strategies.sampled_from(present), min_size=1, max_size=2))
    )
    found = reduce(trial(graph), Holds(ops))
    assert found.complete
    assert kinds(found.trial.graph) == sorted(ops)
    again = reduce(trial(graph), Holds(ops))
    assert again.checks == found.checks
    assert written(again.trial.graph) == written(found.trial.graph)


def written(graph):
    text, tensors = print_graph(graph)
    return text, {name: array.tobytes() for name, array in tensors.items()}


@hypothesis.given(graphs())
def test_a_swapped_difference_is_found_wherever_it_is(graph):
    y = graph.outputs[0]
    graph.adopt(swapped := sub(y, clip(y, lo=0.25)))
    graph.set_output(0, swapped)
    start = trial(graph, SwapsOperands())
    hypothesis.assume(Contract().failure(start, 10.0) is not None)  # not where the result is above 0.25 anyway
    found = reduce(start, Contract())
    assert kinds(found.trial.graph) == ["sub"]
    assert Contract().failure(found.trial, 10.0).like(found.failure)


def test_accuracy_that_is_lost_is_reduced(digits, digits_graph):
    passes = parse_pipeline("simplify,fuse,quantize{calibration=minmax},fold-quantization").passes
    start = Trial(digits_graph, passes, read(digits / "calib.npz").of(digits_graph, 8))
    found = reduce(start, parse_check("sqnr<38"), Budget(checks=150))
    assert [p.name for p in found.trial.passes] == ["quantize"]
    assert found.nodes < len(shrink.nodes_of(digits_graph)) / 2
    assert parse_check("sqnr<38").failure(found.trial, 10.0) is not None


def test_a_command_decides(planish, digits, tmp_path):
    (tmp_path / "check.py").write_text(
        "import sys\nt = open(sys.argv[1]).read()\nsys.exit(3 if 'reduce_mean(' in t and 'dense(' in t else 0)\n"
    )
    check = f"{sys.executable} {tmp_path / 'check.py'} {{model}}"
    done = planish("debug", "reduce", digits / "dscnn.onnx", "--check", check, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    assert done.json["failure"] == {"kind": "exit", "pass": "", "message": "exit status 3"}
    assert kinds(api.load(tmp_path / "out/repro.planish")) == ["dense", "reduce_mean"]


def test_few_checks_leave_a_larger_model_that_still_fails(digits_graph):
    found = reduce(trial(digits_graph, *simple(), FailsInTwoWays()), Crash(), Budget(checks=4))
    assert not found.complete
    assert found.checks == 4
    assert found.failure.like(Crash().failure(found.trial, 10.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--check", "contract"], "does not fail the check 'contract'"),
        (["--check", "sqnr<x"], "'x' is no number"),
        (["--check", " "], "--check says nothing"),
        (["--check", "'"], "is not understood"),
        (["--check", "/nowhere/program"], "cannot be run"),
    ],
)
def test_what_cannot_be_reduced(planish, digits, tmp_path, options, said):
    done = planish("debug", "reduce", digits / "dscnn.onnx", *options, "-o", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not list(tmp_path.iterdir())


@hypothesis.given(graphs())
def test_variants_are_legal_and_compute_what_they_did(graph):
    graph = shrink.uniquely_named(graph)
    sample = {"x": np.full(graph.inputs[0].type.shape, 0.5, np.float32)}
    values = {}
    evaluate_by_name(
        graph, sample, lambda node, results: values.update(zip((v.name for v in node.results), results, strict=True))
    )
    values.update(sample)
    nodes = shrink.nodes_of(graph)
    for part in (nodes[: len(nodes) // 2], nodes[len(nodes) // 2 :], nodes[::2]):
        smaller = shrink.only(graph, part)
        if smaller is None:
            continue
        verify(smaller)
        for name, array in api.run(smaller, {v.name: values[v.name] for v in smaller.inputs}).items():
            np.testing.assert_array_equal(array, values[name])
    for variant in (
        *(v for i in range(len(nodes)) for v in shrink.bypassed(graph, i)),
        shrink.without_output(graph, 0),
    ):
        if variant is not None:
            verify(variant)
            assert len(shrink.nodes_of(variant)) < len(nodes)
            names = [v.name for n in variant.nodes for v in n.results]
            assert len(set(names)) == len(names)
    for old in shrink.sizes(graph):
        if (variant := shrink.resized(graph, old, 1)) is not None:
            verify(variant)
            assert shrink.volume(variant) < shrink.volume(graph)
