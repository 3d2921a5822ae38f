"""Passes, ops and targets of other packages: found by their entry points, without touching the tree."""

import json
import sys
import tomllib
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from planish import api
from planish.frontends.onnx.adapters import adapter_for
from planish.ir.errors import UnsupportedError, UsageError
from planish.ir.evaluate import evaluate
from planish.ir.extensions import _installed
from planish.ir.ops import all_ops, op_named
from planish.ir.ops.elementwise import add, sub
from planish.ir.ops.unary import abs_, exp
from planish.ir.text import parse_graph
from planish.passes import all_passes, pass_named
from planish.passes.pipeline import run_pipeline
from planish.passes.validation import Validation
from planish.registry import target_named
from planish.testing import check_kernel, check_op, check_package, check_pass, check_rule
from tests.support.passes import graph_of, reals, x_input
from tests.support.passes import ops as names

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_pass"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(entry points, folder)`: what `pip install` would leave of a package."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(points, code, package="other"):
        metadata = tmp_path / f"{package}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        groups = (
            f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in points.items()
        )
        (metadata / "entry_points.txt").write_text("\n".join(groups))
        for name, text in code.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        invalidate_caches()
        _installed.cache_clear()

    yield install
    _installed.cache_clear()


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
import planish.extending as px

@px.op
class Twice(px.Unary):
    """x + x."""

    def ref(self, x):
        return x + x

    @staticmethod
    def examples(draw):
        return px.Instance.of(Twice(), draw.array(draw.shape(), px.F32, -10, 10))

def read(node):
    return px.builder(Twice)(node.value(0))

def write(site, op, x):
    return site.emit("Add", x, x)

def element(op, operands):
    return operands[0].expr + operands[0].expr
'''
GRAPH = "graph @g(%x: f32[2]) -> (f32[2]) {\n  %y = twice(%x) : f32[2]\n  return %y\n}\n"


@pytest.fixture
def twice(installed):
    """A package with an op in all its forms."""
    points = {"ops": "Twice", "exporters": "write", "elements": "element"}
    groups = {f"planish.{group}": {"twice": f"other_ops:{name}"} for group, name in points.items()}
    installed({**groups, "planish.importers": {"com.example.Twice": "other_ops:read"}}, {"other_ops": OP})


def test_an_op_of_another_package_is_read_run_and_checked(twice):
    graph = parse_graph(GRAPH)
    assert evaluate(graph, [np.array([1, 2], np.float32)])[0].tolist() == [2, 4]
    assert op_named("twice") in all_ops()
    check_op(op_named("twice"))


def test_its_expression_is_compiled(twice, require_tool):
    require_tool("cc")
    assert check_kernel(target_named("c"), op_named("twice"), programs=1) > 0


def test_its_onnx_form_is_written_and_its_operator_read(twice, tmp_path):
    compiled = api.compile(parse_graph(GRAPH), target="onnx", out=tmp_path / "out", name="g")
    assert [node.op_type for node in onnx.load(next(compiled.path.glob("*.onnx"))).graph.node] == ["Add"]
    assert names(api.load(model_of(tmp_path, "com.example", "Twice"))) == ["twice"]
    with pytest.raises(UnsupportedError, match=r"of domain .com\.example. planish takes Twice;"):
        api.load(model_of(tmp_path, "com.example", "Thrice"))
    with pytest.raises(UnsupportedError):  # a dot is no way into another domain
        api.load(model_of(tmp_path, "", "com.example.Twice"))


def model_of(folder, domain, operator):
    """An ONNX model of one node."""
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], domain=domain)], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    path = folder / f"{domain or 'onnx'}.{operator}.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
    return path


TARGET = '''
import planish.extending as px

class Other(px.CTarget):
    """A board of one's own."""

    def __init__(self, name):
        super().__init__("c")
        self.name = name

class Nameless(px.CortexMTarget):
    pass

class Failing(px.CTarget):
    def __init__(self, name):
        raise RuntimeError("no licence")
'''


def test_a_target_of_another_package_is_found_listed_and_suggested(installed, planish):
    installed({"planish.targets": {"my-board": "other_target:Other"}}, {"other_target": TARGET})
    assert target_named("my-board").name == "my-board"
    listed = {row["name"]: row for row in json.loads(planish("--json", "targets").out)["targets"]}
    assert listed["my-board"]["package"] == "other"
    assert listed["c"]["package"] == ""
    with pytest.raises(UsageError, match=r"did you mean my-board\?"):
        target_named("my-bord")


@pytest.mark.parametrize(
    ("name", "complaint"), [("Nameless", "KeyError"), ("Failing", "no licence"), ("Absent", "AttributeError")]
)
def test_a_broken_target_is_told_and_the_others_are_listed(installed, planish, name, complaint):
    installed({"planish.targets": {"bad": f"other_target:{name}"}}, {"other_target": TARGET})
    with pytest.raises(UsageError, match=complaint) as caught:
        target_named("bad")
    assert "package other" in caught.value.what
    assert "pip uninstall other" in caught.value.fix
    done = planish("targets")
    assert done.code == 0
    assert "cortex-m4" in done.out
    assert "package other" in done.err


KERNEL = """
import planish.extending as px
from planish.ir.ops.elementwise import Add
from planish.backends.loops.kernels.elementwise import Elementwise

class Mine(px.LoopKernel):
    name, ops, targets = "mine", (Add,), ("c", "cortex-m3")

    def write(self, group, code):
        Elementwise().write(group, code)

class Nowhere(Mine):
    name, targets = "nowhere", ()

class Impostor(Mine):
    name = "elementwise"
"""


def kernel_of(target):
    x = x_input(2, 3)
    return target_named(target).choices()[next(iter(graph_of(add(x, x)).nodes))].kernel.name


def test_a_kernel_of_another_package_is_asked_first_where_it_says(installed):
    installed({"planish.kernels": {"mine": "other_kernel:Mine"}}, {"other_kernel": KERNEL})
    assert [kernel_of(name) for name in ("c", "cortex-m3", "cortex-m4")] == ["mine", "mine", "elementwise"]


@pytest.mark.parametrize(
    ("name", "complaint"), [("Nowhere", "does not say for which targets"), ("Impostor", "that name is taken")]
)
def test_a_kernel_that_cannot_be_taken(installed, name, complaint):
    entry = {"Nowhere": "nowhere", "Impostor": "elementwise"}[name]
    installed({"planish.kernels": {entry: f"other_kernel:{name}"}}, {"other_kernel": KERNEL})
    with pytest.raises(UsageError, match=complaint):
        kernel_of("c")


RULES = '''
import planish.extending as px
from planish.ir.ops.unary import abs_, exp

