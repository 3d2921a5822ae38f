"""What may be typed below `planish npu`. This module imports click alone."""

from __future__ import annotations

from pathlib import Path

import click

from ..options import PATH, Group
from ..screen import Screen

_machine = click.option("--machine", "-m", required=True, help="npu:256 or its like, or the path of a machine's .toml.")


@click.group(cls=Group)
def npu() -> None:
    """Programs of the NPU: text to binary and back, proofs, cycles."""


@npu.command()
@click.argument("text", type=PATH)
@click.option("--out", "-o", required=True, type=PATH, help="The binary to write.")
@click.pass_obj
def assemble(screen: Screen, text: Path, out: Path) -> int:
    """Make a binary of a program's TEXT."""
    from .tools import assemble_file

    return assemble_file(text, out, screen)


@npu.command()
@click.argument("program", type=PATH)
@click.option("--out", "-o", type=PATH, help="The text to write. Default: shown.")
@click.pass_obj
def disassemble(screen: Screen, program: Path, out: Path | None) -> int:
    """Make text of the binary PROGRAM."""
    from .tools import disassemble_file

    return disassemble_file(program, out, screen)


@npu.command()
@click.argument("program", type=PATH)
@_machine
@click.pass_obj
def lint(screen: Screen, program: Path, machine: str) -> int:
    """Prove that PROGRAM, binary or text, is legal, without races, deadlock and overflow; or say where it is not."""
    from .tools import lint_file

    return lint_file(program, machine, screen)


@npu.command()
@click.argument("program", type=PATH)
@_machine
@click.option("--trace", type=PATH, help="Write a trace for Perfetto.")
@click.pass_obj
def simulate(screen: Screen, program: Path, machine: str, trace: Path | None) -> int:
    """Show where the cycles of PROGRAM, binary or text, go on a machine. It is proven first."""
    from .tools import simulate_file

    return simulate_file(program, machine, trace, screen)
