import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from planish.cli import execute

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def planish() -> Callable[..., Done]:
    """`planish("verify", folder, "--json")`: the command line in this process."""

    def run(*arguments: object) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = execute([str(argument) for argument in arguments])
        return Done(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def digits() -> Path:
    """The folder of the example model and its data."""
    return ROOT / "examples/digits"


@pytest.fixture(scope="session")
def int8_build(planish, digits, tmp_path_factory, require_tool) -> Path:
    """The example model as int8 C for this machine. Tests leave it as it is."""
    require_tool("cc")
    out = tmp_path_factory.mktemp("int8") / "build"
    calib = digits / "calib.npz"
    done = planish("compile", digits / "dscnn.onnx", "-t", "c", "--quantize", "int8", "--calib", calib, "-o", out)
    assert done.code == 0, done.err
    return out
