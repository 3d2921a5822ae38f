"""Assemble, disassemble, lint and simulate: files in, files or tables out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backends.npu import simulator
from ..backends.npu.assembly import assemble, disassemble, instruction_lines
from ..backends.npu.encoding import HEADER, MAGIC, WORD, decode, encode
from ..backends.npu.isa import Engine
from ..backends.npu.linter import Finding, lint
from ..backends.npu.machine import Machine, load_machine
from ..backends.npu.program import Program
from ..backends.npu.simulator import Layer, Simulation
from ..backends.npu.trace import chrome_trace
from ..folder import new_file
from ..ir.errors import ModelError, UsageError
from ..screen import Column, Screen, counted, error_as_json

#: Text takes twice the bytes of the constants, and these are at most what a machine's memory holds.
MOST_BYTES = 1 << 30
#: Findings that people are shown; --json has all.
SHOWN = 20


@dataclass(frozen=True)
class Source:
    """A program and where its instructions stand: the line in the text, or the byte in the binary."""

    name: str
    program: Program
    lines: tuple[int, ...] | None = None

    def place(self, position: int) -> dict[str, int]:
        """Of an instruction; nothing of what is beyond the last one."""
        if position >= len(self.program.instructions):
            return {}
        return {"byte": HEADER.size + WORD * position} if self.lines is None else {"line": self.lines[position]}


def assemble_file(text: Path, out: Path, screen: Screen) -> int:
    """Text to binary."""
    program = assemble(_text(text, _read(text)), text.name)
    binary = encode(program)
    with new_file(out) as path:
        path.write_bytes(binary)
    _show_sizes(screen, program, len(binary), out)
    return 0


def disassemble_file(binary: Path, out: Path | None, screen: Screen) -> int:
    """Binary to text: into a file, or shown."""
    program = _decoded(binary, _read(binary))
    text = disassemble(program)
    if out is not None:
        with new_file(out) as path:
            path.write_text(text, encoding="ascii", newline="\n")
        _show_sizes(screen, program, len(text), out)
        return 0
    screen.result({**_sizes(program), "text": text})
    if not screen.json:
        sys.stdout.write(text)  # which is ours, and ASCII
    return 0


def _sizes(program: Program) -> dict[str, int]:
    constants, arena = len(program.constants), program.arena_bytes
    return {"instructions": len(program.instructions), "constant_bytes": constants, "arena_bytes": arena}


def _show_sizes(screen: Screen, program: Program, written: int, out: Path) -> None:
    sizes = _sizes(program)
    screen.result({**sizes, "bytes": written})
    screen.say(
        f"{counted(sizes['instructions'], 'instruction')}, {sizes['constant_bytes']:,} bytes of constants, "
        f"{sizes['arena_bytes']:,} of arena -> {out}: {written:,} bytes"
    )


# ---- proofs


def lint_file(program: Path, machine: str, screen: Screen) -> int:
    """Every finding with its place; 0 where there is none, else the exit code of a broken file."""
    on, source = _machine(machine), _source(program)
    found = lint(source.program, on)
    error = _unproven(source, on, found) if found else None
    rows = [{"kind": f.kind.value, **_place(source, f), "tag": f.tag, "message": f.message} for f in found]
    result = {"machine": on.name, **_sizes(source.program), "proven": not found, "findings": rows}
    screen.result(result if error is None else {**result, "error": error_as_json(error)})
    if error is not None:
        if not screen.json:
            screen.error(error)
        return error.code
    screen.say(
        f"{source.name} on {on.name}: proven legal, free of races, deadlock and overflow, "
        f"{counted(len(source.program.instructions), 'instruction')}"
    )
    return 0


def _place(source: Source, finding: Finding) -> dict[str, int]:
    return {"instruction": finding.position, **source.place(finding.position)}


def _unproven(source: Source, machine: Machine, found: list[Finding]) -> ModelError:
    shown = []
    for finding in found[:SHOWN]:
        place = "".join(f"{name} {number}: " for name, number in source.place(finding.position).items())
        shown.append(f"{place}{finding}")
    more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return ModelError(
        f"the program is wrong: {counted(len(found), 'finding')}",
        where=f"{source.name} on {machine.name}",
        details=(*shown, *more),
    )


# ---- cycles

COLUMNS = (
    Column("tag", number=True),
    Column("cycles", number=True),
    Column("bound", number=True),
    Column("MACs", number=True),
    Column("MACs used", number=True),
    Column("external bytes", number=True),
    Column("waits for"),
    Column("nJ", number=True),
)


def simulate_file(program: Path, machine: str, trace: Path | None, screen: Screen) -> int:
    """The cycles of a program by the operators that its instructions are tagged with. Raises ModelError unproven."""
    on, source = _machine(machine), _source(program)
    if found := lint(source.program, on):
        raise _unproven(source, on, found)
    simulation = simulator.time(source.program, on)
    if trace is not None:
        with new_file(trace) as path:
            path.write_text(json.dumps(chrome_trace(simulation, {})), encoding="utf-8")
    result = _timed(simulation, on)
    screen.result(result)
    screen.table(COLUMNS, [_row(layer, on) for layer in simulation.layers if layer.busy], f"{on.name}, {on.mode}")
    busy = ", ".join(f"{name} {cycles / max(1, simulation.cycles):.0%}" for name, cycles in result["busy"].items())
    screen.say(
        f"{simulation.cycles:,} cycles ({result['microseconds']:,.1f} us), {result['utilisation']:.1%} of the "
        f"multipliers, {result['energy_nj']:,.0f} nJ; busy: {busy}"
    )
    return 0


def _timed(simulation: Simulation, machine: Machine) -> dict[str, Any]:
    cycles, engines = simulation.cycles, [e for e in Engine if e is not Engine.CTRL]
    return {
        "machine": machine.name,
        "mode": machine.mode,
        "cycles": cycles,
        "microseconds": round(cycles / machine.clock_mhz, 3),
        "utilisation": round(simulation.utilisation, 4),
        "energy_nj": round(simulation.energy / 1000, 3),
        "busy": {e.name: sum(layer.busy[e] for layer in simulation.layers) for e in engines},
        "layers": [
            {
                "tag": layer.tag,
                "cycles": layer.cycles,
                "bound": layer.bound,
                "macs": layer.macs,
                "external_bytes": layer.external_bytes,
                "stall": layer.stall,
                "classes": {name: count for name, count in sorted(layer.classes.items()) if count},
                "energy_nj": round(layer.energy / 1000, 3),
            }
            for layer in simulation.layers
        ],
    }


def _row(layer: Layer, machine: Machine) -> list[object]:
    used = f"{layer.macs / (machine.array.macs * layer.cycles):.1%}" if layer.cycles and layer.macs else None
    energy = f"{layer.energy / 1000:.0f}"
    return [layer.tag, layer.cycles, layer.bound, layer.macs or None, used, layer.external_bytes, layer.stall, energy]


# ---- files


def _source(path: Path) -> Source:
    """A program from a binary or a text; which of them, its first bytes say."""
    data = _read(path)
    if data.startswith(MAGIC) or b"\0" in data[:64]:
        return Source(path.name, _decoded(path, data))
    text = _text(path, data)
    return Source(path.name, assemble(text, path.name), instruction_lines(text))


def _decoded(path: Path, data: bytes) -> Program:
    try:
        return decode(data)
    except ModelError as error:
        error.where = f"{path.name}, {error.where}" if error.where else path.name
        raise


def _text(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError("the program is neither binary nor text", where=f"{path.name}, byte {error.start}") from None


def _machine(text: str) -> Machine:
    return load_machine(text.removeprefix("npu:"))


def _read(path: Path) -> bytes:
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise UsageError(f"{path} {state}", fix="give a program: segment_0.npu or segment_0.asm of a compiled folder")
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(f"the program is larger than {MOST_BYTES} bytes", where=path.name)
    return path.read_bytes()
