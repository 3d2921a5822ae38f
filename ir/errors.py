"""What planish says when it cannot go on: what, where, why, what to do, and the exit code of the command line."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(eq=False)
class PlanishError(Exception):
    """Base of all errors that are meant for the user.

    `what` is one sentence. `where` names the node, source operator and shapes. `fix` says what to do next.
    A bare PlanishError is a bug of ours: exit code 1.
    """

    code: ClassVar[int] = 1
    what: str
    where: str = ""
    fix: str = ""
    details: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  at: {self.where}")
        lines.extend(f"  - {detail}" for detail in self.details)
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


class UsageError(PlanishError):
    """The command, option, pipeline or API call is wrong."""

    code = 2


class ModelError(PlanishError):
    """The model file is broken, inconsistent or unsafe."""

    code = 3


class UnsupportedError(PlanishError):
    """The model is fine, but planish or the chosen target cannot take it."""

    code = 4


class DoesNotFitError(PlanishError):
    """The compiled model needs more memory than the target was said to have."""

    code = 5


class VerificationError(PlanishError):
    """An artifact or a transformed graph does not compute what it should."""

    code = 6


class InferenceError(PlanishError):
    """An op was given operands that it does not accept: shapes, dtypes or attributes disagree.

    Raised by `Op.infer`; whoever builds the node adds the place, and makes it a ModelError where a file is to blame.
    """


class DTypeError(InferenceError):
    """An op was given element types that it does not accept, whatever the shapes.

    A file is to blame only where ONNX's operator does not accept them either.
    """


class InvalidGraphError(PlanishError):
    """The verifier found a graph that breaks the rules of the IR; the pass that made it is named."""
