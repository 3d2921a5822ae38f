"""A user's own passes: from a Python file that the user names."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

from .ir.errors import UsageError
from .passes import register
from .passes.base import Pass, RulePass


def load_passes(file: Path) -> list[type[Pass]]:
    """Run a Python file and make the passes that it defines known by their names; returns them.

    It is the user's own code, and runs as such. Raises UsageError when the file cannot be run, defines no pass, or
    takes a name that another pass has.
    """
    spec = importlib.util.spec_from_file_location(f"planish_loaded_{file.stem}", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"{file} is no Python file", fix="give the .py file that defines your pass")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look up annotations
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{file} cannot be run: {type(error).__name__}: {error}", fix="try it with python") from error
    found = [v for v in vars(module).values() if _is_pass(v) and v.__module__ == spec.name]
    if not found:
        raise UsageError(
            f"{file} defines no pass", fix="a pass is a frozen dataclass that derives from Pass or RulePass"
        )
    for cls in found:
        try:
            register(cls)
        except ValueError as error:
            raise UsageError(str(error), fix=f"give {cls.__name__} another name") from None
    return found


def _is_pass(value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, Pass)
        and value not in (Pass, RulePass)
        and dataclasses.is_dataclass(value)
    )