class ExpIsPositive(px.Rule):
    """|e^x| is e^x."""

    def pattern(self, x):
        return abs_(exp(x))

    def rewrite(self, m, x):
        return exp(x)

class Loose(ExpIsPositive):
    contract = px.APPROXIMATE

RULES, LOOSE, NONE, TWICE = (ExpIsPositive(),), (Loose(),), ("no rule",), (ExpIsPositive(), ExpIsPositive())
'''


@pytest.mark.parametrize("into", ["simplify", "fuse"])
def test_a_rule_of_another_package_joins_the_pass_that_it_names(installed, planish, into):
    x = x_input(2, 3)
    assert names(run_pipeline(graph_of(abs_(exp(x))), into).graph) == ["exp", "abs"]
    installed({"planish.rules": {into: "other_rules:RULES"}}, {"other_rules": RULES})
    x = x_input(2, 3)
    assert names(run_pipeline(graph_of(abs_(exp(x))), into).graph) == ["exp"]
    listed = {row["name"]: row for row in json.loads(planish("--json", "passes").out)["passes"]}
    assert "ExpIsPositive" in listed[into]["rules"]
    check_rule(pass_named(into).joined()[0])


@pytest.mark.parametrize(
    ("into", "name", "complaint"),
    [
        ("simplfy", "RULES", "there is no pass of that name"),
        ("layout", "RULES", "has no rules that others could join"),
        ("simplify", "LOOSE", "Loose is APPROXIMATE, while simplify promises EXACT"),
        ("simplify", "NONE", "is no rule"),
        ("simplify", "TWICE", "another rule of simplify is called ExpIsPositive"),
        ("simplify", "Loose", "is no tuple"),
    ],
)
def test_a_rule_that_no_pass_can_take(installed, planish, into, name, complaint):
    installed({"planish.rules": {into: f"other_rules:{name}"}}, {"other_rules": RULES})
    with pytest.raises(UsageError, match=complaint) as caught:
        [p.all_rules() for p in all_passes()]
    assert "package other" in caught.value.what
    done = planish("passes")
    assert (done.code, "simplify" in done.out) == (0, True)
    assert complaint in done.err


@pytest.mark.parametrize(
    ("value", "code", "complaint"),
    [
        ("broken:Pass", "import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("broken:Pass", "raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("broken:Missing", "", "cannot be imported: AttributeError"),
        ("broken:Thing", "class Thing: pass", "is no Pass"),
        ("planish.passes.fuse:Fuse", "", "is called fuse itself"),
    ],
)
def test_what_is_wrong_with_an_extension_is_told(installed, planish, value, code, complaint):
    installed({"planish.passes": {"other": value}}, {"broken": code})
    with pytest.raises(UsageError, match=complaint) as caught:
        pass_named("other")
    assert "package other" in caught.value.what
    done = planish("passes")
    assert (done.code, "simplify" in done.out) == (0, True)
    assert complaint in done.err
    with pytest.raises(UsageError, match=r"there is no pass nosuch") as caught:  # a name is suggested without imports
        run_pipeline(graph_of(exp(x_input(2))), "nosuch")
    assert "widen, other" in caught.value.fix


def test_an_extension_cannot_take_a_name_of_ours(installed):
    code = "from planish.passes.base import Pass\nclass Simplify(Pass): pass\n"
    installed({"planish.passes": {"simplify": "impostor:Simplify"}}, {"impostor": code})
    assert pass_named("simplify").__module__.startswith("planish.")
    with pytest.raises(UsageError, match="that name is taken in planish"):
        all_passes()


def test_two_packages_cannot_bring_one_name(installed):
    installed({"planish.ops": {"twice": "other_ops:Twice"}}, {"other_ops": OP}, package="one")
    installed({"planish.ops": {"twice": "other_ops:Twice"}}, {}, package="two")
    with pytest.raises(UsageError, match=r"the installed package two brings twice .* so does one"):
        op_named("twice")


def test_a_wrong_expression_is_found_with_all_that_a_package_brings(installed, require_tool):
    require_tool("cc")
    groups = {"planish.ops": {"twice": "other_ops:Twice"}, "planish.elements": {"twice": "other_ops:element"}}
    installed(groups, {"other_ops": OP.replace("return operands[0].expr +", "return operands[0].expr *")})
    with pytest.raises(AssertionError, match=r"(?s)c: .*twice"):
        check_package("other", targets=["c"], programs=1)
    with pytest.raises(UsageError, match="no installed package another extends planish"):
        check_package("another")


def test_names_of_ours_are_found_without_asking_packages():
    _installed.cache_clear()
    assert op_named("add") is not None
    assert pass_named("fuse") is not None
    assert target_named("c").name == "c"
    assert adapter_for("", "Conv", 17) is not None
    assert _installed.cache_info().currsize == 0
