"""`needle watch`: checkpoints measured as a training job writes them."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from needle.cli._request import taking_requests
from needle.cli._screen import Screen

if TYPE_CHECKING:
    from needle.store import Run
    from needle.types import RunSpec


_taking_settings = functools.partial(taking_requests, without=("models", "model_option"))


@_taking_settings
def watch(
    specs: "list[RunSpec]",
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the training writes its checkpoints.")],
    checkpoints: Annotated[
        str, typer.Option(help="Names of checkpoint folders in DIR.", metavar="GLOB")
    ] = "checkpoint-*",
    every: Annotated[float, typer.Option(help="Seconds between looks.")] = 30.0,
    settle: Annotated[
        float, typer.Option(help="Seconds that a checkpoint without trainer_state.json must stay unchanged.")
    ] = 20.0,
    once: Annotated[bool, typer.Option("--once", help="Measure what is there and end.")] = False,
    until_step: Annotated[int | None, typer.Option(help="End with the first checkpoint of this step or later.")] = None,
    idle_exit: Annotated[float | None, typer.Option(help="End after so many seconds without a new one.")] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", "-o", help="Folder that holds the runs.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.")] = False,
) -> None:
    """Measure new checkpoints as a training job writes them, each with the same settings.

    What an earlier watch has measured is not measured again. `needle series` shows what came out.

    Exit code: 0 every checkpoint is measured, 1 some could not be or have failed cells, 2 the request is at fault.

    Examples:

        needle watch out --lengths 1k,4k,16k
        needle watch out --once --task uuid
        needle watch out --checkpoints 'global_step*' --until-step 5000 --idle-exit 3600
    """
    from needle import watching
    from needle.cli.run import check_folder, measure

    check_folder(output_dir)
    for spec in specs:
        watching.check(spec)
    asked = watching.Asked(checkpoints, every, settle, once, until_step, idle_exit)

    def measured(model: str) -> "list[Run]":
        runs = []
        for spec in (replace(each, model=model) for each in specs):
            screen = Screen(quiet)
            screen.head(spec)
            runs.append(measure(spec, output_dir, screen))
        return runs

    try:
        seen = watching.watch(folder, measured, _say, asked)
    except KeyboardInterrupt:
        Screen(quiet).stopped()
        raise typer.Exit(130) from None
    if not quiet:
        _say(f"{len(seen.measured)} checkpoints measured, {len(seen.failed)} failed; `needle series` shows them")
    raise typer.Exit(1 if seen.failed else 0)


def _say(message: str) -> None:
    from needle.analysis import printable

    typer.echo(printable(f"needle: {message}"), err=True)
