"""What all tests share: how hard hypothesis works, and where models and tools come from."""

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

# As in the command line: before NumPy is imported, and for the workers' sake.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Neither profile has a deadline (the machine's mood is no property) or a database (a run depends on nothing before it);
# examples may be large, for one program executes many.
COMMON = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.large_base_example]
)
hypothesis.settings.register_profile("quick", COMMON, max_examples=25, derandomize=True)
# Proof is ten times as much, within an hour; tests for which a count is promised ask for more themselves.
hypothesis.settings.register_profile("proof", COMMON, max_examples=250, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("PLANISH_PROFILE", "quick"))

# Hypothesis also caches what it reads from our sources; that has no place in the tree either.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "planish-hypothesis")


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where PLANISH_REQUIRE_TOOLS=1 says that everything must be here."""
    if os.environ.get("PLANISH_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{what} (PLANISH_REQUIRE_TOOLS=1)", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of trained models that PLANISH_MODELS names: too large for the repository."""
    folder = os.environ.get("PLANISH_MODELS")
    if not folder:
        missing("PLANISH_MODELS is not set")
    if not Path(folder).is_dir():
        missing(f"PLANISH_MODELS={folder} is no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def tvm() -> None:
    """Skips the test, or fails it, where TVM is not installed."""
    if find_spec("tvm") is None:
        missing("apache-tvm is not installed: pip install 'planish[mobile]'")


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], Path]:
    """`require_tool("qemu-system-arm")` is the program's path; without the program the test is skipped, or fails."""

    def find(name: str) -> Path:
        path = shutil.which(name)
        if path is None:
            missing(f"{name} is not installed")
        return Path(path)

    return find
