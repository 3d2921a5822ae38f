"""What host and device share: the model's interface, the files in and out, the meaning of exit statuses.

The program is `boards/harness.c` around a `main.c` rendered for the model; `boards/harness.h` describes the protocol.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from .errors import GuardOverwritten, RunFailed
from .toolchain import Finished, Size

Array = npt.NDArray[Any]

MAIN = Path(__file__).parent / "main"
INPUTS, OUTPUTS = "inputs.bin", "outputs.bin"

DTYPES: Mapping[str, np.dtype[Any]] = {
    "int8_t": np.dtype("<i1"),
    "uint8_t": np.dtype("<u1"),
    "int16_t": np.dtype("<i2"),
    "uint16_t": np.dtype("<u2"),
    "int32_t": np.dtype("<i4"),
    "uint32_t": np.dtype("<u4"),
    "int64_t": np.dtype("<i8"),
    "uint64_t": np.dtype("<u8"),
    "float": np.dtype("<f4"),
    "double": np.dtype("<f8"),
}


@dataclass(frozen=True)
class Buffer:
    """An input or output: `count` elements of a C type."""

    ctype: str
    count: int

    def __post_init__(self) -> None:
        if self.ctype not in DTYPES:
            raise ValueError(f"no such element type: {self.ctype!r}; one of {', '.join(DTYPES)}")
        if self.count < 0:
            raise ValueError(f"a buffer of {self.count} elements")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' type in NumPy, little endian."""
        return DTYPES[self.ctype]

    @property
    def nbytes(self) -> int:
        """Bytes per inference."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Spec:
    """A generated model's interface: `<name>.h` declares `<name>_context`, `<name>_init` and `<name>_run`."""

    name: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name, re.ASCII):
            raise ValueError(f"not a C identifier: {self.name!r}")


@dataclass(frozen=True)
class Execution:
    """What running a model on a batch of inputs gave. None: not measured there."""

    outputs: list[Array]
    """One array [inferences, count] per output."""
    instructions: list[int] | None
    """Executed by `<name>_run` and what it calls, per inference; exact."""
    layers: dict[str, int] | None
    """The same of the first inference, by function of the C sources or libraries; they add up to instructions[0]."""
    stack_bytes: int | None
    """Deepest use of the stack below the call of `<name>_run`, over all inferences."""
    size: Size | None
    """Bytes of the model in the linked program."""
    seconds: float
    """Wall-clock time of the run, without compiling."""

    @property
    def flash_bytes(self) -> int | None:
        """Code and constants of the model, with what they take from libraries, in bytes."""
        return None if self.size is None else self.size.flash


def render_main(spec: Spec) -> str:
    """The C source of `main.c` for a model."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(MAIN),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("main.c.j2").render(spec=spec)


def write_main(spec: Spec, directory: Path) -> Path:
    """Write `main.c` for a model into a directory; its path."""
    path = directory / "main.c"
    path.write_text(render_main(spec), encoding="ascii", newline="\n")
    return path


def include_flags(sources: Sequence[Path]) -> list[str]:
    """Flags that find the headers of the generated sources (beside them) and of the harness."""
    folders = dict.fromkeys(source.resolve().parent for source in sources)
    return [f"-I{folder}" for folder in (*folders, MAIN)]


def count_inferences(spec: Spec, inputs: Sequence[Array]) -> int:
    """How many inferences the inputs hold, stacked along their first axis; ValueError where they do not suit the model.

    A model without inputs runs once.
    """
    if len(inputs) != len(spec.inputs):
        raise ValueError(f"{spec.name} has {len(spec.inputs)} inputs, got {len(inputs)}")
    for index, (array, buffer) in enumerate(zip(inputs, spec.inputs, strict=True)):
        suits = array.dtype.newbyteorder("<") == buffer.dtype and math.prod(array.shape[1:]) == buffer.count
        if array.ndim == 0 or not suits:
            raise ValueError(
                f"input {index} of {spec.name} is {buffer.dtype.name}[n, {buffer.count}], "
                f"got {array.dtype.name}{list(array.shape)}"
            )
    batches = {len(array) for array in inputs} or {1}
    if len(batches) != 1:
        raise ValueError(f"the inputs of {spec.name} differ in how many inferences they hold: {sorted(batches)}")
    return batches.pop()


def write_inputs(spec: Spec, inputs: Sequence[Array], directory: Path) -> int:
    """Write the file of inputs; the number of inferences."""
    inferences = count_inferences(spec, inputs)
    rows = [
        np.ascontiguousarray(array, dtype=buffer.dtype).reshape(inferences, buffer.count).view(np.uint8)
        if buffer.nbytes
        else np.empty((inferences, 0), np.uint8)
        for array, buffer in zip(inputs, spec.inputs, strict=True)
    ]
    with (directory / INPUTS).open("wb") as file:
        file.write(inferences.to_bytes(4, "little"))
        file.write(np.concatenate([np.empty((inferences, 0), np.uint8), *rows], axis=1).tobytes())
    return inferences


def read_outputs(spec: Spec, inferences: int, directory: Path) -> list[Array]:
    """Read the file of outputs: one array [inferences, count] per output."""
    data = np.fromfile(directory / OUTPUTS, np.uint8)
    row_bytes = sum(buffer.nbytes for buffer in spec.outputs)
    if data.size != inferences * row_bytes:
        raise RunFailed(f"{OUTPUTS} has {data.size} bytes instead of {inferences} x {row_bytes}")
    rows = data.reshape(inferences, row_bytes)
    outputs = []
    offset = 0
    for buffer in spec.outputs:
        row = np.ascontiguousarray(rows[:, offset : offset + buffer.nbytes])
        outputs.append(np.frombuffer(row.tobytes(), buffer.dtype).reshape(inferences, buffer.count))
        offset += buffer.nbytes
    return outputs


# As in harness.h.
_GUARDS = {13: "input", 14: "arena", 15: "output"}
_INPUT_OUTPUT, _INIT, _RUN, FAULT = 10, 11, 12, 16


def reports(console: str) -> dict[str, int]:
    """The values that the program reported on its console."""
    lines = re.findall(r"^planish: (\w+) (0x[0-9a-f]{8})$", console, re.MULTILINE)
    return {key: int(value, 16) for key, value in lines}


def check_status(spec: Spec, finished: Finished) -> None:
    """Raise what the exit status of the program says; nothing for 0."""
    if finished.status == 0:
        return
    said = reports(finished.output)
    inference, code = said.get("inference", 0), said.get("code", 0)
    if finished.status in _GUARDS:
        raise GuardOverwritten(_GUARDS[finished.status], inference)
    if finished.status == _INIT:
        raise RunFailed(f"{spec.name}_init returned {_signed(code)}")
    if finished.status == _RUN:
        raise RunFailed(f"{spec.name}_run returned {_signed(code)} in inference {inference}")
    if finished.status == _INPUT_OUTPUT:
        raise RunFailed(f"the program could not read {INPUTS} or write {OUTPUTS}")
    ending = f"exit status {finished.status}" if finished.status > 0 else f"signal {-finished.status}"
    shown = "\n  ".join(finished.output.strip().splitlines()[:20])
    raise RunFailed(f"the program ended with {ending}:\n  {shown}")


def _signed(code: int) -> int:
    return code - (1 << 32) if code >> 31 else code
