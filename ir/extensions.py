"""What other installed packages add, by entry points; docs/extending.md is the guide.

    [project.entry-points."planish.passes"]
    my-pass = "my_package:MyPass"

A catalog that does not know a name asks here, and imports what has that name. One that is listed asks for all.
What is installed is looked up once per process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from .errors import UsageError

#: Groups of entry points, and what the name of an entry point says in each.
GROUPS: Mapping[str, str] = {
    "planish.ops": "the op's text name",
    "planish.passes": "the pass's name in pipelines",
    "planish.rules": "the pass that the rules join",
    "planish.importers": "the ONNX operator, after its domain and a dot unless it is ONNX's own",
    "planish.exporters": "the text name of the op that is written",
    "planish.elements": "the text name of the elementwise op",
    "planish.kernels": "the kernel's name",
    "planish.targets": "the target's name",
}


@dataclass(frozen=True)
class Extension:
    """One entry point of an installed package; it is imported by `load`."""

    entry: EntryPoint

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def package(self) -> str:
        """The package that brings it, as pip calls it."""
        return self.entry.dist.name if self.entry.dist is not None else "unknown"

    def load(self, kind: type | tuple[type, ...] | None = None) -> Any:
        """What it names. kind: the class that it derives from, or the types of which it is one; None: a function.

        Raises UsageError where it cannot be imported, or is something else: it is installed, and it is broken.
        """
        try:
            loaded = self.entry.load()
        except (Exception, SystemExit) as error:
            raise self.broken(f"it cannot be imported: {type(error).__name__}: {error}") from error
        if kind is None and not (callable(loaded) and not isinstance(loaded, type)):
            raise self.broken("it is no function")
        if isinstance(kind, type) and not (isinstance(loaded, type) and issubclass(loaded, kind)):
            raise self.broken(f"it is no {kind.__name__}")
        if isinstance(kind, tuple) and not isinstance(loaded, kind):
            raise self.broken(f"it is no {' or '.join(k.__name__ for k in kind)}")
        return loaded

    def broken(self, why: str) -> UsageError:
        """The error that says what is wrong with it, and with which package."""
        return UsageError(
            f"the installed package {self.package} brings {self.name} for {self.entry.group}, and {why}",
            f"entry point {self.name} = {self.entry.value}",
            f"repair the package, or leave it out: pip uninstall {self.package}",
        )


def installed(group: str) -> tuple[Extension, ...]:
    """All of a group, by name and package. Nothing is imported."""
    return _installed().get(group, ())


@cache
def _installed() -> Mapping[str, tuple[Extension, ...]]:
    everything = entry_points()

    def of(group: str) -> tuple[Extension, ...]:
        found = map(Extension, everything.select(group=group))
        return tuple(sorted(found, key=lambda x: (x.name, x.package, x.entry.value)))

    return {group: of(group) for group in GROUPS}


T = TypeVar("T")


@dataclass(frozen=True)
class Catalog(Generic[T]):
    """Things by name: ours, and those of installed packages in one group.

    ours: the names that are taken; may grow. kind: as `Extension.load` takes it. named: the name that a thing has
    itself, which is the entry point's; None where it has none.
    """

    group: str
    ours: dict[str, T]
    kind: type | tuple[type, ...] | None = None
    named: Callable[[T], str] | None = None

    def add(self, name: str, thing: T) -> None:
        """Make a thing known. Raises ValueError when the name is taken by another."""
        if (known := self.ours.setdefault(name, thing)) is not thing:
            raise ValueError(f"the name {name} is taken by {getattr(known, '__module__', known)}")

    def get(self, name: str) -> T | None:
        """The thing of this name, ours or an installed package's; or None. Raises UsageError for a broken package."""
        if name in self.ours:
            return self.ours[name]
        extension = self.installed().get(name)
        return None if extension is None else self.loaded(extension)

    def names(self) -> list[str]:
        """All names, ours first."""
        return [*self.ours, *self.installed()]

    def all(self) -> list[T]:
        """All things, ours first. Raises UsageError for a broken package."""
        return [*self.ours.values(), *map(self.loaded, self.installed().values())]

    def listed(self) -> Iterator[tuple[Extension, T | UsageError]]:
        """What packages bring; for a broken one, the error: a list tells it, and goes on."""
        found: dict[str, Extension] = {}
        for extension in installed(self.group):
            try:
                self._enter(extension, found)
                yield extension, self.loaded(extension)
            except UsageError as error:
                yield extension, error

    def installed(self) -> dict[str, Extension]:
        """What packages bring, by name. Raises UsageError where one takes a name that is taken."""
        found: dict[str, Extension] = {}
        for extension in installed(self.group):
            self._enter(extension, found)
        return found

    def _enter(self, extension: Extension, found: dict[str, Extension]) -> None:
        if extension.name in self.ours:
            raise extension.broken("that name is taken in planish: two of one name are refused")
        if (other := found.setdefault(extension.name, extension)) is not extension:
            raise extension.broken(f"so does {other.package}: two of one name are refused")

    def loaded(self, extension: Extension) -> T:
        """Import one. Raises UsageError where it is broken, or is called otherwise than its entry point."""
        thing: T = extension.load(self.kind)
        if self.named is not None and self.named(thing) != extension.name:
            raise extension.broken(f"it is called {self.named(thing)} itself; both need one name")
        return thing
