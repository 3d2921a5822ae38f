"""The abstract Target: what passes and the command line may ask of a backend, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ir.errors import UsageError
from ..ir.graph import Graph, Node
from ..ir.hooks import Hooked
from ..ir.types import Array
from .unchained import Cut


@dataclass(frozen=True)
class Unsupported:
    """Why a target does not take a node, and what would help."""

    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Need:
    """Something a target wants on this machine: a tool or a package, whether it is here, and how to get it."""

    name: str
    present: bool
    fix: str


@dataclass(frozen=True)
class Limits:
    """What the device offers, in bytes; None is unlimited."""

    ram: int | None = None
    flash: int | None = None


@dataclass
class Layer:
    """One row of a report: a node of the lowered graph as the artifact executes it.

    ram_bytes: what the arena holds while the layer runs, its scratch included. constant_bytes: its constants. node: the
    place of the node in the order of the graph's nodes, for drawings of the graph.
    """

    name: str
    op: str
    source: str
    shape: str
    macs: int = 0
    kernel: str = ""
    constant_bytes: int = 0
    ram_bytes: int = 0
    instructions: int | None = None
    node: int | None = None


@dataclass
class Execution:
    """What running an artifact gave: outputs by name, stacked over samples, and what was measured (None: cannot be).

    instructions, cycles and layers (by the name of the `Layer`) are per inference, stack_bytes is the deepest.
    """

    outputs: dict[str, Array]
    samples: int
    instructions: int | None = None
    cycles: int | None = None
    stack_bytes: int | None = None
    flash_bytes: int | None = None
    layers: dict[str, int] = field(default_factory=dict)


@dataclass
class Artifact:
    """A compiled model on disk.

    graph: the lowered graph that it implements; the interpreter on this graph decides what is right.
    facts: figures for the report, JSON-able: arena_bytes, constant_bytes, flags, ... For devices with flash:
    code_bytes, flash_bytes (constants and code), flash_error (how far off an estimate may be, relative; 0 where it was
    measured).
    They hold no paths and no time stamps: same input, same bytes out.
    """

    target: str
    path: Path
    graph: Graph
    layers: list[Layer]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Customary:
    """What an artifact gave as its users run it. how: in words; outputs: None where it does not run that way.

    remarks: what the user should know, with what helps.
    """

    how: str
    outputs: dict[str, Array] | None
    remarks: tuple[str, ...] = ()


class Target(Hooked, ABC):
    """A way out. Passes see costs and legality through this class only."""

    #: As the user writes it: `cortex-m4`.
    name: str
    #: One line for `planish targets`.
    summary: str = ""
    #: Pipeline that turns any legal graph, float or quantized, into the form that `emit` takes.
    lowering: str = ""
    #: How many multiply-accumulates `planish verify` executes, unless told how many samples: emulators are slow.
    verified_macs: int | None = None

    @abstractmethod
    def supports(self, node: Node) -> Unsupported | None:
        """None when the target takes this node of a lowered graph."""

    def decomposes(self, graph: Graph) -> list[Node]:
        """Composite nodes that are to become the ops they are made of. Default: those that are not supported."""
        return [n for n in graph.nodes if n.op.is_composite and self.supports(n) is not None]

    @abstractmethod
    def emit(self, graph: Graph, out: Path, name: str, limits: Limits) -> Artifact:
        """Write the artifact of a lowered graph into the folder `out`, which exists and is empty.

        Raises UnsupportedError naming every node that is not supported, DoesNotFitError beyond the limits.
        """

    def build(self, artifact: Artifact) -> None:
        """Compile what was emitted, as its users do, warnings being errors; measured sizes go into the facts.

        Raises VerificationError where that fails, UsageError where there is no compiler or nothing to compile.
        """
        raise UsageError(f"there is nothing to compile for target {self.name}", fix="leave --build out")

    @property
    def measures(self) -> bool:
        """Whether `build` measures the flash, with what is on this machine."""
        return False

    @abstractmethod
    def load(self, path: Path, graph: Graph, facts: Mapping[str, Any]) -> Artifact:
        """The artifact that `emit` wrote earlier."""

    @abstractmethod
    def run(self, artifact: Artifact, inputs: Mapping[str, Array], profile: bool = False) -> Execution:
        """Execute the artifact on a batch: arrays by input name, samples stacked along a new first axis."""

    def customary(
        self, artifact: Artifact, inputs: Mapping[str, Array], expected: Mapping[str, Array]
    ) -> Customary | None:
        """What the artifact gives as its users run it, beside outputs that are right; None where `run` runs it so."""
        return None

    def unchained(self, artifact: Artifact, out: Path) -> tuple[Artifact, Cut] | None:
        """The artifact of a quantized graph, cut behind every `quantize`, in the empty folder `out`; and how.

        None where the target cannot cut: then whole graphs are compared.
        """
        return None

    def trace(self, artifact: Artifact) -> dict[str, Any] | None:
        """One inference in Chrome's trace format, JSON-able; None where the target does not simulate time."""
        return None

    def needs(self) -> Sequence[Need]:
        """Tools and packages that compiling or running wants."""
        return ()
