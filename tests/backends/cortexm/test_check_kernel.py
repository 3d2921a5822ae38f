"""`check_kernel`: the public check that compiles an op's examples for a target and runs them."""

from dataclasses import replace

import pytest

from planish.ir.ops.conv import Conv2d
from planish.ir.ops.elementwise import Clip
from planish.ir.ops.quant import Rescale
from planish.ir.ops.unary import Tanh
from planish.registry import target_named
from planish.runtime.target import Need
from planish.testing import check_kernel


@pytest.fixture
def target(require_tool):
    require_tool("cc")
    return target_named("c")


@pytest.mark.parametrize("op", [Conv2d, Rescale, Tanh], ids=lambda op: op.name)
def test_the_host_computes_what_ops_mean(op, target):
    assert check_kernel(target, op, programs=1) > 0


def test_a_wrong_result_is_told(target, monkeypatch):
    honest = target.run
    monkeypatch.setattr(target, "run", lambda artifact, inputs: shifted(honest(artifact, inputs)))
    with pytest.raises(AssertionError, match=r"c: \d+ elements differ.*\ngraph @counterexample"):
        check_kernel(target, Clip, programs=1)


def test_what_cannot_run_here_runs_nothing(target, monkeypatch):
    monkeypatch.setattr(target, "needs", lambda: [Need("a compiler", False, "install one")])
    assert check_kernel(target, Clip) == 0


def shifted(execution):
    return replace(execution, outputs={name: array + 1 for name, array in execution.outputs.items()})
