"""ONNX's own backend tests, as data: a wrong answer is a bug, and so is a valid model called broken."""

from collections import Counter

import pytest

from bench.onnx_tests import FOLDERS, folder_cases, judged, node_cases

#: How many cases must be right, at least, by kind; "unsupported" with a reason is no bug.
RIGHT = {"node": 1200, "simple": 8, "pytorch-operator": 35, "pytorch-converted": 69}


@pytest.mark.parametrize("kind", ["node", *FOLDERS])
def test_nothing_is_wrong_and_nothing_valid_is_called_broken(kind, tmp_path):
    counts, faults = Counter(), []
    for case in node_cases() if kind == "node" else folder_cases(kind):
        verdict = judged(case, tmp_path)
        counts[verdict.kind] += 1
        if verdict.kind not in ("right", "unsupported"):
            faults.append(f"{verdict.kind}: {case.name}: {verdict.why}")
    assert not faults, "\n".join(faults[:20])
    assert counts["right"] >= RIGHT[kind], counts
