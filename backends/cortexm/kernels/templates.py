"""C text of kernels, from the templates beside them (`*.c.j2`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ...c.project import environment


def render(template: str, **values: Any) -> str:
    """A template, filled. An unknown name in it is an error."""
    return _templates().get_template(template).render(**values)


@cache
def _templates() -> jinja2.Environment:
    return environment(Path(__file__).parent)
