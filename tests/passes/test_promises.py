"""What every pass promises beside its contract, and what is said of passes and rules that cannot work."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

import hypothesis
import numpy as np
import pytest
from hypothesis import given

from planish.ir.errors import InvalidGraphError
from planish.ir.graph import Graph
from planish.ir.ops.conv import conv2d
from planish.ir.ops.elementwise import add, clip, mul, relu, sub
from planish.ir.ops.norm import batch_norm
from planish.ir.ops.quant import quantize
from planish.ir.ops.shape import concat, transpose
from planish.ir.pattern import const, only_use
from planish.ir.rewrite import Rule, rewrite
from planish.ir.text import print_graph
from planish.ir.types import NCHW
from planish.passes.base import Changes, Pass, RulePass
from planish.passes.fuse import Fuse, affine_after
from planish.passes.pipeline import run_pipeline
from planish.passes.simplify import Simplify
from planish.runtime.contracts import EXACT, REASSOCIATING, Contract
from planish.testing import Counterexample, check_rule, graphs
from planish.testing.counterexample import size
from tests.support.passes import graph_of, x_input

ROOT = Path(__file__).parents[2]
CASES = hypothesis.settings(max_examples=200, derandomize=True, phases=(hypothesis.Phase.generate,))

EVERY_PASS = f"""
import hashlib, sys
import planish
from planish.ir.text import print_graph
graph = planish.load({str(ROOT / "examples/digits/dscnn.onnx")!r}, dims={{"N": 1}})
data = planish.data({str(ROOT / "examples/digits/calib.npz")!r})
pipeline = "simplify,fuse,quantize,fold-quantization,layout,simplify,group"
text, tensors = print_graph(planish.optimize(graph, pipeline, calibration=data))
digest = hashlib.sha256(text.encode())
for name in sorted(tensors):
    digest.update(name.encode() + tensors[name].tobytes())
