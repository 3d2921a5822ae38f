"""The names of `tvm.tirx`, looked up when they are used: TVM is an extra, and slow to import."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    from tvm import tirx

    return getattr(tirx, name)
