"""The commands for when a model is wrong: debug blame, debug reduce, diff, profile, passes explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..options import PATH, Command, Group, compiling, loading, settings, together
from ..screen import Screen

_passes = together(
    click.option("--pipeline", help="Passes to run: 'simplify,fuse'."),
    click.option("--quantize", type=click.Choice(["int8"]), help="The default passes that make int8 of floats."),
    click.option("--calib", help="Calibration data: an .npz file keyed by input name, or random:lo,hi."),
    click.option("--load", "plugins", multiple=True, type=PATH, help="A Python file that defines passes of your own."),
    loading,
)
_samples = click.option("--samples", type=click.IntRange(1), help="Only so many samples.")


def _request(options: dict[str, Any]) -> Any:
    from .sources import Request

    return Request(**settings(options))


@click.group(cls=Group)
def debug() -> None:
    """Find what is wrong: the layer that loses accuracy, the smallest model that fails."""


@debug.command()
@click.argument("model", metavar="MODEL|BUILD", type=PATH)
@click.option("--against", type=PATH, help="Compare with this .onnx or .planish file instead of running passes.")
@click.option("--data", required=True, help="Inputs: an .npz file keyed by input name, or random:lo,hi.")
@_samples
@click.option("--below", default=20.0, show_default=True, help="Call a layer bad below so many dB.")
@click.option("--tries", type=click.IntRange(0, 20), default=3, show_default=True, help="Exclude lists to try out.")
@_passes
@click.pass_obj
def blame(
    screen: Screen,
    /,
    against: Path | None,
    data: str,
    samples: int | None,
    below: float,
    tries: int,
    **options: Any,
) -> int:
    """Compare two executions of MODEL layer by layer; say which layer loses most and what excluding it brings.

    MODEL against what passes make of it, or against another file; of a compiled folder, what it implements against
    the model it came from, and the program against the interpreter.
    """
    from .blame import blame_model

    return blame_model(_request(options), against, data, samples, below, tries, screen)


@debug.command()
@click.argument("model", type=PATH)
@click.option(
    "--check", required=True, help="crash, contract, sqnr<DB, agreement<FRACTION, or a command, as told above."
)
@click.option("--data", default="random:-1,1", show_default=True, help="Inputs for the check, where --calib has none.")
@click.option("--checks", type=click.IntRange(1), default=2000, show_default=True, help="Try so many variants.")
@click.option("--seconds", type=click.FloatRange(1), default=300.0, show_default=True, help="Try for so long.")
@_passes
@click.option("--out", "-o", required=True, type=PATH, help="Folder to write.")
@click.pass_obj
def reduce(
    screen: Screen, /, check: str, data: str, checks: int, seconds: float, out: Path, **options: Any
) -> int:  # fmt: skip
    """The smallest part of MODEL and the shortest pipeline that still fail a check, without the model's weights.

    crash: a pass raises an error. contract: a pass breaks its contract. sqnr<30, agreement<0.9: outputs after the
    passes against those before. Anything else is a command that fails by its exit status; {model} in it is the path of
    a .planish graph, {pipeline} the passes. Without {pipeline}, the graph is what the passes made.
    """
    from .reduce import Budget
    from .repro import reduce_model

    reduce_model(_request(options), data, check, Budget(checks, seconds), out, screen)
    return 0


@click.command(cls=Command)
@click.argument("model", metavar="A", type=PATH)
@click.argument("other", metavar="[B]", type=PATH, required=False)
@click.option("--data", help="Compare the outputs too, on these inputs: an .npz file, or random:lo,hi.")
@_samples
@_passes
@click.pass_obj
def diff(
    screen: Screen, /, other: Path | None, data: str | None, samples: int | None, **options: Any
) -> int:  # fmt: skip
    """What is different between models A and B: nodes, types, constants, costs, outputs.

    Both are .onnx files, .planish graphs or compiled folders. With --pipeline, B is what the passes make of it; without
    B, of A.
    """
    from .differ import diff_models

    return diff_models(_request(options), other, data, samples, screen)


@click.command(cls=Command)
@click.argument("model", metavar="MODEL|BUILD", type=PATH)
@click.option("--target", "-t", help="What to compile MODEL for; a folder knows.")
@click.option("--data", help="An input: an .npz file, or random:lo,hi. Default: the calibrated ranges.")
@click.option("--trace", type=PATH, help="Write a trace for Perfetto, where the target simulates time.")
@compiling
@click.pass_obj
def profile(screen: Screen, /, data: str | None, trace: Path | None, **options: Any) -> int:
    """Show where the cycles or instructions of MODEL go, compiled for a target; or of the program in BUILD."""
    from .cycles import profile_model

    return profile_model(settings(options), data, trace, screen)


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.argument("rule")
@_passes
@click.pass_obj
def explain(screen: Screen, /, rule: str, **options: Any) -> int:
    """Say why RULE did not fire in MODEL, at every node where it might have; or what a pass left, and why.

    The passes before the rule's own are run, or those of --pipeline, and then that one.
    """
    from .explain import explain_rule

    return explain_rule(_request(options), rule, screen)
