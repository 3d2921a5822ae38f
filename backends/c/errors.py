"""What can go wrong between C sources and their outputs."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.errors import UsageError, VerificationError


class ExecutionError(VerificationError):
    """Compiling or running an artifact failed."""


class ToolMissing(ExecutionError):
    """A program that is needed is not installed. Nothing is wrong with the artifact: the user's to mend."""

    code = UsageError.code

    def __init__(self, tool: str, debian_package: str) -> None:
        super().__init__(f"{tool} is not on PATH", fix=f"on Debian and Ubuntu: apt install {debian_package}")
        self.tool = tool
        self.debian_package = debian_package


class BuildFailed(ExecutionError):
    """The compiler or the linker refused; `diagnostics` is all that it said."""

    SHOWN_LINES = 12

    def __init__(self, command: Sequence[str], diagnostics: str) -> None:
        lines = diagnostics.strip().splitlines() or ["(no output)"]
        more = len(lines) - self.SHOWN_LINES
        shown = lines[: self.SHOWN_LINES] + ([f"... {more} more lines"] if more > 0 else [])
        super().__init__(f"{command[0]} failed on {command[-1]}", details=tuple(shown))
        self.command = tuple(command)
        self.diagnostics = diagnostics


class TimedOut(ExecutionError):
    """A program ran longer than it was given; it has been killed."""

    def __init__(self, tool: str, seconds: float) -> None:
        super().__init__(f"{tool} did not finish within {seconds:g} s and was stopped")
        self.seconds = seconds


class RunFailed(ExecutionError):
    """The program ran and did not end well."""


class GuardOverwritten(RunFailed):
    """The model wrote outside of a buffer that it was given (`buffer`: "input", "arena" or "output")."""

    def __init__(self, buffer: str, inference: int) -> None:
        super().__init__(f"inference {inference} wrote outside of an {buffer} buffer")
        self.buffer = buffer
        self.inference = inference


class DeviceFault(RunFailed):
    """The core took a fault.

    `cfsr` is the Configurable Fault Status Register (Armv7-M B3.2.15), `function` the one that faulted, where known.
    """

    def __init__(self, cfsr: int, function: str | None, stack_overflow: bool) -> None:
        what = "stack overflow" if stack_overflow else "fault"
        super().__init__(f"{what} in {function or 'an unknown function'} (CFSR 0x{cfsr:08x}: {describe_cfsr(cfsr)})")
        self.cfsr = cfsr
        self.function = function
        self.stack_overflow = stack_overflow


_CFSR_BITS = {
    0: "instruction access violation",
    1: "data access violation",
    4: "stacking failed",
    8: "instruction bus error",
    9: "precise data bus error",
    10: "imprecise data bus error",
    12: "stacking bus error",
    16: "undefined instruction",
    17: "invalid state",
    18: "invalid PC load",
    19: "no coprocessor",
    20: "stack limit",
    24: "unaligned access",
    25: "division by zero",
}


def describe_cfsr(cfsr: int) -> str:
    """The set bits of a Configurable Fault Status Register, in words."""
    return ", ".join(text for bit, text in _CFSR_BITS.items() if cfsr >> bit & 1) or "no cause recorded"
