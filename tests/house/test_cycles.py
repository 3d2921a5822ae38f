"""The modules of the language stand in an order: each imports only those before it, in functions too."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.house.test_layers import at_import_time, imports

ROOT = Path(__file__).parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for path in (ROOT / "ir").rglob("*.py")
}
PACKAGES = {"ir", "ir.ops"}
#: Imports for annotations alone. An op is asked about values and answers with values, and a value knows the node that
#: computes it, which knows its op: of these types one has to be named before it is there.
FOR_ANNOTATIONS = {"ir.op": {"ir.graph", "ir.ops", "ir.ops.quantized"}}


def imported(module: str, tree: ast.AST, modules: Mapping[str, str]) -> Iterator[str]:
    """Modules of ours that any statement below `tree` imports, and the packages that are imported on the way there."""
    package = module if module in PACKAGES else module.rpartition(".")[0]
    for name in imports(tree, ["planish", *package.split(".")]):
        parts = name.split(".")[1:]
        for end in range(1, len(parts) + 1):
            found = ".".join(parts[:end])
            if found in modules and not f"{module}.".startswith(f"{found}."):
                yield found


@cache
def arrows(module: str, text: str) -> frozenset[str]:
    """What the module imports, but for annotations."""
    return frozenset(imported(module, ast.parse(text), SOURCES)) - FOR_ANNOTATIONS.get(module, set())


def order(modules: Mapping[str, str]) -> list[str]:
    """The modules, each after what it imports. Raises CycleError."""
    return list(TopologicalSorter({module: arrows(module, text) for module, text in modules.items()}).static_order())


def test_no_module_of_the_language_imports_itself_by_way_of_others():
    found = order(SOURCES)
    assert len(found) == len(SOURCES) > 40
    assert found.index("ir.op") < found.index("ir.graph") < found.index("ir.ops.quantized") < found.index("ir.ops")


@pytest.mark.parametrize("module", FOR_ANNOTATIONS)
def test_what_is_for_annotations_is_imported_for_them_alone(module):
    tree = ast.parse(SOURCES[module])
    now = {name for statement in at_import_time(tree) for name in imported(module, statement, SOURCES)}
    assert not now & FOR_ANNOTATIONS[module]
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    assert not {n for f in functions for n in imported(module, f, SOURCES)} & FOR_ANNOTATIONS[module]
    assert set(imported(module, tree, SOURCES)) >= FOR_ANNOTATIONS[module], "this exception is not needed"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("ir.types", "from .graph import Graph"),
        ("ir.types", "from . import graph"),
        ("ir.op", "def f():\n    from .constant import Const"),
        ("ir.channels", "if TYPE_CHECKING:\n    from .op import Op"),
        ("ir.graph", "def f():\n    from .ops.shape import Reshape"),
        ("ir.ops.quant", "from .quantized import moved"),
        ("ir.arithmetic", "from .ops import windows"),
    ],
)
def test_a_cycle_is_seen(module, line):
    with pytest.raises(CycleError):
        order({**SOURCES, module: f"{SOURCES[module]}\n{line}\n"})
