"""The command line: what may be typed. What it does is in `driver`, `verification` and `report`.

This module imports click alone, so that `planish --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from . import __version__
from .ir.errors import PlanishError, UsageError
from .screen import Screen

INTERRUPTED = 130
_PATH = click.Path(path_type=Path)


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
    """`name=value`: a size, or where `many` is set integers with commas between; `3,` is a vector of one."""

    name = "name=value"

    def __init__(self, many: bool) -> None:
        self.many = many

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.rpartition("=")
        try:
            numbers = [int(part) for part in text.removesuffix(",").split(",")]
        except ValueError:
            numbers = []
        vector = "," in text
        if not (name and equals and numbers) or (not self.many and (vector or numbers[0] < 1)):
            example = "shape=1,3,32,32" if self.many else "N=1"
            self.fail(f"{value!r} is not of the form {example}", param, ctx)
        return name, numbers if vector else numbers[0]


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

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.extend(_global_options())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


loading = _together(
    click.option("--dim", "dims", multiple=True, type=Setting(many=False), help="Fix a symbolic dimension: N=1."),
    click.option(
        "--bind",
        "binds",
        multiple=True,
        type=Setting(many=True),
        help="Fix an input whose value determines shapes: shape=1,3,32,32.",
    ),
)

transforming = _together(
    click.argument("model", type=_PATH),
    click.option("--target", "-t", required=True, help="What to compile for; `planish targets` lists them."),
    click.option("--quantize", type=click.Choice(["int8"]), help="Quantize weights and activations."),
    click.option("--calib", help="Calibration data: an .npz file keyed by input name, or random:lo,hi."),
    click.option("--load", "plugins", multiple=True, type=_PATH, help="A Python file that defines passes of your own."),
    click.option("--pipeline", help="Passes to run instead of the default ones: 'simplify,fuse'."),
    click.option("--name", help="C identifier that names of the generated code begin with. Default: the model's name."),
    click.option("--ram", type=Bytes(), help="RAM of the device, in bytes: more than that is an error."),
    click.option("--opset", type=int, help="ONNX operator set to write, for target onnx. Default: the source's."),
    click.option("--flash", type=Bytes(), help="Flash of the device, in bytes: more than that is an error."),
    loading,
)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The typed options; `dims` and `binds` become mappings."""
    return {**options, "dims": dict(options["dims"]), "binds": dict(options["binds"])}


# ---- the commands


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="planish")
def cli() -> None:
    """Compile neural networks for small machines."""


@cli.command()
@transforming
@click.pass_obj
def check(screen: Screen, /, **options: Any) -> int:
    """Will MODEL run on the target, and will it fit? Writes nothing."""
    from .checking import check_model

    return check_model(_settings(options), screen)


@cli.command(name="compile")
@transforming
@click.option("--validate", is_flag=True, help="Interpret the graph before and after each pass and compare.")
@click.option("--print-after", is_flag=True, help="Print the graph after each pass, on stderr.")
@click.option("--out", "-o", required=True, type=_PATH, help="Folder to write.")
@click.pass_obj
def compile_(screen: Screen, /, out: Path, **options: Any) -> int:
    """Compile MODEL into a folder that holds the artifact and a report."""
    from .driver import Plan, compile_model

    compile_model(Plan(**_settings(options)), out, screen)
    return 0


@cli.command()
@click.argument("model", type=_PATH)
@click.option("--data", required=True, help="Inputs: an .npz file keyed by input name, or random:lo,hi.")
@click.option("--samples", type=click.IntRange(1), help="Only so many samples.")
@loading
@click.option("--out", "-o", required=True, type=_PATH, help="The .npz file to write, keyed by output name.")
@click.pass_obj
def run(screen: Screen, /, **options: Any) -> int:
    """Run MODEL: an .onnx file on the reference interpreter, or a compiled folder as its target runs it."""
    from .running import run_model

    run_model(screen=screen, **_settings(options))
    return 0


@cli.command()
@click.argument("build", type=_PATH)
@click.option(
    "--data", help="Inputs, and labels if there are: an .npz file, or random:lo,hi. Default: calibrated ranges."
)
@click.option("--samples", type=click.IntRange(1), help="How many samples the artifact runs on.")
@click.pass_obj
def verify(screen: Screen, build: Path, data: str | None, samples: int | None) -> int:
    """Run the compiled program of BUILD against the reference interpreter."""
    from .verification import show_verdict, verify_build

    with screen.working(f"verifying {build}"):
        verdict = verify_build(build, data, samples)
    show_verdict(screen, verdict)
    return 0 if verdict.passed else 6


@cli.command()
@click.argument("build", type=_PATH)
@click.pass_obj
def report(screen: Screen, build: Path) -> int:
    """Show what the folder BUILD holds: sizes, layers, passes, remarks."""
    from .folder import read_report
    from .report import show_report

    found = read_report(build)
    screen.result(found)
    show_report(screen, found)
    return 0


@cli.command()
@click.pass_obj
def targets(screen: Screen) -> int:
    """List what can be compiled for, and whether this machine has the tools."""
    from .listing import list_targets

    list_targets(screen)
    return 0


@cli.command()
@click.pass_obj
def passes(screen: Screen) -> int:
    """List the passes, what each promises, and its options."""
    from .listing import list_passes

    list_passes(screen)
    return 0


# ---- the one place where errors become messages and exit codes


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    # The matrices here are small: threads of BLAS cost more than they bring (10 times, on a busy machine), and their
    # number would decide the last bits of calibrated scales.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(execute(list(sys.argv[1:] if arguments is None else arguments)))


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)  # by an exception: unfinished folders are removed on the way out


def execute(arguments: list[str]) -> int:
    """Run the command line; the exit code. Every error is shown here, and nowhere else."""
    # A usage error may strike before click has seen --json.
    screen = Screen(json="--json" in arguments, color="--no-color" not in arguments)
    try:
        code = cli.main(arguments, prog_name="planish", standalone_mode=False, obj=screen)
        return code if isinstance(code, int) else 0
    except PlanishError as error:
        screen.error(error)
        if error.code == 1:
            _report_bug(screen)
        return error.code
    except click.ClickException as error:
        screen.error(_usage_error(error))
        return UsageError.code
    except click.Abort:
        screen.error(Interrupted("interrupted"))
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: nobody gets a traceback unasked
        screen.error(PlanishError(f"internal error: {type(error).__name__}: {error}", fix=_BUG))
        _report_bug(screen)
        return 1


class Interrupted(PlanishError):
    """Ctrl-C."""

    code = INTERRUPTED


_BUG = "this is a bug in planish; please report it with the command, the version and, if you may share it, the model"


def _report_bug(screen: Screen) -> None:
    import traceback

    if screen.verbosity > 0:
        sys.stderr.write(traceback.format_exc())
    elif not screen.json:
        screen.err.print("  -v shows where in planish it happened")


def _usage_error(error: click.ClickException) -> UsageError:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    command = ctx.command_path if ctx else "planish"
    return UsageError(error.format_message(), fix=f"`{command} --help` lists what it takes")
