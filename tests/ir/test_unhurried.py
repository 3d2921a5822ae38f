"""The checks of `planish.testing` hold on a machine however busy it is, and under any profile of hypothesis."""

import ast
from datetime import timedelta
from pathlib import Path

import hypothesis
import pytest

import planish.testing
from planish.ir.ops.elementwise import Add
from planish.passes.simplify.data_movement import TransposeOfTranspose
from planish.testing import check_op, check_quantized, check_rule
from planish.testing.draw import unhurried


@pytest.fixture
def hurried():
    """A profile under which every example is late."""
    before = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.register_profile(
        "hurried", deadline=timedelta(microseconds=1), max_examples=3, database=None, derandomize=True
    )
    hypothesis.settings.load_profile("hurried")
    yield
    hypothesis.settings.load_profile(before)


@pytest.mark.parametrize(
    "check",
    [lambda: check_op(Add), lambda: check_quantized(Add), lambda: check_rule(TransposeOfTranspose())],
    ids=["op", "quantized", "rule"],
)
def test_a_check_has_no_deadline(hurried, check):
    check()


def test_examples_may_take_their_time():
    assert hypothesis.HealthCheck.too_slow in unhurried().suppress_health_check
    assert unhurried(hypothesis.settings(deadline=1)).deadline is None


def hurried_tests(tree):
    """Functions that hypothesis calls, under the settings of whoever runs them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = [ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list]
            if "given" in decorators and "unhurried" not in decorators:
                yield node.name


def test_none_of_them_has():
    sources = sorted(Path(planish.testing.__file__).parent.glob("*.py"))
    assert {s.name: found for s in sources if (found := list(hurried_tests(ast.parse(s.read_text()))))} == {}
    assert list(hurried_tests(ast.parse("@given(st.data())\ndef run(data): pass"))) == ["run"]
