"""The command line: what may be typed. What it does is in `driver`, `verification` and `report`.

This module imports click alone, so that `planish --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from . import __version__
from .debugging.commands import debug, diff, explain, profile
from .ir.errors import PlanishError, UnsupportedError, UsageError
from .npu.commands import npu
from .options import PATH, Group, loading, settings, transforming
from .screen import Screen

INTERRUPTED = 130


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

    return check_model(settings(options), screen)


@cli.command(name="compile")
@transforming
@click.option("--build", is_flag=True, help="Compile the emitted C, warnings being errors; measures the code.")
@click.option("--validate", is_flag=True, help="Interpret the graph before and after each pass and compare.")
@click.option("--print-after", is_flag=True, help="Print the graph after each pass, on stderr.")
@click.option("--out", "-o", required=True, type=PATH, help="Folder to write.")
@click.pass_obj
def compile_(screen: Screen, /, out: Path, **options: Any) -> int:
    """Compile MODEL into a folder that holds the artifact and a report."""
    from .driver import Plan, compile_model

    compile_model(Plan(**settings(options)), out, screen)
    return 0


@cli.command()
@click.argument("model", type=PATH)
@click.option("--data", required=True, help="Inputs: an .npz file keyed by input name, or random:lo,hi.")
@click.option("--samples", type=click.IntRange(1), help="Only so many samples.")
@loading
@click.option("--out", "-o", required=True, type=PATH, help="The .npz file to write, keyed by output name.")
@click.pass_obj
def run(screen: Screen, /, **options: Any) -> int:
    """Run MODEL: an .onnx file on the reference interpreter, or a compiled folder as its target runs it."""
    from .running import run_model

    run_model(screen=screen, **settings(options))
    return 0


@cli.command()
@click.argument("build", type=PATH)
@click.option(
    "--data", help="Inputs, and labels if there are: an .npz file, or random:lo,hi. Default: calibrated ranges."
)
@click.option("--samples", type=click.IntRange(1), help="How many samples the artifact runs on.")
@click.pass_obj
def verify(screen: Screen, build: Path, data: str | None, samples: int | None) -> int:
    """Run the compiled program of BUILD against the reference interpreter."""
    from .verification import record, show_verdict, verify_build

    with screen.working(f"verifying {build}"):
        verdict = verify_build(build, data, samples)
        remark = record(build, verdict)
    show_verdict(screen, verdict)
    if remark is not None:
        screen.note(remark)
    return 0 if verdict.passed else 6


@cli.command()
@click.argument("build", type=PATH)
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


@cli.group(invoke_without_command=True)
@click.pass_context
def passes(ctx: click.Context) -> int:
    """List the passes, what each promises, and its options; or explain why a rule did not fire."""
    if ctx.invoked_subcommand is None:
        from .listing import list_passes

        list_passes(ctx.obj)
    return 0


passes.add_command(explain)
cli.add_command(debug)
cli.add_command(diff)
cli.add_command(profile)
cli.add_command(npu)


# ---- the one place where errors become messages and exit codes


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    # The matrices here are small: threads of BLAS cost more than they bring (10 times, on a busy machine), and their
    # number would decide the last bits of calibrated scales.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, _terminated)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, _terminated)
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
        if error.code == 1 or error.__cause__ is not None:
            _report_bug(screen)
        return error.code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # the help, which is no error
        return UsageError.code
    except click.ClickException as error:
        screen.error(_usage_error(error))
        return UsageError.code
    except click.Abort:
        screen.error(Interrupted("interrupted"))
        return INTERRUPTED
    except MemoryError:
        fix = "make its sizes smaller (--dim, or another export)"
        screen.error(UnsupportedError("there is not enough memory for this model", fix=fix))
        return UnsupportedError.code
    except Exception as error:  # noqa: BLE001 - the last resort: nobody gets a traceback unasked
        if isinstance(error, OSError) and error.errno in _NO_PATH:
            what = f"{error.filename}: {error.strerror}"
            screen.error(UsageError(what if len(what) <= 200 else f"{what[:80]}...{what[-80:]}", fix="check the path"))
            return UsageError.code
        screen.error(PlanishError(f"internal error: {type(error).__name__}: {error}", fix=_BUG))
        _report_bug(screen)
        return 1


class Interrupted(PlanishError):
    """Ctrl-C."""

    code = INTERRUPTED


#: What the system says of a path that cannot be one.
_NO_PATH = {errno.ENAMETOOLONG, errno.ELOOP}

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
