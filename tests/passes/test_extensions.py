"""Passes, ops and targets of other packages: found by their entry points, without touching the tree."""

import sys
import tomllib
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import pytest

from planish.ir.errors import UsageError
from planish.ir.evaluate import evaluate
from planish.ir.extensions import look_again
from planish.ir.ops import all_ops, op_named
from planish.ir.ops.elementwise import sub
from planish.ir.text import parse_graph
from planish.passes import all_passes, pass_named
from planish.passes.pipeline import run_pipeline
from planish.passes.validation import Validation
from planish.registry import target_named
from planish.testing import check_op, check_pass
from tests.support.passes import graph_of, reals, x_input
from tests.support.passes import ops as names

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_pass"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(entry points, folder)`: what `pip install` would leave of a package."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(points, code):
        metadata = tmp_path / "other-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        groups = (
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in points.items()
        )
        (metadata / "entry_points.txt").write_text("\n".join(groups))
        for name, text in code.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        invalidate_caches()
        look_again()

    yield install
    look_again()


@pytest.fixture
def example(installed):
    points = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    installed(points, {"subtract_once": (EXAMPLE / "subtract_once.py").read_text()})


def test_the_example_has_syntax_validation_and_proof(example):
    x = x_input(2, 3)
    graph = graph_of(sub(sub(x, reals(3)), reals(1)))
    validation = Validation()
    result = run_pipeline(graph, "simplify,subtract-once", listeners=[validation])
    assert names(result.graph) == ["sub"]
    assert [f.applied for f in validation.findings] == ["subtract-once"]
    check_pass(pass_named("subtract-once")())


def test_the_example_is_listed(example):
    assert "subtract-once" in [p.name for p in all_passes()]
    assert len((EXAMPLE / "subtract_once.py").read_text().splitlines()) < 40


OP = '''
from planish.ir.op import Instance, op
from planish.ir.ops.unary import Unary
from planish.ir.types import F32

@op
class Twice(Unary):
    """x + x."""

    def ref(self, x):
        return x + x

    @staticmethod
    def examples(draw):
        return Instance.of(Twice(), draw.array(draw.shape(), F32, -10, 10))
'''


def test_an_op_of_another_package_is_read_run_and_checked(installed):
    installed({"planish.ops": {"twice": "other_ops:Twice"}}, {"other_ops": OP})
    graph = parse_graph("graph @g(%x: f32[2]) -> (f32[2]) {\n  %y = twice(%x) : f32[2]\n  return %y\n}\n")
    assert evaluate(graph, [np.array([1, 2], np.float32)])[0].tolist() == [2, 4]
    assert op_named("twice") in all_ops()
    check_op(op_named("twice"))


TARGET = '''
from planish.backends.c.target import CTarget

class Other(CTarget):
    """A board of one's own."""

    def __init__(self, name):
        super().__init__("cortex-m4")
        self.name = name
'''


def test_a_target_of_another_package(installed):
    installed({"planish.targets": {"my-board": "other_target:Other"}}, {"other_target": TARGET})
    assert target_named("my-board").name == "my-board"


@pytest.mark.parametrize(
    ("value", "code", "complaint"),
    [
        ("broken:Pass", "import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("broken:Missing", "", "cannot be imported: AttributeError"),
        ("broken:Thing", "class Thing: pass", "is no Pass"),
        ("planish.passes.fuse:Fuse", "", "is called fuse itself"),
    ],
)
def test_what_is_wrong_with_an_extension_is_told(installed, value, code, complaint):
    installed({"planish.passes": {"other": value}}, {"broken": code})
    with pytest.raises(UsageError, match=complaint):
        pass_named("other")


def test_an_extension_cannot_take_a_name_of_ours(installed):
    code = "from planish.passes.base import Pass\nclass Simplify(Pass): pass\n"
    installed({"planish.passes": {"simplify": "impostor:Simplify"}}, {"impostor": code})
    assert pass_named("simplify").__module__.startswith("planish.")
    with pytest.raises(UsageError, match="that name is taken in planish"):
        all_passes()
