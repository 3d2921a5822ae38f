"""Damaged files are refused with a documented exit code or compiled; nothing in planish fails on them."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.damage import damaged, outcome
from tests.support.small_files import FILES

REFUSED = {f"refused with exit code {code}" for code in (2, 3, 4)}


@pytest.mark.parametrize("name", FILES)
@given(seed=st.integers(0, 2**63))
def test_no_damage_makes_planish_fail(name, seed):
    with tempfile.TemporaryDirectory() as folder:
        what, error = outcome(Path(folder), damaged(FILES[name](), seed))
    if what == "failed":
        raise AssertionError(f"{name}, seed {seed}") from error
    assert what == "compiled" or what in REFUSED


@pytest.mark.parametrize("name", FILES)
def test_what_is_not_damaged_is_read(name, tmp_path):
    """Else damage would prove nothing: the parts that it spares are all taken."""
    what, error = outcome(tmp_path, FILES[name]())
    assert what == "compiled" or "target c cannot take" in str(error)
    assert damaged(FILES[name](), 7) == damaged(FILES[name](), 7)
