"""What commands of the command line share: words that options take, the global options, groups of options.

This module imports click alone, so that `planish --help` answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .ir.errors import UsageError

PATH = click.Path(path_type=Path)


# ---- words that options take


class Bytes(click.ParamType):  # type: ignore[type-arg]  # generic to newer releases only
    """A number of bytes: `65536`, `64K` or `1M`."""

    name = "bytes"
    _units = {"": 1, "K": 1 << 10, "M": 1 << 20}  # noqa: RUF012 - click's class, not a dataclass

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = (value[:-1], value[-1].upper()) if value[-1:].isalpha() else (value, "")
        if not (number.isascii() and number.isdigit()) or unit not in self._units:
            self.fail(f"{value!r} is no number of bytes such as 65536, 64K or 1M", param, ctx)
        return int(number) * self._units[unit]


class Setting(click.ParamType):  # type: ignore[type-arg]
    """`name=value`: a size, or where `many` is set integers with commas between; `3,` is a vector of one.

    Sizes of several names may stand in one: `H=8,W=8`.
    """

    name = "name=value"

    def __init__(self, many: bool) -> None:
        self.many = many

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        if not self.many and re.fullmatch(r"[^=,]+=\d+(,[^=,]+=\d+)+", value):
            return {k: v for part in value.split(",") for k, v in self.convert(part, param, ctx).items()}
        name, equals, text = value.rpartition("=")
        try:
            numbers = [int(part) for part in text.removesuffix(",").split(",")]
        except ValueError:
            numbers = []
        vector = "," in text
        if not (name and equals and numbers) or (not self.many and (vector or numbers[0] < 1)):
            example = "shape=1,3,32,32" if self.many else "N=1"
            self.fail(f"{value!r} is not of the form {example}", param, ctx)
        return {name: numbers if vector else numbers[0]}


# ---- options that commands share


def _set_screen(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    screen = ctx.find_root().obj
    if value and param.name == "json_":
        screen.json = True
    elif value and param.name == "no_color":
        screen.color = False
    elif value:
        screen.verbosity = value if param.name == "verbose" else -1


def _global_options() -> list[click.Parameter]:
    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(names, expose_value=False, is_eager=True, callback=_set_screen, **settings)

    return [
        option("--json", "json_", is_flag=True, help="Print one JSON object on stdout and nothing else."),
        option("-q", "--quiet", is_flag=True, help="No remarks and no progress."),
        option("-v", "--verbose", count=True, help="More remarks; tracebacks of internal errors."),
        option("--no-color", is_flag=True, help="No colours (NO_COLOR in the environment does the same)."),
    ]


class Command(click.Command):
    """A command that takes the global options too, wherever on the line they are typed."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_global_options())


class Group(click.Group):
    """The group of all commands; they are listed as they stand here, in the order of their use."""

    command_class = Command
    group_class = type  # groups below this one are of its class

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_global_options())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Options as one decorator, to be listed in this order."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


loading = together(
    click.option(
        "--dim", "dims", multiple=True, type=Setting(many=False), help="Fix symbolic dimensions: N=1, or H=8,W=8."
    ),
    click.option(
        "--bind",
        "binds",
        multiple=True,
        type=Setting(many=True),
        help="Fix an input whose value determines shapes: shape=1,3,32,32.",
    ),
)

compiling = together(
    click.option("--quantize", type=click.Choice(["int8"]), help="Quantize weights and activations."),
    click.option("--calib", help="Calibration data: an .npz file keyed by input name, or random:lo,hi."),
    click.option("--load", "plugins", multiple=True, type=PATH, help="A Python file that defines passes of your own."),
    click.option("--pipeline", help="Passes to run instead of the default ones: 'simplify,fuse'."),
    click.option("--name", help="C identifier that names of the generated code begin with. Default: the model's name."),
    click.option("--ram", type=Bytes(), help="RAM of the device, in bytes: more than that is an error."),
    click.option("--opset", type=int, help="ONNX operator set to write, for target onnx. Default: as needed."),
    click.option("--flash", type=Bytes(), help="Flash of the device, in bytes: more than that is an error."),
    loading,
)

transforming = together(
    click.argument("model", type=PATH),
    click.option("--target", "-t", required=True, help="What to compile for; `planish targets` lists them."),
    compiling,
)


def settings(options: dict[str, Any]) -> dict[str, Any]:
    """The typed options; `dims` and `binds` become mappings."""
    return {**options, "dims": _merged("--dim", options["dims"]), "binds": _merged("--bind", options["binds"])}


def _merged(option: str, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, value in (pair for one in given for pair in one.items()):
        if merged.setdefault(name, value) != value:
            raise UsageError(f"{option} says two things of {name}: {merged[name]} and {value}", fix="leave one out")
    return merged
