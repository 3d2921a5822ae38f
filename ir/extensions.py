"""What other installed packages add: entry points of the groups `planish.ops`, `planish.passes` and `planish.targets`.

    [project.entry-points."planish.passes"]
    my-pass = "my_package:MyPass"

They are looked up when a name is asked for that is not ours, and imported only then.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from .errors import UsageError


def extensions(group: str, base: type, name: str | None = None) -> Iterator[tuple[str, Any]]:
    """Classes of a group by name, all or the one of this name.

    Raises UsageError for one that cannot be imported, or is no subclass of `base`: it is installed, and it is broken.
    """
    found = entry_points(group=group) if name is None else entry_points(group=group, name=name)
    for entry in sorted(found, key=lambda e: (e.name, e.value)):
        where = f"entry point {entry.name} = {entry.value} of {group}"
        try:
            loaded = entry.load()
        except Exception as error:
            raise UsageError(
                f"an installed extension cannot be imported: {type(error).__name__}: {error}",
                where,
                "repair or uninstall its package",
            ) from error
        if not (isinstance(loaded, type) and issubclass(loaded, base)):
            raise UsageError(f"an installed extension is no {base.__name__}", where, "repair or uninstall its package")
        yield entry.name, loaded
