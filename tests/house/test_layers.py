"""Imports point one way only, and heavy packages are imported where they are used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MAY_IMPORT = {
    "ir": {"ir"},
    "runtime": {"ir", "runtime"},
    "frontends": {"ir", "frontends"},
    "passes": {"ir", "runtime", "passes"},
    "backends": {"ir", "runtime", "passes", "backends"},
}
HEAVY = {"hypothesis", "networkx", "onnx", "onnx_graphsurgeon", "onnxruntime", "optuna", "scipy", "torch", "tvm"}
BACKEND_NAME = re.compile(r"(?<![a-z])(planish\.backends|cortex[a-z]*|tvm|npu|ethos)(?![a-z])", re.IGNORECASE)

SOURCES = sorted(path for layer in MAY_IMPORT for path in (ROOT / layer).rglob("*.py"))
FACE = sorted((ROOT / "src/planish").rglob("*.py"))  # which follows no links


def imports(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Full names of the modules that any statement below `tree` imports; `package` is where relative ones start."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from .. import ir` imports a package too, so each name counts.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def at_import_time(node: ast.AST) -> Iterator[ast.stmt]:
    """The import statements that run when the module is imported: not in functions, not under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from at_import_time(ast.Module([other], []))
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from at_import_time(child)


def wrong_arrows(tree: ast.AST, package: list[str]) -> list[str]:
    allowed = MAY_IMPORT[package[1]]
    ours = (name.split(".") for name in imports(tree, package) if name.split(".")[0] == "planish")
    return [".".join(parts) for parts in ours if len(parts) < 2 or parts[1] not in allowed]


def heavy_imports(tree: ast.AST, package: list[str]) -> list[str]:
    names = (name for statement in at_import_time(tree) for name in imports(statement, package))
    return [name for name in names if name.split(".")[0] in HEAVY]


def backends_named(tree: ast.AST) -> list[str]:
    """Identifiers and strings that name a backend; prose (docstrings) may."""
    documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    prose = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
    words: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            words.append(node.id)
        elif isinstance(node, ast.Attribute):
            words.append(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            words.append(node.value)
    return [word for word in words if BACKEND_NAME.search(word)]


def package_of(path: Path) -> list[str]:
    """Where relative imports in `path` start: `src/planish/` and the layers are all below `planish`."""
    base = ROOT / "src/planish" if path in FACE else ROOT
    return ["planish", *path.parent.relative_to(base).parts]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_imports_point_up_the_list(path):
    assert wrong_arrows(ast.parse(path.read_text()), package_of(path)) == []


@pytest.mark.parametrize("path", SOURCES + FACE, ids=relative)
def test_heavy_packages_are_imported_where_they_are_used(path):
    # planish.testing is hypothesis strategies; nothing imports it but tests.
    allowed = {"hypothesis"} if package_of(path)[:2] == ["planish", "testing"] else set()
    found = heavy_imports(ast.parse(path.read_text()), package_of(path))
    assert {name for name in found if name.split(".")[0] not in allowed} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "passes").rglob("*.py")), ids=relative)
def test_a_pass_names_no_backend(path):
    assert backends_named(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("planish.ir.ops", "from ...runtime import oracle", ["planish.runtime.oracle"]),
        ("planish.ir", "from .. import passes", ["planish.passes"]),
        ("planish.ir", "import planish", ["planish"]),
        ("planish.ir.ops", "from ..graph import Graph\nfrom . import pool\nimport numpy", []),
        (
            "planish.passes",
            "def f():\n    from planish.backends.cortexm import Board",
            ["planish.backends.cortexm.Board"],
        ),
        ("planish.frontends.onnx", "from ...runtime import data", ["planish.runtime.data"]),
        ("planish.backends.cortexm", "from ...passes import fuse\nfrom ..memory import plan", []),
    ],
)
def test_a_wrong_arrow_is_seen(package, source, found):
    assert wrong_arrows(ast.parse(source), package.split(".")) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import onnx", ["onnx"]),
        ("try:\n    from scipy.optimize import milp\nexcept ImportError:\n    pass", ["scipy.optimize.milp"]),
        ("class C:\n    import torch.fx", ["torch.fx"]),
        ("from .onnx import read", []),
        ("def f():\n    import onnx", []),
        ("if TYPE_CHECKING:\n    import onnx\nelse:\n    import tvm", ["tvm"]),
    ],
)
def test_a_heavy_import_is_seen(source, found):
    assert heavy_imports(ast.parse(source), ["planish", "frontends"]) == found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('if target == "cortex-m4": pass', ["cortex-m4"]),
        ("tvm.build(graph)", ["tvm"]),
        ("import_module('planish.backends')", ["planish.backends"]),
        ('"""Better on a Cortex-M."""\ninputs = "input"', []),
    ],
)
def test_a_named_backend_is_seen(source, found):
    assert backends_named(ast.parse(source)) == found