print(digest.hexdigest())
"""


def test_the_same_text_comes_out_whatever_the_seed_of_hashes():
    digests = set()
    for seed in ("0", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", EVERY_PASS], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(run.stdout.strip())
    assert len(digests) == 1
    assert all(len(d) == hashlib.sha256().digest_size * 2 for d in digests)


@given(graphs(4, 4))
def test_pipelines_of_exact_and_reassociating_passes_are_done_after_one_run(graph):
    """Each pass alone is held to that by `check_pass`; so is what they do for each other."""
    once = run_pipeline(graph, "simplify,fuse,simplify,layout,simplify").graph
    again = run_pipeline(once, "simplify,fuse,simplify,layout,simplify")
    assert not any(step.changes for step in again.steps), [step.changes.applied for step in again.steps]


# ---- work


def block(value, channels, random):
    """Convolution, batch norm, relu, and the movements that exporters leave."""

    def real(*shape):
        return random.uniform(0.5, 1, shape).astype(np.float32)

    value = conv2d(value, real(channels, channels, 1, 1), real(channels))
    value = relu(batch_norm(value, *(real(channels) for _ in range(4))))
    value = transpose(transpose(value, perm=(0, 2, 3, 1)), perm=(0, 3, 1, 2))
    return mul(add(value, np.float32(0)), np.float32(1))


@pytest.mark.parametrize("applied", [Simplify(), Fuse()], ids=str)
def test_attempts_grow_with_the_graph(applied):
    """Rules are tried so many times per node, whether there are 50 blocks or 200."""
    attempts = Counter()

    def attempted(blocks):
        random, x = np.random.default_rng(0), x_input(1, 2, 2, 2)
        value = x
        for _ in range(blocks):
            value = block(value, 2, random)
        graph, attempt = Graph([x], [value], ["y"]), Rule.attempt

        def counted(self, node):
            attempts[blocks] += 1
            return attempt(self, node)

        with patch.object(Rule, "attempt", counted):
            result = run_pipeline(graph, [applied])
        assert result.steps[0].changes.applied.total() >= blocks

    for blocks in (50, 100, 200):
        attempted(blocks)
    assert attempts[50] >= 50
    assert attempts[100] <= 2.1 * attempts[50]
    assert attempts[200] <= 2.1 * attempts[100]


# ---- batch norm without epsilon


class ForgetsEpsilon(Rule):
    """A fold that float tolerances of 1e-5 would let pass."""

    contract = REASSOCIATING

    def pattern(self, x, w, b, scale, shift, mean, var):
        layer = only_use(conv2d(x, const(w), const(b)))
        return batch_norm(layer, const(scale), const(shift), const(mean), const(var), epsilon=1e-5, layout=NCHW)

    def rewrite(self, m, x, w, b, scale, shift, mean, var):
        k = scale / np.sqrt(var)
        return affine_after(m.conv2d, x, w, b, k, shift - mean * k)


def test_a_fold_that_forgets_epsilon_is_caught_where_no_tolerance_is():
    with pytest.raises(Counterexample) as caught:
        check_rule(ForgetsEpsilon(), settings=CASES)
    assert caught.value.failure.kind == "exact mode: not equal"
    assert size(caught.value.graph) == 2


# ---- passes and rules that cannot work


def refused(graph, passes, *words):
    """Run passes that must fail: the error has these words, and the graph that was given is as it was."""
    before = print_graph(graph)[0]
    with pytest.raises(InvalidGraphError) as caught:
        run_pipeline(graph, passes)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert print_graph(graph)[0] == before


class Swapped(Rule):
    """x - y is x + (-1) y."""

    def pattern(self, x, y):
        return sub(x, y)

    def rewrite(self, m, x, y):
        return add(x, mul(y, np.float32(-1)))


class SwappedBack(Rule):
    """And the other way round."""

    def pattern(self, x, y):
        return add(x, mul(y, np.float32(-1)))

    def rewrite(self, m, x, y):
        return sub(x, y)


class Grows(Rule):
    """A relu more each time."""

    def pattern(self, x):
        return clip(x, lo=0.0)

    def rewrite(self, m, x):
        return relu(relu(x))


def of(*wrong):
    @dataclass(frozen=True)
    class Looping(RulePass):
        """Never done."""

        rules: ClassVar = wrong

    return Looping()


def test_rules_that_undo_each_other_are_both_named():
    graph = graph_of(sub(x_input(2), x_input(2)))
    refused(
        graph, [of(Swapped(), SwappedBack())], "undo each other", "Swapped", "SwappedBack", "in pass looping", "at: "
    )


def test_a_rule_that_makes_work_for_itself_is_named():
    refused(graph_of(relu(x_input(2))), [of(Grows())], "rule Grows does not come to an end", "clip", "in pass looping")


@dataclass(frozen=True)
class Grower(Pass):
    """Adds nodes for ever."""

    contract: ClassVar[Contract] = EXACT

    def run(self, graph, context):
        while True:
            graph.adopt(relu(graph.outputs[0]))


@dataclass(frozen=True)
class Wanderer(Pass):
    """Takes the last node out and puts another one in, for ever."""

    contract: ClassVar[Contract] = EXACT

    def run(self, graph, context):
        while True:
            old = graph.outputs[0]
            new = graph.adopt(relu(old.producer.operands[0]))[-1].result
            graph.replace(old, new)
            graph.erase(old.producer)


@dataclass(frozen=True)
class Breaks(Pass):
    """Leaves a node whose type is wrong."""

    def run(self, graph, context):
        node = next(n for n in graph.nodes if n.op.name == "clip")
        node.result.type = node.result.type.with_shape((7,))
        return Changes()


def test_a_pass_that_never_stops_adding_is_stopped():
    refused(graph_of(relu(x_input(2))), [Grower()], "the graph grows beyond", "clip(f32[2])", "in pass grower")


def test_a_pass_that_never_stops_changing_is_stopped():
    refused(graph_of(relu(x_input(2))), [Wanderer()], "changed over and over", "clip(f32[2])", "in pass wanderer")


def test_a_pass_that_breaks_a_rule_of_the_graph_is_named_with_the_node():
    refused(graph_of(relu(x_input(2))), [Breaks()], "in pass breaks", "clip(f32[2])")


def pattern_of(build):
    class Impossible(Rule):
        """Cannot match."""

        def pattern(self, x, y):
            return build(x, y)

        def rewrite(self, m, x, y=None):
            return x

    return Impossible()


@pytest.mark.parametrize(("build", "complaint"), [
    (clip, "clip never has 2 operands"),
    (lambda x, y: sub(x), "sub never has 1 operands"),
    (lambda x, y: transpose(x, perm=[1, 0]), r"perm of transpose is never \[1, 0\]"),
    (lambda x, y: conv2d(x, y, y, strides=2), "strides of conv2d is never 2"),
    (lambda x, y: conv2d(x, y, y, strides=(1, 1, 1)), "strides of conv2d is never"),
    (lambda x, y: conv2d(x, y, y, layout="NHWC"), "layout of conv2d is never 'NHWC'"),
    (lambda x, y: clip(x, lo=float("nan")), "lo of clip is never nan"),
    (lambda x, y: concat(x, y, axes=1), "concat has no attribute axes"),
])  # fmt: skip
def test_a_pattern_that_no_op_has_is_refused_when_it_is_written(build, complaint):
    with pytest.raises(TypeError, match=complaint):
        rewrite(graph_of(relu(x_input(2))), [pattern_of(build)])


def test_patterns_with_values_that_only_look_odd_are_taken():
    for build in (
        lambda x, y: add(clip(x, lo=0), y),
        lambda x, y: concat(x, y, x, y),
        lambda x, y: conv2d(x, y, y, groups=1),
    ):
        assert pattern_of(build).compiled


class QuantizedTwice(Rule):
    """Quantizes integers, which no op does."""

    def pattern(self, x, scale, zero):
        return quantize(quantize(x, const(scale), const(zero), as_="inner"), const(scale), const(zero), as_="outer")

    def rewrite(self, m, x, scale, zero):
        return m.inner.value


def test_a_pattern_that_contradicts_itself_is_told_with_the_reason():
    with pytest.raises(AssertionError, match=r"changed none of \d+ graphs\n  \d+ times: quantize takes floats"):
        check_rule(QuantizedTwice(), settings=hypothesis.settings(CASES, max_examples=20))
