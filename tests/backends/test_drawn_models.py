"""Random ONNX models on every way through planish. bench/graphs.py does the same with many."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import hypothesis
import onnx
import pytest

from planish.testing.agreement import Kind, Study
from planish.testing.models import drawn_model

pytest.importorskip("onnxruntime")
SEEDS = range(2_000, 2_000 + hypothesis.settings().max_examples)


def study(targets: tuple[str, ...], seeds: range) -> Study:
    found = Study(targets)
    for seed in seeds:
        found.add(drawn_model(seed))
    found.finish()
    return found


def test_drawn_models_are_right_or_refused_with_a_reason(require_tool: Callable[[str], Path]) -> None:
    require_tool("cc")
    found = study(("onnx", "c"), SEEDS)
    assert not found.faults, "\n".join(map(str, found.faults))
    right = Counter(finding.stage for finding in found.findings if finding.kind is Kind.RIGHT)
    assert all(right[stage] > len(SEEDS) / 2 for stage in ("import", "passes", "onnx", "c")), right
    assert all(finding.why for finding in found.findings if finding.kind is Kind.UNSUPPORTED)


def test_drawn_models_are_right_through_tvm(require_tool: Callable[[str], Path], tvm: None) -> None:
    require_tool("cc")
    found = study(("tvm",), SEEDS[::2])
    assert not found.faults, "\n".join(map(str, found.faults))


def test_many_operators_dtypes_ranks_and_sizes_are_drawn() -> None:
    operators, types, ranks, sizes = Counter[str](), set(), set(), set()
    for seed in range(300):
        drawn = drawn_model(seed)
        operators.update(drawn.operators)
        types |= {array.dtype for array in drawn.inputs.values()}
        ranks |= {array.ndim for array in drawn.inputs.values()}
        sizes |= {size for array in drawn.inputs.values() for size in array.shape}
    assert len(operators) > 60
    assert {"And", "Or", "ReduceMin", "Less", "Where", "Cast", "Conv", "MatMul", "MaxPool", "Pad", "Split"} <= set(
        operators
    )
    assert len(types) == 10
    assert ranks >= {0, 1, 2, 3, 4, 5}
    assert sizes >= {0, 1, 17, 33}


def test_a_seed_names_a_model() -> None:
    assert drawn_model(7).proto == drawn_model(7).proto
    onnx.checker.check_model(drawn_model(7).proto, full_check=True)


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch, require_tool: Callable[[str], Path]) -> None:
    """The study must be able to fail: `less` that says what `less or equal` says, and text that is no C."""
    from planish.backends.loops import elements
    from planish.backends.loops.expressions import I32, Native
    from planish.ir.ops.elementwise import Minimum
    from planish.ir.ops.logic import Equal

    require_tool("cc")
    monkeypatch.setitem(elements.ELEMENTS, Equal, elements.comparison("less_equal", lambda a, b: a <= b))
    monkeypatch.setitem(elements.ELEMENTS, Minimum, lambda op, operands: Native(I32, "undeclared"))
    found = Study(("c",))
    for operator in ("Equal", "Min"):
        of_it = (m for m in map(drawn_model, range(1000)) if operator in m.operators and len(m.operators) < 4)
        for drawn in itertools.islice(of_it, 4):
            found.add(drawn)
    found.finish()
    assert {finding.kind for finding in found.faults} == {Kind.WRONG, Kind.DOES_NOT_BUILD}
